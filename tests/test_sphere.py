"""Bessel functions, von Mises-Fisher and uniform distributions against mpmath and identities."""

import math

import mpmath as mp
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaelib.bessel import length_slope, log_sphere_area, mean_resultant_length, wide
from vaelib.errors import VaelibError
from vaelib.noise import fresh_generator
from vaelib.sphere import HypersphericalUniform, VonMisesFisher

CONCENTRATIONS = [0.01, 0.3, 1, 5, 25, 39.999, 40.001, 100, 1000, 10_000]


def direction(dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    vector = torch.arange(1, dim + 1, dtype=dtype).cos()
    return vector / vector.norm()


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dim", [2, 3, 5, 32, 127, 512])
def test_closed_forms_against_mpmath(dim: int) -> None:
    kappa = torch.tensor(CONCENTRATIONS, dtype=torch.float64)
    q = VonMisesFisher(direction(dim), kappa)
    kl = kl_divergence(q, HypersphericalUniform(dim))
    length = mean_resultant_length(kappa, dim)
    constant = q.log_normaliser()
    with mp.workdps(60):
        order, area = (
            mp.mpf(dim) / 2 - 1,
            2 * mp.pi ** (mp.mpf(dim) / 2) / mp.gamma(mp.mpf(dim) / 2),
        )
        for i, value in enumerate(CONCENTRATIONS):
            k = mp.mpf(value)
            bessel = mp.besseli(order, k)
            ratio = mp.besseli(order + 1, k) / bessel
            log_c = mp.log(bessel) - order * mp.log(k) + (order + 1) * mp.log(2 * mp.pi)
            assert float(length[i]) == pytest.approx(float(ratio), rel=1e-10)
            assert float(constant[i]) == pytest.approx(float(log_c), rel=1e-10, abs=1e-10)
            expected = k * ratio - log_c + mp.log(area)
            assert float(kl[i]) == pytest.approx(float(expected), rel=1e-10)
            assert float(q.entropy()[i]) == pytest.approx(float(mp.log(area) - expected), rel=1e-9)


@pytest.mark.parametrize(("kappa", "expected"), [(25.0, 5.755404), (100.0, 20.758528)])
def test_published_kl(kappa: float, expected: float) -> None:
    q = VonMisesFisher(direction(32), kappa)
    assert float(kl_divergence(q, HypersphericalUniform(32))) == pytest.approx(expected, abs=1e-6)


def test_single_precision_keeps_the_kl() -> None:
    q = VonMisesFisher(direction(512, torch.float32), torch.tensor([0.01, 10_000.0]))
    kl = kl_divergence(q, HypersphericalUniform(512))
    exact = kl_divergence(
        VonMisesFisher(direction(512), q.concentration.double()), HypersphericalUniform(512)
    )
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl.double(), exact, rtol=1e-6, atol=0)


def test_three_dimensions_have_elementary_formulas() -> None:
    kappa, z = 3.0, torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    q = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), kappa)
    expected = kappa * 0.8 + math.log(kappa / (4 * math.pi * math.sinh(kappa)))
    assert float(q.log_prob(z)) == pytest.approx(expected, abs=1e-12)
    coth = math.cosh(kappa) / math.sinh(kappa)
    assert float(q.mean[2]) == pytest.approx(coth - 1 / kappa, abs=1e-12)


def test_density_integrates_to_one_on_the_circle() -> None:
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)
    points = torch.stack([angle.cos(), angle.sin()], 1)
    q = VonMisesFisher(direction(2), 7.0)
    total = torch.trapezoid(q.log_prob(points).exp(), angle)
    assert float(total) == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("dim", [2, 32])
def test_gradients_in_the_concentration(dim: int) -> None:
    kappa = torch.tensor([0.5, 20.0, 60.0], dtype=torch.float64, requires_grad=True)

    def quantities(k: Tensor) -> tuple[Tensor, ...]:
        q = VonMisesFisher(direction(dim), k)
        return (
            q.log_normaliser(),
            kl_divergence(q, HypersphericalUniform(dim)),
            mean_resultant_length(k, dim),
        )

    assert torch.autograd.gradcheck(quantities, (kappa,))
    assert torch.autograd.gradgradcheck(quantities, (kappa,))


@pytest.mark.parametrize("dim", [2, 3, 32, 512])
@pytest.mark.parametrize("kappa", [0.01, 1.0, 25.0, 10_000.0])
def test_sample_moments(dim: int, kappa: float) -> None:
    n, q = 20_000, VonMisesFisher(direction(dim), kappa)
    z = q.rsample((n,), seeded(7))
    assert z.shape == (n, dim)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(n, dtype=z.dtype), rtol=0, atol=1e-12)
    cosine = z @ q.loc
    error = float(length_slope(wide(q.concentration), dim)) ** 0.5 / n**0.5
    length = float(mean_resultant_length(q.concentration, dim))
    assert abs(float(cosine.mean()) - length) < 5 * error
    across = z.mean(0) - cosine.mean() * q.loc
    spread = math.sqrt(length / kappa / n)
    assert float(across.abs().max()) < 5.5 * spread


