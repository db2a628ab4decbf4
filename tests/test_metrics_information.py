"""Mutual information: loops, limits and bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Cauchy, Distribution, Independent, kl_divergence

from vaelib.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
    diagonal_normal,
    rsample,
    take,
)
from vaelib.errors import VaelibError
from vaelib.metrics import mutual_information, mutual_information_from

ESTIMATORS = ["global", "in_batch", "skip_self", "aggregate_kl"]


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posteriors(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = seeded(seed)
    mu = 2 * torch.randn(n, dim, generator=source, dtype=torch.float64)
    return mu, torch.randn(n, dim, generator=source, dtype=torch.float64) - 1


def far_apart(n: int, dim: int) -> tuple[Tensor, Tensor]:
    mu = torch.arange(n, dtype=torch.float32)[:, None].expand(n, dim) * 100
    return mu, torch.zeros(n, dim)


def sphere(n: int) -> VonMisesFisher:
    loc = torch.nn.functional.normalize(torch.randn(n, 5, generator=seeded()).double(), dim=1)
    return VonMisesFisher(loc, 30.0, validate_args=False)


def by_loop(q: Distribution, p: Distribution, z: Tensor, name: str, batch: int) -> float:
    """One example and one member of the mixture at a time."""
    total, n = 0.0, len(z)
    for i in range(n):
        start = i // batch * batch
        members = [j for j in range(start, min(start + batch, n)) if name != "skip_self" or j != i]
        each = torch.stack([take(q, torch.tensor([j])).log_prob(z[i])[0] for j in members])
        mixture = torch.log(torch.exp(each).mean())
        own = take(q, torch.tensor([i]))
        first = {
            "skip_self": own.log_prob(z[i]),
            "aggregate_kl": kl_divergence(own, p) + p.log_prob(z[i]),
        }.get(name, -own.entropy())
        total += float(first - mixture)
    return total / n


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gaussian_against_the_loop(name: str) -> None:
    mu, logvar = posteriors(21, 3)
    batch = 7 if name in ("in_batch", "skip_self") else None
    got = mutual_information(mu, logvar, estimator=name, batch_size=batch, generator=seeded())
    q, zero = diagonal_normal(mu, logvar), torch.zeros(3, dtype=torch.float64)
    z = rsample(q, (), seeded())
    expected = by_loop(q, diagonal_normal(zero, zero), z, name, batch or 21)
    assert got == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_spherical_against_the_loop(name: str) -> None:
    q = sphere(12)
    batch = 5 if name in ("in_batch", "skip_self") else None
    got = mutual_information_from(q, estimator=name, batch_size=batch, generator=seeded())
    z = rsample(q, (), seeded())
    expected = by_loop(q, HypersphericalUniform(5), z, name, batch or 12)
    assert got == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("n", [2, 50, 1000])
def test_far_apart_posteriors_reach_ln_n(n: int) -> None:
    samples, dim = 4000 // n, 2
    got = mutual_information(*far_apart(n, dim), samples=samples, generator=seeded())
    assert abs(got - math.log(n)) < 5 * math.sqrt(dim / 2 / 4000)


def test_far_apart_posteriors_reach_ln_batch() -> None:
    got = mutual_information(
        *far_apart(64, 2), estimator="in_batch", batch_size=16, samples=100, generator=seeded()
    )
    assert abs(got - math.log(16)) < 5 / math.sqrt(64 * 100)
    default = mutual_information(*far_apart(64, 2), estimator="in_batch", samples=100)
    assert abs(default - math.log(32)) < 5 / math.sqrt(64 * 100)


def test_collapsed_posteriors_carry_nothing() -> None:
    zero = torch.zeros(40, 3)
    assert mutual_information(zero, zero, estimator="aggregate_kl") == pytest.approx(0, abs=1e-6)
    assert mutual_information(zero, zero, estimator="skip_self") == pytest.approx(0, abs=1e-6)
    for name in ("global", "in_batch"):
        got = mutual_information(zero, zero, estimator=name, samples=100)
        assert abs(got) < 5 * math.sqrt(1.5 / 4000)


def test_two_gaussians_against_quadrature() -> None:
    """I(x; z) of two unit normals at +-1 is the entropy of their mixture minus their own."""
    mu = torch.tensor([[-1.0], [1.0]]).repeat(1000, 1)
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    log_each = torch.stack([-0.5 * (z - m) ** 2 - 0.5 * math.log(2 * math.pi) for m in (-1, 1)])
    log_q = torch.logsumexp(log_each, 0) - math.log(2)
    exact = float(torch.trapezoid(-log_q.exp() * log_q, z)) - 0.5 * math.log(2 * math.pi * math.e)
    for name in ("global", "aggregate_kl"):
        got = mutual_information(mu, torch.zeros(2000, 1), estimator=name, samples=10)
        assert got == pytest.approx(exact, abs=0.03)


def test_skip_self_exceeds_its_neighbours() -> None:
    mu, logvar = far_apart(30, 2)
    got = mutual_information(mu, logvar, estimator="skip_self", samples=5)
    assert got > 10 * math.log(30)


def test_batches_are_respected() -> None:
    mu, logvar = posteriors(20, 2)
    sized = mutual_information(mu, logvar, estimator="in_batch", batch_size=6, generator=seeded())
    batches = list(torch.arange(20).split(6))
    listed = mutual_information(
        mu, logvar, estimator="in_batch", batches=batches[::-1], generator=seeded()
    )
    assert listed == pytest.approx(sized, abs=1e-12)
    other = [torch.arange(0, 20, 2), torch.arange(1, 20, 2)]
    assert mutual_information(
        mu, logvar, estimator="in_batch", batches=other, generator=seeded()
    ) != pytest.approx(sized, abs=1e-3)


def test_singletons_are_left_out_of_skip_self() -> None:
    mu, logvar = posteriors(9, 2)
    got = mutual_information(mu, logvar, estimator="skip_self", batch_size=4)
    assert math.isfinite(got)
    with pytest.raises(VaelibError, match="batches of 2 or more"):
        mutual_information(mu[:1], logvar[:1], estimator="skip_self")


def test_mistakes_are_refused() -> None:
    mu, logvar = posteriors(4, 2)
    with pytest.raises(VaelibError, match="did you mean 'in_batch'"):
        mutual_information(mu, logvar, estimator="inbatch")
    with pytest.raises(VaelibError, match="has no batches"):
        mutual_information(mu, logvar, batch_size=2)
    with pytest.raises(VaelibError, match="mu holds NaN"):
        mutual_information(mu / 0, logvar)
    cauchy = Independent(Cauchy(mu, torch.ones_like(mu)), 1)
    with pytest.raises(VaelibError, match="needs a Gaussian posterior"):
        mutual_information_from(cauchy)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 10_000))
def test_global_estimate_is_bounded(n: int, dim: int, seed: int) -> None:
    """Never above ln N plus the noise of its own entropy term, which the same sample gives."""
    mu, logvar = posteriors(n, dim, seed)
    q = diagonal_normal(mu, logvar)
    noise = float((-q.entropy() - q.log_prob(rsample(q, (), seeded(seed)))).mean())
    got = mutual_information(mu, logvar, generator=seeded(seed))
    assert got <= math.log(n) + noise + 1e-9
    assert got == mutual_information(mu, logvar, generator=seeded(seed))


@pytest.mark.parametrize(("n", "dim"), [(200, 8), (100, 32)])
def test_a_collapsed_model_has_noise_in_place_of_information(n: int, dim: int) -> None:
    """-H + |z|^2 / 2 + const has variance D / 2 where all posteriors are the prior."""

    def estimates(name: str) -> Tensor:
        flat = torch.zeros(n, dim, dtype=torch.float64)
        again = (seeded(100 + seed) for seed in range(400))
        values = [mutual_information(flat, flat, estimator=name, generator=g) for g in again]
        return torch.tensor(values)

    noise = math.sqrt(dim / (2 * n))
    for name in ("global", "in_batch"):
        found = estimates(name)
        assert float(found.std()) == pytest.approx(noise, rel=0.15)  # 400 draws: 3.5 % each
        assert abs(float(found.mean())) < 4 * noise / math.sqrt(400)
    for name in ("aggregate_kl", "skip_self"):  # their two terms share the sample
        assert float(estimates(name).abs().max()) < 1e-9
