"""Peak memory of the K = 500 NLL: bounded by `rows`, whatever the number of sentences."""

from bench._memory import measured
from bench.conftest import Table

MOST = 100.0  # MB with the default rows, of a batch as an evaluation gives it
ONE_CALL = 200.0  # a block of codes is 17 MB, and its densities take some times that


def test_memory_does_not_grow_with_the_sentences(table: Table) -> None:
    sizes = (524, 1_048)  # one and two blocks of 2**18 codes
    few, many = (measured(sentences, None) for sentences in sizes)
    table.notes.append(f"peak of nll_iw500 of one call beyond the start: {few:.0f} MB for "
                       f"{sizes[0]} sentences, {many:.0f} MB for {sizes[1]:,}")  # fmt: skip
    assert measured(32, None) < MOST
    assert many < ONE_CALL
    assert many < 1.2 * few + 20


def test_memory_is_bounded_by_the_rows(table: Table) -> None:
    peaks = {rows: measured(32, rows) for rows in (64, 1_024, 16_000)}
    shown = ", ".join(f"{peak:.0f} MB at rows = {rows:,}" for rows, peak in peaks.items())
    table.notes.append(f"peak of nll_iw500 beyond the start, 32 sentences: {shown}")
    assert peaks[64] <= peaks[1_024] + 5
    assert peaks[1_024] < peaks[16_000] / 2
