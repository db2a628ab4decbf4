"""Gaussian noise from an explicit source, the same on every device."""

import abc
from collections.abc import Sequence

import torch
from torch import Tensor


class Drawn(abc.ABC):
    """A distribution that draws its samples itself, from a generator it is given.

    Attributes:
        dense: Whether it has a density, so that samples can be weighed by it.
    """

    dense = True

    @abc.abstractmethod
    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples `sample_shape + batch_shape + event_shape`; None is a generator of seed 0."""


def has_density(q: object) -> bool:
    """Whether a distribution has a density, so that samples can be weighed by it."""
    return q.dense if isinstance(q, Drawn) else True


def fresh_generator(generator: torch.Generator | None = None) -> torch.Generator:
    """Return `generator`, or a new CPU generator with seed 0 in place of None."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def standard_normal(
    shape: Sequence[int],
    like: Tensor,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw N(0, 1) noise on the generator's device and bring it to that of `like`.

    A CPU generator thus gives the same noise to a model on any device.

    Args:
        shape: Shape of the noise.
        like: Tensor whose device (and dtype, unless `dtype` is given) the noise takes.
        generator: Source of randomness; None is a fresh one with seed 0.
        dtype: Floating-point type of the noise.

    Returns:
        Noise of the given shape.
    """
    source = fresh_generator(generator)
    noise = torch.randn(
        tuple(shape), generator=source, device=source.device, dtype=dtype or like.dtype
    )
    return noise.to(like.device)


def sampling_dtype(like: Tensor) -> torch.dtype:
    """The widest floating-point type of the device on which `like` lies."""
    return torch.float32 if like.device.type == "mps" else torch.float64
