"""Training steps beside plain PyTorch: the papers' sizes, and the laptop recipe's."""

from dataclasses import replace

import pytest

from bench._cases import COUPLED, FULL, HE, WIDE, Case
from bench._steps import padded_cases, step_cases
from bench.conftest import Versus

CASES = [
    *step_cases(replace(FULL, length=13), dropout=0.5),
    *step_cases(HE, dropout=0.5, asked=1.4),
    *step_cases(WIDE, dropout=0.5),
    *padded_cases(COUPLED, batches=8),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_step(case: Case, versus: Versus) -> None:
    assert versus(case, rounds=7) >= case.least
