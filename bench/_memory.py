"""Peak memory of the K = 500 NLL in a process of its own: `python -m bench._memory SENTENCES ROWS`.

Sentences come in batches of 32, as in an evaluation. Prints the growth of the peak in MB.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from bench._cases import FULL, Decoder, Size, batch_of
from vaelib.metrics import importance_weighted_nll

BATCH = 32


def peak() -> float:
    """Largest resident size of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def growth(sentences: int, rows: int | None, size: Size = FULL) -> float:
    """How much the peak grows with that many sentences, `rows` of the decoder at a time."""
    torch.set_num_threads(1)
    model, x = Decoder(size), batch_of(size, sentences)
    importance_weighted_nll(model, x[:1], 1)  # what is loaded only once
    before = peak()
    for batch in x.split(BATCH):
        importance_weighted_nll(model, batch, size.codes, rows=rows)
    return peak() - before


def measured(sentences: int, rows: int | None) -> float:
    """`growth` in a fresh process."""
    command = [sys.executable, "-m", "bench._memory", str(sentences), str(rows or 0)]
    root = Path(__file__).parents[1]
    made = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return float(json.loads(made.stdout))


if __name__ == "__main__":
    print(json.dumps(growth(int(sys.argv[1]), int(sys.argv[2]) or None)))
