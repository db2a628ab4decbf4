"""Encoders of images: a batch of pixels to one vector each."""

from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.encoders import ENCODERS
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.layers_image import convolution, normed_elu, pictures, side_of


class ResidualBlock(nn.Module):
    """Two convolutions of width 3, the first with stride 2, beside a shortcut of width 1.

    Args:
        inputs: Input channels.
        outputs: Output channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            convolution(inputs, outputs, 3, stride=2, padding=1),
            *normed_elu(outputs),
            convolution(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            convolution(inputs, outputs, 1, stride=2), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `x [B, inputs, H, W]` to `[B, outputs, ceil(H / 2), ceil(W / 2)]`."""
        return F.elu(self.path(x) + self.shortcut(x))


@ENCODERS.register("resnet")
class ResNetEncoder(nn.Module):
    """Three residual blocks and a convolution that covers what is left (He et al. 2019).

    Images of side 28 become 14, 7, 4 and then, by a convolution of width 4, a vector of 512: the
    published network. Another side s leaves ceil(s / 8), and the last convolution is as wide.
    The published head, linear with a bias and drawn by Xavier's rule, belongs to the posterior:
    `linear_heads` has the bias.

    Args:
        shape: Sizes; `vocab_size` is the number of pixels, `output_dim` is `resnet_features`.
        resnet_channels: Channels of the blocks.
        resnet_features: Width of the vector.

    Raises:
        VaelibError: The images are not square or narrower than 8, or a width is below 1.
    """

    reads_padding = True  # there is none in images

    def __init__(
        self, shape: Shape, *, resnet_channels: int = 64, resnet_features: int = 512
    ) -> None:
        super().__init__()
        if min(resnet_channels, resnet_features) < 1:
            raise VaelibError(
                f"resnet_channels={resnet_channels}, resnet_features={resnet_features}: "
                "use 1 or more."
            )
        self.side, self.output_dim = side_of(shape, least=8), resnet_features
        self.network = nn.Sequential(
            ResidualBlock(1, resnet_channels),
            ResidualBlock(resnet_channels, resnet_channels),
            ResidualBlock(resnet_channels, resnet_channels),
            convolution(resnet_channels, resnet_features, -(-self.side // 8)),
            *normed_elu(resnet_features),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images `x [B, P]` to `h [B, resnet_features]`.

        Raises:
            VaelibError: A training batch of one image, which cannot be normalised.
        """
        if self.training and len(x) < 2:
            raise VaelibError("batch normalisation needs two images a batch: use min_batch=2.")
        return self.network(pictures(x, self.side))


@ENCODERS.register("conv")
class ConvEncoder(nn.Module):
    """Two strided convolutions and a linear layer, for small images; no batch statistics.

    Args:
        shape: Sizes; `vocab_size` is the number of pixels, `output_dim` is `hidden_dim`.
        image_channels: Channels after the first convolution, half of those after the second; the
            `conv` decoder takes the same.

    Raises:
        VaelibError: The images are not square, or `image_channels` is below 1.
    """

    reads_padding = True  # there is none in images

    def __init__(self, shape: Shape, *, image_channels: int = 16) -> None:
        super().__init__()
        if image_channels < 1:
            raise VaelibError(f"image_channels={image_channels}: use 1 or more.")
        self.side, self.output_dim = side_of(shape), shape.hidden_dim
        left = -(-self.side // 4)
        self.network = nn.Sequential(
            nn.Conv2d(1, image_channels, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Conv2d(image_channels, 2 * image_channels, 3, stride=2, padding=1),
            nn.ELU(),
            nn.Flatten(),
            nn.Linear(2 * image_channels * left**2, shape.hidden_dim),
            nn.ELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images `x [B, P]` to `h [B, hidden_dim]`."""
        return self.network(pictures(x, self.side))
