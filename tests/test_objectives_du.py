"""The methods of DU-VAE: their recipes, the strategy that ends the warm-up, free bits on flows."""

from typing import Any

import pytest
import torch
from objective_helpers import seeded
from torch import Tensor

from vaelib import METHODS
from vaelib.build import Built, build, resolve
from vaelib.data import Corpus
from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives import TERMS
from vaelib.posteriors_du import ALPHA
from vaelib.posteriors_flow import IAFPosterior
from vaelib.strategies import Joint
from vaelib.strategies_warmup import AfterWarmup
from vaelib.testing import check_method

NAMES = {
    "DU-VAE": "du",
    "du_vae": "du",
    "BN-VAE (fixed shift)": "bn_shift",
    "VAE-NF": "nf",
    "IAF": "iaf",
    "IAF+FB": "iaf_fb",
    "IAF+BN": "iaf_bn",
    "DU-IAF": "du_iaf",
}


def built_for(corpus: Corpus, **options: Any) -> tuple[Built, Tensor, torch.optim.Optimizer]:
    """A small model, a batch of it, and plain gradient descent."""
    config = resolve("du", data="grammar", profile="smoke", **options)
    built = build(config, len(corpus.vocabulary))
    x = corpus.train.gather(corpus.train.buckets(16)[-1])
    return built, x, torch.optim.SGD(built.model.train().parameters(), lr=0.1)


@pytest.mark.parametrize("alias", NAMES)
def test_the_published_names_lead_to_the_methods(alias: str) -> None:
    assert METHODS[alias].name == NAMES[alias]


def test_the_end_of_the_warm_up_switches_the_posterior_on(corpus: Corpus) -> None:
    built, x, optimizer = built_for(corpus, gamma=0.7)
    posterior = built.model.posterior
    strategy = AfterWarmup(built.model, built.objective, optimizer, 5.0, "fp32")
    before = torch.get_rng_state()
    for weight, warm in ((0.0, False), (0.999, False), (1.0, True), (1.0, True)):
        strategy.step(x, weight, seeded())
        assert bool(posterior.warm) is warm
        assert posterior.noise is None
        scale = posterior.norm.gamma + posterior.norm.offset
        assert scale.square().mean().item() == pytest.approx(0.49, rel=1e-5)
    assert torch.equal(before, torch.get_rng_state())


def test_in_warm_up_a_step_is_the_joint_one(corpus: Corpus) -> None:
    values = []
    for strategy in (Joint, AfterWarmup):
        built, x, optimizer = built_for(corpus)
        made = strategy(built.model, built.objective, optimizer, 5.0, "fp32")
        values.append(made.step(x, 0.5, seeded()))
    assert {k: v.item() for k, v in values[0].items()} == {
        k: v.item() for k, v in values[1].items()
    }


def test_the_rate_in_training_is_that_of_the_dropped_variances(corpus: Corpus) -> None:
    built, x, _ = built_for(corpus, keep_probability=0.5)
    built.model.posterior.begin_step(True, seeded())
    outputs = built.model(x, seeded())
    variance = outputs.q.base_dist.variance
    floored = variance.isclose(torch.tensor(ALPHA))
    assert 0 < floored.sum() < floored.numel()
    term = TERMS["kl"](Shape(13, 5, 7, 4))
    exact = 0.5 * (outputs.q.mean.square() + variance - variance.log() - 1).sum(1)
    assert torch.allclose(term(outputs, seeded()), exact, atol=1e-5)


def test_the_strategy_refuses_a_posterior_that_cannot_be_switched_on(corpus: Corpus) -> None:
    config = resolve("vae", data="grammar", profile="smoke")
    built = build(config, len(corpus.vocabulary))
    optimizer = torch.optim.SGD(built.model.parameters(), lr=0.1)
    with pytest.raises(VaelibError, match="nothing to switch on"):
        AfterWarmup(built.model, built.objective, optimizer, 5.0, "fp32")


def test_free_bits_clamp_the_batch_mean_of_a_flow_dimension_by_dimension() -> None:
    q = IAFPosterior(7, Shape(13, 5, 7, 4), flow_width=6)(torch.randn(9, 7, generator=seeded()))
    p = diagonal_normal(torch.zeros(4), torch.zeros(4))
    z = q.base_dist.rsample((), seeded())
    outputs = Outputs(z, z, q, p, z, torch.zeros(9))
    means = sorted((q.base_dist.log_prob(z) - p.base_dist.log_prob(z)).mean(0).tolist())
    free = sum(means[1:3]) / 2  # two dimensions below, two above
    options = METHODS["iaf_fb"].options | {"target": 4 * free}
    value = TERMS["free_bits"](Shape(13, 5, 7, 4), **options)(outputs, seeded())
    assert value.item() == pytest.approx(2 * free + sum(means[2:]), rel=1e-5)


@pytest.mark.parametrize("name", ["du", "bn_shift"])
def test_methods_keep_the_contract(name: str) -> None:
    check_method(name)
