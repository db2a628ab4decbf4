"""Nearest neighbours in the latent space."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vaelib.errors import VaelibError
from vaelib.metrics.closed_form import check_posteriors


def nearest_neighbours(mu: Tensor, queries: Tensor, count: int = 3) -> tuple[Tensor, Tensor]:
    """The examples most like each query by cosine similarity (VAE-MINE, section 5.6).

    Args:
        mu: Representations `[N, D]`, the posterior means.
        queries: Positions `[Q]` in `mu`; a query is no neighbour of itself.
        count: Neighbours K of each query, at most N - 1.

    Returns:
        Positions `[Q, K]`, nearest first, and their similarities `[Q, K]` in [-1, 1]; a mean of
        zero has similarity 0 with everything.

    Raises:
        VaelibError: `mu` is no finite `[N, D]`, `count` is not in 1 to N - 1, or a query is no
            position.

    Example:
        >>> mu = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-1.0, 0.0]])
        >>> nearest_neighbours(mu, torch.tensor([0]), count=1)[0].tolist()
        [[1]]
    """
    check_posteriors(mu)
    size = len(mu)
    if not 0 < count < size:
        raise VaelibError(f"count={count}: give 1 to {size - 1} neighbours of {size} examples.")
    if queries.dim() != 1 or not ((queries >= 0) & (queries < size)).all():
        raise VaelibError(f"the queries are no positions; give integers [Q] from 0 to {size - 1}.")
    units = normalize(mu.double(), dim=1)
    similarity = units[queries] @ units.T
    similarity[torch.arange(len(queries)), queries] = -torch.inf
    values, positions = similarity.topk(count, dim=1)
    return positions, values.clamp(-1, 1)
