"""Likelihood metrics on models whose likelihoods are known in closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal

from vaelib.bessel import relative_log_normaliser
from vaelib.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
    diagonal_normal,
    fresh_generator,
)
from vaelib.errors import VaelibError
from vaelib.metrics import (
    distortion,
    importance_weighted_nll,
    perplexity,
    prior_post_ll,
    rate,
)

DIM, LENGTH = 3, 6


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class LinearGaussian:
    """p(x|z) = N(W z + b, s^2 I) with orthogonal columns of W, so that q(z|x) is diagonal.

    Args:
        shift: Added to the exact posterior's means.
        widen: Factor on the exact posterior's variances.
    """

    def __init__(self, shift: float = 0.0, widen: float = 1.0) -> None:
        noise = torch.randn(LENGTH, DIM, generator=seeded(0), dtype=torch.float64)
        self.weight = torch.linalg.qr(noise).Q * torch.tensor([0.5, 1.0, 2.0], dtype=noise.dtype)
        self.bias = torch.linspace(-1, 1, LENGTH, dtype=noise.dtype)
        self.scale, self.shift, self.widen = 0.7, shift, widen
        self.most_rows = 0

    def encode(self, x: Tensor) -> Distribution:
        variance = 1 / (1 + self.weight.square().sum(0) / self.scale**2)
        mu = variance * ((x - self.bias) @ self.weight) / self.scale**2 + self.shift
        return diagonal_normal(mu, torch.log(self.widen * variance).expand_as(mu))

    def prior(self) -> Distribution:
        zero = torch.zeros(DIM, dtype=torch.float64)
        return diagonal_normal(zero, zero)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        self.most_rows = max(self.most_rows, z.shape[:-1].numel())
        mean = z @ self.weight.T + self.bias
        return Normal(mean, self.scale).log_prob(x).sum(-1)

    def log_expected(self, x: Tensor, mu: Tensor, variance: Tensor) -> Tensor:
        """Log E p(x|z) under N(mu, diag variance)."""
        mean = mu @ self.weight.T + self.bias
        spread = (self.weight * variance[..., None, :]) @ self.weight.T
        spread = spread + self.scale**2 * torch.eye(LENGTH, dtype=x.dtype)
        return MultivariateNormal(mean, spread).log_prob(x)

    def exact_nll(self, x: Tensor) -> Tensor:
        zero = torch.zeros(DIM, dtype=x.dtype)
        return -self.log_expected(x, zero, zero + 1)

    def data(self, n: int = 5) -> Tensor:
        noise = torch.randn(n, LENGTH, generator=seeded(9), dtype=torch.float64)
        return noise * 1.3 + self.bias


class Spherical:
    """p(x|z) proportional to exp <x, z> with z on the sphere; the exact posterior is vMF."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def encode(self, x: Tensor) -> VonMisesFisher:
        size = x.norm(dim=1)
        return VonMisesFisher(x / size[:, None], size * self.factor, validate_args=False)

    def prior(self) -> Distribution:
        return HypersphericalUniform(DIM, dtype=torch.float64)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return (x * z).sum(-1)

    def exact_nll(self, x: Tensor) -> Tensor:
        return -relative_log_normaliser(x.norm(dim=1), DIM)

    def exact_post(self, x: Tensor) -> Tensor:
        kappa = x.norm(dim=1) * self.factor
        both = relative_log_normaliser(kappa + x.norm(dim=1), DIM)
        return both - relative_log_normaliser(kappa, DIM)

    def data(self, n: int = 5) -> Tensor:
        return torch.randn(n, DIM, generator=seeded(9), dtype=torch.float64) * 2


