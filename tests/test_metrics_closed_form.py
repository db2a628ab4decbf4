"""Formulas of the posteriors' parameters against torch and plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaelib.config import LAPTOP_METRICS
from vaelib.errors import VaelibError
from vaelib.metrics import (
    METRICS,
    active_units,
    conditional_entropy,
    kl_normal,
    mutual_posterior_divergence,
)


def posteriors(n: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    shape = (n, dim)
    mu = torch.randn(shape, generator=source, dtype=torch.float64)
    return mu, torch.randn(shape, generator=source, dtype=torch.float64) - 0.5


def normals(mu: Tensor, logvar: Tensor) -> Normal:
    return Normal(mu, torch.exp(0.5 * logvar))


def test_kl_against_torch() -> None:
    mu, logvar = posteriors(20, 3)
    expected = kl_divergence(normals(mu, logvar), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_normal(mu, logvar), expected)


def test_kl_of_nearly_collapsed_posteriors_keeps_its_digits() -> None:
    logvar = torch.tensor([[1e-3]])
    assert float(kl_normal(torch.zeros(1, 1), logvar)) == pytest.approx(2.5e-7, rel=1e-2)
    assert float(kl_normal(torch.zeros(1, 1), torch.zeros(1, 1))) == 0


def test_conditional_entropy_against_torch() -> None:
    mu, logvar = posteriors(20, 3)
    expected = normals(mu, logvar).entropy().sum(1).mean()
    assert conditional_entropy(logvar) == pytest.approx(float(expected), abs=1e-12)


def test_mpd_against_all_pairs() -> None:
    mu, logvar = posteriors(15, 4)
    pairs = kl_divergence(normals(mu[:, None], logvar[:, None]), normals(mu[None], logvar[None]))
    expected = pairs.sum(-1).mean()
    assert mutual_posterior_divergence(mu, logvar) == pytest.approx(float(expected), rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 10_000), st.floats(-100, 100))
def test_mpd_properties(n: int, dim: int, seed: int, shift: float) -> None:
    mu, logvar = posteriors(n, dim, seed)
    value = mutual_posterior_divergence(mu, logvar)
    assert value >= -1e-12
    assert mutual_posterior_divergence(mu + shift, logvar) == pytest.approx(
        value, rel=1e-8, abs=1e-9
    )
    same = mu[:1].expand(n, dim), logvar[:1].expand(n, dim)
    assert mutual_posterior_divergence(*same) == pytest.approx(0, abs=1e-9)


def test_bad_posteriors_are_refused() -> None:
    for wrong in ([[0.0, 1.0], [1.0, 2.0]], torch.ones(3, 2, dtype=torch.long)):
        with pytest.raises(VaelibError, match="floating-point"):
            active_units(wrong)  # type: ignore[arg-type]
    mu, logvar = posteriors(4, 2)
    with pytest.raises(VaelibError, match=r"mu has shape \[4\]; give posterior means"):
        mutual_posterior_divergence(mu[:, 0], logvar)
    with pytest.raises(VaelibError, match="make them equal"):
        mutual_posterior_divergence(mu, logvar[:2])
    with pytest.raises(VaelibError, match="logvar holds NaN"):
        mutual_posterior_divergence(mu, logvar * math.nan)


def test_catalogue_names_every_column() -> None:
    assert set(LAPTOP_METRICS) < set(METRICS)
    for name, spec in METRICS.items():
        assert spec.name == name
        assert all((spec.estimator, spec.unit, spec.bound, spec.paper))
        assert spec.needs in {"posterior", "model", "text"}
        assert spec.direction in {"higher", "lower", "none"}
