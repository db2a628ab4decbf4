"""Carrying records over to newer code that makes the same numbers, on the word of witnesses.

When covered code is rewritten and no number changes, making every record anew would only warm the
room. Instead one run of every kind, a witness, is made anew. Where it comes out the same to the
last digit, the records of its kind are renamed to the newer code's key, and their provenance says
so; where it does not, they stay stale.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelib.errors import VaelibError
from vaelib.run import key_of
from vaelib.store import Entry, Key, Store, write_json
from vaelib.sweep import execute_configs

SAME = ("metrics", "history", "texts")


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


def carry(folder: Path | str, store: Store, *, jobs: int = 2, progress: bool = True) -> Carried:
    """Make the witnesses that the store lacks, and rename the records they speak for.

    Args:
        folder: Committed records, such as `results`.
        store: Where the witnesses are made; it must not show the committed records.
        jobs: Processes at a time.
        progress: Show a bar.

    Raises:
        VaelibError: The store shows committed records, which would be their own witnesses.
    """
    if store.results is not None:
        raise VaelibError("carry: witnesses need a store without committed records.")
    groups = kinds(Store(Path(folder) / "nowhere", Path(folder)).entries())
    configs = {group[0].config.hash: group[0].config for group in groups}
    titles = {key: f"{c.method} on {c.data}, seed {c.seed}" for key, c in configs.items()}
    if configs:
        execute_configs(configs, titles, store, jobs=jobs, progress=progress)
    differing, moved = [], 0
    for group in groups:
        witness = store.finished(key_of(group[0].config))
        if witness is None or not same(group[0], witness):
            differing.append(f"{group[0].config.method} on {group[0].config.data}")
            continue
        for entry in group:
            rename(Path(folder), entry, witness.key)
        moved += len(group)
    return Carried(moved, len(groups) - len(differing), tuple(differing))


def same(record: Entry, witness: Entry) -> bool:
    """Whether two records hold the same numbers to the last digit, times aside."""
    epochs = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in entry.record["epochs"]]
        for entry in (record, witness)
    ]
    return epochs[0] == epochs[1] and all(record.record[k] == witness.record[k] for k in SAME)


def rename(folder: Path, entry: Entry, witness: Key) -> None:
    """Give a committed record the key of today's code, with a line on how in its provenance."""
    (old,) = folder.rglob(f"{entry.key}.json")
    new = key_of(entry.config)
    line = {"from": str(entry.key), "witness": str(witness)}
    about = entry.record["provenance"]
    about = about | {"carried": [*about.get("carried", []), line]}
    record = entry.record | {"key": str(new), "provenance": about}
    record["config"] = entry.config.to_dict()
    write_json(old.with_name(f"{new}.json"), record)
    if entry.arrays_path is not None:
        entry.arrays_path.rename(old.with_name(f"{new}.npz"))
    old.unlink()
