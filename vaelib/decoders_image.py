"""Decoders of images: from z (and the pixels so far) to the probability of ink."""

import abc
from collections import deque

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.decoders import DECODERS, Pick
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.layers_image import (
    Canvas,
    Look,
    MaskedBottleneck,
    MaskedConvolution,
    convolution,
    evaluating,
    normed_elu,
    pictures,
    side_of,
    whole,
)

EVALUATION_IMAGES = 64  # at a time without gradients, so that memory does not grow with the codes
MAPS = 4  # pictures that z is turned into for the PixelCNN
GROUPS = (7, 5, 3)  # widths of its masked convolutions, from the first layers to the last


class ImageDecoder(nn.Module, abc.ABC):
    """A decoder of binary images, each pixel Bernoulli given z and perhaps the pixels before it.

    Args:
        shape: Sizes; `vocab_size` is the number of pixels P.

    Raises:
        VaelibError: The images are not square.
    """

    reads_padding = True  # there is none in images

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.side = side_of(shape)

    @abc.abstractmethod
    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """Log odds of ink `[R, P]` of images `x [R, P]` under codes `z [R, D]`."""

    @abc.abstractmethod
    def decode(
        self, z: Tensor, pick: Pick, max_length: int = 99, x: Tensor | None = None
    ) -> Tensor:
        """Draw an image for each code.

        Args:
            z: Codes [N, D].
            pick: From scores [M, 2] of no ink and ink to 0 or 1 [M] (greedy, sampling).
            max_length: Not used: an image has P pixels.
            x: The examples the codes belong to; not read here.

        Returns:
            Images [N, P] of 0 and 1, int64.
        """

    def signal(self, z: Tensor) -> Tensor:
        """What the decoder is told by codes [N, D]: the codes themselves."""
        return z

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log-likelihood of images under z, summed over their pixels.

        Without gradients, in evaluation, it is computed a block of images at a time.

        Args:
            x: Images [B, P] of 0 and 1; R = k B codes take k copies of them.
            z: Codes [R, D].
            generator: Not used: nothing is dropped.

        Returns:
            log p(x|z) [R] in nats.
        """
        x = x.to(z.dtype)
        if torch.is_grad_enabled() or self.training:
            return self._log_likelihood(x.repeat(len(z) // len(x), 1), z)
        rows = torch.arange(len(z), device=x.device) % len(x)
        blocks = zip(rows.split(EVALUATION_IMAGES), z.split(EVALUATION_IMAGES), strict=True)
        return torch.cat([self._log_likelihood(x[at], codes) for at, codes in blocks])

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        logits = self.logits(x, z).to(x.dtype)
        return (x * logits - F.softplus(logits)).sum(dim=1)


def two_scores(logits: Tensor) -> Tensor:
    """Scores `[..., 2]` of no ink and ink from the log odds of ink `[...]`."""
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


@DECODERS.register("conv")
class ConvDecoder(ImageDecoder):
    """A linear layer and two transposed convolutions; pixels are independent given z.

    Args:
        shape: Sizes; `vocab_size` is the number of pixels.
        image_channels: Channels before the last convolution, half of those before the first; the
            `conv` encoder takes the same.

    Raises:
        VaelibError: The images are not square, or `image_channels` is below 1.
    """

    def __init__(self, shape: Shape, *, image_channels: int = 16) -> None:
        super().__init__(shape)
        if image_channels < 1:
            raise VaelibError(f"image_channels={image_channels}: use 1 or more.")
        start = -(-self.side // 4)
        self.network = nn.Sequential(
            nn.Linear(shape.latent_dim, 2 * image_channels * start**2),
            nn.ELU(),
            nn.Unflatten(1, (2 * image_channels, start, start)),
            nn.ConvTranspose2d(2 * image_channels, image_channels, 4, stride=2, padding=1),
            nn.ELU(),
            nn.ConvTranspose2d(image_channels, 1, 4, stride=2, padding=1),
        )

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """Log odds of ink `[R, P]` under codes `z [R, D]`; `x` is not read."""
        return self.network(z)[:, 0, : self.side, : self.side].flatten(1)

    @torch.no_grad()
    def decode(
        self, z: Tensor, pick: Pick, max_length: int = 99, x: Tensor | None = None
    ) -> Tensor:
        """Draw images [N, P] of 0 and 1 for codes [N, D], all pixels at once."""
        scores = two_scores(self.logits(z, z))
        return pick(scores.flatten(0, 1)).view(scores.shape[:2])


def kernel_sizes(depth: int) -> list[int]:
    """Widths of the PixelCNN's masked convolutions: 7 first, then 7, 5 and 3 in equal shares.

    >>> kernel_sizes(13)
    [7, 7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3]
    """
    shares = [(depth + 1 - place) // 3 for place in range(3)]
    return [7, *(k for k, n in zip(GROUPS, shares, strict=True) for _ in range(n))]


@DECODERS.register("pixelcnn")
class PixelCNNDecoder(ImageDecoder):
    """A PixelCNN that reads z as four pictures beside the image (He et al. 2019).

    Pixel by pixel, line by line from the top left. A first masked convolution does not see the
    pixel itself; residual blocks with masked convolutions follow. From the fourth layer on, each
    layer is also given the output of three layers before, through a block of its own. It ends in
    log odds, so that no probability is ever rounded to 0; the published code adds 1e-12 to
    probabilities instead.

    Args:
        shape: Sizes; `vocab_size` is the number of pixels.
        pixelcnn_channels: Channels, even; 64 as published.
        pixelcnn_depth: Layers, the first one included; 13 as published.

    Raises:
        VaelibError: The images are not square, or a size is out of range.
    """

    def __init__(
        self, shape: Shape, *, pixelcnn_channels: int = 64, pixelcnn_depth: int = 13
    ) -> None:
        super().__init__(shape)
        channels = pixelcnn_channels
        if channels < 2 or channels % 2 or pixelcnn_depth < 1:
            raise VaelibError(
                f"pixelcnn_channels={channels}, pixelcnn_depth={pixelcnn_depth}: use an even "
                "number of channels and one layer or more."
            )
        first, *kernels = kernel_sizes(pixelcnn_depth)
        self.to_maps = nn.Linear(shape.latent_dim, MAPS * self.side**2)
        nn.init.xavier_uniform_(self.to_maps.weight)
        nn.init.zeros_(self.to_maps.bias)
        self.see = MaskedConvolution(1, channels, first, own=False)
        self.told = convolution(MAPS, channels, first, padding=first // 2)
        self.start = nn.Sequential(*normed_elu(channels))
        self.layers = nn.ModuleList(MaskedBottleneck(channels, k) for k in kernels)
        self.direct = nn.ModuleList(MaskedBottleneck(channels, k) for k in kernels[:-1])
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            *normed_elu(channels),
            nn.Conv2d(channels, 1, 1),
        )

    def code_features(self, z: Tensor) -> Tensor:
        """What the first layer gets from codes `z [R, D]`: `[R, channels, side, side]`."""
        return self.told(self.to_maps(z).view(-1, MAPS, self.side, self.side))

    def score(self, seen: Tensor, told: Tensor, look: Look) -> Tensor:
        """Log odds of ink `[R, 1, H, W]` from the first layer's two inputs, both of that size.

        Args:
            seen: Of the image.
            told: Of the codes.
            look: What masked convolutions see: whole pictures, or a pixel's surroundings.
        """
        x = self.start(seen + told)
        past: deque[Tensor] = deque([x], maxlen=3)
        direct = iter(self.direct)
        for layer in self.layers:
            if len(past) == 3:
                x = x + next(direct)(past[0], look)
            x = layer(x, look)
            past.append(x)
        for last in direct:
            x = x + last(past[0], look)
        return self.head(x)

    def logits(self, x: Tensor, z: Tensor) -> Tensor:
        """Log odds of ink `[R, P]`, each given z and the pixels before it in `x [R, P]`."""
        seen = self.see(whole(self.see, pictures(x, self.side)))
        return self.score(seen, self.code_features(z), whole).flatten(1)

    @torch.no_grad()
    def decode(
        self, z: Tensor, pick: Pick, max_length: int = 99, x: Tensor | None = None
    ) -> Tensor:
        """Draw images [N, P] of 0 and 1 for codes [N, D], pixel by pixel, with running statistics.

        `pick` is asked for a pixel of some images at a time; `max_length` and `x` are not used.
        """
        with evaluating(self):
            return torch.cat([self._draw(codes, pick) for codes in z.split(EVALUATION_IMAGES)])

    def _draw(self, z: Tensor, pick: Pick) -> Tensor:
        canvas, told = Canvas(self.side), self.code_features(z)
        blank, drawn = z.new_zeros(len(z), 1, 1, 1), []
        for place in range(self.side**2):
            row, column = canvas.row, canvas.column = divmod(place, self.side)
            seen = self.see(canvas(self.see, blank))
            here = told[:, :, row : row + 1, column : column + 1]
            ink = pick(two_scores(self.score(seen, here, canvas)[:, 0, 0, 0]))
            canvas(self.see, ink.to(z.dtype).view_as(blank))
            drawn.append(ink)
        return torch.stack(drawn, dim=1)
