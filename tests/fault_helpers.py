"""A tiny run's life with a fault at its k-th touch of the disk, for every k that is asked for.

Run as a process of its own, since it forks: `fault_helpers.py ROOT METHOD HOW COUNT`, with as many
moments of each kind of call as COUNT says. It prints what was tried and what went wrong as JSON.
"""

import errno
import io
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from vaelib.build import resolve
from vaelib.config import Config
from vaelib.errors import VaelibError
from vaelib.run import run_config
from vaelib.store import Store

DEAD, REFUSED, BROKEN = 77, 78, 79
TINY = {"epochs": 2, "train_size": 24, "valid_size": 8, "test_size": 8, "nll_size": 4}
TINY |= {"iw_samples": 2, "mixture_samples": 2}
AUDITED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree")


def tiny(method: str, **more: Any) -> Config:
    """A config that is trained and evaluated in a tenth of a second."""
    where = {"data": "grammar", "profile": "smoke", "metrics": ("kl",)}
    return resolve(method, **(where | TINY | more))


def life(store: Store, method: str) -> None:
    """Train, check-point, evaluate, record; then evaluate and record once more."""
    for metrics in (("kl",), ("kl", "au")):
        run_config(tiny(method, metrics=metrics), store=store, fresh=True)


class Disk:
    """Counts what is done to files below a folder, and strikes at one of the calls."""

    def __init__(self, root: Path, how: str) -> None:
        self.root, self.how = str(root), how
        self.moment, self.seen = 0, list[str]()
        sys.addaudithook(self._audit)
        fdopen = os.fdopen
        os.fdopen = lambda handle, mode="r", *a, **k: (  # type: ignore[assignment]
            _Written(self, handle) if mode == "wb" else fdopen(handle, mode, *a, **k)
        )
        os.fsync = lambda handle: self.touch("fsync", lambda: _halve(handle))

    def _audit(self, event: str, about: tuple[Any, ...]) -> None:
        if event in AUDITED and self.moment and str(about[0]).startswith(self.root):
            reads = event == "open" and not (about[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            inside = event == "shutil.rmtree" and self.how != "die"  # it would catch the error
            if not reads and not inside:
                self.touch(event)

    def touch(self, event: str, first: Any = None) -> None:
        """One call; at the chosen one, die or fail."""
        if not self.moment:
            return
        self.seen.append(event)
        if len(self.seen) == self.moment:
            if first:
                first()
            if self.how == "die":
                os._exit(DEAD)
            raise OSError(getattr(errno, self.how), os.strerror(getattr(errno, self.how)))


class _Written(io.BufferedWriter):
    """A file whose writes are counted; the fatal one gets half of its bytes to the disk."""

    def __init__(self, disk: Disk, handle: int) -> None:
        super().__init__(io.FileIO(handle, "wb"))
        self.disk = disk

    def write(self, content: Any) -> int:
        put = super().write
        half = bytes(content)[: len(content) // 2]
        self.disk.touch("write", lambda: (put(half), self.flush()))
        return put(content)


def _halve(handle: int) -> None:
    os.ftruncate(handle, os.fstat(handle).st_size // 2)


def facts(root: Path) -> dict[str, Any]:
    """Every file of a store with what it holds; times left out, and checksums of times."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = "folder" if path.is_dir() else path.read_bytes().hex()
        if path.name.startswith("record-"):
            record = json.loads(path.read_text("utf-8"))
            del record["provenance"]
            record["epochs"] = [
                {k: v for k, v in e.items() if k != "seconds"} for e in record["epochs"]
            ]
            found[name] = record
        elif path.name in ("files.json", "log.txt"):
            found[name] = "noted"
    return found


def struck(disk: Disk, root: Path, method: str, moment: int) -> int:
    """Live in a child process until the fault; the status it ends with."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    disk.moment = moment
    try:
        life(Store(root), method)
    except VaelibError as error:
        os._exit(REFUSED if "\n" not in str(error) else BROKEN)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(BROKEN)
    os._exit(0)


def main(root: Path, method: str, how: str, count: int) -> dict[str, Any]:
    """Try `count` moments of each kind, drawn by a fixed seed; what was tried and went wrong."""
    disk = Disk(root, how)
    disk.moment = 1 << 30
    life(Store(root / "whole"), method)
    events, disk.moment = disk.seen, 0
    wanted, wrong = facts(root / "whole"), []
    draw, chosen = random.Random(0), list[int]()
    for kind in sorted(set(events)):
        moments = [k for k, event in enumerate(events, start=1) if event == kind]
        chosen += draw.sample(moments, min(count, len(moments)))
    for moment in chosen:
        disk.seen, place = [], root / str(moment)
        told = f"{events[moment - 1]} {moment}"
        status = struck(disk, place, method, moment)
        if status not in ((DEAD,) if how == "die" else (REFUSED, 0)):
            wrong.append(f"{told}: ended with {status}")
        try:
            Store(place).entries()
            life(Store(place), method)
        except Exception as error:
            wrong.append(f"{told}: then {type(error).__name__}: {error}")
            continue
        got = facts(place)
        wrong += [
            f"{told}: {n} differs" for n in sorted({*got, *wanted}) if got.get(n) != wanted.get(n)
        ]
    return {"events": len(events), "tried": [events[m - 1] for m in chosen], "wrong": wrong}


if __name__ == "__main__":
    where, of, fault, number = sys.argv[1:]
    print(json.dumps(main(Path(where), of, fault, int(number))))
