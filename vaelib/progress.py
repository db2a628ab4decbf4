"""Where runs stand: a log in each run's folder, what the last checkpoint says, the time left."""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from vaelib import store as files
from vaelib.config import Config
from vaelib.errors import VaelibError
from vaelib.literals import visible
from vaelib.store import Store
from vaelib.train import Progress
from vaelib.trainings import STAGE

LOG = "log.txt"


def processor() -> str:
    """The processor's name, how many there are, and the instruction set torch computes with.

    The last decides the last digits of a run: two processors of one name may differ in it.
    """
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name} ({os.cpu_count()} cores), {torch.backends.cpu.get_cpu_capability()}"


def duration(seconds: float) -> str:
    """Seconds as a readable length of time."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def values(row: Mapping[str, Any]) -> str:
    """Numbers by name on one line, six digits each."""
    return ", ".join(f"{k}={v:.6g}" for k, v in row.items() if isinstance(v, int | float))


# ---------------------------------------------------------------- one run


def checkpoint(folder: Path) -> Progress | None:
    """How far a run's last checkpoint is, read off the head of its file; None without one."""
    try:
        with safe_open(folder / files.STATE, "pt") as file:
            return Progress(**json.loads(file.metadata()["progress"]))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None


class Sitting:
    """One sitting of a run: a bar while it trains, and lines in the log of its folder.

    The log is for reading; it is no part of the record, and a line that cannot be written is left
    out. Called after every step as `vaelib.train.fit` calls its `watch`.

    Args:
        config: The run's config.
        folder: Its folder.
        show: Whether the bar is shown, on stderr.
    """

    def __init__(self, config: Config, folder: Path, show: bool) -> None:
        self.folder, self.epoch, before = folder, 0, checkpoint(folder)
        known = before.epochs if before else []
        self.logged = min(self._lines("epoch "), len(known))
        title = f"{config.method} on {config.data}, seed {config.seed}"
        self.bar = tqdm(
            desc=visible(title), unit="step", dynamic_ncols=True, leave=False, disable=not show
        )
        how = "evaluates" if (folder / files.WEIGHTS).is_file() else "begins"
        how = f"resumes at step {before.step}" if before else how
        where = f"{config.device}, {config.threads} threads, process {os.getpid()}"
        self.log(f"{how}: {title}, profile {config.profile}; {processor()}, {where}")
        self.epochs(known)

    def _lines(self, beginning: str) -> int:
        """How many lines of the log begin so, behind the time."""
        try:
            lines = (self.folder / LOG).read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return 0
        return sum(line.partition(" ")[2].startswith(beginning) for line in lines)

    def log(self, text: str) -> None:
        """Add a line to the log, with the time."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.suppress(OSError), open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(f"{now} {visible(text)}\n")

    def epochs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the epochs of a run that are not logged yet.

        Args:
            rows: All its epochs so far.
        """
        for row in rows[self.logged :]:
            rest = {name: value for name, value in row.items() if name != "epoch"}
            self.log(f"epoch {row['epoch'] + 1}: {values(rest)}")
        self.logged = max(self.logged, len(rows))

    def __call__(self, phase: str, done: int, total: int, now: dict[str, float]) -> None:
        """Move the bar; log an epoch as soon as the next one has begun."""
        self.bar.total = total
        self.bar.update(done - self.bar.n)
        if now["epoch"] != self.epoch:
            self.epoch = int(now["epoch"])
            if state := checkpoint(self.folder):
                self.epochs(state.epochs)


@contextlib.contextmanager
def sitting(config: Config, folder: Path, show: bool) -> Iterator[Sitting]:
    """A sitting whose log says how it ended.

    Where a run is refused before its first checkpoint, what was written of it is removed.
    """
    here = Sitting(config, folder, show)
    try:
        with here.bar:
            yield here
    except BaseException as error:
        here.log(f"stops: {type(error).__name__} {error}".rstrip())
        kept = (files.STATE, files.WEIGHTS, STAGE, "record-*")
        there = any(path for name in kept for path in folder.glob(name))
        if isinstance(error, VaelibError) and not there:
            shutil.rmtree(folder, ignore_errors=True)
        raise