@pytest.mark.parametrize("samples", [1, 3, 200])
@pytest.mark.parametrize("build", [LinearGaussian, Spherical])
def test_exact_posterior_gives_the_exact_nll(build: Callable, samples: int) -> None:
    model = build()
    x = model.data()
    got = importance_weighted_nll(model, x, samples, seeded())
    torch.testing.assert_close(got, model.exact_nll(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", [LinearGaussian(0.3, 1.5), Spherical(0.6)], ids=["normal", "vmf"])
def test_inexact_posterior_converges_from_above(model: LinearGaussian | Spherical) -> None:
    x, exact = model.data(4), model.exact_nll(model.data(4))
    gaps = []
    for samples in (1, 10, 20_000):
        repeats = max(1, 4000 // samples)
        many = importance_weighted_nll(model, x.repeat(repeats, 1), samples, seeded())
        gaps.append(float((many.view(repeats, -1).mean(0) - exact).mean()))
    assert gaps[0] > gaps[1] > abs(gaps[2])
    assert abs(gaps[2]) < 0.02


def test_one_sample_averages_to_the_elbo() -> None:
    model, repeats = LinearGaussian(0.2, 1.3), 40_000
    x = model.data(1).expand(repeats, -1)
    nll = importance_weighted_nll(model, x, 1, seeded())
    q = model.encode(x[:1])
    residual = x[:1] - model.bias - q.mean @ model.weight.T
    spread = (model.weight.square().sum(0) * q.variance).sum()
    exact = (residual.square().sum() + spread) / (2 * model.scale**2)
    exact = exact + LENGTH / 2 * math.log(2 * math.pi * model.scale**2) + rate(model, x[:1])[0]
    assert abs(float(nll.mean() - exact)) < 5 * float(nll.std()) / math.sqrt(repeats)
    sampled = distortion(model, x[:1], repeats, seeded()) + rate(model, x[:1])
    assert float(sampled) == pytest.approx(float(exact), abs=0.05)


def test_elbo_with_the_exact_posterior_is_the_nll() -> None:
    model = LinearGaussian()
    x = model.data()
    elbo = distortion(model, x, 40_000, seeded()) + rate(model, x)
    torch.testing.assert_close(elbo, model.exact_nll(x), rtol=0, atol=0.06)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_mixture_estimates_converge(shift: float) -> None:
    model = LinearGaussian(shift, 1.2)
    x = model.data()
    prior_ll, post_ll = prior_post_ll(model, x, 40_000, seeded())
    torch.testing.assert_close(prior_ll, -model.exact_nll(x), rtol=0, atol=0.05)
    q = model.encode(x)
    expected = model.log_expected(x, q.mean, q.variance)
    torch.testing.assert_close(post_ll, expected, rtol=0, atol=0.05)
    assert prior_post_ll(model, x)[0].shape == (5,)


def test_mixture_estimates_on_the_sphere() -> None:
    model = Spherical(0.7)
    x = model.data()
    prior_ll, post_ll = prior_post_ll(model, x, 40_000, seeded())
    torch.testing.assert_close(prior_ll, -model.exact_nll(x), rtol=0, atol=0.03)
    torch.testing.assert_close(post_ll, model.exact_post(x), rtol=0, atol=0.03)


def test_mixture_estimates_of_a_collapsed_model_agree() -> None:
    model = Spherical(1e-9)
    prior_ll, post_ll = prior_post_ll(model, model.data(), 8, seeded())
    torch.testing.assert_close(prior_ll, post_ll, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 7, 64, 10_000])
def test_rows_bound_the_work_and_nothing_else(rows: int) -> None:
    model = LinearGaussian(0.3, 1.5)
    x = model.data()
    whole = importance_weighted_nll(model, x, 50, seeded())
    pooled = prior_post_ll(model, x, 8, seeded())
    model.most_rows = 0
    torch.testing.assert_close(importance_weighted_nll(model, x, 50, seeded(), rows=rows), whole)
    for got, expected in zip(prior_post_ll(model, x, 8, seeded(), rows=rows), pooled, strict=True):
        torch.testing.assert_close(got, expected)
    assert model.most_rows <= rows


def test_codes_are_held_for_a_block_of_sentences_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, held = LinearGaussian(), []
    x, encode = model.data(1_100), model.encode
    monkeypatch.setattr(model, "encode", lambda x: held.append(len(x)) or encode(x))
    got = importance_weighted_nll(model, x, 500, seeded())
    assert held == [524, 524, 52]  # 500 codes each: at most 2**18
    source = seeded()
    blocks = [importance_weighted_nll(model, part, 500, source) for part in x.split(524)]
    torch.testing.assert_close(got, torch.cat(blocks), rtol=0, atol=0)
    held.clear()
    importance_weighted_nll(model, x[:3], 2**19, seeded())
    assert held == [1, 1, 1]


def test_default_rows_follow_the_sentence_length() -> None:
    model = LinearGaussian()
    importance_weighted_nll(model, model.data(4), 2000, seeded())
    assert 32 < model.most_rows <= 8_192 // (LENGTH - 1)


def test_generator_decides_the_samples() -> None:
    model = LinearGaussian(0.3, 1.5)
    x = model.data()
    first = importance_weighted_nll(model, x, 5)
    assert torch.equal(first, importance_weighted_nll(model, x, 5, fresh_generator()))
    assert not torch.equal(first, importance_weighted_nll(model, x, 5, seeded(1)))


def test_no_samples_are_refused() -> None:
    model = LinearGaussian()
    with pytest.raises(VaelibError, match="samples=0"):
        importance_weighted_nll(model, model.data(), 0)
    with pytest.raises(VaelibError, match="rows=0"):
        importance_weighted_nll(model, model.data(), 2, rows=0)
    with pytest.raises(VaelibError, match="the batch is empty"):
        importance_weighted_nll(model, model.data(0), 2)


def test_perplexity() -> None:
    assert perplexity(22 * math.log(100), 22) == pytest.approx(100)
    assert perplexity(1e6, 1) == math.inf
    with pytest.raises(VaelibError, match="0 tokens"):
        perplexity(1.0, 0)
