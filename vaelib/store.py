"""The run store: a run is a fact, written once, atomically, with its provenance."""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from vaelib.config import Config
from vaelib.errors import VaelibError

ARRAYS, WEIGHTS, STATE, HISTORY = (
    "posterior.npz",
    "model.safetensors",
    "state.safetensors",
    "history.npz",
)

HISTORY_ROWS = 200
_PARTS, _NAMED = ("config", "metrics", "provenance"), {"method", "data", "profile", "seed"}


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically, laid out as `json_text` does."""
    with atomic(path) as file:
        file.write(json_text(value).encode())


def json_text(value: Any, level: int = 0) -> str:
    """JSON with sorted keys: a line a setting, metric or column, lists on one line.

    Args:
        value: What JSON can hold; not-a-number is refused, since JSON has none.
        level: How many objects lie around it; in the third everything stays on its line.
    """
    if not isinstance(value, dict) or not value or level > 1:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    lines = [f"{json.dumps(k)}: {json_text(value[k], level + 1)}" for k in sorted(value)]
    end = "\n" + " " * level
    return "{" + ",".join(f"{end} {line}" for line in lines) + end + "}"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        VaelibError: The file is damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise VaelibError(
            f"cannot read {path}: {error}; delete it and the run is made again."
        ) from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays atomically as a compressed .npz."""
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a .npz without ever unpickling.

    Raises:
        VaelibError: The file is damaged or not an .npz.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise VaelibError(
            f"cannot read {path}: {error}; delete it and the run is made again."
        ) from error


def short(value: float) -> float:
    """A number as records keep it, with six digits."""
    return float(f"{value:.6g}")


def thin(columns: dict[str, np.ndarray], rows: int = HISTORY_ROWS) -> dict[str, list[float]]:
    """Means over `rows` equal blocks of steps, so that a record stays small."""
    size = len(next(iter(columns.values()), []))
    blocks = np.array_split(np.arange(size), min(rows, size) or 1)
    return {k: [short(float(v[b].mean())) for b in blocks if len(b)] for k, v in columns.items()}


@dataclass(frozen=True)
class Key:
    """The name of a fact.

    Attributes:
        trained: `<config hash>-<digest of the training code>`, also the run's folder.
        evaluated: Digest of the evaluation's code and settings.
    """

    trained: str
    evaluated: str

    def __str__(self) -> str:
        return f"{self.trained}-{self.evaluated}"

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Read a key back from its text."""
        trained, _, evaluated = text.rpartition("-")
        return cls(trained, evaluated)


@dataclass(frozen=True)
class Entry:
    """A finished run in a store or among the committed records.

    Attributes:
        key: Its name.
        folder: Where the run's files lie (a store), or None for a committed record.
        record: The record: config, metrics, epochs, texts, provenance.
        arrays_path: Posterior statistics, where they were kept.
    """

    key: Key
    folder: Path | None
    record: dict[str, Any]
    arrays_path: Path | None

    @property
    def whole(self) -> bool:
        """Whether weights and posteriors are here too, not the record alone."""
        there = self.folder is not None and (self.folder / WEIGHTS).is_file()
        return there and self.arrays_path is not None

    @property
    def config(self) -> Config:
        """The resolved configuration of the run."""
        return Config.from_dict(self.record["config"])


class Store:
    """Finished and unfinished runs in a folder, beside read-only committed records.

    A run's folder holds its weights, arrays and history, and a `record-<evaluation>.json` for each
    evaluation: newer metrics make a new fact beside the old one, without training again.

    Args:
        root: Folder of the runs; made when first written to.
        results: Folder of committed records, or None.
    """

    def __init__(self, root: Path | str, results: Path | None = None) -> None:
        self.root, self.results = Path(root), results

    def folder(self, key: Key) -> Path:
        """Where a run's files lie or would lie."""
        return self.root / key.trained

    def record_path(self, key: Key) -> Path:
        """Where the record of a fact lies or would lie."""
        return self.folder(key) / f"record-{key.evaluated}.json"

    def finished(self, key: Key) -> Entry | None:
        """The fact under `key`: the store's own, else a committed one."""
        path = self.record_path(key)
        if path.is_file():
            return _local(path)
        return next((e for e in self._committed() if e.key == key), None)

    def trained(self, key: Key) -> Entry | None:
        """The newest evaluation of the same training in the store, with weights, if any."""
        mine = [_local(path) for path in self.folder(key).glob("record-*.json")]
        mine = [entry for entry in mine if (self.folder(key) / WEIGHTS).is_file()]
        return max(mine, key=lambda e: e.record["provenance"]["started"], default=None)

    def entries(self) -> list[Entry]:
        """All facts: the store's own first, then committed ones it does not hold."""
        paths = sorted(self.root.glob("*/record-*.json")) if self.root.is_dir() else []
        local = [_local(path) for path in paths]
        keys = {entry.key for entry in local}
        return local + [entry for entry in self._committed() if entry.key not in keys]

    def unfinished(self) -> list[str]:
        """Folders of runs that were begun and have no record yet."""
        folders = sorted(self.root.iterdir()) if self.root.is_dir() else []
        return [f.name for f in folders if f.is_dir() and not list(f.glob("record-*.json"))]

    def _committed(self) -> list[Entry]:
        if self.results is None or not self.results.is_dir():
            return []
        return [_committed(path) for path in sorted(self.results.rglob("*.json"))]

    @contextlib.contextmanager
    def lock(self, key: Key) -> Iterator[None]:
        """Hold the run's folder; a second process waits until the first is done or dead."""
        folder = self.folder(key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(folder / "lock", "w")  # noqa: SIM115
        except OSError as error:
            raise VaelibError(
                f"cannot write to the run store {self.root}: {error.strerror}; "
                "point VAELIB_STORE to a folder you can write to."
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for draft in folder.glob(".*"):  # of a process killed while writing
                draft.unlink()
            yield


def _local(path: Path) -> Entry:
    key = Key(path.parent.name, path.stem.removeprefix("record-"))
    return _entry(path, key, path.parent, path.with_name(ARRAYS))


def _committed(path: Path) -> Entry:
    return _entry(path, Key.parse(path.stem), None, path.with_suffix(".npz"))


def _entry(path: Path, key: Key, folder: Path | None, arrays: Path) -> Entry:
    """Read a record, and refuse a file that is none."""
    record = read_json(path)
    sound = isinstance(record, dict) and all(isinstance(record.get(k), dict) for k in _PARTS)
    if not (sound and "question" in record and record["config"].keys() >= _NAMED):
        raise VaelibError(
            f"{path} is no record of a run; move it away, or delete it and the run is made again."
        )
    return Entry(key, folder, record, arrays if arrays.is_file() else None)


def default_store() -> Store:
    """The store of this process: `VAELIB_STORE` or `./runs`, with the committed `./results`.

    `VAELIB_RESULTS` names another folder of committed records.
    """
    root = Path(os.environ.get("VAELIB_STORE", "runs"))
    return Store(root, Path(os.environ.get("VAELIB_RESULTS", "results")))
