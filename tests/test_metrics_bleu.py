"""BLEU and Self-BLEU by hand and against sacrebleu."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from vaelib.errors import VaelibError
from vaelib.metrics.bleu import bleu, self_bleu

Sentence = list[str]
texts = st.lists(st.sampled_from("abcd"), max_size=9)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)


def joined(sentences: list[Sentence]) -> list[str]:
    return [" ".join(sentence) for sentence in sentences]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "first", "second"),
    [
        ("a b c d", "a b c d", 100, 100),
        ("a a a a", "a b c d", 25, 0),
        ("d c b a", "a b c d", 100, 0),
        ("a b", "a b c d", 100 * math.exp(-1), 100 * math.exp(-1)),
        ("a b c d e f", "a b c d", 400 / 6, 60),
        ("", "a b", 0, 0),
        ("a", "", 0, 0),
    ],
)
def test_bleu_by_hand(hypothesis: str, reference: str, first: float, second: float) -> None:
    both = [hypothesis.split()], [reference.split()]
    assert bleu(*both, 1) == pytest.approx(first)
    assert bleu(*both, 2) == pytest.approx(second)


def test_counts_and_lengths_are_pooled_over_the_corpus() -> None:
    """Precision (2 + 0) / (2 + 6), and no penalty: 8 words against 8."""
    hypotheses = [["a", "b"], list("xxxxxx")]
    references = [["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    assert bleu(hypotheses, references, 1) == pytest.approx(25)


@settings(max_examples=150, deadline=None)
@given(pairs, st.integers(1, 4))
def test_bleu_against_sacrebleu(given_pairs: list[tuple[Sentence, Sentence]], order: int) -> None:
    hypotheses, references = map(list, zip(*given_pairs, strict=True))
    scorer = BLEU(tokenize="none", smooth_method="none", force=True)
    score = scorer.corpus_score(joined(hypotheses), [joined(references)])
    precision = score.counts[order - 1] / max(1, score.totals[order - 1])
    expected = 100 * precision * (score.bp if any(score.counts) else 0)
    assert bleu(hypotheses, references, order) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=2, max_size=7), st.integers(1, 5))
def test_self_bleu_against_sacrebleu(sentences: list[Sentence], order: int) -> None:
    scorer = BLEU(
        tokenize="none",
        smooth_method="floor",
        smooth_value=0.1,
        max_ngram_order=order,
        effective_order=True,
    )
    lines = joined(sentences)
    scores = [
        scorer.sentence_score(line, lines[:i] + lines[i + 1 :]).score if line else 0
        for i, line in enumerate(lines)
    ]
    assert self_bleu(sentences, order) == pytest.approx(sum(scores) / len(scores), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(texts.filter(bool), min_size=1, max_size=6), st.integers(1, 4))
def test_copies_are_perfect(sentences: list[Sentence], order: int) -> None:
    assert self_bleu(sentences + sentences, order) == pytest.approx(100)
    long_enough = any(len(sentence) >= order for sentence in sentences)
    assert bleu(sentences, sentences, order) == pytest.approx(100 if long_enough else 0)


def test_self_bleu_of_strangers_is_zero() -> None:
    assert self_bleu([["a", "b"], ["c", "d"], []], 2) == 0


def test_bad_calls_are_refused() -> None:
    with pytest.raises(VaelibError, match="2 hypotheses and 1 references"):
        bleu([["a"], ["b"]], [["a"]], 1)
    with pytest.raises(VaelibError, match="no hypotheses"):
        bleu([], [], 1)
    with pytest.raises(VaelibError, match="references hold a string"):
        bleu([["a"]], ["a"], 1)
    with pytest.raises(VaelibError, match="order=0"):
        bleu([["a"]], [["a"]], 0)
    with pytest.raises(VaelibError, match="at least two"):
        self_bleu([["a"]])
