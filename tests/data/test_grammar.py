import math
from collections import defaultdict

import numpy as np
import pytest

from vaelib.data import grammar, load
from vaelib.data.grammar_rules import DEPENDS, FACTORS, RULES
from vaelib.errors import VaelibError


def test_the_corpus_has_the_promised_shape() -> None:
    corpus = load("grammar")
    assert [len(s) for s in corpus.splits.values()] == [10_000, 1_000, 1_000]
    assert 250 <= len(corpus.vocabulary) <= 404
    words = corpus.train.lengths - 2
    assert words.min() == 4
    assert words.max() == 14
    counts = words.bincount()[6:15]
    assert counts.min() >= 100
    assert load("grammar").checksums == corpus.checksums


def test_the_text_is_frozen() -> None:
    assert load("grammar").checksums["grammar.test"] == DIGEST


DIGEST = "a6bf70b252cb99d8e510f142ea564d065faa5e998dd37ee6da563c68b385eae6"


def test_every_rule_can_be_reached_and_every_slot_exists() -> None:
    used = set()
    for combination in {tuple(sorted(d.factors.items())) for d in grammar.derivations("train")}:
        chosen = dict(combination)
        pending = ["sentence"]
        while pending:
            name = grammar.find_rule(pending.pop(), chosen)
            if name in used and name.split(".")[0] not in DEPENDS:
                continue
            used.add(name)
            for alternative in grammar.rules()[name].alternatives:
                pending += [s[1:-1] for s in alternative if s.startswith("{")]
    assert used == set(RULES)


def test_probabilities_sum_to_one() -> None:
    for values in FACTORS.values():
        assert sum(values.values()) == pytest.approx(1.0, abs=1e-12)
    for rule in grammar.rules().values():
        assert sum(rule.probabilities) == pytest.approx(1.0, abs=1e-12)


def test_a_sentence_has_one_derivation() -> None:
    seen: dict[tuple[str, ...], set[tuple[object, ...]]] = defaultdict(set)
    for split in grammar.SIZES:
        for d in grammar.derivations(split):
            seen[d.words].add((*d.factors.values(), round(d.log_prob, 9)))
    assert all(len(ways) == 1 for ways in seen.values())


def test_factor_frequencies_agree_with_their_probabilities() -> None:
    drawn = grammar.factors("train")
    for name, probabilities in FACTORS.items():
        shares = np.bincount(drawn[name], minlength=len(probabilities)) / 10_000
        assert np.abs(shares - list(probabilities.values())).max() < 0.02  # 4 standard errors


def test_factors_follow_the_slice_and_sentiment_is_the_label() -> None:
    corpus = load("grammar", test_size=300)
    drawn = grammar.factors("test", size=300)
    assert corpus.label_names == grammar.values("sentiment") == ("negative", "positive")
    assert corpus.test.labels is not None
    assert drawn["sentiment"].tolist() == corpus.test.labels.tolist()
    bars = [grammar.values("place").index("bar")]
    for i in np.flatnonzero(np.isin(drawn["place"], bars)):
        words = corpus.vocabulary.decode(corpus.test.sentence(int(i)))
        assert {"bar", "pub", "tavern"} & set(words)


def test_entropies_are_exact() -> None:
    assert grammar.factor_entropy("intensity") == pytest.approx(
        -(0.4 * math.log(0.4) + 0.36 * math.log(0.36) + 0.24 * math.log(0.24)), abs=1e-12
    )
    assert grammar.factor_entropy() == pytest.approx(sum(map(grammar.factor_entropy, FACTORS)))
    exact = grammar.sentence_entropy()
    surprise = -grammar.log_prob("train")
    error = surprise.std() / math.sqrt(len(surprise))
    assert abs(surprise.mean() - exact) < 4 * error
    assert 18 < exact < 28


def test_log_prob_counts_every_choice() -> None:
    """By hand: the factors, then the rank of each word among its alternatives."""
    words = ("the", "room", "was", "stylish", "so", "we", "booked", "again", ".")
    (found,) = [d for d in grammar.derivations("test") if d.words == words]
    factors = 0.55 * 0.20 * 0.18 * 0.40 * 0.26 * 0.6 * 0.13  # in the order of FACTORS
    # room: 1st of 7; no "here": 1st of 2; stylish: 7th of 7; booked again: 5th of 5; ".": 2nd of 3
    choices = [(1, 7), (1, 2), (7, 7), (5, 5), (2, 3)]
    zipf = [r**-0.9 / sum(k**-0.9 for k in range(1, n + 1)) for r, n in choices]
    assert found.log_prob == pytest.approx(math.log(factors * math.prod(zipf)), abs=1e-9)


def test_unknown_factor_and_split() -> None:
    with pytest.raises(VaelibError, match=r"unknown factor of the grammar 'sentment': did you mea"):
        grammar.factor_entropy("sentment")
    with pytest.raises(VaelibError, match=r"unknown split 'dev'"):
        grammar.factors("dev")
