import hashlib
from pathlib import Path

import pytest
from data_helpers import CONTENT, FolderWriter

from vaelib.data.download import Source, git_blob_sha1


@pytest.fixture
def folder(tmp_path: Path) -> FolderWriter:
    """Writes train.txt, valid.txt and test.txt; a split given as None is left out."""

    def write(**contents: str | bytes | None) -> Path:
        root = tmp_path / "corpus"
        root.mkdir()
        for split in ("train", "valid", "test"):
            content = contents.get(split, "a b c\nb c d e\n")
            if content is not None:
                raw = content if isinstance(content, bytes) else content.encode()
                (root / f"{split}.txt").write_bytes(raw)
        return root

    return write


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing set that would lead out of it."""
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELIB_MIRROR", raising=False)
    monkeypatch.delenv("VAELIB_STANDIN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def source() -> Source:
    """The file whose content is `CONTENT`."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = "someone/something/0123abc/data/small.txt"
    return Source("small", path, git_blob_sha1(CONTENT), digest, len(CONTENT))
