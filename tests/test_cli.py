"""The commands: listings as JSON, one sentence for a mistake, runs, studies, export."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from vaelib import _listings, export
from vaelib._commands import parse_parameters, parse_seeds, parse_settings
from vaelib.cli import main
from vaelib.errors import VaelibError
from vaelib.export import export_records
from vaelib.metrics import METRICS
from vaelib.run import Run
from vaelib.store import Store, read_arrays, read_json, write_json
from vaelib.studies import Study, declaration
from vaelib.throughput import Load, throughput

LABELS = ["VAE (default)", "DG-VAE(default)"]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a few smoke runs: two labels, two seeds."""
    from vaelib.run import run_config

    store = Store(tmp_path_factory.mktemp("cli") / "runs")
    for plan in Study("dg_vae", "smoke", labels=LABELS, seeds=[0, 1], store=store).planned():
        run_config(plan.config, store=store)
    return store


@pytest.fixture
def at(made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, with the module's store in use and nothing committed."""
    monkeypatch.setenv("VAELIB_STORE", str(made.root))
    monkeypatch.setenv("VAELIB_RESULTS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def vaelib(capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the command in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def rows_of(call: Command, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# ---------------------------------------------------------------- values


def test_parse_settings() -> None:
    given = ["epochs=3", "clip-norm=a=b", "metrics=[kl, au]"]
    assert parse_settings(given, ("seed",)) == {
        "epochs": 3,
        "clip_norm": "a=b",
        "metrics": ["kl", "au"],
    }
    for wrong in (["epochs"], ["=3"], ["seed=3"], ["epochs=3", "epochs=4"]):
        with pytest.raises(VaelibError):
            parse_settings(wrong, ("seed",))


def test_parse_seeds() -> None:
    assert parse_seeds(None) is None
    assert parse_seeds("0,1, 2,1") == parse_seeds("[0,1,2]") == [0, 1, 2]
    for wrong in ("", "a", "-1", "1.0", "0;1"):
        with pytest.raises(VaelibError, match="--seeds"):
            parse_seeds(wrong)


def test_parse_parameters() -> None:
    wanted = ("page", {"seeds": "[0, 1]", "rate": "-1"})
    assert parse_parameters(["page", "-p", "seeds", "[0, 1]", "-p", "rate", "-1"]) == wanted
    assert parse_parameters(["-p", "seeds", "[0, 1]", "page", "-p", "rate", "-1"]) == wanted
    for wrong in (["page", "-p", "seeds"], ["-p", "a", "b"], ["one", "two"]):
        with pytest.raises(VaelibError):
            parse_parameters(wrong)


# ---------------------------------------------------------------- diagnosis


def test_diagnose_a_file(at: Path, vaelib: Command) -> None:
    mu = np.tile([[0.0, -1.0], [0.0, 1.0]], (50, 1))
    np.savez(at / "q.npz", mu=mu, logvar=np.zeros((100, 2)))
    code, out, err = vaelib("diagnose", "q.npz")
    assert (code, err) == (0, "")
    assert "Partial collapse: 1 of 2 dimensions are active; the others (0)" in out
    assert "Holes: in 1 of 2 dimensions" in out
    assert re.search(r"\n *1 .* yes +no +wide\n$", out)
    code, out, _ = vaelib("diagnose", "q.npz", "--json")
    found = json.loads(out)
    assert (found["collapse"], found["au"], found["cu_pq"]) == ("partial", 1, 1)
    assert found["nll_elbo"] is None
    assert [row["dimension"] for row in found["units"]] == [0, 1]
    assert found["units"][1]["active"] is True


# ---------------------------------------------------------------- listings


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("methods", "name aliases paper equation differs_from_vae backbones"),
        ("metrics", "name estimator unit bound paper"),
        ("runs", "key method data profile seed device metrics stale"),
        (
            "claims --profile smoke",
            "id paper statement source profile data published obtained interval tolerance "
            "verdict note page",
        ),
        ("studies", "paper title reference profiles items"),
        (
            "study dg_vae --profile smoke --dry-run",
            "paper label method data profile seed state to_run key",
        ),
    ],
)
def test_listings_have_their_keys(at: Path, vaelib: Command, command: str, keys: str) -> None:
    rows = rows_of(vaelib, *command.split())
    assert rows
    assert all(list(row) == keys.split() for row in rows)
    code, out, _ = vaelib(*command.split())
    assert code == 0
    assert "\x1b" not in out
    assert not re.search(r"[^\S\n]\n", out), "lines end in blanks"


