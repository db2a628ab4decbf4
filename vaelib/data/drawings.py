"""The original OMNIGLOT drawings of 105 by 105 pixels, made 28 by 28."""

import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vaelib.data.download import Source, fetch
from vaelib.data.images import ImageData, seeded_order
from vaelib.data.omniglot import SIDE, SPLIT_SEED, Drawings, image_data
from vaelib.data.texts import read_bytes, sha256
from vaelib.errors import VaelibError

ORIGINAL_SIDE = 105
TRAIN_SIZE, TEST_SIZE = 24_345, 8_070  # Burda's
DRAWERS = 20
MOST_MEMBERS, MOST_BYTES = 50_000, 1 << 16  # of a zip, and of one picture
_PICTURE = re.compile(
    r"images_(?:background|evaluation)/([^/\\]{1,80})/character(\d{2})/(\d{4})_(\d{2})\.png"
)


def images(background: Source, evaluation: Source, binarisation: str = "dynamic") -> ImageData:
    """An approximation of Burda's OMNIGLOT from the original drawings, never reported as it.

    Same sizes, but another resizing (means over boxes) and a random split of our own.

    Args:
        background: Where `images_background.zip` is.
        evaluation: Where `images_evaluation.zip` is.
        binarisation: "dynamic" draws training images anew in every step, "fixed" once.

    Returns:
        22,345, 2,000 and 8,070 images of 784 pixels, labelled by alphabet.

    Raises:
        VaelibError: A file cannot be had or read, or `binarisation` is unknown.
    """
    paths = [fetch(source) for source in (background, evaluation)]
    checksums = {path.name: sha256(read_bytes(path, path.name)) for path in paths}
    drawings = read_zips(paths)
    order = seeded_order(len(drawings), SPLIT_SEED)
    return image_data(drawings, order[:TRAIN_SIZE], order[-TEST_SIZE:], checksums, binarisation)


def read_zips(paths: Iterable[Path]) -> Drawings:
    """Read `images_background.zip` and `images_evaluation.zip` and make them 28 by 28.

    Nothing is unpacked to the disk. Each pixel is the mean ink of its box of the original.

    Args:
        paths: The zips.

    Returns:
        Grey drawings in the order of alphabets, characters and drawers.

    Raises:
        VaelibError: Pillow is missing, or a zip is unreadable, unsafe, or not all of one.
    """
    found: dict[tuple[str, int, int], np.ndarray] = {}
    for path in paths:
        found |= dict(_read_zip(Path(path)))
    keys = sorted(found)
    names = sorted({alphabet for alphabet, _, _ in keys})
    character = np.unique([number for _, number, _ in keys], return_inverse=True)[1]
    if not keys or set(np.bincount(character)) != {DRAWERS}:
        raise VaelibError(
            f"{', '.join(map(str, paths)) or 'no zip'}: every character needs its {DRAWERS} "
            "drawings; give the whole images_background.zip and images_evaluation.zip."
        )
    places = {name: place for place, name in enumerate(names)}
    alphabet = np.array([places[key[0]] for key in keys])
    return Drawings(np.stack([found[key] for key in keys]), alphabet, character, tuple(names))


def _read_zip(path: Path) -> Iterator[tuple[tuple[str, int, int], np.ndarray]]:
    """(alphabet, number of the character, drawer) and pixels [784] of every picture of a zip."""
    try:
        with zipfile.ZipFile(path) as pack:
            members = pack.infolist()
            if len(members) > MOST_MEMBERS:
                raise VaelibError(f"{path} has {len(members)} members, more than OMNIGLOT has.")
            for member in members:
                _check_member(member, path)
                if parts := _PICTURE.fullmatch(member.filename):
                    key = parts[1], int(parts[3]), int(parts[4])
                    yield key, _shrunk(pack.read(member), f"{path}: {member.filename}")
    except VaelibError:
        raise
    except Exception as error:  # whatever zipfile says of a damaged file
        raise VaelibError(f"{path} cannot be read ({error}); fetch it anew.") from None


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    """Refuse what OMNIGLOT does not hold: paths that lead elsewhere, large or encrypted files."""
    name = member.filename
    outside = name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/")
    if outside or member.file_size > MOST_BYTES or member.flag_bits & 1:
        raise VaelibError(
            f"{path} holds {name[:80]!r} of {member.file_size} bytes, which OMNIGLOT does not; "
            "fetch the zip anew."
        )


def _shrunk(content: bytes, where: str) -> np.ndarray:
    """The ink of a picture as uint8 [784]."""
    image = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = image.open(io.BytesIO(content), formats=["PNG"])
            if picture.size != (ORIGINAL_SIDE, ORIGINAL_SIDE):
                raise ValueError(f"it has {picture.size[0]} by {picture.size[1]} pixels")
            ink = image.fromarray(255 - np.asarray(picture.convert("L")))
    except Exception as error:  # whatever Pillow says of a damaged file
        raise VaelibError(
            f"{where} is not a drawing of OMNIGLOT ({error}); fetch it anew."
        ) from None
    return np.asarray(ink.resize((SIDE, SIDE), image.Resampling.BOX)).reshape(-1)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise VaelibError(
            "OMNIGLOT's drawings are read with Pillow: install it with "
            "`pip install 'vaelib[images]'`."
        ) from error
    return Image
