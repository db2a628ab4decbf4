"""Peak memory of the importance-weighted NLL, in a process of its own.

`python -m bench._memory SENTENCES ROWS CODES LENGTH` prints the growth of the peak in MB, all
sentences in one call.
"""

import json
import os
import re
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from bench._cases import FULL, Decoder, batch_of
from vaelib.metrics import importance_weighted_nll


def peak() -> float:
    """Largest resident size of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the parent process too, as it was at the start
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("utf-8"))
        return int(found[1]) / 1e3 if found else 0.0
    unit = 1e-6 if sys.platform == "darwin" else 1e-3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# glibc gives back at once what is larger than this. Left alone, it raises the bound after the first
# large array is freed and keeps holes of up to 32 MB: the same call then takes 60 or 150 MB.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1048576"}


def growth(sentences: int, rows: int | None, codes: int, length: int) -> float:
    """How much the peak grows with that many sentences, `rows` of the decoder at a time."""
    torch.set_num_threads(1)
    model, x = Decoder(FULL), batch_of(replace(FULL, length=length), sentences)
    importance_weighted_nll(model, x[:1], 1)  # what is loaded only once
    before = peak()
    importance_weighted_nll(model, x, codes, rows=rows)
    return peak() - before


def measured(
    sentences: int, rows: int | None, codes: int = FULL.codes, length: int = FULL.length
) -> float:
    """`growth` in a fresh process."""
    numbers = map(str, (sentences, rows or 0, codes, length))
    command = [sys.executable, "-m", "bench._memory", *numbers]
    root, environment = Path(__file__).parents[1], os.environ | ALLOCATOR
    made = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return float(json.loads(made.stdout))


if __name__ == "__main__":
    sentences, rows, codes, length = map(int, sys.argv[1:])
    print(json.dumps(growth(sentences, rows or None, codes, length)))
