"""The run store: atomic files, clear errors, committed records beside the own ones."""

import itertools
import json
import multiprocessing
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_helpers import tiny

from vaelib import _listings
from vaelib import store as files
from vaelib.build import resolve
from vaelib.errors import VaelibError
from vaelib.export import find_run, stale_paths
from vaelib.run import Run, key_of, run_config
from vaelib.store import Entry, Key, Store, default_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run in a store of its own."""
    config = resolve("vae", data="grammar", profile="smoke", epochs=1, metrics=("kl", "au"))
    return run_config(config, store=Store(tmp_path_factory.mktemp("made")))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    with files.atomic(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(RuntimeError), files.atomic(path) as file:
        file.write(b"second")
        raise RuntimeError
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["file.bin"]


def test_json_comes_back_and_nan_is_refused(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": [1, None, "é"], "a": 0.1})
    assert files.read_json(tmp_path / "a.json") == {"b": [1, None, "é"], "a": 0.1}
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "nan.json", {"a": float("nan")})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_arrays_come_back_and_pickles_are_never_read(tmp_path: Path) -> None:
    files.write_arrays(tmp_path / "a.npz", {"x": np.arange(3)})
    assert files.read_arrays(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(VaelibError, match="cannot read"):
        files.read_arrays(tmp_path / "evil.npz")


def test_keys_are_text_and_back() -> None:
    key = Key("0123-4567", "89ab")
    assert str(key) == "0123-4567-89ab"
    assert Key.parse(str(key)) == key


def test_what_a_finished_run_leaves(made: Run) -> None:
    folder = made.entry.folder
    assert folder is not None
    names = {path.name for path in folder.iterdir()}
    record = f"record-{made.entry.key.evaluated}.json"
    assert names == {"config.json", "history.npz", "lock", "model.safetensors", record} | {
        "posterior.npz",
        "files.json",
        "log.txt",
    }
    assert made.store.unfinished() == []


def test_finished_runs_are_listed_and_unfinished_ones_too(made: Run) -> None:
    (made.store.root / "half").mkdir()
    assert [e.key for e in made.store.entries()] == [made.entry.key]
    assert made.store.unfinished() == ["half"]
    (made.store.root / "half").rmdir()
    assert Store(made.store.root / "nowhere").entries() == []
    assert Store(made.store.root / "nowhere").unfinished() == []


def commit(run: Run, folder: Path, arrays: bool = True) -> Store:
    """A store that is empty, beside the run as a committed record."""
    folder.mkdir(parents=True)
    files.write_json(folder / f"{run.entry.key}.json", run.entry.record)
    if arrays:
        assert run.entry.arrays_path is not None
        (folder / f"{run.entry.key}.npz").write_bytes(run.entry.arrays_path.read_bytes())
    return Store(folder.parent / "own", folder)


def test_committed_records_are_facts_without_weights(made: Run, tmp_path: Path) -> None:
    store = commit(made, tmp_path / "results")
    run = run_config(made.config, store=store)
    assert run.entry.folder is None
    assert run.metrics == made.metrics
    assert not store.root.exists()
    assert np.allclose(run.posterior["mu"], made.posterior["mu"])
    assert len(run.history) == len(made.entry.record["history"]["step"])
    with pytest.raises(VaelibError, match="without weights"):
        run.model()


def test_json_has_a_line_a_setting_and_comes_back_as_it_was() -> None:
    value = {"b": {"two": [1.5, {"x": None}], "one": {"a": 1}}, "a": [], "c": {}}
    text = files.json_text(value)
    assert json.loads(text) == value
    assert text.splitlines() == [
        "{",
        ' "a": [],',
        ' "b": {',
        '  "one": {"a": 1},',
        '  "two": [1.5, {"x": null}]',
        " },",
        ' "c": {}',
        "}",
    ]
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.json_text({"a": {"b": float("nan")}})


def test_a_committed_record_may_lack_its_steps(made: Run, tmp_path: Path) -> None:
    store = commit(made, tmp_path / "results")
    (path,) = (tmp_path / "results").glob("*.json")
    record = files.read_json(path)
    del record["history"]
    files.write_json(path, record)
    with pytest.raises(VaelibError, match="without its single steps"):
        _ = Run(store.entries()[0], store).history


def test_a_committed_record_may_lack_its_arrays(made: Run, tmp_path: Path) -> None:
    store = commit(made, tmp_path / "results", arrays=False)
    with pytest.raises(VaelibError, match="without its posterior arrays"):
        _ = run_config(made.config, store=store).posterior


def test_an_own_run_comes_before_a_committed_one(made: Run, tmp_path: Path) -> None:
    store = commit(made, tmp_path / "results")
    fresh = run_config(made.config, store=store, fresh=True)
    assert fresh.entry.folder is not None
    assert fresh.metrics == made.metrics
    assert [e.folder for e in store.entries()] == [fresh.entry.folder]
    assert run_config(made.config, store=store).entry.folder == fresh.entry.folder


def test_a_damaged_record_is_named_with_its_remedy(made: Run, tmp_path: Path) -> None:
    store = commit(made, tmp_path / "results")
    path = store.results / f"{made.entry.key}.json"
    path.write_text(path.read_text("utf-8")[:-50], "utf-8")
    with pytest.raises(VaelibError, match=f"cannot read .*{made.entry.key}.*delete it"):
        run_config(made.config, store=store)
    own = Store(tmp_path / "own2")
    record = own.record_path(key_of(made.config))
    record.parent.mkdir(parents=True)
    record.write_text("{", "utf-8")
    with pytest.raises(VaelibError, match="cannot read .*delete it and the run is made again"):
        run_config(made.config, store=own)
    record.unlink()
    assert run_config(made.config, store=own).metrics == made.metrics


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"config": {}, "metrics": {}}'])
def test_a_file_that_is_no_record_is_named(made: Run, tmp_path: Path, content: str) -> None:
    store = commit(made, tmp_path / "results")
    stray = tmp_path / "results" / "notes.json"
    stray.write_text(content, "utf-8")
    with pytest.raises(VaelibError, match=r"notes\.json is no record of a run: .*; move it away"):
        store.entries()
    stray.unlink()
    record = store.record_path(made.entry.key)
    record.parent.mkdir(parents=True)
    record.write_text(content, "utf-8")
    for read in (store.entries, lambda: store.finished(made.entry.key)):
        with pytest.raises(VaelibError, match="is no record of a run: .* made again"):
            read()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "a-b-c"}, "it is that of a-b-c"),
        ({"texts": None}, "its record has no proper 'texts'"),
        ({"provenance": {"started": "2030"}}, "its provenance has no proper 'device'"),
        ({"metrics": {"kl": "low"}}, "a metric is no number"),
        ({"metrics": {"kl": 10**400}}, "a metric is no number"),
        ({"epochs": [[1, 2], [3]]}, "an epoch is no row"),
        ({"history": {"step": [1, 2], "loss": [1]}}, "no columns of one length"),
        ({"history": {"step": 3}}, "no columns of one length"),
        ({"history": "long"}, "no columns of one length"),
    ],
)
def test_a_record_that_lacks_something_says_what(
    made: Run, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    store = commit(made, tmp_path / "results")
    (path,) = (tmp_path / "results").glob("*.json")
    files.write_json(path, made.entry.record | change)
    with pytest.raises(VaelibError, match=f"is no record of a run: .*{told}; move it away"):
        store.entries()


def test_a_store_that_cannot_be_written_says_so(made: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(VaelibError, match="cannot write to the run store .*VAELIB_STORE"):
        run_config(made.config, store=Store(tmp_path / "file" / "runs"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_still_gives_what_it_holds(made: Run) -> None:
    made.store.root.chmod(0o555)
    try:
        assert run_config(made.config, store=made.store).metrics == made.metrics
        other = resolve("vae", data="grammar", profile="smoke", seed=9)
        with pytest.raises(VaelibError, match="cannot write to the run store"):
            run_config(other, store=made.store)
    finally:
        made.store.root.chmod(0o755)


def test_drafts_of_a_killed_process_are_swept_away(tmp_path: Path) -> None:
    store, key = Store(tmp_path), Key("a-b", "c")
    (store.folder(key) / "pretrain").mkdir(parents=True)
    for place in (store.folder(key), store.folder(key) / "pretrain"):
        (place / ".state.safetensors.abcd_123").write_bytes(b"half")
    (store.folder(key) / ".gitignore").write_text("*", "utf-8")
    with store.lock(key):
        left = {str(p.relative_to(store.folder(key))) for p in store.folder(key).rglob("*")}
    assert left == {"lock", "pretrain", ".gitignore"}


def hold(root: str, pipe: Any) -> None:
    """Hold a lock until told to let go."""
    with Store(root).lock(Key("a-b", "c")):
        pipe.send("held")
        pipe.recv()
        (Path(root) / "left").write_text("", "utf-8")


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=hold, args=(str(tmp_path), theirs))
    worker.start()
    assert ours.recv() == "held"
    ours.send("let go")
    with Store(tmp_path).lock(Key("a-b", "c")):
        assert (tmp_path / "left").exists()
    worker.join()


def test_a_lock_on_a_removed_folder_locks_nothing(tmp_path: Path) -> None:
    """Who waited while the folder was removed must not go on beside one who made it anew."""
    store, key, inside = Store(tmp_path), Key("a-b", "c"), []
    with store.lock(key):
        pool = ThreadPoolExecutor(2)
        waiting = [pool.submit(_inside, store, key, inside) for _ in range(2)]
        time.sleep(0.2)  # both wait for the lock of the folder that is about to go
        shutil.rmtree(store.folder(key))
    for future in waiting:
        future.result(timeout=10)
    assert inside == ["in", "out"] * 2


def _inside(store: Store, key: Key, seen: list[str]) -> None:
    with store.lock(key):
        assert (store.folder(key) / "lock").is_file()
        seen.append("in")
        time.sleep(0.2)
        seen.append("out")


# ---------------------------------------------------------------- clocks and other versions


def test_a_clock_set_back_misleads_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = Store(tmp_path), itertools.count(2e9, -86_400.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    first = run_config(tiny("vae"), store=store)
    (first.entry.folder / files.WEIGHTS).unlink()
    second = run_config(tiny("vae", metrics=("au",)), store=store, fresh=True)
    assert second.provenance["started"] < first.provenance["started"]
    for run in (first, second):
        assert all(run.provenance[name] >= 0 for name in ("train_seconds", "evaluate_seconds"))
        assert (run.epochs["seconds"] >= 0).all()
        assert run.epochs["seconds"].is_monotonic_increasing
    newest = store.trained(first.entry.key)
    assert newest is not None
    assert newest.key == second.entry.key  # whose weights are there


@pytest.fixture
def foreign(made: Run, tmp_path: Path) -> Store:
    """A store with a run of this version, and one of a version that has one setting more."""
    shutil.copytree(made.store.root, tmp_path / "runs")
    store = Store(tmp_path / "runs")
    key = Key("0" * 12 + "-" + "1" * 12, "2" * 12)
    config = made.entry.record["config"] | {"flux": 88}
    files.write_json(
        store.record_path(key), made.entry.record | {"key": str(key), "config": config}
    )
    return store


def test_a_record_of_a_newer_version_is_listed_and_left_alone(made: Run, foreign: Store) -> None:
    (other,) = [e for e in foreign.entries() if e.key != made.entry.key]
    assert other.record["config"]["flux"] == 88
    with pytest.raises(VaelibError, match=f"{other.key}.*unknown field .* 'flux'"):
        _ = other.config
    kept = foreign.record_path(other.key).read_bytes()
    assert run_config(made.config, store=foreign).metrics == made.metrics
    assert {row["key"] for row in _listings.runs(foreign, [], None)} == {
        str(made.entry.key),
        str(other.key),
    }
    assert stale_paths(foreign) == []  # its code is not older
    assert find_run(foreign, str(other.key)) == other
    assert foreign.record_path(other.key).read_bytes() == kept


def test_a_record_of_an_older_version_lacks_settings_and_checksums(made: Run) -> None:
    record = dict(made.entry.record)
    kept = {k: v for k, v in record["config"].items() if k not in ("max_vocabulary", "track")}
    older = Entry(made.entry.key, None, record | {"config": kept, "note": "more"}, None)
    assert older.config == made.config  # what it lacks has the old behaviour as its default


def test_the_default_store_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELIB_STORE", "elsewhere")
    monkeypatch.setenv("VAELIB_RESULTS", "facts")
    assert (default_store().root, default_store().results) == (Path("elsewhere"), Path("facts"))
    monkeypatch.delenv("VAELIB_STORE")
    monkeypatch.delenv("VAELIB_RESULTS")
    assert (default_store().root, default_store().results) == (Path("runs"), Path("results"))


def test_records_hold_plain_json_and_provenance(made: Run) -> None:
    record = json.loads(made.store.record_path(made.entry.key).read_text("utf-8"))
    assert record["key"] == str(made.entry.key)
    assert record["question"] == made.config.question
    about = record["provenance"]
    for name in ("versions", "device", "threads", "precision", "seed", "train_seconds", "data"):
        assert name in about
    assert about["versions"]["torch"]
    assert about["data"]["checksums"]
