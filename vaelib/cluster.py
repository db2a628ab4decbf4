"""A grid on a Dask cluster: a task a run, on any host that sees the store."""

import contextlib
import importlib
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelib.config import Config, check_whole
from vaelib.errors import VaelibError, check_name
from vaelib.run import key_of
from vaelib.store import Store
from vaelib.studies import Planned
from vaelib.sweep import Unfit, duration, follow, named, outlook, settled, work

if TYPE_CHECKING:
    from distributed import Client, Worker

# Name -> module and class of the cluster it makes, and what to install for it.
CLUSTERS = {
    "local": ("distributed", "LocalCluster", "vaelib[cluster]"),
    "slurm": ("dask_jobqueue", "SLURMCluster", "dask-jobqueue"),
    "cuda": ("dask_cuda", "LocalCUDACluster", "dask-cuda"),
}
_WHAT = "scheduler (and no address such as tcp://host:8786)"
DEATHS = 10  # of workers, before a run counts as what kills them
PATIENCE = 5  # seconds that a scheduler has to answer


@contextlib.contextmanager
def connected(scheduler: str, jobs: int = 2) -> "Iterator[Client]":
    """A client of a cluster: of one that is there, or of one made here and ended here.

    Args:
        scheduler: The address of a Dask scheduler, or a name in `CLUSTERS`.
        jobs: Workers of a cluster made here; "cuda" makes one a card instead.

    Raises:
        VaelibError: Something is not installed, nothing answers, or the name is unknown.
    """
    distributed = _needed("distributed", "vaelib[cluster]")
    with contextlib.ExitStack() as stack:
        there = re.fullmatch(r"(tcp|tls|wss?)://\S+:\d+", scheduler)
        cluster = scheduler if there else stack.enter_context(_made(scheduler, jobs))
        try:
            client = distributed.Client(cluster, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise VaelibError(
                f"no Dask scheduler answers at {scheduler}; `dask scheduler` starts one, and "
                "--scheduler local needs none."
            ) from error
        yield stack.enter_context(client)


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise VaelibError(
            f"--scheduler needs a package that is not installed: pip install '{package}'."
        ) from error


def _made(name: str, jobs: int) -> Any:
    """A cluster of one-thread workers, as a context."""
    dask = _needed("dask", "vaelib[cluster]")
    module, kind, package = CLUSTERS[check_name(name, CLUSTERS, _WHAT)]
    make = getattr(_needed(module, package), kind)
    check_whole("jobs", jobs, 1)
    with dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}):
        if name == "slurm":
            return _queued(make, jobs)
        given: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        if name == "local":
            given |= {"n_workers": jobs, "memory_limit": None, "silence_logs": "CRITICAL"}
        return make(**given)


def _queued(make: Any, jobs: int) -> Any:
    """Up to `jobs` jobs in a queue, as many as there are runs; lost ones are handed in again."""
    try:
        cluster = make(cores=1, processes=1)
    except ValueError as error:
        raise VaelibError(
            "say how much memory a job needs, in dask's configuration of jobqueue.slurm or as "
            "DASK_JOBQUEUE__SLURM__MEMORY=4GB; queue, account and walltime have their place there "
            "too."
        ) from error
    try:
        command, script = ["sbatch", "--test-only"], cluster.job_script()
        subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        cluster.close()
        said = getattr(error, "stderr", "") or str(error)
        raise VaelibError(f"Slurm takes no jobs of dask's configuration here: {said}") from error
    cluster.adapt(minimum_jobs=1, maximum_jobs=jobs, target_duration="1ms")
    return cluster


def slots(client: "Client") -> int:
    """How many runs the cluster makes at a time, as it stands."""
    return sum(client.nthreads().values())


