"""The run store: a run is a fact, written once, atomically, with its provenance."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
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

CHECKSUMS = "files.json"  # name -> SHA-256, newest first; the file written last stands last
HISTORY_ROWS = 200
_AGAIN = "delete it and the run is made again"
_NEEDED: dict[str, dict[str, Any]] = {  # what every version's record has, and of which kind
    "record": dict.fromkeys(("metrics", "config", "provenance", "texts"), dict)
    | {"key": str, "question": str, "epochs": list},
    "config": dict.fromkeys(("method", "data", "profile"), str) | {"seed": int},
    "provenance": dict.fromkeys(("started", "device"), str)
    | dict.fromkeys(("train_seconds", "evaluate_seconds"), int | float)
    | {"test_size": int, "data": dict, "versions": dict},
}
_DRAFTS = ".*.????????"  # what a process killed while writing leaves


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under `path` only when the block ends without an error.

    The checksum of a run's file is noted before it appears, so that `check` knows it.

    Raises:
        VaelibError: It cannot be written; whatever was there before still is.
    """
    draft = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        if path.name in (ARRAYS, WEIGHTS, STATE, HISTORY) or path.match("record-*.json"):
            _note(path, Path(draft))
        os.replace(draft, path)
    except BaseException as error:
        if draft:
            with contextlib.suppress(OSError):
                os.unlink(draft)
        if isinstance(error, OSError):
            raise VaelibError(
                f"cannot write {path}: {error.strerror or error}; make room or leave to write "
                "there, then give the same command again: nothing that was there is lost."
            ) from error
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _noted(folder: Path) -> dict[str, list[str]]:
    """The checksums of a run's files; none of a run of before there were any."""
    path = folder / CHECKSUMS
    noted = read_json(path, "delete it to use the run's files unchecked") if path.is_file() else {}
    if not isinstance(noted, dict) or not all(isinstance(v, list) for v in noted.values()):
        raise VaelibError(f"{path} holds no checksums; delete it to use the run's files unchecked.")
    return noted


def _note(path: Path, draft: Path) -> None:
    """Note what is about to be `path`; what is there until then stays known."""
    noted = _noted(path.parent)
    noted[path.name] = [_sha256(draft), *noted.pop(path.name, [])[:3]]
    with atomic(path.parent / CHECKSUMS) as file:
        file.write(json.dumps(noted, indent=1).encode())


def check(path: Path, advice: str = _AGAIN) -> None:
    """Refuse a run's file that was altered since it was written.

    Args:
        path: The file; one that was never noted, or is not there, passes.
        advice: What to do about it.

    Raises:
        VaelibError: Its checksum is another.
    """
    known = _noted(path.parent).get(path.name)
    with contextlib.suppress(OSError):  # reading the file will say it
        if known and _sha256(path) not in known:
            raise VaelibError(f"cannot read {path}: it was altered after it was made; {advice}.")


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


def read_json(path: Path, advice: str = _AGAIN) -> Any:
    """Read a JSON file.

    Raises:
        VaelibError: The file is damaged; the message ends with the advice.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise VaelibError(f"cannot read {path}: {error}; {advice}.") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays atomically as a compressed .npz."""
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path, *needed: str) -> dict[str, np.ndarray]:
    """Read a .npz of numbers, without ever unpickling; all its arrays have as many rows.

    Args:
        path: The file.
        needed: Arrays that it must hold.

    Raises:
        VaelibError: The file is damaged, altered or not an .npz.
    """
    check(path)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        kinds, rows = {a.dtype.kind for a in arrays.values()}, {len(a) for a in arrays.values()}
        if not kinds <= {*"fiu"} or len(rows) != 1 or not {*needed} <= {*arrays}:
            raise ValueError("its arrays are no numbers, or do not fit together")
        return arrays
    except Exception as error:
        raise VaelibError(f"cannot read {path}: {error}; {_AGAIN}.") from error


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
        """The resolved configuration of the run.

        Raises:
            VaelibError: Another version of this package made it, with settings of its own.
        """
        try:
            return Config.from_dict(self.record["config"])
        except VaelibError as error:
            raise VaelibError(f"the run {self.key} is of another version: {error}") from error


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
        """The evaluation written last of the same training, with weights, if any."""
        folder = self.folder(key)
        paths = sorted(folder.glob("record-*.json")) if (folder / WEIGHTS).is_file() else []
        order = list(_noted(folder))  # no clock is asked: it may have been set back
        paths.sort(key=lambda p: order.index(p.name) if p.name in order else -1)
        return _local(paths[-1]) if paths else None

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
            file = _locked(folder)
            for draft in folder.rglob(_DRAFTS):
                draft.unlink()
        except OSError as error:
            raise VaelibError(
                f"cannot write to the run store {self.root}: {error.strerror}; "
                "point VAELIB_STORE to a folder you can write to."
            ) from error
        with file:
            yield

    def tidy(self, key: Key, *stages: str) -> None:
        """Remove what a trained run with a record does not need: checkpoint and earlier stages."""
        folder = self.folder(key)
        if not ((folder / WEIGHTS).is_file() and self.record_path(key).is_file()):
            return
        with contextlib.suppress(OSError):  # none, or a store that is only read
            (folder / STATE).unlink()
        for stage in stages:
            shutil.rmtree(folder / stage, ignore_errors=True)


def _locked(folder: Path) -> IO[str]:
    """The open lock of a folder, once it is ours and still the folder's: it may be removed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "w")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / "lock").stat()):
                return file
        file.close()


def _local(path: Path) -> Entry:
    check(path)
    key = Key(path.parent.name, path.stem.removeprefix("record-"))
    return _entry(path, key, path.parent, path.with_name(ARRAYS))


def _committed(path: Path) -> Entry:
    return _entry(path, Key.parse(path.stem), None, path.with_suffix(".npz"))


def _entry(path: Path, key: Key, folder: Path | None, arrays: Path) -> Entry:
    """Read a record, and refuse a file that is none; what else it holds is of another version."""
    record = read_json(path)
    fault = _fault(record, key)
    if fault:
        raise VaelibError(f"{path} is no record of a run: {fault}; move it away, or {_AGAIN}.")
    return Entry(key, folder, record, arrays if arrays.is_file() else None)


def _fault(record: Any, key: Key) -> str:
    """What a record lacks, in words."""
    for part, needed in _NEEDED.items():
        inside = record if part == "record" else record[part]
        for name, kind in needed.items():
            if not isinstance(inside, dict) or not isinstance(inside.get(name), kind):
                return f"its {part} has no proper {name!r}"
    found = [v for v in record["metrics"].values() if v is not None and not isinstance(v, float)]
    if not all(isinstance(v, int) and abs(v) < 1e300 for v in found):
        return "a metric is no number"
    if not all(isinstance(epoch, dict) for epoch in record["epochs"]):
        return "an epoch is no row"
    steps = record.get("history", {})
    columns = list(steps.values()) if isinstance(steps, dict) else [None]
    if not all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns):
        return "its history has no columns of one length"
    return "" if record["key"] == str(key) else f"it is that of {record['key'][:80]}"


def default_store() -> Store:
    """The store of this process: `VAELIB_STORE` or `./runs`, with the committed `./results`.

    `VAELIB_RESULTS` names another folder of committed records.
    """
    root = Path(os.environ.get("VAELIB_STORE", "runs"))
    return Store(root, Path(os.environ.get("VAELIB_RESULTS", "results")))
