"""The plain versions that the fast paths are timed against: one loop per definition."""

import math

import torch
from torch import Tensor

from vaelib.distributions import diagonal_normal, rsample
from vaelib.metrics.likelihood import Model


def pairwise_mi(mu: Tensor, logvar: Tensor, z: Tensor) -> float:
    """Global mutual information, one sample against all posteriors at a time."""
    q = diagonal_normal(mu, logvar)
    gaps = [torch.logsumexp(q.log_prob(point), 0) - math.log(len(mu)) for point in z]
    return float((-q.entropy()[: len(z)] - torch.stack(gaps)).mean())


def monte_carlo_divergences(mu: Tensor, logvar: Tensor, draws: int) -> Tensor:
    """KL(p || q) of each dimension from prior draws, one draw at a time, as published."""
    source, total = torch.Generator().manual_seed(0), torch.zeros(mu.shape[1])
    normal = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
    prior = torch.distributions.Normal(0.0, 1.0)
    for _ in range(draws):
        z = torch.randn(mu.shape[1], generator=source)
        log_q = torch.logsumexp(normal.log_prob(z), 0) - math.log(len(mu))
        total += prior.log_prob(z) - log_q
    return total / draws


def nll_one_at_a_time(model: Model, batch: Tensor, samples: int, chunk: int = 100) -> Tensor:
    """Importance-weighted NLL, one sentence at a time in chunks of 100 samples, as published."""
    source, values = torch.Generator().manual_seed(0), []
    for x in batch.split(1):
        q, weights = model.encode(x), []
        for _ in range(samples // chunk):
            z = rsample(q, (chunk,), source)
            ratio = model.prior().log_prob(z) - q.log_prob(z)
            weights.append(model.log_likelihood(x, z) + ratio)
        values.append(math.log(samples) - torch.cat(weights).logsumexp(0))
    return torch.cat(values)
