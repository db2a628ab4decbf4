"""The tests of `test_fuzz.py` under atheris: inputs grow towards code that none has reached yet.

`make fuzz` runs each that needs no fixture for SECONDS, in a process of its own; an input that ends
in anything but a sentence stops it with a traceback.
"""

import inspect
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vaelib"]):
    import test_fuzz

SIZES = (100, 300, 1000, 3000) * 5  # bytes of the inputs to start from; shorter ones say nothing


def names() -> list[str]:
    """The tests whose arguments are all made up."""
    tests = {n: f for n, f in vars(test_fuzz).items() if hasattr(f, "hypothesis")}
    return [n for n, f in tests.items() if not inspect.signature(f).parameters]


def run(name: str, seconds: str, folder: str) -> None:
    """Fuzz one test from the inputs in a folder; ends the process."""
    target = getattr(test_fuzz, name).hypothesis.fuzz_one_input
    atheris.Setup([name, folder, f"-max_total_time={seconds}", "-len_control=0"], target)
    atheris.Fuzz()


def main(seconds: str) -> int:
    """Fuzz all; how many stopped early."""
    failed, draw = 0, random.Random(0)
    for name in names():
        with tempfile.TemporaryDirectory() as folder:
            for place, size in enumerate(SIZES):
                Path(folder, str(place)).write_bytes(draw.randbytes(size))
            command = [sys.executable, __file__, seconds, name, folder]
            done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        failed += done.returncode != 0
        said = done.stderr if done.returncode else done.stderr.rstrip().rpartition("\n")[2]
        print(f"{name}: {said}", flush=True)
    return failed


if __name__ == "__main__":
    if sys.argv[2:]:
        run(sys.argv[2], sys.argv[1], sys.argv[3])
    sys.exit(main(sys.argv[1]))
