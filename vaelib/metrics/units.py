"""Active units and consistent units: which dimensions carry something, which match the prior."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vaelib.distributions import aggregated_log_density, fresh_generator
from vaelib.errors import VaelibError, check_name
from vaelib.metrics.closed_form import check_posteriors

Direction = Literal["p||q", "q||p"]
Method = Literal["quadrature", "monte_carlo"]

ACTIVE, CONSISTENT = 0.01, 0.03  # default thresholds of AU (a variance) and CU (nats)
_REACH = 6.0  # the prior is integrated over [-6, 6]
_TAIL = 8.0  # standard deviations kept on either side of every posterior mean
_MIN_POINTS, _MAX_POINTS = 501, 4_001
_NODES = 8  # a posterior too narrow for the grid
_DRAWS = 4096  # Monte-Carlo points worked at a time


def active_units(mu: Tensor, threshold: float = 0.01) -> int:
    """Dimensions whose posterior mean varies over the data (Burda et al. 2016).

    Args:
        mu: Posterior means `[N, D]`, N >= 2.
        threshold: Least unbiased variance of an active dimension; equality counts, as in the
            published code (the paper writes a strict inequality).

    Returns:
        Number of active dimensions, at most D.

    Raises:
        VaelibError: `mu` is not a finite `[N, D]` with N >= 2.

    Example:
        >>> active_units(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        1
    """
    check_posteriors(mu)
    if len(mu) < 2:
        raise VaelibError("active units need the means of at least two examples; give more.")
    return int((mu.double().var(0) >= threshold).sum())


def consistent_units(
    mu: Tensor,
    logvar: Tensor,
    threshold: float = 0.03,
    direction: Direction = "p||q",
    method: Method = "quadrature",
    samples: int = 128_000,
    generator: torch.Generator | None = None,
) -> int:
    """Dimensions whose aggregated posterior matches N(0, 1) (the CU of DG-VAE).

    For a Gaussian aggregated posterior N(0, s^2) and threshold 0.03, "p||q" passes for s^2 in
    (0.7207, 1.4443).

    Args:
        mu: Means `[N, D]`.
        logvar: Log variances `[N, D]`.
        threshold: A dimension counts when its divergence is strictly below this, in nats.
        direction: "p||q" is KL(prior || aggregated), which the authors' code computes; "q||p" is
            the reverse, which their slides print (T1).
        method: "quadrature" is deterministic; "monte_carlo" is the published estimator.
        samples: Monte-Carlo draws (128,000 in the published code).
        generator: Source of the draws; None is a fresh one with a fixed seed.

    Returns:
        Number of consistent dimensions, at most D.

    Raises:
        VaelibError: A name is unknown, the shapes differ or a value is not finite.
    """
    divergences = unit_divergences(mu, logvar, direction, method, samples, generator)
    return int((divergences < threshold).sum())


@torch.no_grad()
def unit_divergences(
    mu: Tensor,
    logvar: Tensor,
    direction: Direction = "p||q",
    method: Method = "quadrature",
    samples: int = 128_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The divergence behind `consistent_units`, one number a dimension.

    Quadrature is the trapezoidal rule, on [-6, 6] for "p||q" and on that interval widened to eight
    standard deviations around every mean for "q||p" (whose cross term has a closed form, so means
    far outside the prior are exact). There are at least 501 points, more where needed to have two a
    standard deviation of the narrowest posterior, at most 4,001. Where "q||p" would need more than
    these for one a standard deviation of a dimension, it goes there to every posterior with eight
    nodes of the Gauss-Hermite rule instead.

    Args:
        mu: Means `[N, D]`.
        logvar: Log variances `[N, D]`.
        direction: "p||q" or "q||p", p the prior and q the aggregated posterior.
        method: "quadrature" or "monte_carlo".
        samples: Monte-Carlo draws.
        generator: Source of the draws; None is a fresh one with a fixed seed.

    Returns:
        Nats `[D]`, float64 on the CPU.

    Raises:
        VaelibError: A name is unknown, the shapes differ or a value is not finite.
    """
    check_posteriors(mu, logvar)
    check_name(direction, ("p||q", "q||p"), "direction")
    check_name(method, ("quadrature", "monte_carlo"), "method")
    if samples < 1:
        raise VaelibError(f"samples={samples}: give at least one draw.")
    if method == "monte_carlo":
        return _monte_carlo(mu, logvar, direction, samples, fresh_generator(generator))
    return _prior_quadrature(mu, logvar) if direction == "p||q" else _reverse(mu, logvar)


def _log_normal(z: Tensor) -> Tensor:
    """Log density of N(0, 1)."""
    return -0.5 * (z * z + math.log(2 * math.pi))


def _points(low: Tensor, high: Tensor, logvar: Tensor) -> int:
    """Grid points: 501, or two a standard deviation of the narrowest posterior."""
    wanted = 2 * (high - low) / torch.exp(0.5 * logvar.double().amin(0)).cpu()
    return int(wanted.max().clamp(_MIN_POINTS - 1, _MAX_POINTS - 1).ceil()) + 1


def _grid(low: Tensor, high: Tensor, points: int) -> Tensor:
    """Equally spaced points `[G, D]` from `low [D]` to `high [D]`."""
    return low + torch.linspace(0, 1, points, dtype=low.dtype)[:, None] * (high - low)


def _trapezoid(values: Tensor, z: Tensor) -> Tensor:
    """Integral over the grid of every column."""
    return torch.trapezoid(values, z, dim=0)


def _prior_quadrature(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(p || q) on [-6, 6]."""
    high = torch.full((mu.shape[1],), _REACH, dtype=torch.float64)
    z = _grid(-high, high, _points(-high, high, logvar))
    log_q = aggregated_log_density(z.to(mu), mu, logvar, joint=False).cpu().double()
    log_p = _log_normal(z)
    return _trapezoid(log_p.exp() * (log_p - log_q), z)


def _reverse(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q || p) = E_q[log q] by quadrature - E_q[log p] in closed form."""
    reach = _TAIL * torch.exp(0.5 * logvar)
    low = (mu - reach).amin(0).double().cpu().clamp(max=-_REACH)
    high = (mu + reach).amax(0).double().cpu().clamp(min=_REACH)
    points = _points(low, high, logvar)
    step = ((high - low) / (points - 1)).to(mu)
    narrow = torch.exp(0.5 * logvar.amin(0)) < step
    z = _grid(low, high, points)
    log_q = aggregated_log_density(z.to(mu), mu, logvar, joint=False).cpu().double()
    negative_entropy = _trapezoid(log_q.exp() * log_q, z)
    if narrow.any():
        parts = mu[:, narrow].double(), logvar[:, narrow].double()
        negative_entropy[narrow.cpu()] = _at_posteriors(*parts)
    second = (mu.double().square() + logvar.double().exp()).mean(0).cpu()
    return negative_entropy + 0.5 * (second + math.log(2 * math.pi))


def _at_posteriors(mu: Tensor, logvar: Tensor) -> Tensor:
    """E_q[log q], the mean over posteriors of theirs, which a few nodes give however narrow."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    total = torch.zeros(mu.shape[1], dtype=torch.float64)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        z = mu + node * torch.exp(0.5 * logvar)
        log_q = aggregated_log_density(z, mu, logvar, joint=False)
        total += weight * log_q.mean(0).cpu()
    return total


def _monte_carlo(
    mu: Tensor, logvar: Tensor, direction: Direction, samples: int, generator: torch.Generator
) -> Tensor:
    """The published estimator: the mean log ratio at draws from the first distribution."""
    total = torch.zeros(mu.shape[1], dtype=torch.float64)
    for start in range(0, samples, _DRAWS):
        size = (min(_DRAWS, samples - start), mu.shape[1])
        z = torch.randn(size, generator=generator, device=generator.device).to(mu)
        if direction == "q||p":
            pick = torch.randint(len(mu), size[:1], generator=generator, device=generator.device)
            pick = pick.to(mu.device)
            z = mu[pick] + torch.exp(0.5 * logvar[pick]) * z
        log_q = aggregated_log_density(z, mu, logvar, joint=False)
        total += (_log_normal(z) - log_q).sum(0).double().cpu()
    return total / samples * (1 if direction == "p||q" else -1)
