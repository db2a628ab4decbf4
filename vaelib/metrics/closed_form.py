"""Metrics that are a formula of the posteriors' parameters."""

import math

import torch
from torch import Tensor

from vaelib.errors import VaelibError

_TINY_VARIANCE = 1e-9  # the authors' guard in MPD


def check_posteriors(mu: Tensor, logvar: Tensor | None = None) -> None:
    """Refuse what is no set of diagonal-normal posteriors.

    Args:
        mu: Means, must be `[N, D]` and finite.
        logvar: Log variances, must have the same shape and be finite.

    Raises:
        VaelibError: A shape is wrong or a value is not finite.
    """
    if not all(
        isinstance(x, Tensor) and x.is_floating_point() for x in (mu, logvar) if x is not None
    ):
        raise VaelibError("give posteriors [N, D] as tensors of floating-point numbers.")
    if mu.dim() != 2 or 0 in mu.shape:
        raise VaelibError(f"mu has shape {list(mu.shape)}; give posterior means [N, D].")
    if logvar is not None and logvar.shape != mu.shape:
        raise VaelibError(
            f"logvar has shape {list(logvar.shape)} and mu {list(mu.shape)}; make them equal."
        )
    for name, value in (("mu", mu), ("logvar", logvar)):
        if value is not None and not torch.isfinite(value).all():
            raise VaelibError(f"{name} holds NaN or infinite values; look at the training run.")


def kl_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of every example and dimension.

    Args:
        mu: Means `[N, D]`.
        logvar: Log variances `[N, D]`.

    Returns:
        Nats `[N, D]`, never negative; sum over D for the rate of an example. Differentiable.

    Raises:
        VaelibError: The shapes differ.

    Example:
        >>> kl_normal(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)).tolist()
        [[0.5, 0.0]]
    """
    if mu.shape != logvar.shape:
        raise VaelibError(
            f"logvar has shape {list(logvar.shape)} and mu {list(mu.shape)}; make them equal."
        )
    return 0.5 * (mu.square() + (torch.expm1(logvar) - logvar))


def conditional_entropy(logvar: Tensor) -> float:
    """Mean entropy H(z|x) of the posteriors, the CE of DU-VAE.

    Args:
        logvar: Log variances `[N, D]`.

    Returns:
        `sum_d (E[log sigma_d^2] + log 2 pi e) / 2` in nats.

    Raises:
        VaelibError: `logvar` is not a finite `[N, D]`.
    """
    check_posteriors(logvar)
    per_dim = logvar.double().mean(0) + math.log(2 * math.pi * math.e)
    return float(0.5 * per_dim.sum())


def mutual_posterior_divergence(mu: Tensor, logvar: Tensor) -> float:
    """Mean symmetric-pair KL between posteriors, the MPD of MAE and DU-VAE.

    The mean of KL(q_i || q_j) over all ordered pairs, i = j included, in O(N D).

    Args:
        mu: Means `[N, D]`.
        logvar: Log variances `[N, D]`.

    Returns:
        Nats, summed over dimensions.

    Raises:
        VaelibError: The shapes differ or a value is not finite.
    """
    check_posteriors(mu, logvar)
    mu, variance = mu.double(), logvar.double().exp().clamp(min=_TINY_VARIANCE)
    centred, precision = mu - mu.mean(0), 1 / variance
    spread = centred.square().mean(0) * precision.mean(0)
    spread = spread + (centred.square() * precision).mean(0)
    return float(0.5 * (spread + variance.mean(0) * precision.mean(0) - 1).sum())
