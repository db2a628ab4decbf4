"""A grid on a real Dask cluster: workers die and come back, and no digit moves."""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from run_helpers import children, same, steps_saved

from vaelib import cluster, sweep
from vaelib import store as files
from vaelib.cli import main
from vaelib.cluster import connected, execute
from vaelib.errors import VaelibError
from vaelib.run import Run, key_of
from vaelib.store import Store
from vaelib.studies import Planned, Study
from vaelib.sweep import Unfit

LABELS = ["VAE (default)", "DG-VAE(default)", "BN-VAE(1.2)"]
QUICK = {"epochs": 1, "metrics": ("kl", "au")}
LONG = {"epochs": 10, "train_size": 200, "metrics": ("kl", "au"), "device": "cpu"}


def plans(store: Store, **settings: Any) -> list[Planned]:
    return Study("dg_vae", "smoke", labels=LABELS, seeds=[0], store=store, **settings).planned()


def workers() -> set[psutil.Process]:
    """Processes of this one, but for the tracker that multiprocessing keeps to the end."""
    return {p for p, command in children().items() if "resource_tracker" not in command}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two worker processes; none is left when they are done."""
    before = workers()
    with connected("local", 2) as client:
        yield client
    assert psutil.wait_procs(workers() - before, timeout=10)[1] == []


# ---------------------------------------------------------------- what is refused


def refused(*what: str) -> str:
    with pytest.raises(VaelibError) as error, connected(*what):
        pass
    return str(error.value)


def test_where_nothing_answers_it_is_said_within_seconds() -> None:
    begun = time.monotonic()
    assert "no Dask scheduler answers at tcp://127.0.0.1:1;" in refused("tcp://127.0.0.1:1")
    assert time.monotonic() - begun < 4 * cluster.PATIENCE


@pytest.mark.parametrize("name", ["slrum", "127.0.0.1", "http://127.0.0.1:80", "tcp://", ""])
def test_a_name_that_is_no_address_is_refused(name: str) -> None:
    said = refused(name)
    assert said.startswith(f"unknown scheduler (and no address such as tcp://host:8786) {name!r}")
    assert said.endswith("Known: local, slurm, cuda.")


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("local", "distributed", "vaelib[cluster]"),
        ("slurm", "dask_jobqueue", "dask-jobqueue"),
        ("cuda", "dask_cuda", "dask-cuda"),
    ],
)
def test_a_missing_package_is_named(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert refused(name).endswith(f"not installed: pip install '{package}'.")


class Queue:
    """What the package for Slurm would make."""

    def __init__(self, memory: str | None = None, **sizes: int) -> None:
        if memory is None:
            raise ValueError("You must specify how much cores and memory per job you want")
        assert sizes == {"cores": 1, "processes": 1}

    def job_script(self) -> str:
        return "#!/bin/sh"

    def close(self) -> None:
        pass


def test_a_queue_that_takes_no_jobs_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=Queue))
    assert "DASK_JOBQUEUE__SLURM__MEMORY" in refused("slurm")
    monkeypatch.setattr(Queue.__init__, "__defaults__", ("4GB",))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert re.search("takes no jobs .* No such file.*'sbatch'", refused("slurm"))
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho invalid partition >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    assert refused("slurm").endswith(
        "takes no jobs of dask's configuration here: invalid partition\n"
    )


def test_a_worker_that_would_make_another_run_is_refused(tmp_path: Path) -> None:
    plan = plans(Store(tmp_path))[0]
    config, key = plan.config.to_dict(), str(key_of(plan.config))
    alone, crowded = (SimpleNamespace(state=SimpleNamespace(nthreads=n)) for n in (1, 8))
    check = cluster._check_worker
    check(config, str(tmp_path), key, alone)
    for what, said in [
        ((config, str(tmp_path), key, crowded), "8 threads.*--nthreads 1"),
        ((config, str(tmp_path / "none"), key, alone), "does not see the store.*VAELIB_STORE"),
        ((config, str(tmp_path), key[:-1] + "x", alone), "another version of vaelib"),
        ((config | {"newer": 1}, str(tmp_path), key, alone), "another version of vaelib"),
    ]:
        with pytest.raises(Unfit, match=said):
            check(*what)


# ---------------------------------------------------------------- a cluster


@pytest.mark.slow
def test_other_code_on_the_workers_is_refused_before_a_run(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "runs")
    newer = lambda config: replace(key_of(config), evaluated="0" * 12)  # noqa: E731
    monkeypatch.setattr(cluster, "key_of", newer)
    with pytest.raises(Unfit, match=r"a worker on .* has another version of vaelib"):
        execute(client, plans(store, **QUICK), store, progress=False)
    assert store.entries() == []
    assert store.unfinished() == []


@pytest.mark.slow
def test_a_failing_run_does_not_stop_the_others(client: Any, tmp_path: Path) -> None:
    store, said = Store(tmp_path / "runs"), []
    good = plans(store, **QUICK)
    diverging = QUICK | {"lr": 1e6, "clip": 1e30, "optimizer": "sgd"}
    bad = replace(good[0], label="the bad one", overrides=diverging)
    with pytest.raises(VaelibError, match=r"1 of 4 runs failed.*the bad one.*diverged"):
        execute(client, [good[0], bad, *good[1:3]], store, progress=False, say=said.append)
    assert {entry.key for entry in store.entries()} == {key_of(p.config) for p in good[:3]}
    (report,) = said
    assert re.match(r"3 runs done, 1 failed, 0 times one was begun again; \d+ \w+ of work", report)


@pytest.mark.slow
def test_the_command_takes_a_cluster(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("VAELIB_RESULTS", str(tmp_path / "none"))
    where = client.scheduler.address
    command = ["study", "dg_vae/table2", "epochs=1", "metrics=[kl]", "--profile", "smoke"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--seeds", "0", "--data", "grammar", "--scheduler", where])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    assert "6 runs; no record yet to estimate their time by" in err
    assert "6 runs done, 0 failed, 0 times one was begun again" in err
    assert "DG-VAE(default)" in out
    with pytest.raises(SystemExit) as ended:
        main([*command, "--seeds", "0", "--data", "grammar", "--scheduler", "tcp://127.0.0.1:1"])
    assert ended.value.code == 0, "nothing is left to run, so nobody is asked"


@pytest.fixture
def undisturbed(tmp_path: Path) -> Store:
    """The grid as two processes make it that nobody kills."""
    store = Store(tmp_path / "whole")
    sweep.execute(plans(store, **LONG), store, jobs=2, progress=False)
    return store


def killer(client: Any, store: Store, rounds: list[int], killed: list[int]) -> Callable[[], None]:
    """Kill some workers a round, each time that a run has got further than in the last one."""
    states = [store.folder(key_of(p.config)) / files.STATE for p in plans(store, **LONG)]

    def work() -> None:
        saved = dict.fromkeys(states, 0)
        for number in rounds:
            now = saved
            while not any(now[s] > saved[s] for s in states):
                time.sleep(0.01)
                now = {s: steps_saved(s) for s in states}
            saved = now
            for worker in list(client.cluster.workers.values())[:number]:
                killed.append(worker.pid)
                psutil.Process(worker.pid).kill()

    return work


@pytest.mark.slow
def test_a_grid_whose_workers_are_killed_ends_with_the_same_bits(
    client: Any, undisturbed: Store, tmp_path: Path
) -> None:
    store, said, killed = Store(tmp_path / "runs"), [], []
    rounds = [2, 2, 1]
    thread = threading.Thread(target=killer(client, store, rounds, killed), daemon=True)
    thread.start()
    done = execute(client, plans(store, **LONG), store, progress=False, say=said.append)
    assert not thread.is_alive()
    assert len(set(killed)) == len(killed) == sum(rounds)
    assert int(re.search(r"(\d+) times one was begun again", said[0])[1]) >= 2
    keys = [key_of(plan.config) for plan in plans(store, **LONG)]
    assert sorted(done) == sorted(key.trained for key in keys)
    assert sorted(map(str, keys)) == sorted(str(entry.key) for entry in store.entries())
    assert store.unfinished() == []
    for key in keys:
        one, other = (Run(where.finished(key), where) for where in (store, undisturbed))
        same(one, other)
        steps = one.history["step"].tolist()
        assert steps == sorted(set(steps)), "no step was made twice"
        assert not (one.entry.folder / files.STATE).exists()
