"""The benchmark compares like with like: both sides of every case agree; memory is bounded."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench._cases import (
    FULL,
    TINY,
    WIDE,
    Case,
    decoder_cases,
    nll_case,
    posterior_cases,
    step_cases,
    text_cases,
)
from bench._memory import measured

CASES = [*posterior_cases(TINY), nll_case(TINY), *decoder_cases(TINY), *text_cases(TINY)]


def numbers(value: Any) -> Tensor:
    """A result as one vector."""
    if isinstance(value, tuple | list):
        return torch.cat([numbers(part) for part in value])
    return torch.as_tensor(value).detach().double().flatten()


def assert_agree(case: Case) -> None:
    relative, absolute = case.close
    fast, plain = numbers(case.fast()), numbers(case.plain())
    torch.testing.assert_close(fast, plain, rtol=relative, atol=absolute, msg=case.name)
    assert fast.abs().sum() > 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_sides_of_a_metric_agree(case: Case) -> None:
    assert case.share == 1
    assert_agree(case)


@pytest.mark.parametrize("case", step_cases(TINY, dropout=0.0), ids=lambda case: case.name)
def test_training_steps_walk_together(case: Case) -> None:
    for _ in range(3):
        assert_agree(case)


def test_what_is_asked_of_the_heavy_ones() -> None:
    asked = {case.name: case.least for case in posterior_cases(TINY) if case.least > 1}
    assert asked == {"mi_global + au": 15, "cu_pq": 15, "cu_qp": 15}
    assert nll_case(TINY).least == 2
    assert (FULL.examples, FULL.dim, FULL.draws, FULL.codes) == (10_000, 32, 128_000, 500)
    assert (WIDE.model[3], WIDE.codes) == (10_002, 500)


def test_the_share_of_a_slow_side_is_what_it_does() -> None:
    """A fifth of the posteriors against all of them: the same work a posterior."""
    fifth = next(c for c in posterior_cases(replace(TINY, share=5)) if "mi_global" in c.name)
    assert fifth.share == pytest.approx(0.2)
    whole = next(c for c in posterior_cases(TINY) if "mi_global" in c.name)
    assert fifth.plain()[0] == pytest.approx(whole.plain()[0], abs=1.0)
    assert fifth.fast() == whole.fast()


@pytest.mark.slow
def test_memory_is_bounded_by_the_rows_and_not_by_the_sentences() -> None:
    """In MB; how pages are handed out adds tens of them."""
    assert measured(96, 64, codes=200) < 90
    assert measured(32, 100_000, codes=200) > 110
