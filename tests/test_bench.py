"""The benchmark compares like with like: both sides of every case agree; memory is bounded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import _plain as plain
from bench._cases import AMD, FULL, TINY, WIDE, Case, metric_cases, nll_cases, posterior_cases
from bench._memory import measured
from bench._steps import config_of, made_batches, padded_cases, real_tokens, step_cases
from vaelib.build import build
from vaelib.errors import VaelibError
from vaelib.pages import ratios
from vaelib.products import runs_bfloat16

ROOT = Path(__file__).parents[1]

CASES = metric_cases(TINY)


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
    asked = {case.name: case.asked for case in posterior_cases(TINY) if case.asked}
    assert asked == {"mi_global + au": 50, "cu_pq": 500, "cu_qp": 500}
    assert [c.asked for c in nll_cases(TINY)] == [2.5, 3.5][: 1 + runs_bfloat16("cpu")]
    assert [c.asked for c in step_cases(TINY, 0.0, 1.4)] == [1.4 if AMD else 0, 0, 0]
    assert [c.asked for c in padded_cases(TINY, 2)] == [3, 3]
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
    """In MB."""
    assert measured(96, 64, codes=200) < 40
    assert measured(32, 100_000, codes=200) > 110


def test_padded_batches_hold_what_buckets_hold_and_padding_besides() -> None:
    bucketed, mixed = made_batches(40, 60)
    for x in [*bucketed, *mixed]:
        assert ((x == 1).sum(1) == 1).all()
        assert ((x == 2).sum(1) == 1).all()
    tokens = real_tokens(bucketed), real_tokens(mixed)
    assert tokens[0] == pytest.approx(tokens[1], rel=0.05)
    assert sum(x.numel() for x in bucketed) == tokens[0]
    assert 1.9 < sum(x.numel() for x in mixed) / tokens[1] < 2.4  # PTB's own: 2.07
    few = [real_tokens(batches) for batches in made_batches(40, 2)]
    for case in padded_cases(TINY, 2):
        assert case.share == few[1] / few[0]
        assert len(case.fast()) == len(case.plain()) == 2


def test_the_padded_side_learns_nothing_from_padding() -> None:
    model = build(config_of("vae", "gru", TINY, 0.0), 40).model.eval()
    (x,) = made_batches(40, 1)[1]
    noise = torch.randn(len(x), TINY.model[2], generator=torch.Generator().manual_seed(0))
    ends = (x > 0).sum(1).tolist()
    alone = [
        plain.gru_vae_loss(model, x[i : i + 1, :end], noise[i : i + 1], 0.5)
        for i, end in enumerate(ends)
    ]
    assert len(set(ends)) > 5
    torch.testing.assert_close(plain.gru_vae_loss(model, x, noise, 0.5), torch.stack(alone).mean())


@pytest.mark.parametrize("machine", ["amd_epyc", "amd_epyc_avx2"])
def test_the_table_of_the_book_is_read_off_what_the_benchmark_wrote(
    machine: str, tmp_path: Path
) -> None:
    path = ROOT / "bench" / "ratios" / f"{machine}.json"
    table, made = ratios(path), json.loads(path.read_text("utf-8"))
    assert len(table) == len(made["rows"]) > 30
    assert "AMD" in table.attrs["notes"][0]
    for shown, row in zip(table.to_dict("records"), made["rows"], strict=True):
        told = float(shown["times faster"].replace(",", ""))
        assert told == pytest.approx(row["ratio"], rel=0.01)
        of_medians = row["plain_ms"] / row["fast_ms"]  # the ratio told is the median of ratios
        assert of_medians == pytest.approx(row["ratio"], rel=0.3)
        assert ("short of it" in shown["aim"]) == (row["ratio"] < (row["asked"] or 0))
    (tmp_path / "mine.json").write_text('{"rows": [{"what": "kl"}]}', "utf-8")
    with pytest.raises(VaelibError, match=r"mine\.json holds no ratios"):
        ratios(tmp_path / "mine.json")
    with pytest.raises(VaelibError, match=r"cannot read .*other\.json"):
        ratios(tmp_path / "other.json")
