"""Kneser-Ney models: KenLM's own numbers, a textbook implementation, sums that must be one."""

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaelib.errors import VaelibError
from vaelib.metrics.ngram import FALLBACK, NGramModel, kneser_ney

Sentence = list[str]
START, END = "<s>", "</s>"
corpora = st.lists(st.lists(st.sampled_from("abcde"), max_size=7), min_size=1, max_size=12)
ORACLES = json.loads((Path(__file__).parent / "oracles" / "kenlm.json").read_text("utf-8"))


def split(lines: list[str]) -> list[Sentence]:
    return [line.split() for line in lines]


# ---------------------------------------------------------------- a textbook implementation


def textbook_discounts(counts: list[int]) -> tuple[float, ...]:
    n1, n2, n3, n4 = (counts.count(j) for j in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if min(found) >= 0 else FALLBACK


def textbook(
    sentences: list[Sentence], order: int
) -> Callable[[Hashable, tuple[Hashable, ...]], float]:
    """p(word | context) by dictionaries and recursion, one sum at a time."""
    raw: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 2)]
    for sentence in sentences:
        padded = [START, *sentence, END]
        for k in range(1, order + 2):
            raw[k].update(tuple(padded[i : i + k]) for i in range(len(padded) - k + 1))
    del raw[1][(START,)]
    adjusted: list[dict[tuple[str, ...], int]] = [{} for _ in range(order + 1)]
    for k in range(1, order + 1):
        for gram, count in raw[k].items():
            before = len({longer[0] for longer in raw[k + 1] if longer[1:] == gram})
            adjusted[k][gram] = count if k == order or gram[0] == START else before
    discounts = [textbook_discounts(list(counts.values())) for counts in adjusted]

    def probability(word: Hashable, context: tuple[Hashable, ...]) -> float:
        context = context[max(0, len(context) - order + 1) :]
        k = len(context) + 1
        following = {g[-1]: c for g, c in adjusted[k].items() if g[:-1] == context}
        lower = probability(word, context[1:]) if context else 1 / (len(adjusted[1]) + 1)
        if not following:
            return lower
        taken = {w: discounts[k][min(c, 3) - 1] for w, c in following.items()}
        total = sum(following.values())
        kept = (following[word] - taken[word]) / total if word in following else 0.0
        return kept + sum(taken.values()) / total * lower

    return probability


def textbook_log_prob(
    probability: Callable[[Hashable, tuple[Hashable, ...]], float], sentence: Sentence
) -> float:
    padded = (START, *sentence, END)
    return sum(math.log(probability(padded[i], padded[:i])) for i in range(1, len(padded)))


@settings(max_examples=60, deadline=None)
@given(corpora, corpora, st.integers(1, 5))
def test_against_a_textbook_implementation(
    train: list[Sentence], test: list[Sentence], order: int
) -> None:
    probability = textbook(train, order)
    expected = [textbook_log_prob(probability, sentence) for sentence in test]
    np.testing.assert_allclose(kneser_ney(train, order).log_probs(test), expected, rtol=1e-10)


# ---------------------------------------------------------------- KenLM itself


@pytest.mark.parametrize("case", ORACLES["cases"], ids=lambda case: case["name"])
def test_against_kenlm(case: dict[str, Any]) -> None:
    """KenLM's numbers, in single precision and printed with six digits.

    Made with lmplz of KenLM 0.3.0 (`lmplz -o ORDER --discount_fallback < train > model.arpa`),
    built from its source distribution. The log10 probability of each token comes from the ARPA
    file by the format's rule: the longest n-gram listed, and the weights of the longer contexts.
    The discounts are those that lmplz prints.
    """
    train, test = split(case["train"]), split(case["test"])
    model = kneser_ney(train, case["order"])
    np.testing.assert_allclose(model.discounts, case["discounts"], atol=2e-5)
    expected = [sum(tokens) * math.log(10) for tokens in case["log10"]]
    np.testing.assert_allclose(model.log_probs(test), expected, rtol=2e-5)
    tokens = sum(map(len, case["log10"]))
    assert model.perplexity(test) == pytest.approx(math.exp(-sum(expected) / tokens), rel=2e-5)


