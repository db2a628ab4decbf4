"""Run a grid: a process a run, several at a time, resumable, with progress and ETA."""

import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vaelib._workers import follow_parent, interrupts_held
from vaelib.config import Config, check_whole
from vaelib.data import DATASETS, available, load
from vaelib.errors import VaelibError
from vaelib.literals import visible
from vaelib.progress import Outlook, duration, kind_of, times_of
from vaelib.run import key_of, run_config
from vaelib.store import Store
from vaelib.studies import Planned, Study

BAR = "{n_fmt} of {total_fmt} runs |{bar}| {elapsed}{postfix}"
POLL = 2.0  # seconds between two looks at what runs, where someone sees them


@dataclass(frozen=True)
class Estimate:
    """What a sweep would cost.

    Attributes:
        runs, known: Runs to make; how many of them have a measured twin.
        seconds: Sum over runs of one process's time, as far as known.
    """

    runs: int
    known: int
    seconds: float

    def text(self, jobs: int) -> str:
        """The estimate in words for `jobs` processes at a time."""
        if not self.runs:
            return "nothing to do: every run is there"
        if not self.known:
            return f"{self.runs} runs; no record yet to estimate their time by"
        whole = self.seconds * self.runs / self.known / jobs
        return f"{self.runs} runs, about {duration(whole)} with {jobs} at a time"


def estimate(study: Study, plans: Sequence[Planned]) -> Estimate:
    """Estimate the cost of `plans` by records of the same data set and profile."""
    times = times_of(study.store)
    each = [times.get(kind_of(plan.config)) for plan in plans]
    known = [statistics.median(t) for t in each if t]
    return Estimate(len(plans), len(known), sum(known))


def work(config: Config, root: str) -> str:
    """Make one run in a process of its own."""
    return run_config(config, store=Store(root), fresh=True).entry.key.trained


def execute(
    plans: Iterable[Planned], store: Store, *, jobs: int = 1, progress: bool = True
) -> list[str]:
    """Make every planned run that the store lacks.

    Args:
        plans: What to run; equal configs are run once.
        store: Where to.
        jobs: Processes at a time.
        progress: Show a bar with the time left on stderr.

    Returns:
        Keys of the runs, in the order they ended.

    Raises:
        VaelibError: A run failed; the others are kept, and the same call goes on from there.
    """
    return execute_configs(*named(plans), store, jobs=jobs, progress=progress)


def named(plans: Iterable[Planned]) -> tuple[dict[str, Config], dict[str, str]]:
    """Configs and what to call them, both by the configs' hashes."""
    about = {p.config.hash: (p.config, f"{p.label} on {p.data}, seed {p.seed}") for p in plans}
    return {h: config for h, (config, _) in about.items()}, {h: t for h, (_, t) in about.items()}


