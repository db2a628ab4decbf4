"""Records worth committing are copied out of the store; runs worth nothing are cleared from it."""

import contextlib
import fcntl
import io
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vaelib import config as configs
from vaelib._formats import to_csv
from vaelib.build import best_device
from vaelib.config import Config
from vaelib.errors import VaelibError, check_name
from vaelib.evaluate import evaluate
from vaelib.metrics import METRICS
from vaelib.run import Run, key_of, run_config
from vaelib.store import Entry, Key, Store, atomic, json_text, read_arrays, read_json
from vaelib.studies import Study
from vaelib.train import machine

LIMIT = 20_000_000  # bytes of all committed records together
ATTEMPTS = "attempts"  # the folder of runs that are in no study's grid
_RUN_FOLDER = re.compile(r"[0-9a-f]{12}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        folder: Where the records of the study and profile lie.
        records, arrays: How many of each the study has there.
        written, pruned: Files written anew; files removed.
        size: Bytes of everything in the folder given, other studies' records included.
    """

    folder: Path
    records: int
    arrays: int
    written: int
    pruned: int
    size: int


# ---------------------------------------------------------------- committing records


def export_records(study: Study, folder: Path | str, *, prune: bool = False) -> Exported:
    """Copy a study's finished runs to `<folder>/<paper>/<profile>/<key>.json`.

    Records of seeds after the first go without their single steps (`Run.history`). Where an item
    of the study says `posteriors = "first"` (or `"every"`), its runs of the first seed (or of all)
    take their posteriors along, as half-precision `<key>.npz`. What another paper's folder holds
    is not copied.

    Args:
        study: A grid at a profile; of each run the fact that `Study.found` shows is copied.
        folder: The folder of committed records, such as `results`.
        prune: Remove records of the same questions that an exported one supersedes, and arrays
            that are not wanted any more or have no record.

    Raises:
        VaelibError: The folder would hold more than 20 MB; then nothing is written.
    """
    root, target = Path(folder), Path(folder) / study.paper / study.profile
    others = {path.name for path in _files(root) if path.parent != target}
    wanted = {name: data for name, data in _contents(study).items() if name not in others}
    old = _superseded(study, target, wanted) if prune else []
    written, size = _commit(root, target, wanted, old)
    for path in old:
        path.unlink()
    arrays = sum(name.endswith(".npz") for name in wanted)
    return Exported(target, len(wanted) - arrays, arrays, written, len(old), size)


def export_runs(store: Store, names: Iterable[str], folder: Path | str) -> Exported:
    """Copy single runs to `<folder>/attempts/<key>.json`, without their posteriors and steps.

    Args:
        store: Where the runs are.
        names: What the keys begin with, or folders of runs.
        folder: The folder of committed records, such as `results`.

    Raises:
        VaelibError: No such run, or the folder would hold more than 20 MB; nothing is written then.
    """
    entries = [find_run(store, name) for name in names]
    wanted = {f"{entry.key}.json": _record(entry, steps=False) for entry in entries}
    target = Path(folder) / ATTEMPTS
    written, size = _commit(Path(folder), target, wanted, [])
    return Exported(target, len(wanted), 0, written, 0, size)


def _commit(root: Path, target: Path, wanted: dict[str, bytes], old: list[Path]) -> tuple[int, int]:
    """Write what `target` lacks of `wanted`; the number of files, and the bytes of `root` then."""
    new = {name: data for name, data in wanted.items() if not _there(target / name, data)}
    untouched = set(_files(root)) - set(old) - {target / name for name in new}
    size = sum(path.stat().st_size for path in untouched) + sum(map(len, new.values()))
    if size > LIMIT:
        raise VaelibError(
            f"{root} would hold {size / 1e6:.1f} MB of records, more than {LIMIT / 1e6:.0f} MB: "
            "export fewer data sets with --data, or remove superseded records with --prune."
        )
    for name, data in new.items():
        with atomic(target / name) as file:
            file.write(data)
    return len(new), size


def _contents(study: Study) -> dict[str, bytes]:
    """File name -> content of everything a study commits."""
    first = min((plan.seed for plan in study.planned()), default=0)
    drawn: dict[str, set[str]] = {"first": set(), "every": set()}
    for item in study.about["item"]:
        drawn.get(item.get("posteriors", ""), set()).update(drawn_labels(study, item["id"]))
    contents = {}
    for plan, run in study.found:
        entry, earliest = run.entry, plan.seed == first
        contents[f"{entry.key}.json"] = _record(entry, steps=earliest)
        wanted = plan.label in drawn["every"] or (earliest and plan.label in drawn["first"])
        if wanted and entry.arrays_path is not None:
            contents[f"{entry.key}.npz"] = _half(entry.arrays_path)
    return contents


def drawn_labels(study: Study, name: str) -> set[str]:
    """Labels whose posteriors an item draws: its panels, or else all that it shows."""
    return set(study.item(name).get("panels", study.labels_of(name)))


def _record(entry: Entry, *, steps: bool) -> bytes:
    """A record as it is committed, with the history of its steps or without."""
    kept = {k: v for k, v in entry.record.items() if steps or k != "history"}
    return json_text(kept).encode()


def _half(path: Path) -> bytes:
    """Posterior arrays as a compressed .npz: float16, and the order as int32."""
    arrays = read_arrays(path)
    small: dict[str, Any] = {
        k: v.astype(np.int32 if k == "order" else np.float16) for k, v in arrays.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **small)
    return buffer.getvalue()


def _there(path: Path, content: bytes) -> bool:
    """Whether a file holds this already; arrays may be compressed by another version of zlib."""
    if not path.is_file():
        return False
    return path.read_bytes() == content or (path.suffix == ".npz" and _equal(path, content))


def _equal(path: Path, content: bytes) -> bool:
    old = read_arrays(path)
    with np.load(io.BytesIO(content), allow_pickle=False) as new:
        return set(old) == set(new.files) and all(np.array_equal(old[k], new[k]) for k in old)


def _superseded(study: Study, target: Path, wanted: dict[str, bytes]) -> list[Path]:
    """Files of records that exported ones supersede, and arrays that no record keeps."""
    questions = {run.entry.record["question"] for _, run in study.found}
    there = [path for path in sorted(target.glob("*.json")) if path.name not in wanted]
    old = [path for path in there if read_json(path)["question"] in questions]
    going = {path.with_suffix(".npz") for path in old}
    bare = {path.with_suffix(".npz") for path in there} - going  # of records that stay as they are
    arrays = set(target.glob("*.npz")) - bare
    return old + sorted(path for path in arrays if path.name not in wanted)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def write_history(run: Run, folder: Path | str, style: str) -> list[Path]:
    """Write a run's steps and epochs for other programs.

    Args:
        run: A finished run.
        folder: Where to; made if need be.
        style: "csv" for `<key>-steps.csv` and `<key>-epochs.csv`; "tensorboard" for event files
            in `<key>/`, steps under "step/", epochs under "epoch/".

    Returns:
        What was written: two files, or the folder of the events.

    Raises:
        VaelibError: The record is here without its steps, or TensorBoard is not installed.
    """
    check_name(style, ("csv", "tensorboard"), "format")
    parts = {"step": run.history, "epoch": run.epochs}
    target = Path(folder) / str(run.entry.key)
    if style == "tensorboard":
        _write_events(parts, target)
        return [target]
    made = {target.with_name(f"{target.name}-{name}s.csv"): part for name, part in parts.items()}
    for path, part in made.items():
        with atomic(path) as file:
            file.write(to_csv(part).encode())
    return list(made)


def _write_events(parts: dict[str, pd.DataFrame], folder: Path) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise VaelibError(
            "event files need the package tensorboard: `pip install tensorboard`, or take "
            "--format csv."
        ) from error
    with SummaryWriter(str(folder)) as writer:
        for kind, table in parts.items():
            for name in table.columns.drop(["step", "epoch"], errors="ignore"):
                rows = zip(table[kind], table[name], strict=True)
                for place, value in ((p, v) for p, v in rows if pd.notna(v)):
                    writer.add_scalar(f"{kind}/{name}", value, int(place))


# ---------------------------------------------------------------- clearing the store


def todays_key(config: Config) -> Key | None:
    """The key a config has with today's code; None when this code no longer knows its parts."""
    with contextlib.suppress(VaelibError):
        return key_of(config)
    return None


def _today(entry: Entry) -> Key | None:
    """The same of a record; None where another version's settings or parts are in it."""
    with contextlib.suppress(VaelibError):
        return todays_key(entry.config)
    return None


def is_stale(entry: Entry) -> bool:
    """Whether the code that determines a record's numbers has changed since it was made."""
    return entry.key != _today(entry)


def stale_paths(store: Store) -> list[Path]:
    """What `gc --stale` removes from the own store; committed records are never touched.

    Returns:
        Folders of runs that older code trained, and single records beside newer evaluations of the
        same training. A training of today's code is kept even when all its evaluations are stale,
        and so is what only another version of this package can read.
    """
    folders: dict[Path, list[Entry]] = {}
    for entry in store.entries():
        if entry.folder is not None:
            folders.setdefault(entry.folder, []).append(entry)
    return [path for folder, entries in folders.items() for path in _stale(store, folder, entries)]


def _stale(store: Store, folder: Path, entries: list[Entry]) -> list[Path]:
    todays = [_today(entry) for entry in entries]
    if None in todays:
        return []
    old = [entry for entry in entries if is_stale(entry)]
    if len(old) < len(entries):
        return [store.record_path(entry.key) for entry in old]
    return [] if folder.name in [today.trained for today in todays if today] else [folder]


def unfinished_paths(store: Store) -> list[Path]:
    """Folders of runs that were begun and never finished."""
    names = [name for name in store.unfinished() if _RUN_FOLDER.fullmatch(name)]
    return [store.root / name for name in names]


def size_of(paths: Iterable[Path]) -> int:
    """Bytes below some files and folders."""
    files = (file for path in paths for file in ([path] if path.is_file() else _files(path)))
    return sum(file.stat().st_size for file in files)


def remove(path: Path) -> bool:
    """Remove a run's folder or one record, unless a process is at work on the run.

    Returns:
        Whether it was removed.
    """
    folder = path if path.is_dir() else path.parent
    with open(folder / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return True


# ---------------------------------------------------------------- finding and evaluating a run


def find_run(store: Store, name: str) -> Entry:
    """The run that a key's beginning or a folder names; of its evaluations the fullest of today's.

    Raises:
        VaelibError: No run, an unfinished one, or several.
    """

    def meant(entry: Entry) -> bool:
        inside = entry.folder is not None and Path(name).resolve() == entry.folder.resolve()
        return inside or str(entry.key).startswith(name)

    found = [entry for entry in store.entries() if meant(entry)]
    trained = list(dict.fromkeys(entry.key.trained for entry in found))
    if len(trained) > 1:
        some = ", ".join(trained[:5]) + ", ..." * (len(trained) > 5)
        raise VaelibError(f"{name!r} is the beginning of {len(trained)} runs: {some}.")
    begun = [one for one in store.unfinished() if one in (name, Path(name).name)]
    if not found:
        why = "was begun and not finished: train it again" if begun else "is not in the store"
        raise VaelibError(f"the run {name!r} {why}; `vaelib runs` lists the finished ones.")
    return min(found, key=lambda entry: (is_stale(entry), -len(entry.record["metrics"])))


def evaluated_anew(store: Store, entry: Entry, changes: dict[str, Any]) -> Run | None:
    """The same training evaluated by today's code with other settings, where that is called for."""
    config = _asked(entry, changes)
    today = todays_key(config)
    possible = _possible(store, entry, today)
    if entry.key == today or not (changes or possible):
        return None
    if not possible:
        again = f"vaelib train {config.method} --data {config.data} --profile {config.profile}"
        raise VaelibError(
            f"the run {entry.key} cannot be evaluated anew: its weights are not here, or the code "
            f"that trained it has changed since; make it again with `{again} --fresh`."
        )
    best_device(config.device)
    return run_config(config, store=store, fresh=True, progress=True)


def whole_table(store: Store, entry: Entry) -> Run | None:
    """A run with every metric there is, computed now on the CPU and recorded nowhere.

    What the record has already by today's code is taken from it. None if the weights are not here,
    or the code that trained the run has changed since.
    """
    config = entry.config
    today = todays_key(config)
    if today is None or not _possible(store, entry, today):
        return None
    run = Run(entry, store)
    known = run.metrics if entry.key == today else {}
    lacking = [s.name for s in METRICS.values() if not {*(s.columns or (s.name,))} & {*known}]
    here = replace(config, device="cpu", metrics=tuple(lacking))
    found: dict[str, float] = {}
    if lacking:
        built = run.built()
        with machine(here):
            found = evaluate(here, built.model, run.corpus, built.objective).metrics
    record = entry.record | {"config": config.to_dict(), "metrics": known | found}
    return Run(replace(entry, key=today, record=record), store)


def _asked(entry: Entry, changes: dict[str, Any]) -> Config:
    """The run's config with other settings of the evaluation.

    Raises:
        VaelibError: A setting is none of the evaluation, or its value is wrong.
    """
    for name, value in changes.items():
        check_name(name, configs.EVALUATION_FIELDS, "setting of an evaluation")
        changes[name] = configs.check_value(name, value, getattr(entry.config, name))
    for name in changes.get("metrics", ()):
        check_name(name, METRICS, "metric")
    return configs.check_config(replace(entry.config, **changes))


def _possible(store: Store, entry: Entry, today: Key | None) -> bool:
    """Whether the weights are here and are what today's code would train."""
    trained_today = today is not None and today.trained == entry.key.trained
    return trained_today and store.trained(entry.key) is not None
