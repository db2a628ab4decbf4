"""What may happen to a store: killed at any write, a full or read-only disk, altered files."""

import contextlib
import importlib
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fault_helpers import facts, tiny
from safetensors.torch import load_file, save_file

from vaelib import store as files
from vaelib.errors import VaelibError
from vaelib.run import Run, run_config
from vaelib.store import Store

HELPER = Path(__file__).with_name("fault_helpers.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run made in one go."""
    return run_config(tiny("vae"), store=Store(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def made(whole: Run, tmp_path: Path) -> Run:
    """A copy of it that a test may spoil."""
    shutil.copytree(whole.store.root, tmp_path / "runs")
    return run_config(tiny("vae"), store=Store(tmp_path / "runs"))


def same(run: Run, whole: Run) -> None:
    """The stores of both hold the same bits, times aside."""
    assert facts(run.store.root) == facts(whole.store.root)


# ---------------------------------------------------------------- killed, and failing calls


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "how", "each"),
    [("vae", "die", 2), ("pre", "die", 2), ("vae", "ENOSPC", 1)],
)
def test_whatever_touch_of_the_disk_is_the_last_the_run_ends_the_same(
    method: str, how: str, each: int, tmp_path: Path
) -> None:
    """With a large number in place of `each`, every one of some 300 moments is tried."""
    command = [sys.executable, str(HELPER), str(tmp_path), method, how, str(each)]
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, env=environment, check=False, **options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == [], done.stderr
    assert {"open", "write", "fsync", "os.rename", "os.remove"} <= set(found["tried"])
    assert found["events"] > 200


# ---------------------------------------------------------------- the disk


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of its own at `place`; gives a function that remounts it."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_named_and_with_room_the_run_goes_on(whole: Run, tmp_path: Path) -> None:
    sizes = [p.stat().st_size for p in whole.entry.folder.iterdir()]
    for free in range(4, sum(sizes) // 1024, 32):  # from no room at all to just too little
        with small_disk(tmp_path / f"disk{free}", f"{free}k") as remount:
            store = Store(tmp_path / f"disk{free}" / "runs")
            with pytest.raises(VaelibError, match="No space left on device; make room") as told:
                run_config(tiny("vae"), store=store)
            assert "\n" not in str(told.value)
            assert not list(store.root.rglob(".*"))
            remount("size=50m")
            same(run_config(tiny("vae"), store=store), whole)


def test_a_file_too_large_for_the_system_is_named(whole: Run, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = Store(tmp_path / "runs")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(VaelibError, match=r"cannot write .*: File too large; make room"):
            run_config(tiny("vae"), store=store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("*.*"))  # refused before the first checkpoint
    same(run_config(tiny("vae"), store=store), whole)


def test_a_read_only_disk_gives_what_it_holds(whole: Run, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "20m") as remount:
        shutil.copytree(whole.store.root, tmp_path / "disk" / "runs")
        store = Store(tmp_path / "disk" / "runs")
        left = store.folder(whole.entry.key) / files.STATE
        left.write_bytes(b"left by a process killed after the record")
        remount("ro")
        assert run_config(tiny("vae"), store=store).metrics == whole.metrics
        with pytest.raises(VaelibError, match="cannot write to the run store .* VAELIB_STORE"):
            run_config(tiny("vae", seed=1), store=store)
        remount("rw")
        same(run_config(tiny("vae"), store=store), whole)  # what was left is gone


def test_a_failed_attempt_never_takes_an_older_record_with_it(
    made: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.entry.folder
    (folder / files.WEIGHTS).unlink()
    before = facts(made.store.root)

    def full(*_: object) -> None:
        raise VaelibError("cannot write: no space left")

    monkeypatch.setattr(importlib.import_module("vaelib.run"), "_train", full)
    with pytest.raises(VaelibError, match="no space left"):
        run_config(tiny("vae"), store=made.store, fresh=True)
    assert facts(made.store.root) == before


# ---------------------------------------------------------------- altered files


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 1
    path.write_bytes(content)


def forged(path: Path) -> None:
    """Another file of the same kind."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        name = max(tensors, key=lambda k: tensors[k].numel())
        save_file(tensors | {name: tensors[name] + 1}, path)
    elif path.suffix == ".npz":
        arrays = dict(np.load(path))
        np.savez_compressed(path, **{k: v + 1 for k, v in arrays.items()})
    else:
        record = json.loads(path.read_text("utf-8"))
        record["metrics"]["kl"] = 99.0
        path.write_text(json.dumps(record), "utf-8")


READ: dict[str, Callable[[Run], Any]] = {
    files.WEIGHTS: lambda run: run.model(),
    files.ARRAYS: lambda run: run_config(tiny("vae"), store=run.store).posterior,
    files.HISTORY: lambda run: run.history,
    "record-": lambda run: run_config(tiny("vae"), store=run.store),
}


@pytest.mark.parametrize("spoil", [cut, emptied, flipped, forged])
@pytest.mark.parametrize("name", READ)
def test_an_altered_file_is_named_and_made_again(
    name: str, spoil: Callable[[Path], None], made: Run, whole: Run
) -> None:
    (path,) = made.entry.folder.glob(f"{name}*")
    spoil(path)
    with pytest.raises(VaelibError, match=r"cannot read .*; delete ") as caught:
        READ[name](made)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.unlink()
    if name == files.HISTORY:  # of which the record keeps the means
        assert len(made.history)
        return
    same(run_config(tiny("vae"), store=made.store, fresh=True), whole)


@pytest.mark.parametrize("spoil", [cut, emptied, flipped, forged])
@pytest.mark.parametrize("method", ["vae", "pre"])
def test_an_altered_checkpoint_is_named_and_the_run_starts_again(
    method: str,
    spoil: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, run = Store(tmp_path), importlib.import_module("vaelib.run")
    train = importlib.import_module("vaelib.train")
    validate, calls = train.validate, iter([1, 0])
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(train, "validate", lambda *a: [validate(*a), 1 / next(calls)][0])
        run.run_config(tiny(method), store=store)  # stops in its second epoch
    (state,) = store.root.rglob(files.STATE)
    spoil(state)
    with pytest.raises(VaelibError, match=r"cannot read .*state\.safetensors: it was altered"):
        run.run_config(tiny(method), store=store)
    state.unlink()
    wanted = run.run_config(tiny(method), store=Store(tmp_path / "other"))
    assert run.run_config(tiny(method), store=store).metrics == wanted.metrics


def test_a_config_beside_the_weights_is_read_by_no_one(made: Run, whole: Run) -> None:
    (made.entry.folder / "config.json").write_text('{"seed": 5}', "utf-8")
    assert run_config(tiny("vae"), store=made.store).config == whole.config


@pytest.mark.parametrize("content", [b"", b"[]", b'{"posterior.npz": 3}', b"\xff", b"[" * 100_000])
def test_damaged_checksums_are_named_and_can_be_done_without(content: bytes, made: Run) -> None:
    path = made.entry.folder / files.CHECKSUMS
    path.write_bytes(content)
    with pytest.raises(VaelibError, match=r"files\.json.*; delete it to use .* unchecked"):
        run_config(tiny("vae"), store=made.store)
    path.unlink()
    assert len(run_config(tiny("vae"), store=made.store).history)


# ---------------------------------------------------------------- nothing read is run


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def traps(folder: Path) -> dict[str, Callable[[Path], Any]]:
    """Ways to plant a pickle in a file."""
    trap = Trap(folder)
    held = np.array([trap], dtype=object)
    return {
        "pickle": lambda path: path.write_bytes(pickle.dumps(trap)),
        "torch": lambda path: torch.save({"mu": trap}, path),
        "npy": lambda path: np.save(path.open("wb"), held, allow_pickle=True),
        "npz": lambda path: np.savez(
            path.open("wb"), mu=held, logvar=held, order=held, images=held, data=held
        ),
        "json": lambda path: path.write_text(
            json.dumps({"__reduce__": ["os.mkdir", [str(folder)]], "py/object": "os.mkdir"})
        ),
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["pickle", "torch", "npy", "npz", "json"])
def test_no_file_that_is_read_can_run_code(kind: str, made: Run, tmp_path: Path) -> None:
    from vaelib.data.omniglot import read_chardata, read_standin
    from vaelib.diagnose import read_posteriors

    sprung = tmp_path / "sprung"
    plant = traps(sprung)[kind]
    plant(tmp_path / "proof")
    if kind != "json":  # it is a trap
        with contextlib.suppress(Exception):
            pickle.loads((tmp_path / "proof").read_bytes())
        with contextlib.suppress(Exception):
            torch.load(tmp_path / "proof", weights_only=False)
        with contextlib.suppress(Exception):
            found = np.load(tmp_path / "proof", allow_pickle=True)
            _ = found["mu"]
        assert sprung.is_dir()
        sprung.rmdir()
    folder = made.entry.folder
    (folder / files.CHECKSUMS).unlink()  # as one who plants a file would
    for name, read in READ.items():
        (path,) = folder.glob(f"{name}*")
        kept = path.read_bytes()
        plant(path)
        with pytest.raises(VaelibError, match=r"cannot read|is no record"):
            read(made)
        path.write_bytes(kept)
    (folder / "config.json").unlink()
    plant(folder / "config.json")
    assert run_config(tiny("vae"), store=made.store).metrics == made.metrics
    fresh = tiny("vae", seed=3)
    state = made.store.folder(importlib.import_module("vaelib.run").key_of(fresh)) / files.STATE
    state.parent.mkdir()
    plant(state)
    with pytest.raises(VaelibError, match="cannot resume from"):
        run_config(fresh, store=made.store)
    for suffix in (".npz", ".csv"):
        plant(tmp_path / f"given{suffix}")
        with pytest.raises(VaelibError):
            read_posteriors(tmp_path / f"given{suffix}")
    for reader in (read_chardata, read_standin):
        with pytest.raises(VaelibError):
            reader((tmp_path / "proof").read_bytes(), "x")
    assert not sprung.exists()
