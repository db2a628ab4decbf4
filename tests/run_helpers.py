"""Shared by tests of runs that are killed: how far one is, whether two are the same, who works."""

import json
from pathlib import Path

import numpy as np
import psutil
import safetensors
from safetensors.torch import load_file

from vaelib import store as files
from vaelib.run import Run


def same(one: Run, two: Run) -> None:
    """Weights, history, epochs, posteriors, texts and metrics have the same bits."""
    first, second = (load_file(run.entry.folder / files.WEIGHTS) for run in (one, two))
    assert first.keys() == second.keys()
    assert all((first[k] == second[k]).all() for k in first)
    for file in (files.HISTORY, files.ARRAYS):
        a, b = (files.read_arrays(run.entry.folder / file) for run in (one, two))
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[k], b[k]) for k in a)
    records = [dict(run.entry.record) for run in (one, two)]
    for record in records:
        record.pop("provenance")
        record["epochs"] = [
            {k: v for k, v in e.items() if k != "seconds"} for e in record["epochs"]
        ]
    assert records[0] == records[1]


def steps_saved(state: Path) -> int:
    """Steps done according to a checkpoint, 0 where there is none yet."""
    if not state.is_file():
        return 0
    with safetensors.safe_open(state, "pt") as file:
        return json.loads(file.metadata()["progress"])["step"]


def children() -> dict[psutil.Process, str]:
    """The processes that this one has started, and theirs; "" for one that has just ended."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            found[process] = " ".join(process.cmdline())
        except psutil.Error:
            found[process] = ""
    return found
