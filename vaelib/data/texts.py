"""From lines of text to a corpus: reading and checking files, slicing, building."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from vaelib.data.corpus import Corpus, Split, Vocabulary
from vaelib.errors import VaelibError

SPLITS = ("train", "valid", "test")
LABEL_LENGTH = 32


@dataclass(frozen=True)
class Texts:
    """One split as read: sentences (words separated by whitespace) and perhaps their labels."""

    lines: Sequence[str]
    labels: Sequence[str] | None = None

    def digest(self) -> str:
        """SHA-256 of the split written out as a file, for data that never was one."""
        rows = self.lines
        if self.labels is not None:
            rows = [f"{label}\t{line}" for label, line in zip(self.labels, rows, strict=True)]
        return hashlib.sha256("".join(f"{row}\n" for row in rows).encode()).hexdigest()


def decode_utf8(content: bytes, where: str) -> str:
    """Decode a text file, universal newlines.

    Raises:
        VaelibError: It is not UTF-8; the message names the byte and the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise VaelibError(
            f"{where} is not UTF-8: line {line}, byte {error.start} (0x{content[error.start]:02x}) "
            "cannot be decoded; save the file as UTF-8."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_texts(content: bytes, where: str, max_words: int, labelled: bool = True) -> Texts:
    """Read one file: a sentence a line, or `label<TAB>sentence` on every line.

    Lines without a word are dropped, with their label.

    Args:
        content: The file.
        where: What to call it in messages.
        max_words: Words a line may have.
        labelled: Whether a TAB sets off a label; otherwise it separates words.

    Raises:
        VaelibError: Not UTF-8, no sentence, a line too long, or labels on some lines only.
    """
    rows = [
        (number, line)
        for number, line in enumerate(decode_utf8(content, where).split("\n"), start=1)
        if not line.isspace() and line
    ]
    labels = None
    if labelled and (tabbed := [number for number, line in rows if "\t" in line]):
        _check_labels(rows, tabbed[0], where)
        rows = [(number, line) for number, line in rows if line.split("\t")[1].strip()]
        labels = [line.split("\t")[0] for _, line in rows]
        rows = [(number, line.split("\t")[1]) for number, line in rows]
    _check_lengths(rows, where, max_words)
    return Texts([line for _, line in rows], labels)


def _check_labels(rows: Sequence[tuple[int, str]], first: int, where: str) -> None:
    for number, line in rows:
        label, *rest = line.split("\t")
        if len(rest) == 1 and label and len(label) <= LABEL_LENGTH and len(label.split()) == 1:
            continue
        if not rest:
            fault = f"line {number} has no TAB but line {first} has one"
        elif len(rest) > 1:
            fault = f"line {number} has {len(rest)} TABs"
        else:
            fault = f"line {number} starts with {label[:40]!r}, which is not a one-word label"
        raise VaelibError(
            f"{where}: {fault}; write every line as label<TAB>sentence, or use no TAB at all."
        )


def _check_lengths(texts: Sequence[tuple[int, str]], where: str, max_words: int) -> None:
    if not texts:
        raise VaelibError(f"{where} holds no sentence; write one sentence a line.")
    for number, text in texts:
        if len(text) >= 2 * max_words and (count := len(text.split())) > max_words:
            raise VaelibError(
                f"{where}, line {number} has {count} words and max_words is {max_words}: "
                "split the line, or raise max_words."
            )


def slice_indices(total: int, size: int | None, split: str, seed: int = 0) -> np.ndarray:
    """Which sentences a slice holds: a random subset in file order, the same in every run.

    The choice depends on `seed`, the split's name and `total` only, never on a run's seed; a
    smaller slice lies inside a larger one.

    Args:
        total: Sentences there are.
        size: Sentences wanted; None or more than there are takes all.
        split: "train", "valid" or "test".
        seed: The slicing seed.

    Returns:
        Sorted indices, int64 `[min(size, total)]`.

    Raises:
        VaelibError: `size` is below 1.
    """
    if size is not None and size < 1:
        raise VaelibError(f"{split}_size is {size}: use 1 or more, or None for all sentences.")
    if size is None or size >= total:
        return np.arange(total)
    keys = np.random.PCG64([seed, crc32(split.encode())]).random_raw(total)
    return np.sort(np.argsort(keys, kind="stable")[:size])


def label_ids(texts: Mapping[str, Texts], where: str) -> dict[str, int]:
    """Number the labels: sorted training labels, by value when all are whole numbers.

    Returns:
        Label -> id, empty when no split has labels.

    Raises:
        VaelibError: Some splits only have labels, or one has a label that training has not.
    """
    labelled = [name for name, split in texts.items() if split.labels is not None]
    if not labelled:
        return {}
    if bare := [name for name in texts if name not in labelled]:
        raise VaelibError(
            f"{where}: {labelled[0]} has labels and {bare[0]} has none; label all splits or none."
        )
    known = set(texts["train"].labels or ())
    numeric = all(re.fullmatch(r"-?\d+", label) for label in known)
    ids = {label: i for i, label in enumerate(sorted(known, key=int if numeric else None))}
    for name, split in texts.items():
        if unknown := sorted(set(split.labels or ()) - known):
            raise VaelibError(
                f"{where}: {name} has the label {unknown[0]!r}, which no training sentence has "
                f"(known: {', '.join(ids)}); correct it or add training sentences with it."
            )
    return ids


@dataclass(frozen=True)
class Slicing:
    """How much of a data set to take.

    Sizes (None: all), word threshold, longest line, seed, largest vocabulary (None: all words).
    """

    train_size: int | None = None
    valid_size: int | None = None
    test_size: int | None = None
    min_count: int = 1
    max_words: int = 2000
    seed: int = 0
    max_vocabulary: int | None = None

    def size(self, split: str) -> int | None:
        """The size wanted of one split."""
        return {"train": self.train_size, "valid": self.valid_size, "test": self.test_size}[split]


def build_corpus(
    id: str,
    title: str,
    texts: Mapping[str, Texts],
    checksums: dict[str, str],
    slicing: Slicing,
    stand_in: bool = False,
    known_words: Sequence[str] = (),
) -> Corpus:
    """Slice the splits, count the vocabulary on the training slice and encode everything.

    Args:
        id: The corpus's id.
        title: Its title.
        texts: Its splits as read.
        checksums: SHA-256 by file.
        slicing: How much to take.
        stand_in: Whether it is a stand-in.
        known_words: Words the vocabulary starts with, wherever they occur (with min_count 1).

    Raises:
        VaelibError: A size, `min_count` or `max_vocabulary` is too small, or the labels do not
            fit together.
    """
    classes = label_ids(texts, title)
    lines: dict[str, list[str]] = {}
    labels: dict[str, list[int] | None] = {}
    for name in SPLITS:
        split = texts[name]
        kept = slice_indices(len(split.lines), slicing.size(name), name, slicing.seed).tolist()
        lines[name] = [split.lines[i] for i in kept]
        labels[name] = [classes[split.labels[i]] for i in kept] if split.labels else None
    known = [" ".join(known_words)] if slicing.min_count == 1 else []
    limits = (slicing.min_count, slicing.max_vocabulary)
    vocabulary = Vocabulary.from_texts(known + lines["train"], *limits)
    splits = {name: Split.from_texts(lines[name], vocabulary, labels[name]) for name in SPLITS}
    return Corpus(
        id,
        title,
        **splits,
        vocabulary=vocabulary,
        stand_in=stand_in,
        checksums=dict(checksums),
        label_names=tuple(classes),
    )


def sha256(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: Path, where: str) -> bytes:
    """The content of a file.

    Raises:
        VaelibError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise VaelibError(f"{where} cannot be read ({error.strerror}): {path}.") from None