# ---------------------------------------------------------------- all of a store


def unfinished(store: Store) -> list[dict[str, Any]]:
    """A row a run that has no record yet: what it is, and how far its last checkpoint says it is.

    `at work` says whether a process holds it.
    """
    return [_standing(store.root / name) for name in store.unfinished()]


def _standing(folder: Path) -> dict[str, Any]:
    config, age, state = {}, "", checkpoint(folder)
    with contextlib.suppress(VaelibError):
        config = files.read_json(folder / "config.json")
    with contextlib.suppress(OSError):
        age = f"{duration(time.time() - (folder / files.STATE).stat().st_mtime)} ago"
    about = {"run": folder.name, **{key: config.get(key) for key in ("method", "data", "seed")}}
    about["epoch"] = f"{state.epoch} of {config.get('epochs')}" if state else ""
    about |= {"step": state and state.step, "loss": state and state.last_loss}
    return about | {"checkpoint": age, "at work": _busy(folder)}


def _busy(folder: Path) -> bool:
    try:
        with open(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


# ---------------------------------------------------------------- the time left

Kind = tuple[str, str]  # data and profile


def kind_of(config: Config) -> Kind:
    """What the time a run takes is guessed by."""
    return config.data, config.profile


def times_of(store: Store) -> dict[Kind, list[float]]:
    """Seconds the runs of a store took, training and evaluation, by data and profile."""
    times: dict[Kind, list[float]] = {}
    for entry in store.entries():
        about, config = entry.record["provenance"], entry.record["config"]
        spent = about["train_seconds"] + about["evaluate_seconds"]
        times.setdefault((config["data"], config["profile"]), []).append(spent)
    return times


class Outlook:
    """What runs of a grid are at work, how far they are, and how long the rest will take.

    Args:
        configs: The runs by what to call them, in the order they are begun.
        folder_of: Where the files of a run lie.
        times: Seconds that earlier runs took, as of `times_of`; those that end here are added.
        jobs: Runs at a time.
    """

    def __init__(
        self,
        configs: Mapping[str, Config],
        folder_of: Callable[[Config], Path],
        times: Mapping[Kind, list[float]],
        jobs: int,
    ) -> None:
        self.configs, self.folder_of, self.jobs = configs, folder_of, jobs
        self.times = {kind: list(seconds) for kind, seconds in times.items()}
        self.begun: dict[str, float] = {}

    def ended(self, name: str) -> None:
        """Learn from a run that ended how long its kind takes."""
        if name in self.begun:
            spent = time.monotonic() - self.begun[name]
            self.times.setdefault(kind_of(self.configs[name]), []).append(spent)

    def left(self, waiting: Sequence[str]) -> float | None:
        """Seconds until all of `waiting` have ended; None as long as nothing is known of some."""
        now, rest = time.monotonic(), []
        for name in waiting:
            known = self.times.get(kind_of(self.configs[name]))
            if not known:
                return None
            spent = now - self.begun.get(name, now)
            rest.append(max(0.0, statistics.median(known) - spent))
        return max([sum(rest) / self.jobs, *rest])

    def text(self, waiting: Iterable[str]) -> str:
        """The runs at work and the time left, in words."""
        waiting = list(waiting)
        for name in waiting[: self.jobs]:
            self.begun.setdefault(name, time.monotonic())
        left = self.left(waiting)
        said = [] if left is None else [f"{duration(left)} left"]
        return "; ".join([*said, *map(self._running, waiting[: self.jobs])])

    def _running(self, name: str) -> str:
        config = self.configs[name]
        state = checkpoint(self.folder_of(config))
        return f"{name}: {state.epoch} of {config.epochs} epochs" if state else name
