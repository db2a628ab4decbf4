"""Small labelled subsets for probes: reviews of Short-Yelp with their sentiment (DU-VAE, Table 2).

The subsets were drawn once from the papers' own training file and are published beside it; the
stand-in's folder holds the same files.
"""

import os
from pathlib import Path

from vaelib.data.datasets import DATASETS, STANDIN_VARIABLE
from vaelib.data.download import Source, fetch
from vaelib.data.texts import read_bytes, read_texts
from vaelib.errors import VaelibError, check_name

FOLDER = DATASETS["short_yelp"].sources["train"].path.rpartition("/")[0]  # beside it
# Sentences: git-blob SHA-1, SHA-256, bytes.
SUBSETS = {
    100: (
        "c92e3831f0cb0c7f09f04d89ffafdf60444fb754",
        "eb17b8855e8307badf3f4a50b467268ae21c3ec471a9d2f7a152eceff5e7a91c",
        4_405,
    ),
    500: (
        "e7f71eb52d93a443fd5d20f9d34f54a00705be10",
        "a11eb4bdea7bc5e58d1d316744c61d42da5a7467e4babef51c2cc5d839565a05",
        22_550,
    ),
    1_000: (
        "a7a27e2aa26c85c6c455d0d97fa2ac5f921191e8",
        "ceba2d95fd4ea802d2b0f873d34aff5289a453e7c3ecd63669c7186d2a077fb6",
        45_089,
    ),
    2_000: (
        "74ce557227f55d703965cfbc28b6bb04ef357f10",
        "f91ae9deaffee1943c6308f9b723dab00bb87fa10c39a5fe7ec9fb9a1197716f",
        90_263,
    ),
    10_000: (
        "868a6c7f99e4f03b381e3387a044beaae17692a6",
        "db61555383043e4032443c9a04bffe2129c8e181f596e437c9c9b56292578c06",
        454_270,
    ),
}
DATA = ("short_yelp", "short_yelp_standin")


def labelled_subset(data: str, size: int) -> tuple[list[str], list[int]]:
    """Sentences of the training file of Short-Yelp with their labels.

    A right copy in the folder `VAELIB_STANDIN` is taken; otherwise the file is downloaded.

    Args:
        data: "short_yelp" or "short_yelp_standin"; the subsets are the same.
        size: 100, 500, 1,000, 2,000 or 10,000 sentences.

    Returns:
        Sentences (words separated by blanks), and for each 0 (negative) or 1 (positive).

    Raises:
        VaelibError: There is no such subset, or it cannot be had.
    """
    check_name(data, DATA, "data set with labelled subsets")
    if size not in SUBSETS:
        known = ", ".join(map(str, SUBSETS))
        raise VaelibError(f"size={size}: there is no labelled subset of that size; take {known}.")
    path = _find(Source(data, f"{FOLDER}/short_yelp.train.{size}.txt", *SUBSETS[size]))
    texts = read_texts(read_bytes(path, path.name), str(path), max_words=2_000)
    return list(texts.lines), [int(label) for label in texts.labels or ()]


def _find(source: Source) -> Path:
    """A verified copy: beside the stand-in, else in the cache, fetched first where need be."""
    root = os.environ.get(STANDIN_VARIABLE)
    if root:
        copy = Path(root, "short_yelp", "labelled", Path(source.path).name)
        if not source.fault(copy):
            return copy
    return fetch(source)
