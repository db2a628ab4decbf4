"""What a run says while it is at work, and what Ctrl-C does to it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest
from run_helpers import children

from vaelib._workers import interrupts_held
from vaelib.build import resolve
from vaelib.config import Config
from vaelib.errors import VaelibError
from vaelib.progress import LOG, Outlook, Sitting, checkpoint, unfinished
from vaelib.run import key_of, run_config
from vaelib.store import Store

LONG = ("--profile", "smoke", "epochs=100000", "metrics=[kl]")


def quick(**more: Any) -> Config:
    given = {"epochs": 3, "metrics": ("kl",)} | more
    return resolve("vae", data="grammar", profile="smoke", **given)


def log_of(store: Store, config: Config) -> list[str]:
    """The lines of a run's log without their times."""
    lines = (store.folder(key_of(config)) / LOG).read_text("utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
    return [line.partition(" ")[2] for line in lines]


# ---------------------------------------------------------------- one run


def test_a_log_says_how_a_run_went(tmp_path: Path) -> None:
    store, config = Store(tmp_path), quick()
    run = run_config(config, store=store)
    begins, *epochs, trained, evaluated = log_of(store, config)
    assert begins.startswith("begins: vae on grammar, seed 0, profile smoke; ")
    assert "cpu, 1 threads" in begins
    assert [line.partition(":")[0] for line in epochs] == ["epoch 1", "epoch 2", "epoch 3"]
    assert f"valid_elbo={run.epochs['valid_elbo'][1]:.6g}" in epochs[1]
    assert trained.startswith(f"trained: {run.provenance['steps']} steps")
    assert evaluated.endswith(f"kl={run.metrics['kl']:.6g}")
    run_config(config, store=store)
    assert len(log_of(store, config)) == 6, "a run that is only loaded adds nothing"


def test_a_log_goes_on_where_a_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted sitting says so; the next one tells no epoch twice."""
    store, config, step = Store(tmp_path), quick(), Sitting.__call__

    def stop(self: Sitting, phase: str, done: int, total: int, now: dict[str, float]) -> None:
        step(self, phase, done, total, now)
        if now["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Sitting, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        run_config(config, store=store)
    monkeypatch.undo()
    state = checkpoint(store.folder(key_of(config)))
    assert state
    (row,) = unfinished(store)
    assert (row["epoch"], row["step"], row["at work"]) == ("2 of 3", state.step, False)
    assert row["loss"] == state.last_loss
    assert re.fullmatch(r"\d+ s ago", row["checkpoint"])
    log = store.folder(key_of(config)) / LOG
    log.write_text(log.read_text().replace("epoch 2", "lost, as where it is killed before"))
    run_config(config, store=store)
    said = [re.split(":| at| in", line)[0] for line in log_of(store, config)]
    first = ["begins", "epoch 1", "lost, as where it is killed before", "stops"]
    assert said == [*first, "resumes", "epoch 2", "epoch 3", "trained", "evaluated"]
    assert f"resumes at step {state.step}" in "\n".join(log_of(store, config))
    assert unfinished(store) == []


def test_a_refusal_is_logged_where_something_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    early = quick(lr=1e6, clip=1e30, optimizer="sgd")
    with pytest.raises(VaelibError, match="diverged"):
        run_config(early, store=store)
    assert not store.folder(key_of(early)).exists()
    kept = quick(seed=1)
    step = Sitting.__call__

    def refuse(self: Sitting, phase: str, done: int, total: int, now: dict[str, float]) -> None:
        step(self, phase, done, total, now)
        if now["epoch"] == 1:
            raise VaelibError("no \x1b[31m more.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sitting, "__call__", refuse)
        with pytest.raises(VaelibError, match="no"):
            run_config(kept, store=store)
    assert log_of(store, kept)[-1] == r"stops: VaelibError no \x1b[31m more."


def test_what_is_no_checkpoint_says_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = tmp_path / f"{'1' * 12}-{'0' * 12}"
    folder.mkdir()
    for content in (b"", b"{}", b"\x00" * 64):
        (folder / "state.safetensors").write_bytes(content)
        (folder / "config.json").write_bytes(content)
        assert checkpoint(folder) is None
        (row,) = unfinished(store)
        assert (row["run"], row["epoch"], row["at work"]) == (folder.name, "", False)


# ---------------------------------------------------------------- the time left


def test_the_time_left_is_known_from_records_and_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    configs = {name: quick(seed=seed) for seed, name in enumerate("abcd")}
    outlook = Outlook(configs, lambda config: tmp_path, {}, jobs=2)
    assert outlook.text("abcd") == "a; b"
    now[0] = 100.0
    outlook.ended("a")
    assert outlook.text("bcd") == "2 min left; b; c"  # b is due; c and d take 100 s each
    now[0] = 150.0
    assert outlook.left(list("bcd")) == 100.0
    assert outlook.left(["c"]) == 50.0
    known = Outlook(configs, lambda config: tmp_path, {("grammar", "smoke"): [60.0]}, jobs=2)
    assert known.text("abcd").startswith("2 min left; a; b")


# ---------------------------------------------------------------- Ctrl-C


def test_ctrl_c_is_heard_when_workers_are_started_and_not_by_them() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        worker = get_context("spawn").Process(target=time.sleep, args=(0.2,))
        worker.start()
        assert worker.pid
        for process in (worker.pid, os.getpid()):
            os.kill(process, signal.SIGINT)
        worker.join()
        assert worker.exitcode == 0


def interrupted(store: Path, ready: Callable[[], bool], *command: str) -> tuple[int, str]:
    """Start a command, press Ctrl-C in its terminal once it is ready; its exit code and stderr."""
    environment = os.environ | {"VAELIB_STORE": str(store), "VAELIB_RESULTS": str(store / "none")}
    process = subprocess.Popen(
        [sys.executable, "-m", "vaelib", *command],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    try:
        while not ready() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    others = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert psutil.wait_procs(others, timeout=20)[1] == [], "workers end as well"
    return process.returncode, said


def logs(store: Path) -> str:
    return "\n".join(path.read_text("utf-8") for path in store.glob(f"*/{LOG}"))


@pytest.mark.slow
def test_ctrl_c_stops_a_run_that_then_goes_on(tmp_path: Path) -> None:
    command = ("train", "vae", "--data", "grammar", *LONG)
    for sign in ("epoch 1:", "resumes at step"):
        code, said = interrupted(tmp_path, lambda sign=sign: sign in logs(tmp_path), *command)
        assert code == 130
        assert "Traceback" not in said
        assert said.endswith("  vaelib train vae --data grammar --profile smoke epochs=100000 "
                             "'metrics=[kl]'\n")  # fmt: skip
    assert logs(tmp_path).count("stops: KeyboardInterrupt") == 2


@pytest.mark.slow
@pytest.mark.parametrize("begun", [0, 2])
def test_ctrl_c_stops_a_study_and_its_workers(tmp_path: Path, begun: int) -> None:
    """While the workers are being started, and while both are at work."""

    def ready() -> bool:
        if begun:
            return len(list(tmp_path.glob(f"*/{LOG}"))) == begun
        return any("spawn_main" in command for command in children().values())

    command = ("study", "dg_vae/table2", *LONG)
    code, said = interrupted(tmp_path, ready, *command)
    assert code == 130
    assert "Traceback" not in said
    assert "resumes from the last checkpoint:\n  vaelib study dg_vae/table2 " in said
    assert not any(row["at work"] for row in unfinished(Store(tmp_path)))
