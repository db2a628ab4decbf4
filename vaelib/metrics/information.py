"""Mutual information between the data and the latent code: four estimators, four names."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaelib.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
    aggregated_log_prob,
    diagonal_normal,
    fresh_generator,
    grouped_log_prob,
    pairwise_log_prob,
    rsample,
    take,
)
from vaelib.errors import VaelibError, check_name
from vaelib.metrics.closed_form import check_posteriors

EstimatorName = Literal["global", "in_batch", "skip_self", "aggregate_kl"]


Groups = Sequence[Tensor]


def _entropy_gap(q: Distribution, z: Tensor, groups: Groups) -> Tensor:
    """`-H[q_i] - log q(z_i)` `[B]`, the entropy in closed form, the mixture over i's group."""
    return -q.entropy()[torch.cat([*groups])] - grouped_log_prob(q, z, groups)


def _skip_self(q: Distribution, z: Tensor, groups: Groups) -> Tensor:
    """`log q_i(z_i) - log mean_{j != i} q_j(z_i)` `[B]`, j in i's group."""
    return torch.cat([_without_self(take(q, group), z[group]) for group in groups])


def _without_self(q: Distribution, z: Tensor) -> Tensor:
    pairs = pairwise_log_prob(q, z)
    own = pairs.diagonal().clone()
    others = pairs.fill_diagonal_(-torch.inf).logsumexp(1)
    return own - others + math.log(len(z) - 1)


def _aggregate_kl(q: Distribution, z: Tensor, groups: Groups) -> Tensor:
    """`KL(q_i || p) - (log q(z_i) - log p(z_i))` `[B]`; all examples are one group."""
    if isinstance(q, VonMisesFisher):
        p: Distribution = HypersphericalUniform(q.dim, device=z.device, validate_args=False)
    else:
        p = diagonal_normal(torch.zeros_like(z[0]), torch.zeros_like(z[0]))
    return kl_divergence(q, p) - aggregated_log_prob(q, z) + p.log_prob(z)


@dataclass(frozen=True)
class _Estimator:
    """How one estimator works.

    Attributes:
        per_example: `(posteriors, one sample of each, groups)` to nats `[B]`.
        batch_size: Published batch size; None works on the whole data set.
        least: Smallest batch that means anything; smaller ones are left out.
    """

    per_example: Callable[[Distribution, Tensor, Groups], Tensor]
    batch_size: int | None = None
    least: int = 1


_ESTIMATORS = {
    "global": _Estimator(_entropy_gap),
    "in_batch": _Estimator(_entropy_gap, batch_size=32),
    "skip_self": _Estimator(_skip_self, batch_size=513, least=2),
    "aggregate_kl": _Estimator(_aggregate_kl),
}


def mutual_information(
    mu: Tensor,
    logvar: Tensor,
    *,
    estimator: EstimatorName = "global",
    samples: int = 1,
    batch_size: int | None = None,
    batches: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> float:
    """Mutual information I(x; z) of Gaussian posteriors, by one of four estimators.

    - `global`: the mean of `-H[q_i] - log q(z_i)`, where q(z) is the mixture over all N; at most
      ln N. Used by BN-VAE, DU-VAE and DG-VAE.
    - `in_batch`: the same with the mixture over the example's batch; at most the logarithm of the
      batch size. Used by He et al. 2019.
    - `skip_self`: the mean of `log q_i(z_i)` less the log mixture of the others; no bound, too
      high. Used by Coupled-VAE.
    - `aggregate_kl`: the mean KL less the estimated KL(q(z) || p(z)); at most the mean KL. Used by
      VAE-MINE.

    The bounds hold in expectation; Monte-Carlo noise can exceed them a little. Values of different
    estimators must not be compared. The cost is O(samples N^2 D) for the two over all N; memory
    stays at a few megabytes (`skip_self`: one batch squared).

    Distances are expanded into products, in double precision. Posteriors nearly without variance,
    below exp(-30) of the squared spread of the means, need more digits than that has, and the
    result is then wrong: widen them first, as `vaelib.diagnose` does.

    Args:
        mu: Means `[N, D]`.
        logvar: Log variances `[N, D]`.
        estimator: One of the four above.
        samples: Latent samples per example (Coupled: 100; the others: 1).
        batch_size: Consecutive examples that form a batch in `in_batch` (None: 32) and `skip_self`
            (None: 513).
        batches: Positions of the examples of each batch, instead of `batch_size`: He et al. use
            their test batches of sentences of one length.
        generator: Source of the samples; None is a fresh one with a fixed seed.

    Returns:
        Nats, the mean over examples.

    Raises:
        VaelibError: The estimator is unknown, batches are given to one that has none, a number is
            below 1, the shapes differ or a value is not finite.
    """
    check_posteriors(mu, logvar)
    return mutual_information_from(
        diagonal_normal(mu, logvar),
        estimator=estimator,
        samples=samples,
        batch_size=batch_size,
        batches=batches,
        generator=generator,
    )


@torch.no_grad()
def mutual_information_from(
    q: Distribution,
    *,
    estimator: EstimatorName = "global",
    samples: int = 1,
    batch_size: int | None = None,
    batches: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> float:
    """`mutual_information` of posteriors given as a distribution, von Mises-Fisher included.

    The published code leaves MI of vMF models undefined (T10); this is the same estimate with
    spherical densities.

    Args:
        q: Diagonal normal or `VonMisesFisher` with batch shape `[N]`.
        estimator: As in `mutual_information`, and so are the rest.
        samples: Latent samples per example.
        batch_size: Consecutive examples in a batch.
        batches: Positions of the examples of each batch.
        generator: Source of the samples; None is a fresh one with a fixed seed.

    Returns:
        Nats, the mean over examples.

    Raises:
        VaelibError: As in `mutual_information`, or `q` is of another family.
    """
    chosen = _ESTIMATORS[check_name(estimator, _ESTIMATORS, "estimator")]
    if samples < 1 or (batch_size is not None and batch_size < 1):
        raise VaelibError(f"samples={samples}, batch_size={batch_size}: give 1 or more.")
    groups = _groups(q, estimator, batch_size, batches)
    take(q, groups[0])  # refuses another family
    source, total = fresh_generator(generator), 0.0
    for _ in range(samples):
        total += float(chosen.per_example(q, rsample(q, (), source), groups).sum())
    return total / samples / sum(len(group) for group in groups)


def _groups(
    q: Distribution, name: str, batch_size: int | None, batches: Sequence[Tensor] | None
) -> list[Tensor]:
    """Positions of the examples that are compared with one another."""
    chosen, size = _ESTIMATORS[name], q.batch_shape[0]
    if chosen.batch_size is None and (batch_size, batches) != (None, None):
        raise VaelibError(
            f"the {name!r} estimator has no batches; leave out batch_size and batches, "
            "or use 'in_batch' or 'skip_self'."
        )
    if batches is None:
        batches = torch.arange(size).split(batch_size or chosen.batch_size or size)
    kept = [group for group in batches if len(group) >= chosen.least]
    if not kept:
        raise VaelibError(f"the {name!r} estimator needs batches of {chosen.least} or more.")
    return kept