def test_listing_of_datasets(vaelib: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("id", "splits", "statistics", "published", "available")
    row = {"id": "d", "published": {"vocab_size": 9990.0, "length_mean": 11.73}, "title": "D"}
    row |= {"splits": {"train": 5}, "statistics": {"n_train": 5}, "available": False}
    monkeypatch.setattr(_listings, "statistics_table", lambda: [row])
    assert rows_of(vaelib, "datasets") == [{key: row[key] for key in keys}]
    _, out, _ = vaelib("datasets")
    assert re.search(r"d\s+no\s+- \| 5\s+- \| -\s+- \| -\s+9990 \| -\s+11.73 \| -", out)


def test_methods_are_the_registry(vaelib: Command) -> None:
    from vaelib import METHODS
    from vaelib.backbones import BACKBONES

    rows = {row["name"]: row for row in rows_of(vaelib, "methods")}
    assert list(rows) == list(METHODS)
    assert rows["dg"]["aliases"] == list(METHODS.aliases("dg"))
    assert rows["dg"]["backbones"][0] == "lstm"
    assert rows["cvae"]["backbones"] == ["conditional"]
    assert all(set(row["backbones"]) <= set(BACKBONES) for row in rows.values())


def test_runs_are_the_store(at: Path, made: Store, vaelib: Command) -> None:
    rows = rows_of(vaelib, "runs")
    assert {row["key"] for row in rows} == {str(entry.key) for entry in made.entries()}
    assert {row["seed"] for row in rows} == {0, 1}
    assert not any(row["stale"] for row in rows)
    assert rows_of(vaelib, "runs", "--data", "ptb") == []
    assert len(rows_of(vaelib, "runs", "--data", "grammar", "--profile", "smoke")) == 4


def test_json_knows_no_nan() -> None:
    value = {"a": [float("nan"), np.float32(0.5), np.int64(3)], "b": float("inf"), "c": (True,)}
    assert _listings.clean(value) == {"a": [None, 0.5, 3], "b": None, "c": [True]}


def test_cells() -> None:
    values = (None, float("nan"), "", True, 3, 3.0, 0.123456, 12345.6, ["a", 1], -0.5)
    cells = ["-", "-", "-", "yes", "3", "3", "0.1235", "12,346", "a, 1", "-0.5"]
    assert [_listings.cell(value) for value in values] == cells


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("train dgg --data grammar", "did you mean 'dg'"),
        ("train dg --data grammarr", "did you mean 'grammar'"),
        ("train vae --data grammarr encoder=resnet", "did you mean 'grammar'"),
        ("train dg --data grammar epocs=3", "did you mean 'epochs'"),
        ("train dg --data grammar epochs=false", "epochs"),
        ("train dg --data grammar epochs=null", "epochs=None: give a whole number"),
        ("train vae --data grammar prior=uniform_sphere", "cannot be trained with prior"),
        ("train dg --data grammar epochs", "key=value"),
        ("train dg --data grammar seed=1", "seed=1"),
        ("train dg", "--data"),
        ("trian dg", "train"),
        ("train dg --data grammar --profile big", "unknown profile 'big'"),
        ("evaluate ffffffffffff", "not in the store"),
        ("study dg_vea", "did you mean 'dg_vae'"),
        ("study dg_vae/table3", "did you mean 'table2'|did you mean 'table1'"),
        ("study dg_vae/toy", "dg_vae_toy"),
        ("study dg_vae --seeds zero", "--seeds"),
        ("study dg_vae --jobs -1", "--jobs"),
        ("table dg_vae", "dg_vae/"),
        ("table dg_vae/figure1 --profile smoke", "table2"),
        ("table dg_vae/table2 --format xls", "unknown format 'xls'"),
        ("table dg_vae/table2 --profile laptop", "no runs yet"),
        ("claims --paper other", "unknown"),
        ("study dg_vae --data nosuch", "unknown data set.*'nosuch'.*grammar"),
        ("study dg_vae --data nosuch --dry-run", "unknown data set"),
        ("claims --data nosuch", "unknown data set"),
        ("table dg_vae/table2 --data nosuch", "unknown data set"),
        ("runs --data nosuch", "unknown data set"),
        ("runs --profile nosuch", "unknown profile"),
        ("runs gc", "--stale"),
        ("diagnose posterior.pt", "unknown ending of a file of posteriors '.pt'"),
        ("diagnose nowhere.npz", "nowhere.npz"),
        ("book run", "notebook"),
        ("book scan nowhere", "nowhere"),
        ("book serve", "no book"),
    ],
)
def test_a_mistake_is_one_sentence(at: Path, vaelib: Command, command: str, told: str) -> None:
    code, out, err = vaelib(*command.split())
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(told, err, re.IGNORECASE), err
    assert list(at.iterdir()) == []


