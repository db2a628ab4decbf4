"""Pairs in one run: before every timed call of the fast path the plain one is timed too.

`--ratios FILE` also keeps the table as JSON; `bench/ratios/` has those that the book shows.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from bench._cases import Case
from vaelib.pages import ratio_table
from vaelib.progress import processor

Versus = Callable[..., float]
ROUNDS = 3


@dataclass
class Table:
    """What is printed at the end: a row a case, and sentences."""

    rows: list[dict[str, Any]] = field(default_factory=list)
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


def _row(case: Case, plain: float, fast: float, ratio: float) -> dict[str, Any]:
    asked = max(case.asked, case.least) if max(case.asked, case.least) > 1 else None
    times = {"plain_ms": round(1e3 * plain, 3), "fast_ms": round(1e3 * fast, 3)}
    about = {"what": case.name, "share": case.share, "asked": asked}
    return about | times | {"ratio": round(ratio, 2)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ratios", type=Path, help="a file to keep the table in, as JSON")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processor time of the one thread: other processes' work is not counted."""
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=time.process_time))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not (TABLE.rows or TABLE.notes):
        return
    about = {"processor": processor(), "torch": torch.__version__, "threads": 1}
    made = about | {"rows": TABLE.rows, "notes": TABLE.notes}
    table = ratio_table(made)
    terminalreporter.section("fast beside plain")
    for line in [*table.to_string(index=False).splitlines(), *table.attrs["notes"]]:
        terminalreporter.line(line)
    if path := config.getoption("ratios"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made, indent=1) + "\n", "utf-8")
