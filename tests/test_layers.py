"""Seeds, dropout, initialisation, batch normalisation."""

import pytest
import torch
from torch import nn

from vaelib.build import build, resolve
from vaelib.errors import VaelibError
from vaelib.layers import (
    ScaledBatchNorm,
    derived_seed,
    dropout,
    make_generator,
    uniform_init_,
)


def test_every_purpose_has_a_seed_of_its_own() -> None:
    seeds = {derived_seed(s, p) for s in range(50) for p in ("init", "noise", "order/1")}
    assert len(seeds) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(0, "init") == derived_seed(0, "init")


def test_generators_repeat() -> None:
    one, two, other = (make_generator(3, p) for p in ("noise", "noise", "init"))
    first, again, different = (torch.rand(4, generator=g) for g in (one, two, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, different)


def test_dropout_keeps_the_expectation(generator: torch.Generator) -> None:
    x = torch.full((400, 500), 3.0)
    dropped = dropout(x, 0.2, True, generator)
    values = dropped.unique().tolist()
    assert values == pytest.approx([0.0, 3 / 0.8])
    assert dropped.mean().item() == pytest.approx(3.0, abs=0.02)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.005)


def test_dropout_is_off_in_evaluation_and_at_zero(generator: torch.Generator) -> None:
    x = torch.randn(5, 5)
    assert dropout(x, 0.5, False, generator) is x
    assert dropout(x, 0.0, True, generator) is x


def test_dropout_draws_from_its_generator_alone(generator: torch.Generator) -> None:
    before, x = torch.get_rng_state(), torch.ones(100)
    first = dropout(x, 0.5, True, generator)
    assert not torch.equal(first, dropout(x, 0.5, True, generator))
    assert torch.equal(first, dropout(x, 0.5, True, torch.Generator().manual_seed(11)))
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_never_draws_from_global_state() -> None:
    with pytest.raises(VaelibError, match="needs a generator"):
        dropout(torch.ones(100), 0.5, True, None)


@pytest.mark.parametrize("method", ["vae", "bn", "skip", "bow", "aae", "vmf"])
def test_every_parameter_is_drawn_from_its_range(method: str) -> None:
    built = build(resolve(method, data="grammar", profile="smoke"), 200)
    embeddings = [m.weight for m in built.model.modules() if isinstance(m, nn.Embedding)]
    assert len(embeddings) == 2
    for module in (built.model, built.objective):
        for name, parameter in module.named_parameters():
            bound = 0.1 if any(parameter is e for e in embeddings) else 0.01
            size = parameter.abs().max().item()
            assert size <= bound, name
            assert size > 0, name
            if parameter.numel() > 100:
                assert size > 0.95 * bound, name
                mean = parameter.mean().item()
                assert abs(mean) < 5 * bound / (3 * parameter.numel()) ** 0.5, name


def test_another_range_and_none(generator: torch.Generator) -> None:
    module = nn.ModuleList([nn.Embedding(50, 20), nn.Linear(30, 40)])
    uniform_init_(module, 0.5, 2.0, generator)
    assert 1.9 < module[0].weight.abs().max() <= 2.0
    assert 0.45 < module[1].weight.abs().max() <= 0.5
    default = build(resolve("vae", data="grammar", profile="smoke", init_range=0.0), 50)
    assert next(default.model.parameters()).abs().max() > 0.5  # torch's own N(0, 1) embedding


def test_scaled_batch_norm_in_training(generator: torch.Generator) -> None:
    layer = ScaledBatchNorm(3, 0.7)
    with torch.no_grad():
        layer.shift.copy_(torch.tensor([0.0, 1.0, -2.0]))
    x = torch.randn(64, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.1]) + 4
    y = layer(x)
    assert torch.allclose(y.mean(0), layer.shift, atol=1e-5)
    variance = x.var(0, unbiased=False)
    wanted = 0.7 * (variance / (variance + 1e-5)).sqrt()
    assert torch.allclose(y.std(0, unbiased=False), wanted, atol=1e-5)


def test_scaled_batch_norm_keeps_running_statistics(generator: torch.Generator) -> None:
    layer = ScaledBatchNorm(2, 1.5)
    x = torch.randn(32, 2, generator=generator) * 2 + 1
    layer(x)
    assert torch.allclose(layer.norm.running_mean, 0.1 * x.mean(0))
    assert torch.allclose(layer.norm.running_var, 0.9 + 0.1 * x.var(0))
    layer.eval()
    one = layer(x[:1])
    mean, var = layer.norm.running_mean, layer.norm.running_var
    assert torch.allclose(one, 1.5 * (x[:1] - mean) / (var + 1e-5).sqrt() + layer.shift)


def test_means_that_hardly_vary_escape_the_normalisation(generator: torch.Generator) -> None:
    """At eps = 1e-5 the floor of the rate is void for raw means of variance 1e-8."""
    x = 1e-4 * torch.randn(512, 4, generator=generator)
    published, small = (ScaledBatchNorm(4, 1.0, eps)(x).var() for eps in (1e-5, 1e-12))
    assert published < 2e-3
    assert small.item() == pytest.approx(1.0, abs=0.05)


def test_a_single_training_sentence_has_no_variance() -> None:
    layer = ScaledBatchNorm(4, 0.6)
    with pytest.raises(VaelibError, match="min_batch=2"):
        layer(torch.zeros(1, 4))
    assert torch.isfinite(layer.eval()(torch.zeros(1, 4))).all()


def test_the_scale_is_no_parameter_and_the_shift_is() -> None:
    layer = ScaledBatchNorm(4, 0.6)
    assert [name for name, _ in layer.named_parameters()] == ["shift"]
    assert torch.equal(layer.shift, torch.zeros(4))
