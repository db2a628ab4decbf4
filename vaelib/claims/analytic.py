"""Claims that need no training: identities measured on random posteriors."""

from collections.abc import Callable

import torch
from torch import Tensor

BATCHES, REPEATS, SENTENCES, LATENT, SAMPLES = 8, 12, 16, 4, 16


def gap_scores(density_gap: Callable[..., Tensor], size: int | None) -> dict[int, float]:
    """How far the density gap lies from the mean KL, in standard errors of its estimate.

    Args:
        density_gap: `vaelib.objectives.density_gap`.
        size: Aggregation size |b|; None is the whole batch.

    Returns:
        Batch seed -> (mean of repeated estimates - mean KL) / their standard error. Of an unbiased
        estimate of the mean KL this is about Student's t with 11 degrees of freedom.
    """
    return {seed: _score(density_gap, size, seed) for seed in range(BATCHES)}


def _score(density_gap: Callable[..., Tensor], size: int | None, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    mu, logvar = torch.randn(2, SENTENCES, LATENT, generator=generator, dtype=torch.float64)
    kl = 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1).mean()
    repeats = [
        density_gap(mu, logvar, samples=SAMPLES, aggregation_size=size, generator=generator)
        for _ in range(REPEATS)
    ]
    estimates = torch.stack(repeats)
    return float((estimates.mean() - kl) / (estimates.std() / REPEATS**0.5))
