"""Rouge-L and distinct n-grams: by hand, by plain dynamic programming, by the authors' package."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge import Rouge

from vaelib.errors import VaelibError
from vaelib.metrics import distinct, rouge_l

words = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=12)
texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e", ".", "u.s."]), max_size=14)


def lcs_by_table(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, word in enumerate(a):
        for j, other in enumerate(b):
            longest = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if word == other else longest
    return table[-1][-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the food is good .", "the food is good .", 1.0),
        ("the food is good", "good is food the", 0.25),
        ("a b c d", "x y", 0.0),
        ("a a a", "a", 0.5),
        ("", "", 0.0),
        ("a", "", 0.0),
    ],
)
def test_lcs_by_hand(reference: str, hypothesis: str, expected: float) -> None:
    assert rouge_l(reference.split(), hypothesis.split()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a a a", "a", 1.0),
        ("a b . c d", "c d . a b", 1.0),
        ("a b c d", "d c b a", 0.25),
        ("a b c", ". .", 0.0),
        ("a b c", ".", 0.0),
        ("", "", 0.0),
    ],
)
def test_distinct_words_by_hand(reference: str, hypothesis: str, expected: float) -> None:
    got = rouge_l(reference.split(), hypothesis.split(), "distinct_words")
    assert got == pytest.approx(expected, abs=1e-7)


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_distinct_words_against_the_package(reference: list[str], hypothesis: list[str]) -> None:
    joined = " ".join(hypothesis), " ".join(reference)
    got = rouge_l(reference, hypothesis, "distinct_words")
    if not all(text.strip(".") for text in joined):
        assert got == 0
        return
    expected = Rouge(metrics=["rouge-l"]).get_scores(*joined)[0]["rouge-l"]["f"]
    assert got == pytest.approx(expected, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(words, words)
def test_lcs_properties(a: list[str], b: list[str]) -> None:
    got = rouge_l(a, b)
    total = len(a) + len(b)
    assert got == pytest.approx(2 * lcs_by_table(a, b) / total if total else 0)
    assert 0 <= got <= 1
    assert got == rouge_l(b, a) == rouge_l(a[::-1], b[::-1])
    renamed = dict(zip("abcde", "bcdea", strict=True))
    assert got == rouge_l([renamed[w] for w in a], [renamed[w] for w in b])
    assert rouge_l(a, a) == (1 if a else 0)


def test_long_texts_work() -> None:
    text = [str(i) for i in range(3000)]
    assert rouge_l(text, text[::2]) == pytest.approx(2 * 1500 / 4500)


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(VaelibError, match="did you mean 'lcs'"):
        rouge_l(["a"], ["a"], "lsc")


def test_distinct_by_hand() -> None:
    sentences = [["a", "b", "a", "b"], ["a"], []]
    assert distinct(sentences, 1) == pytest.approx(2 / 5)
    assert distinct(sentences, 2) == pytest.approx(2 / 3)
    assert distinct(sentences, 5) == 0
    with pytest.raises(VaelibError, match="n=0"):
        distinct(sentences, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(words, max_size=6), st.integers(1, 3))
def test_distinct_properties(sentences: list[list[str]], n: int) -> None:
    got = distinct(sentences, n)
    assert 0 <= got <= 1
    assert got == distinct(sentences[::-1], n)
    assert distinct(sentences + sentences, n) == pytest.approx(got / 2)
