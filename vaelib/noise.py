"""Gaussian noise from an explicit source, the same on every device."""

import abc
from collections.abc import Sequence

import torch
from torch import Tensor

_SEED = 2_718_281_828_459  # of every generator that is not given


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
        """Samples `sample_shape + batch_shape + event_shape`; None is a fresh generator."""


def has_density(q: object) -> bool:
    """Whether a distribution has a density, so that samples can be weighed by it."""
    return q.dense if isinstance(q, Drawn) else True


def fresh_generator(
    generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return `generator`, or in place of None a new one with a fixed seed that is its own.

    The seed is none that people give: data drawn with the same seed as a metric's samples would be
    those very samples, and the mutual information of noise would be large.
    """
    return torch.Generator(device).manual_seed(_SEED) if generator is None else generator


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
        generator: Source of randomness; None is a fresh one with a fixed seed.
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
