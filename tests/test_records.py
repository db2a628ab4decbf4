"""The committed records: small, whole, and one of them, chosen by the commit, made again."""

import hashlib
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from vaelib.build import load_data, resolve
from vaelib.data import available
from vaelib.progress import processor
from vaelib.run import Run, key_of, run_config
from vaelib.store import Entry, Store, read_arrays

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
RECORDS = Store(ROOT / "nowhere", RESULTS).entries()
SAME_MACHINE = 1e-6  # relative; set before any record was made again
CHEAP = "grammar"  # embedded, less than a minute a run
MOST_SECONDS = 55.0  # of a run that is made anew, when it was recorded


def test_all_records_together_are_small_and_hold_no_weights() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20 * 2**20
    assert {path.suffix for path in files} <= {".json", ".npz", ".md"}
    assert all(path.with_suffix(".json").is_file() for path in files if path.suffix == ".npz")


@pytest.mark.parametrize("entry", RECORDS, ids=lambda e: str(e.key))
def test_a_record_is_whole(entry: Entry) -> None:
    run = Run(entry, Store(ROOT / "nowhere", RESULTS))
    assert entry.record["key"] == str(entry.key)
    assert entry.record["question"] == run.config.question
    assert "history" not in entry.record or 0 < len(run.history) <= 200
    assert len(run.epochs) <= run.config.epochs
    assert {"versions", "device", "seed", "started", "train_seconds"} <= set(run.provenance)
    assert all(math.isfinite(v) or math.isnan(v) for v in run.metrics.values())
    if entry.arrays_path is not None:
        arrays = read_arrays(entry.arrays_path)
        shape = (run.provenance["test_size"], run.config.latent_dim)
        assert arrays["mu"].shape == shape
        assert np.isfinite(arrays["mu"].astype(np.float32)).all()


SLICES = {  # SHA-256, first 16 digits, of the sentences the laptop records are made of
    "grammar": "ad003e21f4b38f23",
    "short_yelp_standin": "dfceaa1552f8c1e6",
    "ptb": "75721be6f5ebd465",
    "snli_standin": "f35f5c32e6f11e64",
}


@pytest.mark.parametrize("data", SLICES)
def test_the_sentences_behind_the_records_are_still_the_same(data: str) -> None:
    """The code that cuts a slice is not in the digest, so this watches over it."""
    if not available(data):
        pytest.skip(f"{data} is not at hand")
    corpus, digest = load_data(resolve("vae", data=data)), hashlib.sha256()
    for split in (corpus.train, corpus.valid, corpus.test):
        digest.update(split.tokens.numpy().tobytes())
        digest.update(split.offsets.numpy().tobytes())
    assert digest.hexdigest()[:16] == SLICES[data]


def _seconds(entry: Entry) -> float:
    about = entry.record["provenance"]
    return float(about["train_seconds"]) + float(about["evaluate_seconds"])


def _chosen() -> Entry | None:
    """One cheap record of today's code, by the number of the commit."""
    mine = [e for e in RECORDS if e.config.data == CHEAP and e.key == key_of(e.config)]
    mine = [e for e in mine if _seconds(e) <= MOST_SECONDS]
    asked = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    mine.sort(key=lambda e: str(e.key))
    return mine[int(commit.strip() or "0", 16) % len(mine)] if mine else None


def _machine(entry: Entry) -> str:
    """The device; records older than the naming of instruction sets were made with AVX512."""
    device = str(entry.record["provenance"]["device"])
    return f"{device}, AVX512" if device.endswith("cores)") else device


def test_the_processor_is_named_with_what_decides_the_last_digits() -> None:
    assert processor().endswith(f"), {torch.backends.cpu.get_cpu_capability()}")


@pytest.mark.slow
def test_one_record_comes_out_again(tmp_path: Path) -> None:
    entry = _chosen()
    if entry is None:
        pytest.skip("no committed record of today's code on embedded data")
    again = run_config(entry.config, store=Store(tmp_path))
    before = Run(entry, Store(tmp_path, RESULTS))
    if _machine(again.entry) != _machine(entry):
        assert again.metrics["distortion"] == pytest.approx(before.metrics["distortion"], rel=0.05)
        return
    differing = {
        name: (value, again.metrics[name])
        for name, value in before.metrics.items()
        if not math.isclose(value, again.metrics[name], rel_tol=SAME_MACHINE, abs_tol=1e-6)
        and not (math.isnan(value) and math.isnan(again.metrics[name]))
    }
    assert not differing, f"{entry.key} came out otherwise: {differing}"
