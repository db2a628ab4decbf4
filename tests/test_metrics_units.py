"""Active and consistent units: closed forms on both sides of every threshold."""

import inspect
import math

import pytest
import torch
from torch import Tensor

from vaelib.errors import VaelibError
from vaelib.metrics import active_units, consistent_units, unit_divergences
from vaelib.metrics.units import ACTIVE, CONSISTENT

VARIANCES = torch.tensor([[0.3, 0.5, 0.9, 1.0, 1.5, 4.0]], dtype=torch.float64)


def mixture(n: int = 60) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(3)
    mu = torch.randn(n, 4, generator=source) * torch.tensor([0.1, 0.9, 2.0, 0.5])
    return mu, torch.tensor([0.0, -2.0, -1.0, 0.5]).expand(n, 4)


def test_active_units_at_the_threshold() -> None:
    mu = torch.tensor([[0.5, 0.49, 7.0], [-0.5, -0.49, 7.0]])
    assert active_units(mu, threshold=0.5) == 1
    assert active_units(mu, threshold=0.4) == 2
    assert active_units(mu) == 2


def test_active_units_use_the_unbiased_variance() -> None:
    mu = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    assert active_units(mu, threshold=0.25) == 1
    assert active_units(mu, threshold=0.251) == 0


def test_active_units_refuse_a_single_example() -> None:
    with pytest.raises(VaelibError, match="at least two"):
        active_units(torch.zeros(1, 3))


def test_prior_to_gaussian_closed_form() -> None:
    got = unit_divergences(torch.zeros_like(VARIANCES), VARIANCES.log(), "p||q")
    expected = 0.5 * (VARIANCES.log() + 1 / VARIANCES - 1)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


def test_gaussian_to_prior_closed_form() -> None:
    mu = torch.linspace(-3, 90, 6, dtype=torch.float64)[None]
    got = unit_divergences(mu, VARIANCES.log(), "q||p")
    expected = 0.5 * (VARIANCES + mu**2 - VARIANCES.log() - 1)[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("direction", "inside", "outside"),
    [("p||q", (0.7208, 1.4442), (0.7206, 1.4445)), ("q||p", (0.6924, 1.3875), (0.6922, 1.3878))],
)
def test_gaussian_window(
    direction: str, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    for variances, expected in ((inside, 2), (outside, 0)):
        logvar = torch.tensor([variances], dtype=torch.float64).log()
        assert consistent_units(torch.zeros(1, 2), logvar.float(), direction=direction) == expected


def test_threshold_is_strict() -> None:
    mu, logvar = mixture()
    value = float(unit_divergences(mu, logvar)[1])
    count = consistent_units(mu, logvar, threshold=value)
    assert consistent_units(mu, logvar, threshold=value * (1 + 1e-9)) == count + 1


@pytest.mark.parametrize("direction", ["p||q", "q||p"])
def test_quadrature_against_monte_carlo(direction: str) -> None:
    mu, logvar = mixture()
    exact = unit_divergences(mu, logvar, direction)
    sampled = unit_divergences(mu, logvar, direction, "monte_carlo", samples=128_000)
    torch.testing.assert_close(sampled, exact, rtol=0.03, atol=0.005)
    counts = [consistent_units(mu, logvar, direction=direction, method=m, samples=64_000)
              for m in ("quadrature", "monte_carlo")]  # fmt: skip
    assert counts[0] == counts[1] > 0


def test_reverse_direction_far_outside_the_prior() -> None:
    mu = torch.tensor([[-50.0], [50.0]])
    got = float(unit_divergences(mu, torch.zeros(2, 1), "q||p"))
    assert got == pytest.approx(50**2 / 2 - math.log(2), abs=1e-3)


def test_reverse_direction_of_a_narrow_posterior() -> None:
    variance = 0.004**2
    got = float(unit_divergences(torch.zeros(1, 1), torch.full((1, 1), math.log(variance)), "q||p"))
    assert got == pytest.approx(0.5 * (variance - 1 - math.log(variance)), abs=1e-4)


@pytest.mark.parametrize(("n", "scale"), [(300, 1e-3), (300, 5e-4), (2000, 1e-3), (1000, 2.5e-3)])
def test_reverse_direction_of_posteriors_narrower_than_any_grid(n: int, scale: float) -> None:
    """Widened to a step of the grid they would all have the divergence of that step."""
    noise = torch.Generator().manual_seed(5)
    mu = torch.cat([torch.randn(n, 1, generator=noise), torch.zeros(n, 1)], 1)
    logvar = torch.full((n, 2), 2 * math.log(scale))
    got = unit_divergences(mu, logvar, "q||p")
    sampled = unit_divergences(mu, logvar, "q||p", "monte_carlo", 30_000, noise)
    assert float(got[0]) == pytest.approx(float(sampled[0]), abs=0.03)
    exact = 0.5 * (scale**2 - 1) - math.log(scale)  # all at 0: KL(N(0, s^2) || N(0, 1))
    assert float(got[1]) == pytest.approx(exact, rel=1e-6)


def test_one_mean_far_out_changes_little_in_the_reverse_direction() -> None:
    mu = torch.randn(2000, 1, generator=torch.Generator().manual_seed(5))
    logvar = torch.full_like(mu, math.log(0.1))
    before = float(unit_divergences(mu[1:], logvar[1:], "q||p"))
    for far in (1e3, 1e6):
        mu[0] = far
        after = float(unit_divergences(mu, logvar, "q||p"))
        own = (far**2 / 2 - math.log(2000)) / 2000  # of the one: its cost and what tells it apart
        assert after - own == pytest.approx(before, abs=0.01)


def test_narrower_than_the_grid_stays_far_from_consistent() -> None:
    logvar = torch.full((2, 1), -30.0)
    for direction in ("p||q", "q||p"):
        got = unit_divergences(torch.tensor([[-1.0], [1.0]]), logvar, direction)
        assert torch.isfinite(got).all()
        assert float(got) > 1


def test_generator_decides_the_draws() -> None:
    mu, logvar = mixture()

    def draw(seed: int) -> Tensor:
        source = torch.Generator().manual_seed(seed)
        return unit_divergences(mu, logvar, "q||p", "monte_carlo", 5000, source)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_unknown_names_are_refused() -> None:
    mu, logvar = mixture()
    with pytest.raises(VaelibError, match="unknown direction"):
        consistent_units(mu, logvar, direction="pq")
    with pytest.raises(VaelibError, match="did you mean 'quadrature'"):
        consistent_units(mu, logvar, method="quadratur")


def test_the_named_thresholds_are_the_defaults() -> None:
    for function, threshold in ((active_units, ACTIVE), (consistent_units, CONSISTENT)):
        assert inspect.signature(function).parameters["threshold"].default == threshold
