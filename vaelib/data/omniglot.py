"""OMNIGLOT in 28 by 28 pixels: Burda's file, and a stand-in for where it cannot be had."""

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelib.data.download import Source, fetch
from vaelib.data.images import WHITE, ImageData, ImageSplit, binarise, seeded_order
from vaelib.data.texts import read_bytes, sha256
from vaelib.errors import VaelibError

SIDE = 28
ALPHABETS = 50
VALID_SIZE = 2000
SPLIT_SEED = 0
STANDIN_FILE = "omniglot_28_approx.npz"
_MAT_FIELDS = ("data", "target", "targetchar", "testdata", "testtarget", "testtargetchar")
# scipy's reader crashes on some damaged files, and would take this process along.
_READ_MAT = """
import io, sys
import numpy as np
from scipy.io import loadmat
held = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=sys.argv[1:])
np.savez(sys.stdout.buffer, **{name: held[name] for name in sys.argv[1:]})
"""
_STANDIN_FIELDS = (
    "images",
    "alphabet",
    "alphabet_names",
    "character",
    "drawer",
    "train_index",
    "test_index",
)


@dataclass(frozen=True, eq=False)
class Drawings:
    """Characters drawn by hand, with all that is known of each.

    Args:
        pixels: uint8 `[N, 784]`, 0 (no ink) to 255, line by line from the top left.
        alphabet: Its alphabet, int64 `[N]`, from 0.
        character: Its character, int64 `[N]`, from 0 through all alphabets.
        names: Names of the alphabets.
    """

    pixels: np.ndarray
    alphabet: np.ndarray
    character: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def alphabets(self) -> torch.Tensor:
        """The alphabet of each character, int64 `[characters]`."""
        found = np.zeros(self.character.max() + 1, dtype=np.int64)
        found[self.character] = self.alphabet
        return torch.from_numpy(found)

    def split(self, indices: np.ndarray, labels: str = "alphabet") -> ImageSplit:
        """The grey images at `indices`, labelled by "alphabet" or "character"."""
        classes = self.alphabet if labels == "alphabet" else self.character
        return ImageSplit(
            torch.from_numpy(self.pixels[indices]), torch.from_numpy(classes[indices]), grey=True
        )


@dataclass(frozen=True, kw_only=True)
class DrawingData(ImageData):
    """Images by alphabet, and the drawings they are of, which tell the characters too.

    Args:
        drawings: All of them.
        places: Which are for training, validation among them, and which for testing.
    """

    drawings: Drawings
    places: tuple[np.ndarray, np.ndarray]

    def by_character(self) -> tuple[ImageSplit, ImageSplit]:
        """Training and test images for a probe (DU-VAE, Table 3), binary, labelled by character.

        Each in a random order by a fixed seed, and of the whole file: a model may have seen some of
        the training images, without their labels, and none of the test images.
        """
        orders = [at[seeded_order(len(at), SPLIT_SEED)] for at in self.places]
        train, test = (self.drawings.split(order, "character") for order in orders)
        return train.binarised(0), test.binarised(1)


def images(source: Source, binarisation: str = "dynamic") -> ImageData:
    """Burda's OMNIGLOT: 22,345 images for training, 2,000 for validation, 8,070 for testing.

    The 24,345 training images of the file are shuffled by a fixed seed and the last 2,000 taken for
    validation (protocol C.4); the papers' own order is not published.

    Args:
        source: Where `chardata.mat` is.
        binarisation: "dynamic" draws training images anew in every step, "fixed" once.

    Returns:
        Images of 784 pixels, labelled by alphabet.

    Raises:
        VaelibError: The file cannot be had or read, or `binarisation` is unknown.
    """
    path = fetch(source)
    content = read_bytes(path, f"{source.dataset}: {path.name}")
    drawings, n_train = read_chardata(content, f"{source.dataset}: {path}")
    places = np.arange(n_train), np.arange(n_train, len(drawings))
    return image_data(drawings, *places, {path.name: sha256(content)}, binarisation)


def standin_images(folder: Path, known: str = "", binarisation: str = "dynamic") -> ImageData:
    """An approximation of Burda's OMNIGLOT, never reported as it: another split, other resizing.

    The originals of 105 by 105 pixels were averaged over boxes to 28 by 28 and split at random in
    Burda's sizes. The last 2,000 training images, shuffled, are for validation here too.

    Args:
        folder: Holds `omniglot_28_approx.npz`.
        known: SHA-256 the file must have, "" for any.
        binarisation: As of `images`.

    Returns:
        Images of 784 pixels, labelled by alphabet.

    Raises:
        VaelibError: The file is missing, another, or malformed, or `binarisation` is unknown.
    """
    path = folder / STANDIN_FILE
    content = read_bytes(path, str(path))
    found = sha256(content)
    if known and found != known:
        raise VaelibError(
            f"{path} is not the known file: its SHA-256 is {found}, expected {known}; "
            "put that file back."
        )
    drawings, train, test = read_standin(content, str(path))
    return image_data(drawings, train, test, {path.name: found}, binarisation)


