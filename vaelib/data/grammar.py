"""The embedded corpus `grammar`: reviews drawn from a probabilistic grammar with known factors.

Seven independent factors (sentiment, place, aspect, intensity, speaker, time, style) fix what a
sentence says, and ranked, Zipf-weighted choices of words fix how it says it. Every factor can be
read off its sentence and no two derivations give the same sentence, so all entropies are exact.
They bound what a latent variable can carry: I(x; z) <= H(x), and whoever knows a sentence's
factors knows `factor_entropy()` nats about it.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product

import numpy as np

from vaelib.data.grammar_rules import DEPENDS, FACTORS, RULES
from vaelib.data.texts import SPLITS, Texts, slice_indices
from vaelib.errors import check_name

SIZES = {"train": 10_000, "valid": 1_000, "test": 1_000}
SEED = 20_230
ZIPF = 0.9
SLOT = "{"


@dataclass(frozen=True)
class Rule:
    """Alternatives (words and `{slots}`) with their probabilities."""

    alternatives: tuple[tuple[str, ...], ...]
    probabilities: tuple[float, ...]

    def draw(self, u: float) -> int:
        """The alternative that a uniform number in [0, 1) picks."""
        edges = list(accumulate(self.probabilities))
        return min(bisect_right(edges, u), len(edges) - 1)


@cache
def rules() -> dict[str, Rule]:
    """All rules by full name; the alternative of rank r has weight r ** -ZIPF."""
    table = {}
    for name, text in RULES.items():
        alternatives = tuple(tuple(w for w in a.split() if w != "-") for a in text.split("|"))
        weights = [rank**-ZIPF for rank in range(1, len(alternatives) + 1)]
        table[name] = Rule(alternatives, tuple(w / sum(weights) for w in weights))
    return table


def find_rule(name: str, factors: Mapping[str, str]) -> str:
    """The full name of the most specific variant of a rule for these factor values."""
    parts = [name, *(factors[factor] for factor in DEPENDS.get(name, ()))]
    while len(parts) > 1 and ".".join(parts) not in rules():
        parts.pop()
    return ".".join(parts)


class _Uniform:
    """Uniform numbers from the raw stream of PCG64, which no numpy release changes."""

    def __init__(self, seed: Sequence[int]) -> None:
        self._bits = np.random.PCG64(list(seed))

    def __call__(self) -> float:
        return (self._bits.random_raw() >> 11) * 2.0**-53


@dataclass(frozen=True)
class Derivation:
    """One sentence with how it came about.

    Args:
        words: The sentence.
        factors: Value of each factor.
        log_prob: Log-probability of the derivation, and of the sentence, in nats.
    """

    words: tuple[str, ...]
    factors: dict[str, str]
    log_prob: float


def derive(uniform: _Uniform) -> Derivation:
    """Draw one sentence from the grammar."""
    factors, log_prob = {}, 0.0
    for name, values in FACTORS.items():
        choice = Rule(tuple((v,) for v in values), tuple(values.values()))
        picked = choice.draw(uniform())
        factors[name] = choice.alternatives[picked][0]
        log_prob += math.log(choice.probabilities[picked])
    words, pending = [], ["{sentence}"]
    while pending:
        symbol = pending.pop()
        if not symbol.startswith(SLOT):
            words.append(symbol)
            continue
        rule = rules()[find_rule(symbol[1:-1], factors)]
        picked = rule.draw(uniform())
        log_prob += math.log(rule.probabilities[picked])
        pending.extend(reversed(rule.alternatives[picked]))
    return Derivation(tuple(words), factors, log_prob)


@cache
def derivations(split: str) -> tuple[Derivation, ...]:
    """All sentences of a split of the corpus, from a fixed seed.

    Args:
        split: "train" (10,000 sentences), "valid" or "test" (1,000 each).

    Raises:
        VaelibError: There is no such split.
    """
    uniform = _Uniform((SEED, SPLITS.index(check_name(split, SPLITS, "split"))))
    return tuple(derive(uniform) for _ in range(SIZES[split]))


def texts() -> dict[str, Texts]:
    """The corpus as text, the sentiment as label ("negative", "positive")."""
    return {
        split: Texts(
            [" ".join(d.words) for d in derivations(split)],
            [d.factors["sentiment"] for d in derivations(split)],
        )
        for split in SPLITS
    }


def factors(split: str, size: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """The true factors of each sentence of `load("grammar", ...)`.

    Args:
        split: "train", "valid" or "test".
        size: The same size as given to `load` for this split.
        seed: The same slicing seed as given to `load`.

    Returns:
        Factor -> index of its value in `values(factor)`, int64 `[N]`.

    Raises:
        VaelibError: There is no such split, or `size` is below 1.
    """
    every = derivations(split)
    kept = slice_indices(len(every), size, split, seed).tolist()
    index = {name: {v: i for i, v in enumerate(values)} for name, values in FACTORS.items()}
    return {name: np.array([index[name][every[i].factors[name]] for i in kept]) for name in FACTORS}


def log_prob(split: str, size: int | None = None, seed: int = 0) -> np.ndarray:
    """Exact log-probability of each sentence under the grammar, in nats, float64 `[N]`.

    Args and errors are those of `factors`. Its mean is an estimate of `-sentence_entropy()`, the
    log-likelihood that no model can exceed on average.
    """
    every = derivations(split)
    kept = slice_indices(len(every), size, split, seed).tolist()
    return np.array([every[i].log_prob for i in kept])


def values(factor: str) -> tuple[str, ...]:
    """Names of the values of a factor, by index.

    Raises:
        VaelibError: There is no such factor.
    """
    return tuple(FACTORS[check_name(factor, FACTORS, "factor of the grammar")])


def entropy(probabilities: Sequence[float]) -> float:
    """Entropy of a discrete distribution in nats."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def factor_entropy(factor: str | None = None) -> float:
    """Exact entropy in nats of one factor, or of all together (they are independent).

    Raises:
        VaelibError: There is no such factor.
    """
    names = FACTORS if factor is None else [check_name(factor, FACTORS, "factor of the grammar")]
    return sum(entropy(tuple(FACTORS[name].values())) for name in names)


@cache
def sentence_entropy() -> float:
    """Exact entropy in nats of a sentence: of its factors plus of its words given them."""
    total = factor_entropy()
    for combination in product(*(values.items() for values in FACTORS.values())):
        chosen = dict(zip(FACTORS, (value for value, _ in combination), strict=True))
        total += math.prod(p for _, p in combination) * _rule_entropy("sentence", chosen)
    return total


def _rule_entropy(name: str, factors: Mapping[str, str]) -> float:
    """Entropy in nats of what a slot expands to, given the factors."""
    rule = rules()[find_rule(name, factors)]
    below = (
        sum(_rule_entropy(s[1:-1], factors) for s in alternative if s.startswith(SLOT))
        for alternative in rule.alternatives
    )
    expected = sum(p * h for p, h in zip(rule.probabilities, below, strict=True))
    return entropy(rule.probabilities) + expected
