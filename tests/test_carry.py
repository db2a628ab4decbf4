"""Carrying records over: what a witness must show, and what is left alone without one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vaelib.carry as module
from vaelib.build import resolve
from vaelib.carry import carry, kinds
from vaelib.config import Config
from vaelib.errors import VaelibError
from vaelib.run import key_of, run_config
from vaelib.store import Store, read_json, write_arrays, write_json

ROOT = Path(__file__).parent.parent


def config_of(seed: int = 0, **changes: object) -> Config:
    small = {"train_size": 40, "valid_size": 8, "test_size": 8, "epochs": 1}
    return resolve("beta", data="grammar", profile="smoke", seed=seed, **(small | changes))


def commit(folder: Path, config: Config, store: Store, digest: str = "0" * 12) -> Path:
    """A committed record of this config, as if older code had made it."""
    made = run_config(config, store=store)
    key = f"{config.hash}-{digest}-{digest}"
    path = folder / "paper" / f"{key}.json"
    write_json(path, made.entry.record | {"key": key})
    write_arrays(path.with_suffix(".npz"), made.posterior)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


def test_a_witness_speaks_for_its_kind(folder: Path, tmp_path: Path) -> None:
    made = Store(tmp_path / "made")
    old = [commit(folder, config_of(seed, beta=beta), made) for seed, beta in ((0, 0.4), (1, 0.8))]
    done = carry(folder, Store(tmp_path / "witnesses"), jobs=1, progress=False)
    assert (done.records, done.witnesses, done.differing) == (2, 1, ())
    assert not any(path.exists() for path in old)
    for path, config in zip(old, (config_of(0), config_of(1, beta=0.8)), strict=True):
        new = path.with_name(f"{key_of(config)}.json")
        record = read_json(new)
        assert new.with_suffix(".npz").is_file()
        assert record["key"] == str(key_of(config))
        assert record["provenance"]["carried"] == [
            {"from": path.stem, "witness": str(key_of(config_of(0)))}
        ]
    assert len(Store(tmp_path / "witnesses").entries()) == 1
    assert carry(folder, Store(tmp_path / "witnesses"), progress=False).records == 0


def test_another_number_keeps_the_kind_stale(folder: Path, tmp_path: Path) -> None:
    witnesses = Store(tmp_path / "witnesses")
    path = commit(folder, config_of(), witnesses)
    record = read_json(path)
    record["metrics"]["kl"] += 1e-12
    path.write_text(json.dumps(record))
    before = path.read_bytes()
    done = carry(folder, witnesses, jobs=1, progress=False)
    assert (done.records, done.differing) == (0, ("beta on grammar, by 1e-12",))
    assert path.read_bytes() == before


def test_rounding_is_carried_where_it_is_allowed_and_said_so(folder: Path, tmp_path: Path) -> None:
    witnesses = Store(tmp_path / "witnesses")
    path = commit(folder, config_of(), witnesses)
    record = read_json(path)
    record["metrics"]["nll_elbo"] *= 1 + 5e-6
    path.write_text(json.dumps(record))
    assert carry(folder, witnesses, within=1e-6, jobs=1, progress=False).records == 0
    assert carry(folder, witnesses, within=1e-5, jobs=1, progress=False).records == 1
    made = read_json(path.with_name(f"{key_of(config_of())}.json"))
    assert made["metrics"]["nll_elbo"] == record["metrics"]["nll_elbo"]
    (line,) = made["provenance"]["carried"]
    assert line["difference"] == pytest.approx(5e-6, rel=0.02)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project as an earlier commit could have been: other code, the same numbers."""
    root = tmp_path_factory.mktemp("code") / "earlier"
    shutil.copytree(ROOT / "vaelib", root / "vaelib", ignore=shutil.ignore_patterns("__pycache__"))
    units = root / "vaelib" / "metrics" / "units.py"
    units.write_text(units.read_text("utf-8") + "\n_NODES += 1\n", "utf-8")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "Earlier")):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def theirs(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of `config_of()` that the earlier code made, with digits of another processor."""
    store = tmp_path_factory.mktemp("made")
    work = (
        "import json, sys; from vaelib.config import Config; from vaelib.run import run_config\n"
        "from vaelib.store import Store\n"
        "run_config(Config.from_dict(json.load(sys.stdin)), store=Store(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-P", "-c", work, str(store)],
        input=json.dumps(config_of().to_dict()).encode(),
        env=os.environ | {"PYTHONPATH": str(earlier)},
        check=True,
    )
    (made,) = store.glob("*/record-*.json")
    record: dict[str, Any] = read_json(made)
    record["metrics"]["kl"] += 0.01
    return record


HOW = {"before": "HEAD", "jobs": 1, "progress": False}


@pytest.mark.slow
def test_code_that_did_not_make_the_records_cannot_speak_for_them(
    folder: Path, tmp_path: Path, theirs: dict[str, Any]
) -> None:
    write_json(folder / "paper" / f"{theirs['key']}.json", theirs)
    for commit, sentence in (
        ("nowhere", "'nowhere': git has no such code"),
        ("HEAD", f"not the code of these records, such as {theirs['key']}"),
    ):
        with pytest.raises(VaelibError, match=sentence):
            carry(folder, Store(tmp_path / "witnesses"), **HOW | {"before": commit})


@pytest.mark.slow
@pytest.mark.parametrize("sentences", [None, 20])
def test_on_another_processor_both_codes_are_heard(
    folder: Path,
    tmp_path: Path,
    earlier: Path,
    theirs: dict[str, Any],
    sentences: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record has digits of its own; the same code before and after speaks for it."""
    config, witnesses = config_of(), Store(tmp_path / "witnesses")
    write_json(folder / "paper" / f"{theirs['key']}.json", theirs)
    assert theirs["key"] != str(key_of(config))
    monkeypatch.setattr(module, "ROOT", earlier)
    monkeypatch.chdir(ROOT)  # a folder with a package of the same name must not come first
    done = carry(folder, witnesses, **HOW, sentences=sentences)
    assert (done.records, done.differing) == (1, ())
    made = read_json(folder / "paper" / f"{key_of(config)}.json")
    assert made["metrics"]["kl"] == theirs["metrics"]["kl"]
    sizes = {entry.config.train_size for entry in witnesses.entries()}
    assert sizes == {sentences or config.train_size}


@pytest.mark.parametrize("given", [{"sentences": 20}, {"sentences": 4, "before": "HEAD"}])
def test_a_small_witness_needs_something_to_be_compared_with(
    folder: Path, tmp_path: Path, given: dict[str, object]
) -> None:
    with pytest.raises(VaelibError, match="give 5 or more, and `before`"):
        carry(folder, Store(tmp_path), progress=False, **given)


@pytest.mark.parametrize("change", ["a word", "a column", "not a number", "a unit"])
def test_no_tolerance_hides_more_than_rounding(folder: Path, tmp_path: Path, change: str) -> None:
    witnesses = Store(tmp_path / "witnesses")
    path = commit(folder, config_of(), witnesses)
    record = read_json(path)
    if change == "a word":
        record["texts"]["samples"][0] = ["another"]
    elif change == "a column":
        del record["metrics"]["kl"]
    elif change == "not a number":
        record["metrics"]["kl"] = None
    else:
        record["metrics"]["au"] += 1
    path.write_text(json.dumps(record))
    done = carry(folder, witnesses, within=1e-4, jobs=1, progress=False)
    assert done.records == 0


@pytest.mark.parametrize("within", [-1.0, 0.01, float("nan")])
def test_an_odd_tolerance_is_refused(folder: Path, tmp_path: Path, within: float) -> None:
    with pytest.raises(VaelibError, match="give 0"):
        carry(folder, Store(tmp_path), within=within)


def test_kinds_part_where_the_way_through_the_code_may(folder: Path, tmp_path: Path) -> None:
    made = Store(tmp_path / "made")
    for beta in (0.4, 0.8, 0.0):  # 0 leaves the term out
        commit(folder, config_of(beta=beta), made)
    commit(folder, config_of(beta=0.9), made, "1" * 12)  # made by other code
    entries = Store(tmp_path / "nowhere", folder).entries()
    assert sorted(len(kind) for kind in kinds(entries)) == [1, 1, 2]


def test_committed_records_are_not_their_own_witnesses(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="a store without committed records"):
        carry(folder, Store(tmp_path, folder))