def image_data(
    drawings: Drawings,
    train: np.ndarray,
    test: np.ndarray,
    checksums: dict[str, str],
    binarisation: str,
) -> ImageData:
    """Shuffle the training images, set the last 2,000 aside for validation, binarise.

    Args:
        drawings: All of them.
        train, test: Which are for what.
        checksums: SHA-256 by file.
        binarisation: As of `images`.

    Raises:
        VaelibError: There are too few, or `binarisation` is unknown.
    """
    if len(train) <= VALID_SIZE:
        raise VaelibError(
            f"{', '.join(checksums)} has {len(train)} training images, and the last {VALID_SIZE} "
            "are for validation; take the whole file."
        )
    train = train[seeded_order(len(train), SPLIT_SEED)]
    parts = train[:-VALID_SIZE], train[-VALID_SIZE:], test
    first, second, third = (drawings.split(indices) for indices in parts)
    about = (first, second, third, drawings.names, checksums)
    return binarise(DrawingData(*about, drawings=drawings, places=(train, test)), binarisation)


def read_chardata(content: bytes, where: str) -> tuple[Drawings, int]:
    """Read Burda's `chardata.mat`.

    Its images are columns, each written column by column as MATLAB does; here they are rows, line
    by line. Grey values are rounded to multiples of 1/255.

    Args:
        content: The file.
        where: What to call it in messages.

    Returns:
        All images, training before test, and the number of training images.

    Raises:
        VaelibError: The file is not that file.
    """
    try:
        mat = _read_mat(content)
        pixels = [_from_columns(mat[name]) for name in ("data", "testdata")]
        alphabet = [np.asarray(mat[name]).argmax(axis=0) for name in ("target", "testtarget")]
        number = [np.asarray(mat[name]).ravel() for name in ("targetchar", "testtargetchar")]
        key = np.concatenate(alphabet) * 1000 + np.concatenate(number).astype(np.int64)
        everything = np.concatenate(pixels), np.concatenate(alphabet)
    except Exception as error:  # whatever scipy says of a damaged file
        raise _malformed(where, error) from None
    character = np.unique(key, return_inverse=True)[1]
    names = tuple(f"alphabet {n}" for n in range(1, ALPHABETS + 1))
    return _checked(where, *everything, character, names), len(pixels[0])


def _read_mat(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB file, read in a process of its own."""
    command = [sys.executable, "-c", _READ_MAT, *_MAT_FIELDS]
    done = subprocess.run(command, check=False, input=content, capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        crashed = done.returncode < 0 or not said
        raise ValueError("it is so damaged that its reader crashes" if crashed else said[-1])
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in _MAT_FIELDS}


def _from_columns(data: Any) -> np.ndarray:
    """uint8 rows [N, 784] from columns [784, N] in [0, 1] that hold transposed images."""
    grey = np.asarray(data, dtype=np.float64).T.reshape(-1, SIDE, SIDE).transpose(0, 2, 1)
    if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
        raise ValueError("a pixel is not between 0 and 1")
    return np.rint(grey * WHITE).astype(np.uint8).reshape(-1, SIDE * SIDE)


def read_standin(content: bytes, where: str) -> tuple[Drawings, np.ndarray, np.ndarray]:
    """Read the stand-in's arrays.

    Args:
        content: The file.
        where: What to call it in messages.

    Returns:
        All images, and which are for training and which for testing.

    Raises:
        VaelibError: The file is not that file.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in _STANDIN_FIELDS}
        pixels = held["images"].reshape(-1, SIDE * SIDE)
        train, test = (held[name].astype(np.int64) for name in ("train_index", "test_index"))
        both = np.concatenate([train, test])
        if len(np.unique(both)) != len(both) or both.min() < 0 or both.max() >= len(pixels):
            raise ValueError("its split does not fit its images")
    except Exception as error:  # whatever numpy says of a damaged file
        raise _malformed(where, error) from None
    character = held["character"].astype(np.int64) - 1
    names = tuple(str(name) for name in held["alphabet_names"])
    return _checked(where, pixels, held["alphabet"], character, names), train, test


def _checked(
    where: str,
    pixels: np.ndarray,
    alphabet: np.ndarray,
    character: np.ndarray,
    names: tuple[str, ...],
) -> Drawings:
    """The drawings, where every image has its numbers and every alphabet its name."""
    lengths = {len(pixels), len(alphabet), len(character)}
    if len(lengths) != 1 or pixels.dtype != np.uint8 or not 0 <= alphabet.max() < len(names):
        raise _malformed(where, ValueError("its arrays do not fit together"))
    return Drawings(pixels, alphabet.astype(np.int64), character.astype(np.int64), names)


def _malformed(where: str, error: Exception) -> VaelibError:
    why = " ".join(str(error).split())
    return VaelibError(f"{where} is not the OMNIGLOT file it should be ({why}); fetch it anew.")
