"""Files with known checksums, fetched into a cache.

pooch does the transfer, the temporary file, the SHA-256 check and the move into place; added here:
git-blob SHA-1 (the only checksum known for some files), a part file by which an interrupted HTTP
transfer resumes, a lock for two at once, mirrors (a folder or a URL), messages that say what to do.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import platformdirs
from filelock import FileLock

from vaelib.errors import VaelibError

HOST = "https://raw.githubusercontent.com/"
CACHE_VARIABLE = "VAELIB_CACHE"
MIRROR_VARIABLE = "VAELIB_MIRROR"
CHUNK = 1 << 16
SILENCE = 30.0  # seconds a server may say nothing
MOST = 1 << 30  # bytes of a file whose size is not known
RANGE_REFUSED = 416  # HTTP: nothing left from there on


@dataclass(frozen=True)
class Source:
    """One file of a data set and how to know it.

    Args:
        dataset: The data set's id.
        path: `<owner>/<repo>/<commit>/<path>`, below the host, a mirror and the cache alike.
        git_sha1: SHA-1 of the git blob.
        sha256: SHA-256 of the content, "" where unknown.
        bytes: Size, None where unknown.
    """

    dataset: str
    path: str
    git_sha1: str
    sha256: str = ""
    bytes: int | None = None

    @property
    def expected(self) -> str:
        """The checksums, in words."""
        known = [f"git-blob SHA-1 {self.git_sha1}"]
        known += [f"SHA-256 {self.sha256}"] * bool(self.sha256)
        known += [f"{self.bytes} bytes"] * (self.bytes is not None)
        return ", ".join(known)

    def fault(self, path: Path) -> str:
        """What is wrong with a copy of the file, in words; "" when it is the file."""
        if not path.is_file():
            return "no such file"
        content = path.read_bytes()
        if self.bytes is not None and len(content) != self.bytes:
            return f"it has {len(content)} bytes"
        if (found := git_blob_sha1(content)) != self.git_sha1:
            return f"its git-blob SHA-1 is {found}"
        if self.sha256 and (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            return f"its SHA-256 is {found}"
        return ""


def git_blob_sha1(content: bytes) -> str:
    """The name git gives to a file's content.

    >>> git_blob_sha1(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def cache_folder() -> Path:
    """Where downloads are kept: `VAELIB_CACHE`, else the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("vaelib")).absolute()


def _mirror() -> str | Path:
    """What replaces the host: a folder, or the prefix of URLs."""
    mirror = os.environ.get(MIRROR_VARIABLE) or HOST
    scheme = urlsplit(mirror).scheme
    if scheme in ("http", "https"):
        return mirror.rstrip("/") + "/"
    return Path(url2pathname(urlsplit(mirror).path) if scheme == "file" else mirror).absolute()


def find_locally(source: Source) -> Path | None:
    """A copy in the cache or in a mirror that is a folder, unchecked; None when there is none."""
    mirror = _mirror()
    roots = [cache_folder()] + ([mirror] if isinstance(mirror, Path) else [])
    return next((root / source.path for root in roots if (root / source.path).is_file()), None)


def fetch(source: Source) -> Path:
    """The verified file in the cache, fetched first where it is absent or corrupt.

    A file has its name only when its checksums are right. A broken HTTP transfer leaves
    `<name>.part`, from which the next call goes on; a second process waits for the first.

    Returns:
        Its path.

    Raises:
        VaelibError: It cannot be had; says where it was looked for and what to do.
    """
    target = cache_folder() / source.path
    before = source.fault(target)
    if not before:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if source.fault(target):  # else another process has just put it there
                _retrieve(source, target)
    except (OSError, ValueError) as error:  # ValueError: an address or a header that is none
        raise _cannot_fetch(source, target, before, error) from None
    return target


def _retrieve(source: Source, target: Path) -> None:
    """Fetch into `<name>.new` and move it into place, over whatever corrupt file is there."""
    new = target.with_name(target.name + ".new")
    mirror = _mirror()
    where = str(mirror / source.path) if isinstance(mirror, Path) else mirror + source.path
    import pooch  # here, since it is slow and loads widgets in a notebook

    known = f"sha256:{source.sha256}" if source.sha256 else None
    copy = _Copy(source, target.with_name(target.name + ".part"), isinstance(mirror, Path))
    with _quiet():
        pooch.retrieve(where, known, fname=new.name, path=new.parent, downloader=copy)
    os.replace(new, target)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pooch from telling the user to write down checksums."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class _Copy:
    """pooch's downloader: puts a verified copy at `output_file`."""

    source: Source
    part: Path
    local: bool

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        if self.local:
            shutil.copyfile(url, output_file)
            if fault := self.source.fault(Path(output_file)):
                raise VaelibError(f"not the expected file: {fault}")
            return
        self._resume(url)
        os.replace(self.part, output_file)

    def _resume(self, url: str) -> None:
        """Complete the part file, or start it again where going on leads nowhere."""
        if self.part.is_file() and self._transfer(url):
            return
        self.part.write_bytes(b"")
        if not self._transfer(url):
            fault = self.source.fault(self.part)
            self.part.unlink()
            raise VaelibError(f"not the expected file: {fault}")

    def _transfer(self, url: str) -> bool:
        """Go on from what is there; returns whether the file is then complete and right."""
        import pooch

        start = self.part.stat().st_size
        if start and not self.source.fault(self.part):
            return True
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            get = pooch.HTTPDownloader(chunk_size=CHUNK, headers=headers, timeout=SILENCE)
            with self.part.open("ab") as file:
                get(url, _Limited(file, self.source.bytes or MOST), None)
        except _TooLarge:
            return False
        except (OSError, ValueError) as error:
            if (answer := _answer(error)) is not None:
                answer.close()
            if _status(error) == RANGE_REFUSED:
                return False
            if not self.part.stat().st_size:
                self.part.unlink()
            raise
        return not self.source.fault(self.part)


class _TooLarge(Exception):
    """A server sends more than the file is."""


@dataclass(frozen=True)
class _Limited:
    """A file that takes one block more than it may hold, and then no further."""

    file: IO[bytes]
    most: int

    def write(self, content: bytes) -> None:
        if self.file.tell() > self.most:
            raise _TooLarge
        self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def _answer(error: Exception) -> Any:
    """What the server answered (pooch raises the errors of requests), None when it did not."""
    return getattr(error, "response", None)


def _status(error: Exception) -> int | None:
    """The HTTP status a server answered with, None when it did not answer."""
    answer = _answer(error)
    return None if answer is None else int(answer.status_code)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if not isinstance(error, OSError):
        return " ".join(str(error).split())
    if (told := re.search("timed out|(too|exceeded) .*redirect", str(error), re.I)) is not None:
        late = told[0].lower() == "timed out"
        return f"the server was silent for {SILENCE:g} s" if late else "it redirects in a circle"
    if (status := _status(error)) is not None:
        return f"the server answered {status}"
    return error.strerror or f"the connection failed: {type(error).__name__}"


def _cannot_fetch(source: Source, target: Path, before: str, error: Exception) -> VaelibError:
    where = f"{os.environ.get(MIRROR_VARIABLE) or HOST}"
    with suppress(ValueError):  # no address at all
        mirror = _mirror()
        where = f"{mirror / source.path if isinstance(mirror, Path) else mirror + source.path}"
    corrupt = f" in place of the corrupt {target} ({before})" if target.is_file() else ""
    part = target.with_name(target.name + ".part")
    kept = ""
    with suppress(OSError):
        kept = f" ({part.stat().st_size} bytes are kept and a new attempt goes on from there)"
    return VaelibError(
        f"{source.dataset}: cannot fetch {target.name}{corrupt} from {where} "
        f"({_reason(error)}){kept}; expected {source.expected}; set {MIRROR_VARIABLE} to a folder "
        f"or URL that holds {source.path}, or put the file at {target}."
    )
