"""Images: splits of pixels, grey or binary, and what stands where texts have a vocabulary."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vaelib.data.texts import SPLITS, Slicing, slice_indices
from vaelib.errors import VaelibError, check_name

WHITE = 255
BINARISATIONS = ("dynamic", "fixed")


def seeded_order(total: int, seed: int) -> np.ndarray:
    """A permutation of `total` examples, int64 `[total]`, the same on every machine."""
    return np.argsort(np.random.PCG64(seed).random_raw(total), kind="stable")


@dataclass(frozen=True)
class Pixels:
    """What images have in place of a vocabulary: as many entries as there are pixels.

    Args:
        count: Pixels P of an image.
        words: The two values of a pixel, as `decode` writes them.
    """

    count: int
    words: tuple[str, ...] = ("0", "1")

    def __len__(self) -> int:
        return self.count

    def decode(self, ids: Iterable[int] | Tensor) -> list[str]:
        """The pixels of a binary image `[P]` as "0" and "1".

        Raises:
            VaelibError: A value is neither 0 nor 1.
        """
        values = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if wrong := [v for v in values if v not in (0, 1)]:
            raise VaelibError(f"a pixel is {wrong[0]}: give a binary image, of 0 and 1.")
        return [self.words[int(v)] for v in values]


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """One split of images, each a row of pixels read line by line from the top left.

    Args:
        pixels: uint8 `[N, P]`, 0 (no ink) to 255 (all ink).
        labels: Class of each image, int64 `[N]`, or None.
        grey: Whether a pixel is the probability of ink, drawn anew for every training batch.

    Raises:
        VaelibError: `pixels` or `labels` are not of that kind.
    """

    pixels: Tensor
    labels: Tensor | None = None
    grey: bool = False

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.dim() != 2 or not self.pixels.numel():
            raise VaelibError(
                f"pixels are {self.pixels.dtype} of shape {list(self.pixels.shape)}; "
                "give uint8 of shape [N, P], from 0 to 255."
            )
        if self.labels is not None and self.labels.shape != self.pixels.shape[:1]:
            raise VaelibError(
                f"labels have shape {list(self.labels.shape)} for {len(self)} images; "
                "give one to each."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def predicted(self) -> Tensor:
        """Pixels predicted of each image, P for all, int64 `[N]`, on the CPU."""
        return torch.full((len(self),), self.pixels.shape[1])

    def gather(self, indices: Tensor) -> Tensor:
        """The images at `indices` `[B]` as float32 `[B, P]` in [0, 1]."""
        return self.pixels[indices.to(self.pixels.device)].float() / WHITE

    def mixed(self, indices: Tensor) -> Tensor:
        """The same: all images are of one size."""
        return self.gather(indices)

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The batch as it is trained on: each grey pixel drawn, a binary one as it is.

        Args:
            batch: As `gather` gives it, `[B, P]`.
            generator: Source of the draws, on the batch's device.

        Returns:
            float32 `[B, P]` of 0 and 1 where the split is grey, else the batch.
        """
        return torch.bernoulli(batch, generator=generator) if self.grey else batch

    def buckets(self, batch_size: int) -> list[Tensor]:
        """Consecutive images in batches, the last perhaps smaller; int64 `[<= batch_size]` each.

        Raises:
            VaelibError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise VaelibError(f"batch_size is {batch_size}: use 1 or more.")
        return list(torch.arange(len(self)).split(batch_size))

    def take(self, indices: np.ndarray) -> "ImageSplit":
        """The split of the images at `indices`, in that order."""
        at = torch.from_numpy(indices)
        labels = None if self.labels is None else self.labels[at]
        return replace(self, pixels=self.pixels[at], labels=labels)

    def binarised(self, seed: int) -> "ImageSplit":
        """The split with every pixel drawn once, by `seed`; binary pixels stay as they are."""
        draws = np.random.PCG64(seed).random_raw(self.pixels.numel()) % WHITE
        ink = draws.reshape(self.pixels.shape) < self.pixels.cpu().numpy()
        pixels = torch.from_numpy(ink.astype(np.uint8) * WHITE).to(self.pixels.device)
        return replace(self, pixels=pixels, grey=False)

    def to(self, device: torch.device | str) -> "ImageSplit":
        """The same split with pixels and labels on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels)


@dataclass(frozen=True)
class ImageData:
    """A data set of images as its loading function gives it.

    Args:
        train: Training images, grey or binary.
        valid: Validation images, binary.
        test: Test images, binary.
        label_names: Names of the classes by id, empty when there are none.
        checksums: SHA-256 of each file as read (embedded data: of the pixels and labels).
    """

    train: ImageSplit
    valid: ImageSplit
    test: ImageSplit
    label_names: tuple[str, ...] = ()
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def vocabulary(self) -> Pixels:
        """What stands in the vocabulary's place."""
        return Pixels(self.train.pixels.shape[1])

    def sliced(self, slicing: Slicing) -> "ImageData":
        """The same with slices of its splits: random subsets in order, the same in every run.

        Raises:
            VaelibError: A size is below 1.
        """

        def part(name: str, split: ImageSplit) -> ImageSplit:
            size = slicing.size(name)
            return split.take(slice_indices(len(split), size, name, slicing.seed))

        whole = zip(SPLITS, (self.train, self.valid, self.test), strict=True)
        train, valid, test = (part(name, split) for name, split in whole)
        return replace(self, train=train, valid=valid, test=test)


def binarise(data: ImageData, binarisation: str) -> ImageData:
    """Draw the pixels of validation and test images once and for all, and perhaps of training.

    Every run reads the same draws: they depend on nothing but the place in the whole split
    (Burda et al. 2016 train on fresh draws and test on fixed ones).

    Args:
        data: Three splits, grey pixels in all of them.
        binarisation: "dynamic" keeps training images grey, so that `ImageSplit.draw` draws them
            anew; "fixed" draws them once as well.

    Raises:
        VaelibError: `binarisation` is neither.
    """
    check_name(binarisation, BINARISATIONS, "binarisation")
    train = data.train.binarised(0) if binarisation == "fixed" else replace(data.train, grey=True)
    return replace(data, train=train, valid=data.valid.binarised(1), test=data.test.binarised(2))