def execute_configs(
    configs: Mapping[str, Config],
    titles: Mapping[str, str],
    store: Store,
    *,
    jobs: int = 1,
    progress: bool = True,
) -> list[str]:
    """The same for configs and what to call them, both by the configs' hashes; see `execute`."""
    check_whole("jobs", jobs, 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, follow_parent) as pool:
        root = str(store.root)
        try:
            with interrupts_held():
                waiting = {pool.submit(work, c, root): titles[h] for h, c in configs.items()}
            ended = follow(waiting, outlook(configs, titles, store, jobs), progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    return settled(*ended)


def outlook(
    configs: Mapping[str, Config], titles: Mapping[str, str], store: Store, jobs: int
) -> Outlook:
    """What will be said of runs under way; arguments as in `execute_configs`."""
    named = {titles[h]: config for h, config in configs.items()}
    return Outlook(named, lambda c: store.folder(key_of(c)), times_of(store), jobs)


def follow(
    runs: "Mapping[Future[str], str]", ahead: Outlook, progress: bool = True
) -> tuple[list[str], list[str]]:
    """Wait for runs under way, whoever makes them.

    Args:
        runs: What gives the key of each run, and what to call the run.
        ahead: What is known of the same runs; see `outlook`.
        progress: Show a bar with the runs at work and the time left on stderr.

    Returns:
        Keys of the runs that went well, and what is to be said of the others.

    Raises:
        VaelibError: No run can go well here; the others are not waited for.
    """
    done: list[str] = []
    failed: list[str] = []
    waiting = dict(runs)
    often = POLL if progress and sys.stderr.isatty() else None
    bar = tqdm(total=len(runs), disable=not progress, dynamic_ncols=True, bar_format=BAR)
    with bar:
        while waiting:
            bar.set_postfix_str(visible(ahead.text(waiting.values())))
            ended, _ = wait(waiting, often, return_when=FIRST_COMPLETED)
            for future in ended:
                name = waiting.pop(future)
                ahead.ended(name)
                _collect(future, name, done, failed)
                bar.update()
    return done, failed


def settled(done: list[str], failed: list[str]) -> list[str]:
    """The first of what `follow` returns.

    Raises:
        VaelibError: A run failed.
    """
    if failed:
        raise VaelibError(
            f"{len(failed)} of {len(done) + len(failed)} runs failed, the first: {failed[0]} "
            "Finished runs are kept; the same command goes on from there."
        )
    return done


class Unfit(VaelibError):
    """Where the grid is run, no run of it can go well."""


def _collect(future: "Future[str]", name: str, done: list[str], failed: list[str]) -> None:
    try:
        done.append(future.result())
    except Unfit:
        raise
    except CancelledError as error:
        raise Unfit(
            "the scheduler is gone; finished runs are kept, and the same command goes on."
        ) from error
    except VaelibError as error:
        failed.append(f"{name}: {error}")
    except BrokenProcessPool as error:
        raise VaelibError(
            f"a worker died in {name} (killed, or out of memory); the same command resumes "
            "from the last checkpoints."
        ) from error
    except Exception as error:
        failed.append(f"{name}: {type(error).__name__}: {error}.")


def possible(
    plans: Iterable[Planned], *, insist: bool, fetch: bool = True
) -> tuple[list[Planned], dict[str, str]]:
    """The runs whose data can be had here: each data set is read once, before any run begins.

    Args:
        plans: What is to be run.
        insist: Whether a data set that cannot be had is an error.
        fetch: Whether to download what is not on this machine.

    Returns:
        The possible ones of `plans`; and for each data set left out, the reason.

    Raises:
        VaelibError: With `insist`, why a data set cannot be had.
    """
    plans, why = list(plans), {}
    for data in dict.fromkeys(plan.data for plan in plans):
        try:
            if not (fetch or data not in DATASETS or available(data)):
                raise VaelibError("its data is not at hand.")
            load(data)
        except VaelibError as error:
            if insist:
                raise
            why[data] = str(error)
    return [plan for plan in plans if plan.data not in why], why


def open_study(
    paper: str,
    profile: str,
    *,
    dataset: str | os.PathLike[str] = "study",
    seeds: list[int] | None = None,
    labels: list[str] | None = None,
    jobs: int = 2,
    device: str = "auto",
    train_missing: bool = True,
    **overrides: Any,
) -> Study:
    """A study as a notebook asks for it: what is missing is trained, what there is is said.

    Args:
        paper, profile: As in `study`.
        dataset: One data set, or "study" for all of the profile.
        seeds, labels: Restrictions; None or empty takes the profile's.
        jobs: Processes at a time.
        device: Where missing runs are trained.
        train_missing: False shows only what is there.
        overrides: Changes to every run.
    """
    asked = dataset != "study"  # then the data may be fetched, and an error is the answer
    opened = Study(
        paper,
        profile,
        data=dataset if asked else None,
        seeds=None if seeds == [] else seeds,
        labels=labels or None,
        device=device,
        **overrides,
    )
    todo, why = possible(opened.missing() if train_missing else [], insist=asked, fetch=asked)
    if todo:
        execute(todo, opened.store, jobs=jobs)
    stale = sum(run.stale for _, run in opened.refresh().found)
    print(
        f"{len(opened.found)} of {len(opened.planned())} runs are there: {len(todo)} trained just "
        f"now, {stale} made by older code."
    )
    for name, reason in why.items():
        lacking = sum(plan.data == name for plan in opened.missing())
        print(f"{name}: {lacking} runs are missing: {reason}")
    return opened


def study(paper: str, profile: str = "laptop", **settings: Any) -> Study:
    """A paper's grid at a profile; see `vaelib.studies.Study` for the settings.

    Example:
        >>> s = study("dg_vae", "smoke")
        >>> len(s.planned()) > 5
        True
    """
    return Study(paper, profile, **settings)