def test_the_oracles_reach_what_matters() -> None:
    """Estimated and fallback discounts, unknown words, empty sentences, several orders."""
    cases = ORACLES["cases"]
    assert {case["order"] for case in cases} >= {1, 3, 5}
    estimated = [d != list(FALLBACK) for case in cases for d in case["discounts"]]
    assert any(estimated)
    assert not all(estimated)
    assert any("" in case["test"] for case in cases)
    assert any(kneser_ney(split(c["train"])).unknown_words(split(c["test"])) for c in cases)


# ---------------------------------------------------------------- identities


def next_word(model: NGramModel, context: Sentence) -> np.ndarray:
    """Probabilities of every known word, an unknown one and the end after `context`."""
    follow = [[word] for word in model.words] + [["never seen"], []]
    sentences = [[*context, *word] for word in follow]
    tokens, places = model._encoded(sentences)  # type: ignore[arg-type]
    return np.exp(model._token_log_probs(tokens, places)[places == len(context) + 1])


@settings(max_examples=60, deadline=None)
@given(corpora, st.lists(st.sampled_from("abcdex"), max_size=6), st.integers(1, 5))
def test_the_next_word_has_probability_one(
    train: list[Sentence], context: Sentence, order: int
) -> None:
    assert next_word(kneser_ney(train, order), context).sum() == pytest.approx(1, abs=1e-12)


def test_one_sentence_by_hand() -> None:
    """Counts a 1, b 1, end 1, so 0.5 off each; half is spread over a, b, end and the unknown."""
    model = kneser_ney([["a", "b"]], order=1)
    known, unknown = 0.5 / 3 + 0.5 / 4, 0.5 / 4
    got = model.log_probs([["a", "b"], ["z"], []])
    expected = np.log([known**3, unknown * known, known])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert model.perplexity([["a", "z"]]) == pytest.approx((known**2 * unknown) ** (-1 / 3))
    assert model.perplexity([["a", "z"]], unknown=False) == pytest.approx(1 / known)
    assert model.unknown_words([["a", "z", "z"], []]) == 2


@settings(max_examples=40, deadline=None)
@given(corpora, st.integers(1, 5))
def test_names_and_order_of_the_sentences_do_not_matter(train: list[Sentence], order: int) -> None:
    expected = kneser_ney(train, order).log_probs(train)
    turned = kneser_ney(train[::-1], order).log_probs(train[::-1])[::-1]
    np.testing.assert_allclose(turned, expected, rtol=1e-10)
    numbered = [[ord(word) for word in sentence] for sentence in train]
    np.testing.assert_allclose(kneser_ney(numbered, order).log_probs(numbered), expected)


def test_the_discounts_of_chen_and_goodman() -> None:
    """Unigrams that occur 1, 2, 3, 4 times: 4, 3, 2 and 1 of them, the end marker among them."""
    words = ["a", "b", "c", "d", *"ee", *"ff", *"gg", *"hhh", *"iii"]
    model = kneser_ney([words[:5], words[5:10], words[10:], []], order=1)
    y = 4 / (4 + 2 * 3)
    expected = [1 - 2 * y * 3 / 4, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2]
    np.testing.assert_allclose(model.discounts, [expected], rtol=1e-12)


def test_markers_in_the_text_are_words() -> None:
    model = kneser_ney([["<s>", "<unk>"], ["</s>"]], order=2)
    assert set(model.words) == {"<s>", "<unk>", "</s>"}
    assert model.unknown_words([["<unk>", "x"]]) == 1
    assert next_word(model, ["<s>"]).sum() == pytest.approx(1)


def test_bad_calls_are_refused() -> None:
    with pytest.raises(VaelibError, match="order=0"):
        kneser_ney([["a"]], order=0)
    with pytest.raises(VaelibError, match="no training sentences"):
        kneser_ney([])
    with pytest.raises(VaelibError, match=r"text.split\(\)"):
        kneser_ney(["a b"])
    with pytest.raises(VaelibError, match="no sentences to score"):
        kneser_ney([["a"]]).log_probs([])


def test_discounts_of_zero_leave_nothing_for_what_was_not_seen() -> None:
    """Chen and Goodman's formula gives 0 for counts of 2: after `c`, only `a` is possible."""
    train = [["a"], ["b", "b"], ["b", "b"], ["b", "b"], ["c", "a", "a", "a"]]
    train.append(["c", "a", "a", "b", "a", "a", "c"])
    model = kneser_ney(train, 3)
    assert next_word(model, []).sum() == pytest.approx(1, abs=1e-12)
    assert model.log_probs([["c"]])[0] == -math.inf
    assert model.perplexity([["c"]]) == math.inf