def execute(
    client: "Client",
    plans: Iterable[Planned],
    store: Store,
    *,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> list[str]:
    """The same as `sweep.execute`, on a cluster and with a report at the end.

    A run whose worker died begins again on another one, from its last checkpoint.

    Args:
        client: Of the cluster; see `connected`.
        plans, store, progress: As there; workers see the store's folder under the same path.
        say: Where remarks and the report go.

    Raises:
        Unfit: A worker has other code, sees another store or has several threads.
        VaelibError: A run failed; the others are kept.
    """
    store.root.mkdir(parents=True, exist_ok=True)
    configs, titles = named(plans)
    root, topic, told = str(store.root.resolve()), f"vaelib-{client.id}", Told()
    tasks = {h: (c.to_dict(), root, str(key_of(c))) for h, c in configs.items()}
    for about in list(tasks.values())[:1]:
        _check_all(client, *about)
    client.subscribe_topic(topic, told.hear)
    pool = client.get_executor(pure=False)
    runs = {pool.submit(_task, *about, topic): titles[h] for h, about in tasks.items()}
    try:
        ahead = outlook(configs, titles, store, max(1, slots(client)))
        return settled(*follow(runs, ahead, progress))
    finally:
        pool.shutdown(wait=False)
        say(told.report([f for f in runs if f.done() and not f.cancelled()]))


class Told:
    """What workers tell of their runs while they make them.

    Attributes:
        begun: The run's key each time that one was begun.
        spent: Seconds that went into those that ended.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.spent, self._start = 0.0, time.monotonic()

    def hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take a worker's message: what it has begun, or the seconds spent."""
        self.begun += event[1].get("begun", [])
        self.spent += event[1].get("spent", 0.0)

    def report(self, ended: "Sequence[Future[str]]") -> str:
        """How it went, in words, given the runs that ended."""
        done, wall = sum(f.exception() is None for f in ended), time.monotonic() - self._start
        again = len(self.begun) - len(set(self.begun))
        return (
            f"{done} runs done, {len(ended) - done} failed, {again} times one was begun again; "
            f"{duration(self.spent)} of work in {duration(wall)} ({self.spent / wall:.1f} at a "
            f"time), {3600 * done / wall:.0f} runs an hour"
        )


def _check_all(client: "Client", config: dict[str, Any], root: str, key: str) -> None:
    """Refuse a cluster before anything runs; workers that join later are checked by their tasks."""
    try:
        client.run_on_scheduler(duration, 0.0)  # tasks pass through it, so it loads them too
        client.run(_check_worker, config, root, key)
    except Unfit:
        raise
    except Exception as error:
        raise Unfit(
            f"the scheduler or a worker cannot load vaelib ({type(error).__name__}: {error}); "
            "install the version that is here on all of them."
        ) from error


def _check_worker(config: dict[str, Any], root: str, key: str, dask_worker: "Worker") -> None:
    """Refuse a worker that would make another run, or make it elsewhere."""
    host, threads = socket.gethostname(), dask_worker.state.nthreads
    if threads > 1:
        raise Unfit(
            f"a worker on {host} has {threads} threads, and a run needs a process for itself; "
            "start workers with --nthreads 1."
        )
    if not Path(root).is_dir():
        raise Unfit(
            f"a worker on {host} does not see the store {root}; point VAELIB_STORE to a folder on "
            "a file system that all hosts share."
        )
    if _key(config) != key:
        raise Unfit(
            f"a worker on {host} has another version of vaelib, or other files of the data, than "
            "this machine; install the same on both."
        )


def _key(config: dict[str, Any]) -> str:
    """The name of a run by the code that is here; none, where its settings are not known here."""
    with contextlib.suppress(VaelibError):
        return str(key_of(Config.from_dict(config)))
    return ""


def _task(config: dict[str, Any], root: str, key: str, topic: str) -> str:
    """Make one run on a worker; what goes to it and comes back is plain data."""
    from distributed import get_worker

    worker = get_worker()
    _check_worker(config, root, key, worker)
    worker.log_event(topic, {"begun": [key]})
    start = time.perf_counter()
    try:
        return work(Config.from_dict(config), root)
    finally:
        worker.log_event(topic, {"spent": time.perf_counter() - start})
