"""Every metric beside its plain version: none slower, the heavy ones many times faster."""

import time

import pytest

from bench._cases import FULL, WIDE, Case, metric_cases, nll_cases, texts
from bench.conftest import Table, Versus
from vaelib.metrics import forward_perplexity, reverse_perplexity

CASES = [*metric_cases(FULL), *nll_cases(WIDE)]
MOST_SECONDS = 60.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_metric(case: Case, versus: Versus) -> None:
    assert versus(case) >= case.least


def test_perplexities_of_100000_sentences(table: Table) -> None:
    real, written = texts(100_000, 8), texts(100_000, 9)
    begun = time.process_time()
    forward_perplexity(real, written)
    reverse_perplexity(real, written)
    seconds = time.process_time() - begun
    table.notes.append(f"forward_ppl and reverse_ppl of 100,000 sentences each: {seconds:.1f} s")
    assert seconds < MOST_SECONDS
