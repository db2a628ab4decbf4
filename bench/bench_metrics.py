"""Every metric beside its plain version: none slower, the heavy ones many times faster."""

import pytest

from bench._cases import FULL, WIDE, Case, decoder_cases, nll_case, posterior_cases, text_cases
from bench.conftest import Versus

CASES = [
    *posterior_cases(FULL),
    nll_case(FULL),
    nll_case(WIDE),
    *decoder_cases(FULL),
    *text_cases(FULL),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_metric(case: Case, versus: Versus) -> None:
    assert versus(case) >= case.least
