"""iVAE-MI: the dual network against known divergences, and who learns what from it."""

import math

import pytest
import torch
from objective_helpers import outputs_of, seeded
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaelib.build import resolve
from vaelib.distributions import diagonal_normal, mean_logvar, rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives import TERMS
from vaelib.objectives.critic import dual_bound
from vaelib.posteriors import POSTERIORS

SHAPE = Shape(13, 5, 7, 3)


def term(dim: int = 3, **options: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TERMS["dual_kl"](Shape(13, 5, 7, dim), **options)


def shifted(size: int, seed: int, mean: float, scale: float) -> Outputs:
    """Posteriors that are all N(mean, scale^2), so that q(z) is too."""
    full = torch.full((size, 1), mean)
    plain = outputs_of(diagonal_normal(full[:2], full[:2]))
    q = diagonal_normal(full, torch.full_like(full, 2 * math.log(scale)))
    return Outputs(plain.x, plain.h, q, plain.p, rsample(q, (), seeded(seed)), plain.log_px)


def test_the_value_is_the_dual_bound_of_the_batch() -> None:
    mu = torch.randn(16, 3, generator=seeded(2))
    outputs, dual = outputs_of(diagonal_normal(mu, torch.zeros_like(mu))), term()
    prior = rsample(outputs.p, (16,), seeded())
    ratio = dual.network(prior).exp().mean()
    wanted = dual.network(outputs.z).mean() - ratio + 1
    assert dual(outputs, seeded()).item() == pytest.approx(wanted.item(), abs=1e-6)


def test_the_network_ascends_and_the_codes_descend() -> None:
    mu = torch.randn(16, 3, generator=seeded(2)).requires_grad_()
    outputs, dual = outputs_of(diagonal_normal(mu, torch.zeros_like(mu))), term()
    prior = rsample(outputs.p, (16,), seeded())
    bound = dual_bound(dual.network(outputs.z.detach()), dual.network(prior))
    weights = [*dual.parameters()]
    ascent = torch.autograd.grad(bound, weights)
    (descent,) = torch.autograd.grad(dual.network(outputs.z).mean(), mu)
    got = torch.autograd.grad(dual(outputs, seeded()), [mu, *weights])
    assert torch.allclose(got[0], descent, atol=1e-7)
    assert descent.abs().sum() > 0
    for mine, wanted in zip(got[1:], ascent, strict=True):
        assert torch.allclose(mine, -wanted, atol=1e-6)


def test_a_trained_network_finds_the_divergence_from_below() -> None:
    mean, scale = 0.8, 0.7
    dual = term(1, dual_width=32)
    update, noise = torch.optim.Adam(dual.parameters(), lr=5e-3), seeded(3)
    for step in range(200):
        update.zero_grad()
        dual(shifted(256, 10 + step, mean, scale), noise).backward()
        update.step()
    with torch.no_grad():
        value = dual(shifted(100_000, 5, mean, scale), noise).item()
    true = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).item()
    assert 0.9 * true < value < 1.03 * true


def test_the_noise_is_that_of_a_linear_layer_up_to_a_rotation() -> None:
    """A full covariance and its rotated, diagonal form are equally far from N(0, I)."""
    weight = torch.randn(3, 3, generator=seeded(4)).double()
    mean = torch.randn(3, generator=seeded(5)).double()
    covariance = weight @ weight.T
    values, vectors = torch.linalg.eigh(covariance)
    prior = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
    full = kl_divergence(MultivariateNormal(mean, covariance), prior)
    turned = diagonal_normal(vectors.T @ mean, values.log())
    zero = torch.zeros(3).double()
    diagonal = kl_divergence(turned, diagonal_normal(zero, zero))
    assert diagonal.item() == pytest.approx(full.item(), rel=1e-9)


def test_the_posterior_has_one_noise_for_all_sentences() -> None:
    posterior = POSTERIORS["linear_noise"](6, SHAPE)
    h = torch.randn(5, 6, generator=seeded())
    q = posterior(h)
    mu, logvar = mean_logvar(q)
    assert isinstance(q, Independent)
    assert torch.allclose(mu, h @ posterior.linear.weight.T + posterior.linear.bias, atol=1e-6)
    assert torch.allclose(logvar.exp().sqrt(), posterior.noise.weight.norm(dim=1).expand(5, 3))


def test_the_recipe_anneals_from_a_tenth_and_the_width_is_checked() -> None:
    config = resolve("iVAE_MI", data="grammar", profile="paper")
    assert (config.options["start"], config.options["dual_width"]) == (0.1, 512)
    sizes = [m.out_features for m in term().network[::2]]
    assert sizes == [512, 512, 512, 1]
    with pytest.raises(VaelibError, match="units"):
        term(dual_width=0)
