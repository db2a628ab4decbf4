"""The bound of VAE-MINE on correlated Gaussians, whose mutual information is known."""

import math
from functools import cache

import torch
from torch import Tensor

from vaelib.objectives.critic import dual_bound

SEEDS, PAIRS, RHO = 8, 100_000, 0.8
SLOPES = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)  # in units of the best xi
WEIGHT, BATCH, BATCHES = 0.4, 8, 4_000  # below a weight of 1/2 the gradient's variance is finite


def correlated(
    size: int, rho: float, dim: int = 1, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Pairs (x, z) [N, D] of standard normals, correlated in each dimension by itself.

    Args:
        size: How many, N.
        rho: The correlation, between -1 and 1.
        dim: Dimensions D.
        generator: Source of the draws; None is a fresh one with seed 0.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    x, noise = torch.randn(2, size, dim, generator=source, dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def information(rho: float, dim: int = 1) -> float:
    """I(x; z) of such pairs, in nats."""
    return -0.5 * dim * math.log1p(-(rho**2))


def best_energy(x: Tensor, z: Tensor, rho: float) -> Tensor:
    """log p(x, z) / p(x) p(z) [N], the energy of Proposition 1 at xi = 1."""
    squares = rho**2 * (x**2 + z**2) - 2 * rho * x * z
    return (-0.5 * math.log1p(-(rho**2)) - squares / (2 * (1 - rho**2))).sum(1)


@cache
def slope_gaps(slopes: tuple[float, ...] = SLOPES) -> dict[str, dict[int, float]]:
    """How far the bound lies from the Donsker-Varadhan value E f - log E e^f, by the slope xi.

    The energy is half the best one, so that E e^f is not 1, where all choices would agree.

    Args:
        slopes: Other slopes, in units of the best one.

    Returns:
        Seed -> bound less value, in nats: "best" at xi = 1 / E e^f, "printed" at xi = E e^f, and
        "other" for the highest of `slopes`.
    """
    gaps: dict[str, dict[int, float]] = {"best": {}, "printed": {}, "other": {}}
    for seed in range(SEEDS):
        x, z = correlated(PAIRS, RHO, generator=torch.Generator().manual_seed(seed))
        joint, marginal = (0.5 * best_energy(x, y, RHO) for y in (z, z.roll(1, 0)))
        log_mean = float(marginal.logsumexp(0)) - math.log(PAIRS)
        value = float(joint.mean()) - log_mean
        others = [dual_bound(joint, marginal, math.log(s) - log_mean) for s in slopes]
        gaps["best"][seed] = float(dual_bound(joint, marginal, -log_mean)) - value
        gaps["printed"][seed] = float(dual_bound(joint, marginal, log_mean)) - value
        gaps["other"][seed] = max(map(float, others)) - value
    return gaps


@cache
def information_ratios() -> dict[int, float]:
    """Seed -> the bound with the best energy and xi = 1, over the known information."""
    found = {}
    for seed in range(SEEDS):
        x, z = correlated(PAIRS, RHO, generator=torch.Generator().manual_seed(seed))
        bound = dual_bound(best_energy(x, z, RHO), best_energy(x, z.roll(1, 0), RHO))
        found[seed] = float(bound) / information(RHO)
    return found


def batch_gradients(x: Tensor, z: Tensor, log_xi: Tensor, weight: float = WEIGHT) -> Tensor:
    """d C / d w [R] of the energy w x z, one number a mini-batch.

    Args:
        x, z: Pairs [R, B]; those of the second distribution are made by shifting a batch by one.
        log_xi: log xi [R]; no gradient passes through it.
        weight: w.
    """
    w = torch.full_like(log_xi, weight)[:, None].requires_grad_()
    bounds = dual_bound(w * x * z, w * x * z.roll(1, 1), log_xi[:, None])
    return torch.autograd.grad(bounds.sum(), w)[0][:, 0]


def batch_log_slopes(x: Tensor, z: Tensor, weight: float = WEIGHT) -> Tensor:
    """log xi [R] at the best slope of each mini-batch, for the same pairs and energy.

    With these the gradient of the bound is that of the mini-batch's own Donsker-Varadhan value.
    """
    return math.log(x.shape[1]) - (weight * x * z.roll(1, 1)).logsumexp(1)


def best_log_slope(weight: float = WEIGHT) -> float:
    """log xi = -log E e^(w x z) = log(1 - w^2) / 2 over independent standard normals."""
    return 0.5 * math.log1p(-(weight**2))


def true_gradient(rho: float = RHO, weight: float = WEIGHT) -> float:
    """d C / d w of the energy w x z at the best xi, in expectation: rho - w / (1 - w^2)."""
    return rho - weight / (1 - weight**2)


@cache
def gradient_scores(fixed: bool) -> dict[int, float]:
    """How far the mean gradient of mini-batches of 8 lies from the true one, in standard errors.

    Args:
        fixed: Take the best xi of the whole distribution; otherwise that of each mini-batch.

    Returns:
        Seed -> (mean - truth) / standard error of the mean, over 4,000 mini-batches.
    """
    scores = {}
    for seed in range(SEEDS):
        x, z = correlated(BATCHES, RHO, BATCH, torch.Generator().manual_seed(seed))
        slopes = torch.full_like(x[:, 0], best_log_slope()) if fixed else batch_log_slopes(x, z)
        found = batch_gradients(x, z, slopes)
        scores[seed] = float((found.mean() - true_gradient()) / (found.std() / BATCHES**0.5))
    return scores
