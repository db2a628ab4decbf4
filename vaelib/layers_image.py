"""Layers for images: square pictures, scaled convolutions, convolutions that see only the past."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.errors import VaelibError
from vaelib.layers import Shape


def side_of(shape: Shape, least: int = 1) -> int:
    """Pixels along a side of the images, whose number P is `vocab_size`.

    Args:
        shape: Sizes.
        least: The smallest side that is allowed.

    Raises:
        VaelibError: P is not a square, or the side is too small.
    """
    side = math.isqrt(shape.vocab_size)
    if side * side != shape.vocab_size:
        raise VaelibError(
            f"images of {shape.vocab_size} pixels are not square; take images as high as wide."
        )
    if side < least:
        raise VaelibError(
            f"images of side {side} are too small for this part, which needs {least} or more; use "
            "the backbone 'conv'."
        )
    return side


def pictures(x: Tensor, side: int) -> Tensor:
    """Rows of pixels `[B, P]` as pictures of one channel `[B, 1, side, side]`."""
    return x.reshape(-1, 1, side, side)


def scaled_normal_(weight: Tensor) -> Tensor:
    """Draw a convolution's weight `[out, in, k, k]` from N(0, 2 / (k^2 out)), in place."""
    return nn.init.normal_(weight, std=math.sqrt(2 / (weight[0, 0].numel() * len(weight))))


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """A convolution without bias, initialised by `scaled_normal_`."""
    made = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    scaled_normal_(made.weight)
    return made


def normed_elu(channels: int) -> list[nn.Module]:
    """Batch normalisation, then ELU."""
    return [nn.BatchNorm2d(channels), nn.ELU()]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


class MaskedConvolution(nn.Module):
    """A convolution that sees pixels above and to the left only (van den Oord et al. 2016).

    Its weight is square, as published; the rows below the centre are never used.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Odd width of the kernel.
        own: Whether it sees the pixel itself (type B), or not (type A).
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, own: bool) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.weight = nn.Parameter(scaled_normal_(torch.empty(outputs, inputs, kernel, kernel)))
        mask = torch.ones(self.reach + 1, kernel)
        mask[-1, self.reach + own :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x [R, C, H + reach, W + 2 reach]`, with its margin, to `[R, outputs, H, W]`."""
        return F.conv2d(x, self.weight[:, :, : self.reach + 1] * self.mask)


Look = Callable[[MaskedConvolution, Tensor], Tensor]


def whole(convolution: MaskedConvolution, x: Tensor) -> Tensor:
    """A `Look` at whole pictures `[R, C, H, W]`: a margin of zeros above, left and right."""
    reach = convolution.reach
    return F.pad(x, (reach, reach, reach, 0))


class Canvas:
    """A `Look` from one pixel at what each convolution has been shown so far.

    With it a network of masked convolutions is evaluated pixel by pixel, at the cost of one pass
    over whole pictures and not of one for each pixel.

    Args:
        side: Pixels along a side.

    Attributes:
        row, column: The pixel that is next.
    """

    def __init__(self, side: int) -> None:
        self.side, self.row, self.column = side, 0, 0
        self._shown: dict[nn.Module, Tensor] = {}

    def __call__(self, convolution: MaskedConvolution, x: Tensor) -> Tensor:
        """Show a convolution its input at this pixel `[R, C, 1, 1]`; returns all it sees there."""
        reach = convolution.reach
        if convolution not in self._shown:
            height, width = self.side + reach, self.side + 2 * reach
            self._shown[convolution] = x.new_zeros(*x.shape[:2], height, width)
        shown = self._shown[convolution]
        shown[:, :, self.row + reach, self.column + reach] = x[:, :, 0, 0]
        rows = slice(self.row, self.row + reach + 1)
        return shown[:, :, rows, self.column : self.column + 2 * reach + 1]


class MaskedBottleneck(nn.Module):
    """A residual block around a masked convolution of half the channels.

    Args:
        channels: Channels, even.
        kernel: Width of the masked convolution.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        inner = channels // 2
        self.before = nn.Sequential(convolution(channels, inner, 1), *normed_elu(inner))
        self.masked = MaskedConvolution(inner, inner, kernel, own=True)
        self.after = nn.Sequential(
            *normed_elu(inner), convolution(inner, channels, 1), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor, look: Look) -> Tensor:
        """Map `x [R, channels, H, W]` to the same shape; `look` gives the convolution its view."""
        return F.elu(x + self.after(self.masked(look(self.masked, self.before(x)))))
