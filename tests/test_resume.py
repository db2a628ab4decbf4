"""Runs that are really killed, at many moments, go on to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from run_helpers import same, steps_saved

from vaelib import store as files
from vaelib.build import resolve
from vaelib.config import Config
from vaelib.run import Run, key_of, run_config
from vaelib.store import Store

LONG = {"epochs": 4, "train_size": 200, "patience": 1, "decay_from_epoch": 1, "lr": 0.02}
DRIVER = """
import importlib, json, os, signal, sys
from vaelib.config import Config
from vaelib.store import Store

root, config, owner, name, moment = json.loads(sys.argv[1])
train, run = (importlib.import_module(f"vaelib.{name}") for name in ("train", "run"))
train.SAVE_SECONDS = 0.0  # a checkpoint after every step
calls = {"steps": 0}
step = train.Training.record_step

def counted(self, *what):
    calls["steps"] += 1
    return step(self, *what)

train.Training.record_step = counted

if owner:
    module, _, inside = owner.partition(":")
    place = importlib.import_module(f"vaelib.{module}")
    place = getattr(place, inside) if inside else place
    original = getattr(place, name)
    seen = [0]

    def deadly(*args, **kwargs):
        seen[0] += 1
        if seen[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(place, name, deadly)

print("ready", flush=True)
made = run.run_config(Config.from_dict(config), store=Store(root))
print(json.dumps({"steps": calls["steps"], "kl": made.metrics["kl"]}), flush=True)
"""


def long(method: str) -> Config:
    return resolve(method, data="grammar", profile="smoke", **LONG)


def start(root: Path, config: Config, owner: str = "", name: str = "", moment: int = 0) -> Any:
    """A process that makes the run, and kills itself before call number `moment` of a function."""
    what = json.dumps([str(root), config.to_dict(), owner, name, moment])
    command = [sys.executable, "-c", DRIVER, what]
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same runs made in one go, by method."""
    store, made = Store(tmp_path_factory.mktemp("whole")), {}

    def get(method: str) -> Run:
        if method not in made:
            made[method] = run_config(long(method), store=store)
        return made[method]

    return get


MOMENTS = [
    pytest.param("dg", "train:Training", "record_step", 23, id="dg-in the second epoch"),
    pytest.param("bn", "store:os", "replace", 9, id="bn-while a checkpoint is written"),
    pytest.param("vae", "train:Training", "judge", 3, id="vae-after a validation"),
    pytest.param("bn", "run:files", "write_arrays", 1, id="bn-after the weights"),
    pytest.param("dg", "evaluate", "mutual_information", 2, id="dg-in the evaluation"),
    pytest.param("vae", "run:files", "write_arrays", 2, id="vae-before the record"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "owner", "name", "moment"), MOMENTS)
def test_a_killed_run_resumes_to_the_same_bits(
    method: str, owner: str, name: str, moment: int, undisturbed: Any, tmp_path: Path
) -> None:
    config = long(method)
    process = start(tmp_path, config, owner, name, moment)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert output == "ready\n"
    store = Store(tmp_path)
    assert store.entries() == []
    assert (store.folder(key_of(config)) / files.STATE).is_file()
    resumed = run_config(config, store=store)
    same(resumed, undisturbed(method))
    left = {path.name for path in resumed.entry.folder.iterdir()}
    assert files.STATE not in left
    assert not [name for name in left if name.startswith(".")]


@pytest.mark.slow
def test_a_run_killed_from_outside_twice_resumes_to_the_same_bits(
    undisturbed: Any, tmp_path: Path
) -> None:
    config, store = long("dg"), Store(tmp_path)
    state, reached = store.folder(key_of(config)) / files.STATE, 0
    for _ in range(2):
        process, deadline = start(tmp_path, config), time.monotonic() + 120
        while steps_saved(state) < reached + 5 and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.002)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert steps_saved(state) >= reached + 5
        reached = steps_saved(state)
    same(run_config(config, store=store), undisturbed("dg"))


@pytest.mark.slow
def test_two_processes_asking_for_one_run_train_it_once(undisturbed: Any, tmp_path: Path) -> None:
    config = long("vae")
    processes = [start(tmp_path, config) for _ in range(2)]
    answers = [p.communicate(timeout=120) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], answers
    said = [json.loads(out.splitlines()[-1]) for out, _ in answers]
    whole = undisturbed("vae")
    assert sorted(answer["steps"] for answer in said) == [0, whole.provenance["steps"]]
    assert {answer["kl"] for answer in said} == {whole.metrics["kl"]}


@pytest.mark.slow
def test_of_three_that_ask_one_trains_and_when_it_is_killed_another_goes_on(
    undisturbed: Any, tmp_path: Path
) -> None:
    config, whole = long("vae"), undisturbed("vae")
    first = start(tmp_path, config, "train:Training", "judge", 2)
    state = Store(tmp_path).folder(key_of(config)) / files.STATE
    while not state.is_file():  # it has the lock
        assert first.poll() is None
        time.sleep(0.002)
    others = [start(tmp_path, config) for _ in range(2)]
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    answers = [p.communicate(timeout=120) for p in others]
    assert [p.returncode for p in others] == [0, 0], answers
    said = [json.loads(out.splitlines()[-1]) for out, _ in answers]
    none, rest = sorted(answer["steps"] for answer in said)
    assert none == 0
    assert 0 < rest < whole.provenance["steps"]
    same(run_config(config, store=Store(tmp_path)), whole)


def test_these_runs_are_worth_killing(undisturbed: Any) -> None:
    run = undisturbed("vae")
    assert len(run.epochs) == 4
    assert run.provenance["steps"] > 40
