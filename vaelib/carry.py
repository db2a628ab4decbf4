"""Carrying records over to newer code that makes the same numbers, on the word of witnesses.

When covered code is rewritten and no number changes, making every record anew would only warm the
room. Instead one run of every kind, a witness, is made anew. Where it comes out the same to the
last digit, or within a tolerance for code that sums in another order, the records of its kind are
renamed to the newer code's key, and their provenance says so; where it does not, they stay stale.

Another processor gives other digits to the same code. There a witness is made twice, by the code
that the records are of (an earlier commit) and by today's, and these two are compared. Such a
witness may be smaller than the record: fewer sentences take the same way through the code.
"""

import io
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vaelib.config import Config
from vaelib.errors import VaelibError
from vaelib.run import key_of
from vaelib.store import Entry, Key, Store, write_json
from vaelib.sweep import execute_configs

SAME = ("metrics", "history", "texts")  # "history" where the record has kept it
ROOT = Path(__file__).resolve().parent.parent  # of the project, where git knows earlier code
MOST = 1e-4  # what single precision and records of six digits may lose on the way


@dataclass(frozen=True)
class Carried:
    """What came of carrying records over.

    Attributes:
        records: Records renamed.
        witnesses: Runs made anew that came out the same.
        differing: Witnesses that did not, as text; the records of their kind are still stale.
    """

    records: int
    witnesses: int
    differing: tuple[str, ...]


