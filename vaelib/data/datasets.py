"""The data sets by id, and `load`."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from vaelib.config import check_whole, read_toml
from vaelib.data import digits, drawings, grammar, grammar_pairs, omniglot, synthetic
from vaelib.data.corpus import Corpus
from vaelib.data.download import Source, fetch, find_locally
from vaelib.data.folder import read_folder
from vaelib.data.images import ImageData
from vaelib.data.pairs import PairTexts, build_pairs, read_pair_folder
from vaelib.data.switchboard import read_dialogues
from vaelib.data.texts import SPLITS, Slicing, Texts, build_corpus, read_bytes, read_texts, sha256
from vaelib.data.yelp13 import keep_frequent, read_reviews
from vaelib.errors import VaelibError, check_name
from vaelib.literals import visible
from vaelib.registry import Registry

STANDIN_VARIABLE = "VAELIB_STANDIN"
EMBEDDED: dict[str, Callable[..., Any]] = {
    "grammar": grammar.texts,
    "synthetic": synthetic.texts,
    "pairs": grammar_pairs.texts,
    "digits": digits.images,
}
READERS: dict[str, Callable[..., Any]] = {  # of downloaded files, by what they hold
    "lines": read_texts,
    "reviews": read_reviews,
    "dialogues": read_dialogues,
    "chardata": omniglot.images,
    "drawings": omniglot.standin_images,
    "zips": drawings.images,
    "tabs": read_pair_folder,
}
KNOWN_WORDS = {"synthetic": synthetic.VOCABULARY}


@dataclass(frozen=True)
class DatasetSpec:
    """One data set that `load` knows.

    Args:
        id: Its name everywhere.
        title: The name to print.
        kind: "embedded" (generated), "download" (with checksums) or "folder" (on this disk only).
        licence: Terms of use.
        note: What to know about it.
        sources: Files to download, by split.
        published: What a paper printed about it, in the columns of `Corpus.statistics`.
        source: Where it printed that.
        folder: Name of the stand-in's folder below `VAELIB_STANDIN`.
        labelled: False where a TAB separates words and no label.
        damage: `sign`, `find`, `replace`: a known fault of the public copy and how to undo it.
        sha256: Checksums of a stand-in's files, by split.
        holds: "text", "pairs" or "images".
        pixels: Of an image.
        reader: How its files are read, of `READERS`.
    """

    id: str
    title: str
    kind: str
    licence: str
    note: str
    sources: dict[str, Source] = field(default_factory=dict)
    published: dict[str, float] = field(default_factory=dict)
    source: str = ""
    folder: str = ""
    labelled: bool = True
    damage: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    holds: str = "text"
    pixels: int = 0
    reader: str = "lines"

    @property
    def stand_in(self) -> bool:
        """Whether its training file stands in for a paper's own."""
        return self.kind == "folder"


def _spec(id: str, entry: Mapping[str, Any]) -> DatasetSpec:
    """A spec from its table in sources.toml."""
    rest = {key: value for key, value in entry.items() if key != "files"}
    wanted = {split: Source(id, **file) for split, file in entry.get("files", {}).items()}
    return DatasetSpec(id, sources=wanted, **rest)


def _registry() -> Registry[DatasetSpec]:
    registry: Registry[DatasetSpec] = Registry("data set")
    for id, entry in read_toml(files("vaelib.data") / "sources.toml").items():
        registry.add(id, _spec(id, entry))
    return registry


DATASETS = _registry()


PAIRS = "pairs:"  # before the path of an own folder, whose lines are then pairs


def data_name(name_or_path: str | os.PathLike[str]) -> str:
    """The one name of a corpus in settings and records: an id, or the whole path of a folder.

    A path is meant where there is a separator, a `Path`, or a folder of a name that is no id, and
    behind `pairs:`, which stays before the path.

    Raises:
        VaelibError: Neither a text nor a path, or one that no table or page could show.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise VaelibError(f"data={name_or_path!r}: give a data set's id or a folder's path.")
    text = os.fspath(name_or_path)
    if text != visible(text):
        raise VaelibError(f"data={text!r}: the name holds control characters; rename the folder.")
    if text.startswith(PAIRS) and isinstance(name_or_path, str):
        return PAIRS + str(Path(text.removeprefix(PAIRS)).resolve())
    path = not isinstance(name_or_path, str) or "/" in text or os.sep in text
    folder = text not in ("", *DATASETS) and Path(text).is_dir()
    return str(Path(text).resolve()) if path or folder else text


def check_data(name_or_path: str | os.PathLike[str]) -> str:
    """The same, where neither a known id nor a path is refused.

    Raises:
        VaelibError: An unknown name; the message lists the known ids.
    """
    name = data_name(name_or_path)
    if not own_folder(name):
        check_name(name, DATASETS, "data set (and no folder)")
    return name


def own_folder(data: str) -> Path | None:
    """Where a corpus of one's own lies, given its name in settings; None for an id."""
    path = data.removeprefix(PAIRS)
    return Path(path) if os.path.isabs(path) else None


