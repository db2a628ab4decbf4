"""Training steps beside plain PyTorch: the He family's sizes on PTB, and the laptop recipe's."""

from dataclasses import replace

import pytest

from bench._cases import FULL, WIDE, Case, step_cases
from bench.conftest import Versus

CASES = [
    *step_cases(replace(FULL, length=13), dropout=0.5),
    *step_cases(WIDE, dropout=0.5),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_step(case: Case, versus: Versus) -> None:
    assert versus(case, rounds=7) >= case.least
