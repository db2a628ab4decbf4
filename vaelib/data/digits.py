"""`digits`: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, embedded, no download."""

from functools import cache

import numpy as np
import torch

from vaelib.data.images import WHITE, ImageData, ImageSplit, binarise, seeded_order
from vaelib.data.texts import sha256

SIZES = (1297, 200, 300)
SPLIT_SEED = 0
MOST = 16  # the darkest pixel of the original


def images(binarisation: str = "dynamic") -> ImageData:
    """The digits: 1,297 for training, 200 for validation, 300 for testing.

    The split is ours: one random order of all digits, cut in three. The counts 0 to 16 of inked
    pixels become probabilities of ink, rounded to multiples of 1/255.

    Args:
        binarisation: "dynamic" draws training images anew in every step, "fixed" once.

    Returns:
        Images of 64 pixels, labels 0 to 9.

    Raises:
        VaelibError: `binarisation` is unknown.
    """
    pixels, labels = _read()
    order = seeded_order(len(pixels), SPLIT_SEED)
    places = np.split(order, np.cumsum(SIZES)[:-1])
    everything = ImageSplit(torch.from_numpy(pixels), torch.from_numpy(labels), grey=True)
    train, valid, test = (everything.take(at) for at in places)
    names = tuple(str(digit) for digit in range(10))
    checksums = {"digits": sha256(pixels.tobytes() + labels.astype("<i8").tobytes())}
    return binarise(ImageData(train, valid, test, names, checksums), binarisation)


@cache
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [1797, 64] and labels int64 [1797], in scikit-learn's order."""
    from sklearn.datasets import load_digits

    counts, labels = load_digits(return_X_y=True)
    pixels = np.rint(counts * (WHITE / MOST)).astype(np.uint8)
    return pixels, labels.astype(np.int64)