def holds(data: str) -> str:
    """What a data set holds: "text", "pairs", "images", or the toy's "points".

    A folder of one's own is read as sentences, behind `pairs:` as pairs.
    """
    if data in DATASETS:
        return DATASETS[data].holds
    return "points" if data == "toy" else "pairs" if data.startswith(PAIRS) else "text"


def load(
    name_or_path: str | os.PathLike[str],
    *,
    train_size: int | None = None,
    valid_size: int | None = None,
    test_size: int | None = None,
    min_count: int = 1,
    max_words: int = 2000,
    seed: int = 0,
    binarisation: str = "dynamic",
    max_vocabulary: int | None = None,
) -> Corpus:
    """Load a data set by id, or a folder with train.txt, valid.txt and test.txt.

    The lines of a folder are sentences, those of `pairs:FOLDER` are `post<TAB>response`.

    Downloaded files are kept in a cache (`VAELIB_CACHE`) and checked each time; `VAELIB_MIRROR`
    (a folder or URL) replaces the host. The vocabulary is counted on the training slice.

    Args:
        name_or_path: An id of `DATASETS`, or the path of a folder, after `pairs:` or not.
        train_size: Sentences of the training split to take: a random subset in file order, the
            same in every run; None, or more than there are, takes all.
        valid_size: The same for the validation split.
        test_size: The same for the test split.
        min_count: Words seen less often in the training slice become `<unk>`; with 1, `synthetic`
            keeps all its 1,000 words whether seen or not.
        max_words: Words a sentence may have; a longer one is an error.
        seed: Seed of the slices (not of a run).
        binarisation: Of grey training images: "dynamic" or "fixed".
        max_vocabulary: Most words of the vocabulary, the most frequent of the training slice;
            the others become `<unk>`. None keeps all.

    Returns:
        The corpus.

    Raises:
        VaelibError: Unknown id, files that are absent, corrupt or malformed, or a bad size.
    """
    slicing = Slicing(train_size, valid_size, test_size, min_count, max_words, seed, max_vocabulary)
    for what, value in vars(slicing).items():
        if value is not None or not what.endswith(("_size", "_vocabulary")):
            check_whole(what, value, 0 if what == "seed" else 1)
    data = check_data(name_or_path)
    if folder := own_folder(data):
        name = folder.name
        if holds(data) == "pairs":
            return build_pairs(f"pairs:{name}", name, *read_pair_folder(folder, max_words), slicing)
        return build_corpus(f"folder:{name}", name, *read_folder(folder, max_words), slicing)
    spec = DATASETS[data]
    if spec.holds == "images":
        return _image_corpus(spec, read_images(spec, binarisation).sliced(slicing))
    texts, checksums = _read(spec, max_words)
    about = (spec.id, spec.title, texts, checksums, slicing, spec.stand_in)
    if spec.holds == "pairs":
        return build_pairs(*about)
    return build_corpus(*about, KNOWN_WORDS.get(spec.id, ()))


def code_of(data: str) -> list[Callable[..., Any]]:
    """The functions that read a data set and make its corpus."""
    if holds(data) == "pairs" and own_folder(data):
        return [build_pairs, read_pair_folder]
    if data not in DATASETS:
        return [build_corpus, read_texts]
    spec = DATASETS[data]
    made: Callable[..., Any] = {"images": ImageData, "pairs": build_pairs}.get(
        spec.holds, build_corpus
    )
    own = [keep_frequent] if spec.reader == "reviews" else []
    return [made, EMBEDDED.get(data, READERS[spec.reader]), *own]


def _image_corpus(spec: DatasetSpec, data: ImageData) -> Corpus:
    return Corpus(
        spec.id,
        spec.title,
        data.train,
        data.valid,
        data.test,
        vocabulary=data.vocabulary,
        stand_in=spec.stand_in,
        checksums=dict(data.checksums),
        label_names=data.label_names,
        holds="images",
    )


def read_images(spec: DatasetSpec, binarisation: str = "dynamic") -> ImageData:
    """The images of a data set, all of them."""
    if spec.kind == "embedded":
        return EMBEDDED[spec.id](binarisation)
    if spec.kind == "folder":
        known = spec.sha256.get("images", "")
        return omniglot.standin_images(_standin_folder(spec), known, binarisation)
    return READERS[spec.reader](*spec.sources.values(), binarisation)