def kinds(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Stale records by kind: same code then and now, method, data, and options but for numbers.

    The records of a kind took the same way through the code; within it, lowest seed first.
    """
    found: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.config.seed, str(e.key))):
        config, new = entry.config, key_of(entry.config)
        if new == entry.key:
            continue
        digests = [k.trained.split("-")[1] for k in (entry.key, new)]
        digests += [entry.key.evaluated, new.evaluated]
        options = {k: _way(v) for k, v in sorted(config.options.items())}
        kind = json.dumps([digests, config.method, config.data, options])
        found.setdefault(kind, []).append(entry)
    return list(found.values())


def _way(value: Any) -> Any:
    """What of an option may lead to another branch: all but the size of a number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value > 0 if number else value


def carry(
    folder: Path | str,
    store: Store,
    *,
    within: float = 0.0,
    before: str | None = None,
    sentences: int | None = None,
    jobs: int = 2,
    progress: bool = True,
) -> Carried:
    """Make the witnesses that the store lacks, and rename the records they speak for.

    Args:
        folder: Committed records, such as `results`.
        store: Where the witnesses are made; it must not show the committed records.
        within: Largest difference of any number, see `difference`; 0 asks for the same digits.
        before: The commit whose code the records are of. Witnesses are then made by that code as
            well, and the two compared, instead of the new one with the record.
        sentences: The most training sentences (or images) of a witness, and a fifth of that to
            validate and to test on; None takes as many as the record. Only with `before`.
        jobs: Processes at a time.
        progress: Show a bar.

    Raises:
        VaelibError: The store shows committed records, which would be their own witnesses,
            `within` is so large that it could hide a change of the method, `before` is no commit
            or has other code than the records, or `sentences` is below 5 or without `before`.
    """
    if not 0 <= within <= MOST:
        raise VaelibError(f"within={within}: give 0 (the same digits) to {MOST} (rounding).")
    if store.results is not None:
        raise VaelibError("carry: witnesses need a store without committed records.")
    if sentences is not None and (before is None or sentences < 5):
        raise VaelibError(f"sentences={sentences}: give 5 or more, and `before` to compare with.")
    groups = kinds(Store(Path(folder) / "nowhere", Path(folder)).entries())
    chosen = [_smaller(group[0].config, sentences) for group in groups]
    records: list[Entry | None] = [group[0] for group in groups]
    if groups and before is not None:
        made = _make_before(before, [group[0] for group in groups], chosen, store, jobs)
        records = [store.finished(key) for key in made]
    keys = [key_of(config) for config in chosen]
    pairs = zip(keys, chosen, strict=True)
    configs = {str(key): config for key, config in pairs if store.finished(key) is None}
    titles = {key: f"{c.method} on {c.data}, seed {c.seed}" for key, c in configs.items()}
    if configs:
        execute_configs(configs, titles, store, jobs=jobs, progress=progress)
    differing, moved = [], 0
    for group, key, record in zip(groups, keys, records, strict=True):
        witness = store.finished(key)
        apart = math.inf if witness is None or record is None else difference(record, witness)
        if witness is None or apart > within:
            by = "in words or layout" if math.isinf(apart) else f"by {apart:.1g}"
            differing.append(f"{group[0].config.method} on {group[0].config.data}, {by}")
            continue
        for entry in group:
            rename(Path(folder), entry, witness.key, apart)
        moved += len(group)
    return Carried(moved, len(groups) - len(differing), tuple(differing))


def _smaller(config: Config, sentences: int | None) -> Config:
    """The config with no more sentences than that."""
    if sentences is None:
        return config
    most = dict.fromkeys(("valid_size", "test_size", "nll_size"), sentences // 5)
    most["train_size"] = sentences
    sizes = {name: min(getattr(config, name) or size, size) for name, size in most.items()}
    return replace(config, **sizes)


_WORK = """
import json, sys
from vaelib.config import Config
from vaelib.run import key_of
from vaelib.store import Store
from vaelib.sweep import execute_configs
recorded, asked = ([Config.from_dict(c) for c in some] for some in json.load(sys.stdin))
configs = {str(i): c for i, c in enumerate(asked)}
execute_configs(configs, {i: c.method for i, c in configs.items()}, Store(sys.argv[1]),
                jobs=int(sys.argv[2]), progress=False)
keys = [[str(key_of(c)) for c in some] for some in (recorded, asked)]
print("", json.dumps(keys), sep="\\n")
"""


def _make_before(
    commit: str, records: list[Entry], asked: list[Config], store: Store, jobs: int
) -> list[Key]:
    """Make the runs asked by the package as it was at `commit`, in a process of its own.

    Returns:
        The keys that this code gives them; those it gives the records must be theirs.
    """
    archive = ["git", "archive", commit, "vaelib"]
    packed = subprocess.run(archive, cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        why = packed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise VaelibError(f"before={commit!r}: git has no such code ({' '.join(why)}).")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
            tar.extractall(folder, filter="data")
        # -P: the folder one is in, often that of today's package, is not looked through first
        work = [sys.executable, "-P", "-c", _WORK, str(store.root.absolute()), str(jobs)]
        given = [[entry.record["config"] for entry in records], [c.to_dict() for c in asked]]
        paths = {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        environment, sent = os.environ | paths, json.dumps(given).encode()
        made = subprocess.run(
            work, input=sent, env=environment, stdout=subprocess.PIPE, check=False
        )
    if made.returncode:
        raise VaelibError(f"before={commit!r}: that code does not make these records.")
    names, keys = json.loads(made.stdout.decode().splitlines()[-1])
    other = [str(e.key) for e, name in zip(records, names, strict=True) if str(e.key) != name]
    if other:
        raise VaelibError(
            f"before={commit!r}: that is not the code of these records, such as {other[0]}."
        )
    return [Key.parse(key) for key in keys]


def difference(record: Entry, witness: Entry) -> float:
    """The largest difference of two records' numbers, times aside, and infinite elsewhere.

    A difference is in parts of the number, or of 1 where that is larger, as nats near 0 deserve.
    """
    pair = []
    for entry in (record, witness):
        epochs = [
            {k: v for k, v in row.items() if k != "seconds"} for row in entry.record["epochs"]
        ]
        kept = [name for name in SAME if name in record.record]
        pair.append([epochs, *(entry.record[name] for name in kept)])
    return _apart(*pair)


def _apart(a: Any, b: Any) -> float:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return max((_apart(a[k], b[k]) for k in a), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max(map(_apart, a, b), default=0.0)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) / max(1.0, abs(a), abs(b))
    return 0.0 if a == b else math.inf


def rename(folder: Path, entry: Entry, witness: Key, apart: float = 0.0) -> None:
    """Give a committed record the key of today's code, with a line on how in its provenance."""
    (old,) = folder.rglob(f"{entry.key}.json")
    new = key_of(entry.config)
    line: dict[str, Any] = {"from": str(entry.key), "witness": str(witness)}
    if apart:
        line["difference"] = float(f"{apart:.2g}")
    about = entry.record["provenance"]
    about = about | {"carried": [*about.get("carried", []), line]}
    record = entry.record | {"key": str(new), "provenance": about}
    record["config"] = entry.config.to_dict()
    write_json(old.with_name(f"{new}.json"), record)
    if entry.arrays_path is not None:
        entry.arrays_path.rename(old.with_name(f"{new}.npz"))
    old.unlink()
