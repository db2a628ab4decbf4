"""A corpus of your own: a folder with train.txt, valid.txt and test.txt."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vaelib.data.texts import SPLITS, Texts, read_bytes, read_texts, sha256
from vaelib.errors import VaelibError

Read = TypeVar("Read")


def read_folder(
    folder: str | Path, max_words: int, labelled: bool = True
) -> tuple[dict[str, Texts], dict[str, str]]:
    """Read a folder: one sentence a line, or `label<TAB>sentence` on every line.

    Args:
        folder: Holds train.txt, valid.txt and test.txt, in UTF-8.
        max_words: Words a line may have.
        labelled: Whether a TAB sets off a label; otherwise it separates words.

    Returns:
        The texts of each split, and the SHA-256 of each file by its name.

    Raises:
        VaelibError: A file is missing, empty, not UTF-8, half labelled, or has too long a line.
    """
    return read_splits(folder, lambda *content: read_texts(*content, max_words, labelled))


def read_splits(
    folder: str | Path, read: Callable[[bytes, str], Read]
) -> tuple[dict[str, Read], dict[str, str]]:
    """Read the three files of a folder, whatever stands on their lines.

    Args:
        folder: Holds train.txt, valid.txt and test.txt.
        read: From a file's content and what to call it in messages to what it holds.

    Returns:
        What each split holds, and the SHA-256 of each file by its name.

    Raises:
        VaelibError: A file is missing or cannot be read, or `read` refuses it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VaelibError(f"no folder {folder}; give one with train.txt, valid.txt and test.txt.")
    missing = [f"{name}.txt" for name in SPLITS if not (folder / f"{name}.txt").is_file()]
    if missing:
        raise VaelibError(
            f"{folder} has no {' and no '.join(missing)}; a corpus needs train.txt, valid.txt and "
            "test.txt, one sentence or pair a line."
        )
    texts, checksums = {}, {}
    for name in SPLITS:
        path = folder / f"{name}.txt"
        content = read_bytes(path, f"{name}.txt")
        texts[name] = read(content, str(path))
        checksums[path.name] = sha256(content)
    return texts, checksums
