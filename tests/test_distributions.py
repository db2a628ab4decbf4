"""Sampling with a generator, diagonal normals, the aggregated posterior."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Cauchy, Distribution, Independent, Normal

import vaelib.distributions as module
from vaelib.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
    aggregated_log_density,
    aggregated_log_prob,
    diagonal_normal,
    fresh_generator,
    mean_logvar,
    pairwise_log_prob,
    rsample,
    standard_normal,
    take,
)
from vaelib.errors import VaelibError


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posteriors(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = seeded(seed)
    mu = torch.randn(n, dim, generator=source)
    return mu, torch.randn(n, dim, generator=source) - 1


def sphere(n: int, dim: int) -> VonMisesFisher:
    loc = torch.nn.functional.normalize(torch.randn(n, dim, generator=seeded()), dim=1)
    return VonMisesFisher(loc, torch.linspace(1, 40, n), validate_args=False)


@pytest.mark.parametrize(
    "q",
    [
        Normal(torch.zeros(2, 3), torch.ones(2, 3)),
        diagonal_normal(torch.zeros(2, 3), torch.zeros(2, 3)),
        sphere(2, 3),
        HypersphericalUniform(3).expand((2,)),
    ],
    ids=lambda q: type(q).__name__,
)
def test_rsample_depends_on_the_generator_alone(q: Distribution) -> None:
    z = rsample(q, (4,), seeded(5))
    assert z.shape == (4, 2, 3)
    assert torch.equal(z, rsample(q, (4,), seeded(5)))
    assert torch.equal(rsample(q, (4,)), rsample(q, (4,), fresh_generator()))
    assert not torch.equal(z, rsample(q, (4,), seeded(6)))


@pytest.mark.parametrize("seed", [0, 1, 42, 1234])
def test_data_of_a_usual_seed_share_no_noise_with_a_metric(seed: int) -> None:
    """Samples that are the data again would give them an information of tens of nats."""
    torch.manual_seed(seed)
    mu = torch.randn(500, 16)
    own = rsample(diagonal_normal(torch.zeros(500, 16), torch.zeros(500, 16)))
    assert not torch.equal(own, mu)
    assert abs(float(torch.corrcoef(torch.stack([own.flatten(), mu.flatten()]))[0, 1])) < 0.05


def test_rsample_refuses_what_it_does_not_know() -> None:
    with pytest.raises(VaelibError, match="cannot draw from Cauchy"):
        rsample(Cauchy(torch.zeros(2), torch.ones(2)))
    with pytest.raises(VaelibError, match="VonMisesFisher has no mean and log variance"):
        mean_logvar(sphere(2, 3))


def test_rsample_is_reparameterised() -> None:
    mu, logvar = (t.double().requires_grad_() for t in posteriors(3, 2))
    z = rsample(diagonal_normal(mu, logvar), (), seeded())
    noise = standard_normal((3, 2), mu, seeded())
    grads = torch.autograd.grad(z.sum(), (mu, logvar))
    torch.testing.assert_close(z, mu + torch.exp(0.5 * logvar) * noise)
    torch.testing.assert_close(grads[0], torch.ones_like(mu))
    torch.testing.assert_close(grads[1], 0.5 * torch.exp(0.5 * logvar) * noise)


def test_diagonal_normal_round_trip() -> None:
    mu, logvar = posteriors(3, 2)
    q = diagonal_normal(mu, logvar)
    assert isinstance(q, Independent)
    assert (q.batch_shape, q.event_shape) == ((3,), (2,))
    back = mean_logvar(q)
    assert torch.equal(back[0], mu)
    torch.testing.assert_close(back[1], logvar, rtol=0, atol=1e-6)


def plain_mixture(q: Distribution, z: Tensor) -> Tensor:
    each = q.log_prob(z[:, None])
    return torch.logsumexp(each, 1) - math.log(each.shape[1])


def test_joint_density_against_the_plain_mixture() -> None:
    mu, logvar = (t.double() for t in posteriors(50, 4))
    z = torch.randn(30, 4, generator=seeded(), dtype=torch.float64) * 3
    expected = plain_mixture(diagonal_normal(mu, logvar), z)
    torch.testing.assert_close(aggregated_log_density(z, mu, logvar, joint=True), expected)


def test_marginal_density_against_the_plain_mixture() -> None:
    mu, logvar = (t.double() for t in posteriors(50, 4))
    z = torch.randn(30, 4, generator=seeded(), dtype=torch.float64) * 3
    got = aggregated_log_density(z, mu, logvar, joint=False)
    columns = [
        plain_mixture(diagonal_normal(mu[:, [d]], logvar[:, [d]]), z[:, [d]]) for d in range(4)
    ]
    torch.testing.assert_close(got, torch.stack(columns, 1))


def test_spherical_mixture_against_the_plain_one() -> None:
    q = sphere(40, 6)
    z = rsample(q, (), seeded())
    expected = plain_mixture(q, z)
    torch.testing.assert_close(aggregated_log_prob(q, z).float(), expected, rtol=0, atol=1e-4)


def test_narrow_posteriors_far_out_keep_their_digits() -> None:
    """The expanded square loses everything in float32; the result must not."""
    mu = torch.linspace(-60, 60, 64)[:, None].repeat(1, 8)
    logvar = torch.full_like(mu, -12.0)
    z = mu + torch.exp(0.5 * logvar)
    exact = diagonal_normal(mu.double(), logvar.double())
    expected = plain_mixture(exact, z.double())
    got = aggregated_log_density(z, mu, logvar, joint=True)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-5)


def test_densities_that_underflow_stay_finite() -> None:
    mu, logvar = torch.zeros(5, 2), torch.full((5, 2), -8.0)
    z = torch.full((1, 2), 100.0)
    for joint in (True, False):
        got = aggregated_log_density(z, mu, logvar, joint)
        expected = -0.5 * (100**2 * math.exp(8) - 8 + math.log(2 * math.pi)) * (2 if joint else 1)
        torch.testing.assert_close(got, torch.full_like(got, expected), rtol=1e-5, atol=0)


@pytest.mark.parametrize("joint", [True, False])
def test_blocks_do_not_matter(joint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mu, logvar = posteriors(37, 5)
    z = torch.randn(101, 5, generator=seeded())
    whole = aggregated_log_density(z, mu, logvar, joint)
    monkeypatch.setattr(module, "_CPU_BLOCK", 40)
    torch.testing.assert_close(
        aggregated_log_density(z, mu, logvar, joint), whole, rtol=1e-6, atol=1e-6
    )


def test_pairs_are_the_members_of_the_mixture() -> None:
    for q in (diagonal_normal(*posteriors(9, 3)), sphere(9, 3)):
        z = rsample(q, (), seeded())
        pairs = pairwise_log_prob(q, z)
        assert pairs.shape == (9, 9)
        torch.testing.assert_close(pairs.float(), q.log_prob(z[:, None]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pairs.logsumexp(1) - math.log(9), aggregated_log_prob(q, z))


def test_take_keeps_the_chosen_ones() -> None:
    index = torch.tensor([4, 0])
    for q in (diagonal_normal(*posteriors(5, 3)), sphere(5, 3)):
        z = rsample(q, (), seeded())
        part = take(q, index)
        assert type(part) is type(q)
        torch.testing.assert_close(part.log_prob(z[index]), q.log_prob(z)[index])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 10_000))
def test_mixture_is_between_mean_and_maximum(n: int, dim: int, seed: int) -> None:
    mu, logvar = (t.double() for t in posteriors(n, dim, seed))
    z = torch.randn(6, dim, generator=seeded(seed), dtype=torch.float64)
    each = diagonal_normal(mu, logvar).log_prob(z[:, None])
    got = aggregated_log_density(z, mu, logvar, joint=True)
    assert (got >= each.mean(1) - 1e-9).all()
    assert (got <= each.amax(1) + 1e-9).all()
    shuffled = torch.randperm(n, generator=seeded(seed))
    again = aggregated_log_density(z, mu[shuffled], logvar[shuffled], joint=True)
    torch.testing.assert_close(got, again)