def test_single_precision_samples_have_length_one() -> None:
    z = VonMisesFisher(direction(2, torch.float32), 25.0).rsample((200_000,), seeded())
    assert float((z.norm(dim=1) - 1).abs().max()) < 1e-6


@pytest.mark.parametrize("kappa", [2.0, 50.0])
def test_sample_variance(kappa: float) -> None:
    q = VonMisesFisher(direction(4), kappa)
    z = q.rsample((100_000,), seeded())
    torch.testing.assert_close(z.var(0), q.variance, rtol=0.03, atol=0)
    entropy = -q.log_prob(z).mean()
    assert float(entropy) == pytest.approx(float(q.entropy()), abs=0.02)


def test_sampler_with_many_concentrations_matches_each() -> None:
    kappa = torch.tensor([[1.0], [10.0], [200.0]])
    q = VonMisesFisher(direction(8, torch.float32).expand(3, 5, 8), kappa)
    z = q.rsample((4000,), seeded())
    assert z.shape == (4000, 3, 5, 8)
    length = (z @ direction(8, torch.float32)).mean(dim=(0, 2))
    torch.testing.assert_close(length, mean_resultant_length(kappa[:, 0], 8), rtol=0, atol=0.01)


def test_generator_decides_the_sample() -> None:
    q = VonMisesFisher(direction(16), 30.0).expand((3,))
    assert torch.equal(q.rsample((2,), seeded(3)), q.rsample((2,), seeded(3)))
    assert not torch.equal(q.rsample((2,), seeded(3)), q.rsample((2,), seeded(4)))
    assert torch.equal(q.rsample((2,)), q.rsample((2,), fresh_generator()))
    state = torch.get_rng_state()
    q.rsample()
    assert torch.equal(state, torch.get_rng_state())


def test_samples_carry_gradients() -> None:
    raw = direction(6).clone().requires_grad_()
    kappa = torch.tensor(12.0, dtype=torch.float64, requires_grad=True)

    def sample(vector: Tensor, k: Tensor) -> Tensor:
        return VonMisesFisher(vector / vector.norm(), k).rsample((5,), seeded())

    assert torch.autograd.gradcheck(sample, (raw, kappa))
    target = direction(6).flip(0)
    loss = (sample(raw, kappa) @ target).mean()
    grads = torch.autograd.grad(loss, (raw, kappa))
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in grads)


def test_uniform_sphere() -> None:
    p = HypersphericalUniform(5).expand((3,))
    z = p.rsample((20_000,), seeded())
    assert z.shape == (20_000, 3, 5)
    assert float(z.mean(0).abs().max()) < 5 / math.sqrt(5 * 20_000)
    torch.testing.assert_close(z.var(0), p.variance, rtol=0.05, atol=0)
    assert torch.equal(p.log_prob(z[0]), -p.entropy())
    assert float(HypersphericalUniform(3).entropy()) == pytest.approx(math.log(4 * math.pi))
    assert torch.equal(p.mean, torch.zeros(3, 5))
    assert log_sphere_area(2) == pytest.approx(math.log(2 * math.pi))


def test_tiny_concentration_is_nearly_uniform() -> None:
    q, p = VonMisesFisher(direction(4), 1e-6), HypersphericalUniform(4)
    z = p.rsample((10,), seeded()).double()
    torch.testing.assert_close(q.log_prob(z), p.log_prob(z), rtol=0, atol=1e-5)


def test_shapes_follow_torch() -> None:
    q = VonMisesFisher(direction(4).expand(3, 1, 4), torch.ones(2, dtype=torch.float64))
    assert q.batch_shape == (3, 2)
    assert q.event_shape == (4,)
    assert q.log_prob(q.mode).shape == (3, 2)
    assert q.mean.shape == q.variance.shape == (3, 2, 4)
    assert q.expand((5, 3, 2)).rsample((7,)).shape == (7, 5, 3, 2, 4)
    assert kl_divergence(q, HypersphericalUniform(4)).shape == (3, 2)


def test_arguments_are_validated() -> None:
    with pytest.raises(ValueError, match="loc"):
        VonMisesFisher(torch.ones(3), 1.0, validate_args=True)
    with pytest.raises(ValueError, match="concentration"):
        VonMisesFisher(direction(3), -1.0, validate_args=True)
    VonMisesFisher(torch.ones(3), 1.0, validate_args=False)
    with pytest.raises(ValueError, match="support"):
        VonMisesFisher(direction(3), 1.0, validate_args=True).log_prob(direction(3) * 2)
    with pytest.raises(VaelibError, match="dim >= 2"):
        HypersphericalUniform(1)
    with pytest.raises(VaelibError, match="make them equal"):
        kl_divergence(VonMisesFisher(direction(3), 1.0), HypersphericalUniform(4))
