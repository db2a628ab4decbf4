"""Peak memory of the K = 500 NLL: bounded by `rows`, whatever the number of sentences."""

from bench._memory import measured
from bench.conftest import Table

MOST = 100.0  # MB with the default rows
BLOCK = 524  # sentences whose 2**18 codes are held at once
SHORT = 3  # markers included: what is held of the codes does not depend on the length


def test_memory_does_not_grow_with_the_sentences(table: Table) -> None:
    few, many = (measured(blocks * BLOCK, None, length=SHORT) for blocks in (1, 4))
    table.notes.append(f"peak of nll_iw500 of one call beyond the start: {few:.0f} MB for "
                       f"{BLOCK} sentences, {many:.0f} MB for {4 * BLOCK:,}")  # fmt: skip
    assert measured(32, None) < MOST
    assert many < MOST
    assert many < 1.2 * few + 20


def test_memory_is_bounded_by_the_rows(table: Table) -> None:
    peaks = {rows: measured(32, rows) for rows in (64, 1_024, 16_000)}
    shown = ", ".join(f"{peak:.0f} MB at rows = {rows:,}" for rows, peak in peaks.items())
    table.notes.append(f"peak of nll_iw500 beyond the start, 32 sentences: {shown}")
    assert peaks[64] <= peaks[1_024] + 5
    assert peaks[1_024] < peaks[16_000] / 2
