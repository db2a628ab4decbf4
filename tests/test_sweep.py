"""Running a grid: processes, failures, estimates."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from vaelib import store as files
from vaelib import sweep
from vaelib.data.download import Source
from vaelib.errors import VaelibError
from vaelib.run import key_of
from vaelib.store import Store
from vaelib.studies import Planned, Study
from vaelib.sweep import duration, estimate, execute, open_study, possible, study

LABELS = ["VAE (default)", "DG-VAE(default)"]
QUICK = {"epochs": 1, "metrics": ("kl", "au")}


def plans(store: Store, labels: list[str] = LABELS) -> list[Planned]:
    return Study("dg_vae", "smoke", labels=labels, store=store, **QUICK).planned()


@pytest.mark.slow
def test_two_processes_make_a_grid_and_a_failure_is_reported(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good = plans(store)
    diverging = QUICK | {"lr": 1e6, "clip": 1e30, "optimizer": "sgd"}
    bad = replace(good[0], label="the bad one", overrides=diverging)
    with pytest.raises(VaelibError, match=r"1 of 3 runs failed.*the bad one.*diverged"):
        execute([good[0], bad, good[1]], store, jobs=2, progress=False)
    opened = Study("dg_vae", "smoke", labels=LABELS, store=store, **QUICK)
    assert opened.missing() == []
    assert {entry.key for entry in store.entries()} == {key_of(p.config) for p in good}


@pytest.mark.slow
def test_equal_configs_are_run_once_and_an_old_fact_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (plan,) = plans(store, LABELS[:1])
    done = execute([plan, replace(plan, label="again")], store, jobs=2, progress=False)
    assert done == [key_of(plan.config).trained]


def test_a_grid_needs_a_process(tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="jobs=0"):
        execute([], Store(tmp_path), jobs=0)
    assert execute([], Store(tmp_path), progress=False) == []


def test_costs_are_estimated_by_runs_of_the_same_kind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    opened = Study("dg_vae", "laptop", data=["grammar", "ptb"], seeds=[0], store=store)
    grammar = [p for p in opened.planned() if p.data == "grammar"]
    assert "no record yet" in estimate(opened, grammar).text(2)
    for plan, seconds in zip(grammar, (60.0, 120.0, 600.0), strict=False):
        about = {"train_seconds": seconds, "evaluate_seconds": 0.0, "started": "2030"}
        about |= {"device": "a processor", "test_size": 10, "data": {}, "versions": {}}
        value = {
            "key": str(key_of(plan.config)),
            "config": plan.config.to_dict(),
            "provenance": about,
            "question": "",
            "metrics": {},
            "epochs": [],
            "texts": {},
        }
        files.write_json(store.record_path(key_of(plan.config)), value)
    cost = estimate(opened, grammar[3:13])
    assert (cost.runs, cost.known, cost.seconds) == (10, 10, 1200.0)
    assert cost.text(2) == "10 runs, about 10 min with 2 at a time"
    mixed = estimate(opened, [*grammar[3:5], *[p for p in opened.planned() if p.data == "ptb"][:2]])
    assert (mixed.runs, mixed.known) == (4, 2)
    assert mixed.text(1) == "4 runs, about 8 min with 1 at a time"
    assert estimate(opened, []).text(2) == "nothing to do: every run is there"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2, "3 s"), (59, "1 min"), (600, "10 min"), (3_600, "1 h 00 min"), (7_500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_notebook_can_look_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "none"))
    monkeypatch.setenv("VAELIB_RESULTS", str(tmp_path / "neither"))
    opened = open_study("dg_vae", "smoke", train_missing=False, device="cpu")
    assert opened.results().empty
    assert f"0 of {len(opened.planned())} runs are there" in capsys.readouterr().out
    assert study("dg_vae", "smoke").profile == "smoke"


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No data but the embedded; what was asked of the network; and no training."""
    asked: list[str] = []

    def refuse(source: Source) -> Path:
        asked.append(source.dataset)
        raise VaelibError(f"{source.dataset}: cannot fetch it.")

    def train(*_: object, **__: object) -> None:
        raise AssertionError("it trained")

    monkeypatch.setattr("vaelib.data.datasets.fetch", refuse)
    monkeypatch.setattr(sweep, "execute", train)
    for name in ("CACHE", "STORE", "RESULTS"):
        monkeypatch.setenv(f"VAELIB_{name}", str(tmp_path / name))
    for name in ("VAELIB_MIRROR", "VAELIB_STANDIN"):
        monkeypatch.delenv(name, raising=False)
    return asked


def test_data_are_had_once_before_any_run(unreachable: list[str], tmp_path: Path) -> None:
    data = ["grammar", "ptb", "short_yelp_standin"]
    opened = Study("dg_vae", "laptop", data=data, labels=LABELS, store=Store(tmp_path))
    kept, why = possible(opened.planned(), insist=False)
    assert {plan.data for plan in kept} == {"grammar"}
    assert len(kept) == 6
    assert why["ptb"] == "ptb: cannot fetch it."
    assert "VAELIB_STANDIN" in why["short_yelp_standin"]
    assert unreachable == ["ptb"]
    assert "not at hand" in possible(opened.planned(), insist=False, fetch=False)[1]["ptb"]
    assert unreachable == ["ptb"]
    with pytest.raises(VaelibError, match="cannot fetch it"):
        possible(opened.planned(), insist=True)


def test_a_notebook_never_waits_for_data_it_cannot_have(
    unreachable: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VaelibError, match="cannot fetch it"):  # once, before any worker starts
        open_study("dg_vae", "laptop", dataset="ptb", seeds=[0, 1], device="cpu")
    assert unreachable == ["ptb"]
    made: list[str] = []
    monkeypatch.setattr(
        sweep, "execute", lambda plans, *_, **__: made.extend(p.data for p in plans)
    )
    open_study("dg_vae", "laptop", seeds=[0], labels=LABELS, device="cpu")
    assert (set(made), unreachable) == ({"grammar"}, ["ptb"])
    assert re.search(r"ptb: \d runs are missing: its data is not at hand", capsys.readouterr().out)