def test_interrupted(at: Path, vaelib: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["vaelib.run"], "run_config", stop)
    code, out, err = vaelib("train", "vae", "--data", "grammar", "--profile", "smoke")
    assert (code, out) == (130, "")
    assert "the same command resumes from the last checkpoint:" in err
    assert err.endswith("\n  vaelib train vae --data grammar --profile smoke\n")


def test_a_defect_is_not_hidden(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(_listings, "methods", broken)
    with pytest.raises(ZeroDivisionError):
        main(["methods"])


def test_the_installed_command_and_a_closed_pipe(at: Path) -> None:
    """A reader that goes away, as `head` does, is met with silence."""
    code = "import sys; sys.argv[0] = 'vaelib'; from vaelib.cli import main; main()"
    command = [sys.executable, "-c", code, "metrics", "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    told = child.stderr.read()
    child.stderr.close()
    child.wait(60)
    assert told == b""


def test_help_waits_for_nothing_heavy(at: Path) -> None:
    code = (
        "import sys, vaelib.cli; sys.exit({'torch', 'pandas', 'numpy'} & {*sys.modules} != set())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_help_and_version(vaelib: Command) -> None:
    from vaelib import __version__

    assert vaelib("--version")[1] == f"vaelib {__version__}\n"
    code, out, _ = vaelib()
    assert code == 0
    for command in ("methods", "train", "evaluate", "study", "table", "claims", "runs", "book"):
        assert f"\n  {command} " in out


# ---------------------------------------------------------------- runs


def test_train_shows_metrics_key_and_folder(vaelib: Command, at: Path, made: Store) -> None:
    told = ("train", "DG-VAE", "--data", "grammar", "--profile", "smoke")
    before = sorted(made.root.iterdir())
    code, out, err = vaelib(*told)
    assert code == 0, err
    assert re.search(r"nll_iw500\s+\d+\.\d+\s+nats\s+4 sentences x 4 z", out)
    assert re.search(r"prior_ll\s+-\d+\.\d+\s+nats\s+32 sentences x 4 z", out)
    folder = re.findall(r"^folder +(.+)$", out, re.MULTILINE)[0]
    assert Path(folder).parent == made.root
    assert sorted(made.root.iterdir()) == before, "the run was there already"


def test_train_anew_and_evaluate(
    vaelib: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    told = ("train", "vae", "--data", "grammar", "--profile", "smoke", "train_size=64")
    code, out, err = vaelib(*told, "metrics=[kl, au]", "--seed", "7", "--json")
    assert code == 0, err
    first = json.loads(out)
    assert [row["name"] for row in first["metrics"]] == ["kl", "au"], "in the registry's order"
    assert (first["config"]["seed"], first["config"]["train_size"]) == (7, 64)

    code, out, err = vaelib("evaluate", first["key"][:8], "--recorded", "--json")
    assert code == 0, err
    assert json.loads(out) == first
    assert (first["metrics"][1]["bound"], first["metrics"][1]["why"]) == ("<= D = 4", "")

    code, out, err = vaelib("evaluate", first["folder"], "metrics=[nll_iw500]", "iw_samples=3")
    assert code == 0, err
    assert "32 sentences x 3 z" in out or "4 sentences x 3 z" in out
    store = Store(tmp_path / "runs")
    assert len({entry.key.trained for entry in store.entries()}) == 1
    assert len(store.entries()) == 2
    assert json.loads(vaelib("evaluate", first["key"][:8], "--recorded", "--json")[1]) == first, (
        "the fuller one"
    )
    assert "unknown metric 'bogus'" in vaelib("evaluate", first["key"], "metrics=[bogus]")[2]

    assert vaelib("evaluate", first["key"], "epochs=9")[0] == 2
    (store.root / first["key"][:25] / "model.safetensors").write_bytes(b"half")
    code, out, err = vaelib("evaluate", first["key"], "nll_size=null", "metrics=[au]")
    assert (code, out) == (2, "")
    assert re.search(r"error: cannot read .* delete the file", err)
    write_json(store.root / "aaaaaaaaaaaa-bbbbbbbbbbbb" / "config.json", {})
    assert "not finished" in vaelib("evaluate", "aaaaaaaaaaaa-bbbbbbbbbbbb")[2]


def test_the_whole_table_is_computed_and_not_recorded(
    vaelib: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    told = ("train", "vae", "--data", "grammar", "--profile", "smoke", "train_size=64")
    first = json.loads(vaelib(*told, "metrics=[kl, au]", "--json")[1])
    before = sorted((tmp_path / "runs").rglob("*"))
    code, out, err = vaelib("evaluate", first["key"], "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)["metrics"]}
    columns = {c for spec in METRICS.values() for c in spec.columns or (spec.name,)}
    assert set(rows) == columns - {"grad_coupled", "grad_total"}
    shown = ("estimator", "bound", "unit")
    assert all(row[column] for row in rows.values() for column in shown)
    assert all(bool(row["samples"]) == (row["value"] is not None) for row in rows.values())
    assert rows["distinct_1"]["samples"] == "3,200 prior samples"
    assert [rows[n]["value"] for n in ("kl", "au")] == [r["value"] for r in first["metrics"]]
    assert rows["bleu_1"]["samples"] == "32 sentences x 10 z"
    assert json.loads(out)["stale"] is False
    recorded = json.loads(vaelib("evaluate", first["key"], "--recorded", "--json")[1])
    assert recorded["metrics"] == first["metrics"]
    assert sorted((tmp_path / "runs").rglob("*")) == before, "nothing is recorded"
    next((tmp_path / "runs").rglob("model.safetensors")).unlink()
    code, out, err = vaelib("evaluate", first["key"])
    assert code == 0, err
    assert "only those recorded: the weights are not here" in out
    assert "weights are not here" in vaelib("evaluate", first["key"], "metrics=[bleu]")[2]


def test_a_device_is_measured(vaelib: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"loads": [Load("vae", "lstm", "ptb", 40, 5)], "profile": "smoke"}
    monkeypatch.setattr(throughput, "__kwdefaults__", throughput.__kwdefaults__ | small)
    code, out, err = vaelib("bench", "--device", "cpu", "--seconds", "0.05", "--json")
    assert code == 0, err
    assert json.loads(out)[0]["sentences like"] == "ptb"
    code, _, err = vaelib("bench", "--device", "cuda:9")
    assert code == 2
    assert "cuda:9" in err


def test_a_missing_value_is_explained(
    vaelib: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    told = ("train", "vmf", "--data", "grammar", "--profile", "smoke", "epochs=1")
    code, out, err = vaelib(*told, "metrics=[kl, au]")
    assert code == 0, err
    assert re.search(r"au +- +no Gaussian posterior +dimensions", out)
    assert "why" not in vaelib(*told, "metrics=[kl]")[1]


def test_evaluate_names_the_candidates(at: Path, made: Store, vaelib: Command) -> None:
    code, _, err = vaelib("evaluate", "")
    assert code == 2
    named = [entry.key.trained in err for entry in made.entries()]
    assert sum(named) == min(5, len(named))
    assert f"beginning of {len(named)} runs" in err


# ---------------------------------------------------------------- studies


def test_dry_run_leaves_no_files(
    vaelib: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("VAELIB_RESULTS", str(tmp_path / "none"))
    code, out, err = vaelib("study", "dg_vae", "--profile", "smoke", "--dry-run", "--seeds", "0,1")
    assert code == 0
    assert out.count(" missing ") == len(Study("dg_vae", "smoke", seeds=[0, 1]).planned())
    assert "no record yet to estimate" in err
    assert list(tmp_path.iterdir()) == []


def test_dry_run_says_what_is_there(at: Path, vaelib: Command) -> None:
    told = ("study", "dg_vae/table2", "--profile", "smoke", "--seeds", "0,1,2", "--dry-run")
    rows = rows_of(vaelib, *told)
    there = {(row["label"], row["seed"]) for row in rows if row["state"] == "there"}
    assert there == {(label, seed) for label in LABELS for seed in (0, 1)}
    assert all(row["to_run"] == (row["state"] == "missing") for row in rows)
    missing = sum(row["to_run"] for row in rows)
    assert f"{missing} runs, about" in vaelib(*told)[2]


def test_stale_runs_are_made_only_when_asked(
    at: Path, vaelib: Command, made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaelib import studies
    from vaelib.run import Run, key_of

    def newer(config: Any) -> Any:
        key = key_of(config)
        return replace(key, evaluated="0" * 12) if config.seed == 1 else key

    monkeypatch.setattr(studies, "key_of", newer)
    monkeypatch.setattr(Run, "stale", property(lambda run: run.entry.key != newer(run.config)))
    told = ("study", "dg_vae", "--profile", "smoke", "--seeds", "0,1", "--dry-run")
    mine = [row for row in rows_of(vaelib, *told) if row["label"] in LABELS]
    assert {(r["seed"], r["state"], r["to_run"]) for r in mine} == {
        (0, "there", False),
        (1, "stale", False),
    }
    mine = [row for row in rows_of(vaelib, *told, "--stale") if row["label"] in LABELS]
    assert {r["seed"] for r in mine if r["to_run"]} == {1}


def test_study_runs_what_is_missing(
    vaelib: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without processes of its own; those are the sweep's matter."""
    from vaelib import sweep
    from vaelib.run import run_config

    def here(plans: Any, store: Store, *, jobs: int) -> None:
        assert jobs == 3
        for plan in plans:
            run_config(plan.config, store=store)

    monkeypatch.setattr(sweep, "execute", here)
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    told = ("study", "dg_vae/figure3", "--profile", "smoke", "--jobs", "3", "train_size=64")
    code, out, err = vaelib(*told, "metrics=[prior_ll, post_ll]")
    assert code == 0, err
    assert "2 runs" in err
    assert re.search(r"vMF-VAE\(50\)\s+[−-]\d", out)
    assert "Profile smoke; data: grammar; seeds 0; 2 runs" in out
    code, again, err = vaelib(*told, "metrics=[prior_ll, post_ll]")
    assert (code, again) == (0, out)
    assert "every run is there" in err
    told = ("table", *told[1:4], "train_size=64", "metrics=[prior_ll, post_ll]")
    assert vaelib(*told, "--format", "text")[1] == out


def test_data_that_cannot_be_had_is_left_out(
    at: Path, vaelib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAELIB_STANDIN", raising=False)
    monkeypatch.setattr("vaelib.sweep.execute", lambda plans, store, jobs: None)
    asked = ("study", "dg_vae/figure3", "--profile", "smoke", "--data", "short_yelp_standin")
    code, out, err = vaelib(*asked)
    assert (code, out) == (2, "")
    assert "VAELIB_STANDIN" in err
    monkeypatch.setattr(
        "vaelib.studies.declaration", lambda paper: standin_too(declaration("dg_vae"))
    )
    code, _, err = vaelib("study", "dg_vae", "--profile", "smoke")
    assert code == 0
    assert "leaving out short_yelp_standin: short_yelp_standin is a developer's corpus" in err


def standin_too(about: dict[str, Any]) -> dict[str, Any]:
    """A study whose smoke profile has a second data set."""
    about["profile"]["smoke"]["data"].append("short_yelp_standin")
    return about


@pytest.mark.parametrize("style", ["md", "csv", "latex", "json", "text"])
def test_table(at: Path, vaelib: Command, style: str) -> None:
    code, out, err = vaelib("table", "dg_vae/table2", "--profile", "smoke", "--format", style)
    assert code == 0, err
    assert all(label in out for label in LABELS)
    if style == "csv":
        head, first, *_ = out.splitlines()
        cells = dict(zip(head.split(","), first.split(","), strict=True))
        assert cells["label"] == "VAE (default)"
        assert (float(cells["AU published"]), cells["profile"]) == (0.0, "smoke")
        assert float(cells["priorLL mean"]) < 0
    elif style == "json":
        assert {"label", "mean", "sd", "published", "note"} <= set(json.loads(out)["rows"][0])
    else:
        assert "seeds 0; 2 runs" in out.replace("\\_", "_")


# ---------------------------------------------------------------- looking on, and taking out


def test_watching_a_store_that_is_at_work(
    made: Store, at: Path, vaelib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, entry = Store(at / "runs"), made.entries()[0]
    key, config = entry.key, entry.config
    monkeypatch.setenv("VAELIB_STORE", str(store.root))
    write_json(store.folder(key) / "config.json", config.to_dict())
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            write_json(store.record_path(made.entries()[1].key), {})
        if len(naps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    with store.lock(key):
        code, out, err = vaelib("runs", "--watch")
    assert (code, err, len(naps)) == (0, "", 4)
    first, run, second = out.splitlines()
    assert first == f"0 finished in {store.root}"
    about = f"method {config.method}, data grammar, seed {config.seed}"
    assert run == f"run {key.trained}, {about}, epoch -, step -, loss -, checkpoint -, at work yes"
    assert second == f"1 finished in {store.root}"
    assert vaelib("runs", "--watch", "--json")[0] == 2


def test_a_history_as_csv(at: Path, made: Store, vaelib: Command) -> None:
    run = Run(made.entries()[0], made)
    code, out, _ = vaelib("runs", "history", run.entry.key.trained, "out")
    assert code == 0
    steps, epochs = (pd.read_csv(path) for path in out.split())
    pd.testing.assert_frame_equal(steps, run.history, check_dtype=False, rtol=1e-6)
    pd.testing.assert_frame_equal(epochs, run.epochs, check_dtype=False)
    assert len(steps) == run.provenance["steps"]
    assert {path.name for path in (at / "out").iterdir()} == {
        f"{run.entry.key}-{part}.csv" for part in ("steps", "epochs")
    }


def test_a_history_for_tensorboard(
    at: Path, made: Store, vaelib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(made.entries()[0].key)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        code, out, err = vaelib("runs", "history", key, "out", "--format", "tensorboard")
    assert (code, out) == (2, "")
    assert "pip install tensorboard" in err
    assert not (at / "out").exists()
    assert vaelib("runs", "history", key, "out", "--format", "xls")[0] == 2
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    code, out, _ = vaelib("runs", "history", key, "out", "--format", "tensorboard")
    assert code == 0
    found = events.EventAccumulator(out.strip()).Reload()
    run = Run(made.entries()[0], made)
    scalars = found.Scalars("step/loss")
    assert [s.step for s in scalars] == run.history["step"].astype(int).tolist()
    np.testing.assert_allclose([s.value for s in scalars], run.history["loss"], rtol=1e-6)
    assert len(found.Scalars("epoch/valid_elbo")) == len(run.epochs)


# ---------------------------------------------------------------- keeping and clearing


def smoke_study(store: Store) -> Study:
    return Study("dg_vae", "smoke", seeds=[0, 1], labels=LABELS, store=store)


def test_export(made: Store, tmp_path: Path) -> None:
    study, folder = smoke_study(made), tmp_path / "results"
    done = export_records(study, folder)
    assert (done.records, done.arrays, done.written, done.pruned) == (4, 2, 6, 0)
    assert done.folder == folder / "dg_vae" / "smoke"
    files = {path: path.read_bytes() for path in done.folder.iterdir()}
    assert done.size == sum(map(len, files.values()))

    for _, run in study.found:
        key, seed = str(run.entry.key), run.config.seed
        record = done.folder / f"{key}.json"
        kept = set(run.entry.record) - ({"history"} if seed else set())
        assert read_json(record) == {name: run.entry.record[name] for name in kept}
        assert record.with_suffix(".npz").is_file() == (seed == 0)
    arrays = read_arrays(next(done.folder.glob("*.npz")))
    kinds = {name: value.dtype for name, value in arrays.items()}
    assert kinds == {"mu": np.float16, "logvar": np.float16, "order": np.int32}

    stamps = {path: path.stat().st_mtime_ns for path in files}
    assert export_records(smoke_study(made), folder).written == 0
    assert {path: path.stat().st_mtime_ns for path in files} == stamps

    committed = Study("dg_vae", "smoke", labels=LABELS, store=Store(tmp_path / "no", folder))
    assert len(committed.found) == 2
    torch.testing.assert_close(
        torch.tensor(committed.found[0][1].posterior["mu"]),
        torch.tensor(study.found[0][1].posterior["mu"]),
        atol=1e-3,
        rtol=1e-3,
    )
    assert export_records(committed, tmp_path / "copy").written == 4
    for path in (tmp_path / "copy").rglob("*.json"):
        assert path.read_bytes() == files[done.folder / path.name]


def test_of_a_grid_the_posteriors_of_the_chosen_runs_alone_are_kept() -> None:
    study, chosen = Study("du_vae", "paper"), ["BN-VAE(1.0), 2-D", "DU-VAE(1.0, 0.5), 2-D"]
    assert len(study.labels_of("figure1")) > 20
    assert export.drawn_labels(study, "figure1") == {"VAE", "Agg-VAE", *chosen}
    assert export.drawn_labels(study, "figure2") == set(study.labels_of("figure2"))


def test_export_prunes_only_what_is_superseded(made: Store, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "dg_vae" / "smoke"
    _, run = smoke_study(made).found[0]
    old = folder / f"{run.config.hash}-{'0' * 12}-{'0' * 12}.json"
    other = folder / f"{'1' * 12}-{'0' * 12}-{'0' * 12}.json"
    write_json(old, run.entry.record)
    write_json(other, run.entry.record | {"question": "another"})
    old.with_suffix(".npz").write_bytes(b"arrays")
    later = next(r for p, r in smoke_study(made).found if p.seed == 1).entry.key
    (folder / f"{later}.npz").write_bytes(b"arrays of a seed whose posterior nothing draws")
    (folder / f"{'2' * 12}-{'0' * 12}-{'0' * 12}.npz").write_bytes(b"arrays without a record")
    assert export_records(smoke_study(made), tmp_path / "results").pruned == 0
    assert old.is_file()
    done = export_records(smoke_study(made), tmp_path / "results", prune=True)
    assert (done.pruned, done.written) == (4, 0)
    assert other.is_file()
    assert not old.is_file()
    assert len(list(folder.glob("*.json"))) == 5


def test_a_record_that_two_papers_share_is_committed_once(made: Store, tmp_path: Path) -> None:
    folder, study = tmp_path / "results", smoke_study(made)
    shared = f"{study.found[0][1].entry.key}.json"
    export_records(study, folder)
    (folder / "other").mkdir()
    (folder / "dg_vae" / "smoke" / shared).rename(folder / "other" / shared)
    assert export_records(study, folder).written == 0
    assert len(Study("dg_vae", "smoke", labels=LABELS, store=Store(tmp_path / "no", folder)).found)


def test_single_runs_are_exported_without_arrays_and_steps(
    at: Path, made: Store, vaelib: Command
) -> None:
    runs = [run.entry for _, run in smoke_study(made).found[:2]]
    names = [runs[0].key.trained, str(runs[1].key)[:20]]
    code, out, _ = vaelib("runs", "export", "results", "--run", names[0], "--run", names[1])
    assert code == 0
    assert "2 records, 0 with arrays; 2 files" in out
    there = {path.name: read_json(path) for path in (at / "results" / "attempts").iterdir()}
    kept = [{k: v for k, v in e.record.items() if k != "history"} for e in runs]
    assert there == {f"{e.key}.json": record for e, record in zip(runs, kept, strict=True)}
    code, _, err = vaelib("runs", "export", "results", "--run", "0123")
    assert code != 0
    assert "not in the store" in err


def test_export_refuses_too_much(
    at: Path, made: Store, vaelib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LIMIT", 10_000)
    code, _, err = vaelib("runs", "export", "results", "--profile", "smoke")
    assert code == 2
    assert re.fullmatch(r"error: results would hold \d+\.\d MB .+--prune\.\n", err)
    assert list(at.iterdir()) == []
    monkeypatch.undo()


def test_gc_on_request_only(
    made: Store, vaelib: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "runs")
    monkeypatch.setenv("VAELIB_STORE", str(store.root))
    first, second = made.entries()[:2]
    today, later = f"record-{first.key.evaluated}.json", f"record-{'0' * 12}.json"
    old = store.root / f"{first.config.hash}-{'0' * 12}"
    places = [(first, old / today), (first, store.folder(first.key) / later)]
    places += [(second, store.folder(second.key) / name) for name in (today, later)]
    for entry, path in places:
        name = f"{path.parent.name}-{path.stem.removeprefix('record-')}"
        write_json(path, entry.record | {"key": name})
    begun = store.root / f"{'1' * 12}-{'0' * 12}"
    write_json(begun / "config.json", {})
    (store.root / "own notes").mkdir()

    monkeypatch.setattr("typer.confirm", lambda question: False)
    code, out, _ = vaelib("runs", "gc", "--stale", "--unfinished")
    assert code == 0
    assert out.splitlines() == [str(old), str(store.folder(second.key) / later), str(begun)]
    assert old.is_dir()
    with store.lock(second.key):
        _, out, _ = vaelib("runs", "gc", "--stale", "--unfinished", "--yes")
    assert out.splitlines()[-1] == "removed 2, 1 in use"
    assert not old.exists()
    assert not begun.exists()
    assert vaelib("runs", "gc", "--stale", "--yes")[1].endswith("removed 1\n")
    kept = sorted(str(path.relative_to(store.root)) for path in store.root.rglob("record-*"))
    assert kept == sorted([f"{second.key.trained}/{today}", f"{first.key.trained}/{later}"])
    assert vaelib("runs", "gc", "--stale")[1] == "nothing to remove\n"
    assert (store.root / "own notes").is_dir()


# ---------------------------------------------------------------- the book


def test_book_commands_call_the_book(
    at: Path, vaelib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yaml")
    calls: list[Any] = []
    for name in ("build", "run_notebook", "serve", "scan"):
        monkeypatch.setattr(f"vaelib.book.{name}", lambda *a, n=name: calls.append((n, *a)) or [])
    values = ("-p", "seeds", "[0, 1]", "-p", "rate", "-1", "-p", "live", "false")
    assert vaelib("book", "run", "page", *values, "-o", "out.ipynb")[0] == 0
    assert vaelib("book", "build", "--profile", "smoke", "--no-execute", "--force")[0] == 0
    assert vaelib("book", "serve", "--port", "0")[0] == 0
    assert vaelib("book", "scan", ".")[0] == 0
    given = {"seeds": [0, 1], "rate": -1, "live": False}
    assert calls == [
        ("run_notebook", "page", given, Path("out.ipynb")),
        ("build", "smoke", False, True, 2, True),
        ("serve", "laptop", 0),
        ("scan", Path()),
    ]


def test_book_scan_fails_on_findings(
    at: Path, vaelib: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelib.book.scan", lambda folder: ["a.html: broken link"])
    assert vaelib("book", "scan", ".") == (1, "a.html: broken link\n", "")
