"""Pairs in one run: before every timed call of the fast path the plain one is timed too."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from bench._cases import Case

Versus = Callable[..., float]
ROUNDS = 3


@dataclass
class Table:
    """What is printed at the end."""

    rows: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


TABLE = Table()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def table() -> Table:
    return TABLE


@pytest.fixture
def versus(benchmark: Any, table: Table) -> Versus:
    """Time a case; the median ratio of its pairs, a slow side scaled by the share it did."""

    def run(case: Case, rounds: int = ROUNDS) -> float:
        slow: list[float] = []

        def first_the_plain_one() -> None:
            gc.collect()
            start = time.process_time()
            case.plain()
            slow.append((time.process_time() - start) / case.share)

        benchmark.pedantic(case.fast, setup=first_the_plain_one, rounds=rounds, warmup_rounds=1)
        quick = benchmark.stats.stats.data
        pairs = list(zip(slow[-rounds:], quick, strict=True))
        ratio = statistics.median(plain / fast for plain, fast in pairs)
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        table.rows.append(_row(case, *medians, ratio))
        return ratio

    return run


def _row(case: Case, plain: float, fast: float, ratio: float) -> str:
    share = "" if case.share == 1 else f"  plain did 1/{round(1 / case.share)}"
    asked = f"  asked x{case.least:g}" if case.least > 1 else ""
    numbers = f"{1e3 * plain:12,.1f} {1e3 * fast:10,.2f}   x{ratio:<8.1f}"
    return f"{case.name:52s} {numbers}{asked}{share}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processor time of the one thread: other processes' work is not counted."""
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=time.process_time))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if TABLE.rows or TABLE.notes:
        terminalreporter.section("fast beside plain, one thread, milliseconds")
        terminalreporter.line(f"{'':52s} {'plain':>12s} {'fast':>10s}   ratio")
        for line in [*TABLE.rows, *TABLE.notes]:
            terminalreporter.line(line)