def _read(spec: DatasetSpec, max_words: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Texts or pairs of a data set by split, and checksums."""
    if spec.kind == "embedded":
        return _read_embedded(spec.id)
    if spec.kind == "folder":
        return _read_standin(spec, max_words)
    contents, checksums = {}, {}
    for split in SPLITS:
        path = fetch(spec.sources[split])
        content = read_bytes(path, f"{spec.id}: {path.name}")
        checksums[path.name] = sha256(content)
        contents[split] = _undo_damage(content, spec.damage), f"{spec.id}: {path}"
    return _texts_of(spec, contents, max_words), checksums


def _texts_of(
    spec: DatasetSpec, contents: Mapping[str, tuple[bytes, str]], max_words: int
) -> dict[str, Any]:
    """Texts or pairs of downloaded files, each given with where it lies."""
    if spec.reader == "lines":
        options = (max_words, spec.labelled)
        return {split: read_texts(*content, *options) for split, content in contents.items()}
    read = {split: READERS[spec.reader](*content) for split, content in contents.items()}
    return keep_frequent(read) if spec.reader == "reviews" else read


def _read_standin(spec: DatasetSpec, max_words: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Texts and checksums of a stand-in, whose files must be the very ones its records name."""
    folder = _standin_folder(spec)
    if spec.reader == "tabs":
        texts, checksums = read_pair_folder(folder, max_words)
    else:
        texts, checksums = read_folder(folder, max_words, spec.labelled)
    for split, known in spec.sha256.items():
        if (found := checksums[f"{split}.txt"]) != known:
            raise VaelibError(
                f"{spec.id}: {folder / split}.txt is not the known file: its SHA-256 is {found}, "
                f"expected {known}; put that file back, or use other text as a corpus of your "
                f"own: data={str(folder)!r}."
            )
    return texts, checksums


@cache
def _read_embedded(id: str) -> tuple[dict[str, Texts | PairTexts], dict[str, str]]:
    texts = EMBEDDED[id]()
    return texts, {f"{id}.{split}": text.digest() for split, text in texts.items()}


def _undo_damage(content: bytes, damage: Mapping[str, str]) -> bytes:
    if not damage or damage["sign"].encode() not in content:
        return content
    return content.replace(damage["find"].encode(), damage["replace"].encode())


def _standin_folder(spec: DatasetSpec) -> Path:
    """Where a stand-in lies.

    Raises:
        VaelibError: `VAELIB_STANDIN` is not set or has no such folder.
    """
    root = os.environ.get(STANDIN_VARIABLE)
    files = omniglot.STANDIN_FILE if spec.holds == "images" else "train.txt, valid.txt and test.txt"
    where = "is not set" if not root else f"is {root}, which has no folder {spec.folder}"
    if not root or not (Path(root) / spec.folder).is_dir():
        raise VaelibError(
            f"{spec.id} is a developer's corpus that is never downloaded and {STANDIN_VARIABLE} "
            f"{where}; set it to a folder that holds {spec.folder}/ with {files}."
        )
    return Path(root) / spec.folder


def available(id: str) -> bool:
    """Whether a data set can be loaded without the network.

    Raises:
        VaelibError: There is no such data set.
    """
    spec = DATASETS[id]
    if spec.kind == "folder":
        root = os.environ.get(STANDIN_VARIABLE)
        names = [f"{split}.txt" for split in SPLITS]
        names = [omniglot.STANDIN_FILE] if spec.holds == "images" else names
        paths = [Path(root or "", spec.folder, name) for name in names]
        return bool(root) and all(path.is_file() for path in paths)
    return all(find_locally(source) is not None for source in spec.sources.values())


def statistics_table(ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """What `vaelib datasets` prints: each data set's statistics beside the published ones.

    Nothing is downloaded; a data set whose files are absent or unreadable is listed as such.

    Args:
        ids: The data sets, by id; None is all of them.

    Returns:
        A row a data set: id, title, kind, available, splits (sentences by name), statistics and
        published (columns of `Corpus.statistics`; empty where unknown), source, licence, note,
        and problem (why it is not available, else empty).

    Raises:
        VaelibError: There is no such data set.
    """
    return [_row(DATASETS[id]) for id in (DATASETS if ids is None else ids)]


def _row(spec: DatasetSpec) -> dict[str, Any]:
    statistics: dict[str, float | int] = {}
    problem = "" if available(spec.id) else "not on this machine"
    try:
        if not problem:
            statistics = load(spec.id).statistics()
    except VaelibError as error:
        problem = str(error)
    return {
        "id": spec.id,
        "title": spec.title,
        "kind": spec.kind,
        "available": not problem,
        "splits": {split: statistics.get(f"n_{split}") for split in SPLITS},
        "statistics": statistics,
        "published": dict(spec.published),
        "source": spec.source,
        "licence": spec.licence,
        "note": spec.note,
        "problem": problem,
    }
