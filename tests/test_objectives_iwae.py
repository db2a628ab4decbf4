"""IWAE: one sample is the ELBO, more are the importance-weighted bound of the metrics."""

import math

import pytest
import torch
from objective_helpers import Posteriors, outputs_of, seeded

from vaelib.build import build, resolve
from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.metrics import importance_weighted_nll
from vaelib.objectives import TERMS, Objective
from vaelib.objectives.iwae import Copies
from vaelib.strategies_inner import MultiSample
from vaelib.testing import check_term, sentences

SHAPE = Shape(13, 5, 7, 3)


def strategy(method: str = "iwae", **changes: object) -> MultiSample:
    built = build(resolve(method, data="grammar", profile="smoke", **changes), 30)
    update = torch.optim.SGD(built.model.parameters(), lr=0.1)
    return MultiSample(built.model.eval(), built.objective, update, 5.0, "fp32")


def test_one_sample_is_the_elbo_with_a_sampled_kl(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*posteriors))
    loss, parts = Objective(TERMS["importance_weighted"](SHAPE), {})(outputs, 1.0, seeded())
    sampled = outputs.q.log_prob(outputs.z) - outputs.p.log_prob(outputs.z)
    wanted = (outputs.distortion + sampled).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert parts["regulariser"].item() == pytest.approx(sampled.mean().item(), rel=1e-9)


def test_copies_give_the_log_of_the_mean_weight(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*posteriors))  # 12 rows: 4 copies of 3 sentences
    log_w = outputs.log_px + outputs.p.log_prob(outputs.z) - outputs.q.log_prob(outputs.z)
    rows = log_w.tolist()
    bound = sum(math.log(sum(math.exp(rows[3 * k + i]) for k in range(4)) / 4) for i in range(3))
    copies = Copies(**vars(outputs), copies=4)
    loss, _ = Objective(TERMS["importance_weighted"](SHAPE), {})(copies, 1.0, seeded())
    assert loss.item() == pytest.approx(-bound / 3, rel=1e-9)


def test_the_loss_is_the_importance_weighted_nll_of_the_metrics() -> None:
    mine, x = strategy(iwae_samples=6), sentences(8, 7, 30)
    outputs = mine.outputs(x, 1.0, seeded())
    assert outputs.z.shape == (48, 4)
    loss, _ = mine.objective(outputs, 1.0, seeded())
    wanted = importance_weighted_nll(mine.model, x, 6, seeded()).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_more_samples_are_a_tighter_bound(posteriors: Posteriors) -> None:
    """The same 12 weights as 12 bounds of one sample, 3 of four, 1 of twelve: Jensen."""
    outputs = outputs_of(diagonal_normal(*posteriors))
    objective = Objective(TERMS["importance_weighted"](SHAPE), {})
    losses = [
        objective(Copies(**vars(outputs), copies=k), 1.0, seeded())[0].item() for k in (1, 4, 12)
    ]
    assert losses[0] > losses[1] > losses[2]


def test_a_step_trains_encoder_and_decoder() -> None:
    mine = strategy(iwae_samples=3)
    mine.model.train()
    before = [p.detach().clone() for p in mine.model.parameters()]
    values = mine.step(sentences(8, 7, 30), 0.5, seeded())
    assert values["loss"].item() == pytest.approx(
        (values["distortion"] + 0.5 * values["regulariser"]).item(), rel=1e-5
    )
    pairs = zip(before, mine.model.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)


def test_the_strategy_needs_its_term_and_the_term_some_samples() -> None:
    with pytest.raises(VaelibError, match="importance_weighted"):
        strategy("vae").outputs(sentences(8, 7, 30), 1.0, seeded())
    with pytest.raises(VaelibError, match="1 to 1,000 samples"):
        TERMS["importance_weighted"](SHAPE, iwae_samples=0)
    check_term("importance_weighted", iwae_samples=3)
