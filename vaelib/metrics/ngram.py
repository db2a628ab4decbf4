"""An n-gram language model with interpolated modified Kneser-Ney smoothing."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from vaelib.errors import VaelibError
from vaelib.metrics.likelihood import perplexity
from vaelib.metrics.overlap import check_order

Sentences = Sequence[Sequence[Hashable]]

FALLBACK = (0.5, 1.0, 1.5)  # lmplz --discount_fallback
_UNKNOWN, _START, _END, _FIRST = 0, 1, 2, 3  # ids; words follow in the order they are met


def check_sentences(sentences: Sentences, what: str) -> None:
    """Refuse an empty set, and a text where a list of words is wanted.

    Args:
        sentences: Token lists.
        what: What they are, for the message.

    Raises:
        VaelibError: There are no sentences, or one of them is a string.
    """
    if not len(sentences):
        raise VaelibError(f"there are no {what}; give at least one sentence.")
    if any(isinstance(sentence, str) for sentence in sentences):
        raise VaelibError(f"the {what} hold a string; give lists of words, such as text.split().")


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length; the id of an n-gram is its position.

    Attributes:
        keys: `id of all but its last word * ids of words + last word`, ascending.
        probability: Interpolated probability of the last word after the others.
        backoff: Weight of the lower order after this n-gram as a context; 1 where it is none.
    """

    keys: np.ndarray
    probability: np.ndarray
    backoff: np.ndarray


@dataclass(frozen=True)
class NGramModel:
    """A trained model; `kneser_ney` makes it.

    Attributes:
        words: Every word of the training text and its id.
        discounts: What is taken off a count of 1, of 2, of 3 or more, `[order, 3]`.
        levels: The n-grams of length 1, 2, ..., order.
    """

    words: dict[Hashable, int]
    discounts: np.ndarray
    levels: tuple[_Level, ...]

    def log_probs(self, sentences: Sentences) -> np.ndarray:
        """Log probability of every sentence, its end marker included.

        Args:
            sentences: Token lists without markers.

        Returns:
            Nats `[N]`; a word that the training text lacks has the probability of the unknown one.

        Raises:
            VaelibError: There are no sentences, or one of them is a string.
        """
        tokens, places = self._encoded(sentences)
        each = np.where(places, self._token_log_probs(tokens, places), 0.0)
        return np.add.reduceat(each, np.flatnonzero(places == 0))

    def perplexity(self, sentences: Sentences, *, unknown: bool = True) -> float:
        """Perplexity per token, end markers counted.

        Args:
            sentences: Token lists without markers.
            unknown: Whether words that the training text lacks count; without them they are left
                out of the sum and of the tokens.

        Returns:
            `exp(-mean log probability)`, at least 1.

        Raises:
            VaelibError: There are no sentences, or one of them is a string.
        """
        tokens, places = self._encoded(sentences)
        counted = (places > 0) & (unknown | (tokens != _UNKNOWN))
        each = self._token_log_probs(tokens, places)[counted]
        return perplexity(-float(each.sum()), len(each))

    def unknown_words(self, sentences: Sentences) -> int:
        """How many of the words the training text lacks, repetitions counted."""
        return int((self._encoded(sentences)[0] == _UNKNOWN).sum())

    def _encoded(self, sentences: Sentences) -> tuple[np.ndarray, np.ndarray]:
        check_sentences(sentences, "sentences to score")
        return _encode(sentences, self.words)

    def _token_log_probs(self, tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Nats of every token after what stands before it in its sentence."""
        probability, ids = self.levels[0].probability[tokens], tokens
        for before, (lower, level) in enumerate(pairwise(self.levels), 1):
            at = np.flatnonzero(places >= before)
            at = at[ids[at - 1] >= 0]
            context = ids[at - 1]
            found, hit = _look_up(level.keys, context * (len(self.words) + _FIRST) + tokens[at])
            probability[at] *= lower.backoff[context]
            probability[at[hit]] = level.probability[found[hit]]
            ids = np.full(len(tokens), -1)
            ids[at[hit]] = found[hit]
        with np.errstate(divide="ignore"):  # where discounts are 0, what is not seen cannot be
            return np.log(probability)


def kneser_ney(sentences: Sentences, order: int = 5) -> NGramModel:
    """Train an interpolated modified Kneser-Ney model (Chen and Goodman 1999).

    The arithmetic is that of KenLM's `lmplz --discount_fallback` (Heafield et al. 2013):

    - The highest order, and n-grams that begin with the start marker, keep their counts; other
      n-grams have the number of different words seen before them. One start marker a sentence.
    - Every order has three discounts, of counts 1, 2 and above, by Chen and Goodman's formula from
      the numbers of counts 1 to 4; 0.5, 1 and 1.5 where the formula fails.
    - Orders are interpolated down to 1/V, where V counts the words, the end marker and the unknown
      word, which has no count.

    Two differences: a marker such as `<unk>` in the text is a word like others (lmplz refuses it),
    and all n-grams enter the numbers of counts with the counts above (lmplz enters the last one of
    each order, in its own sorting, with its raw count).

    Args:
        sentences: Token lists without markers, N of them.
        order: Longest n-gram.

    Returns:
        The model.

    Raises:
        VaelibError: `order` is below 1, there are no sentences, or one of them is a string.

    Example:
        >>> model = kneser_ney([["a", "b"], ["a", "c"]], order=2)
        >>> bool(model.perplexity([["a", "b"]]) < model.perplexity([["b", "a"]]))
        True
    """
    check_order(order)
    check_sentences(sentences, "training sentences")
    words = {
        word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(sentences)), _FIRST)
    }
    tables = _tables(*_encode(sentences, words), len(words) + _FIRST, order)
    counts = [
        np.where(seen := np.bincount(above.suffixes, minlength=len(table.keys)), seen, table.raw)
        for table, above in pairwise(tables)
    ]
    counts.append(tables[-1].raw)
    discounts = np.array([_discounts(count) for count in counts])
    smoothed = []
    lower = np.full(1, 1 / (len(words) + _FIRST - 1))
    for table, count, discount in zip(tables, counts, discounts, strict=True):
        lower, backoff = _interpolated(table, count, discount, lower)
        smoothed.append((lower, backoff))
    ends = [*(backoff for _, backoff in smoothed[1:]), np.ones(len(tables[-1].keys))]
    levels = [
        _Level(table.keys, probability, after)
        for table, (probability, _), after in zip(tables, smoothed, ends, strict=True)
    ]
    return NGramModel(words, discounts, tuple(levels))


@dataclass(frozen=True)
class _Table:
    """The n-grams of one length in the training text.

    Attributes:
        keys: As in `_Level`.
        contexts: Ids of all but the last word.
        suffixes: Ids of all but the first word.
        raw: How often each occurs.
        sizes: Number of contexts.
    """

    keys: np.ndarray
    contexts: np.ndarray
    suffixes: np.ndarray
    raw: np.ndarray
    sizes: int


def _tables(tokens: np.ndarray, places: np.ndarray, size: int, order: int) -> list[_Table]:
    """The n-grams of length 1 to `order`; `size` is the number of ids of words."""
    none, raw = np.zeros(size, dtype=np.int64), np.bincount(tokens, minlength=size)
    raw[_START] = 0
    tables, ids = [_Table(np.arange(size), none, none, raw, 1)], tokens
    for before in range(1, order):
        at = np.flatnonzero(places >= before)
        keys, first, inverse, raw = np.unique(
            ids[at - 1] * size + tokens[at],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        tables.append(_Table(keys, keys // size, ids[at[first]], raw, len(tables[-1].keys)))
        ids = np.full(len(tokens), -1)
        ids[at] = inverse
    return tables


def _encode(sentences: Sentences, words: dict[Hashable, int]) -> tuple[np.ndarray, np.ndarray]:
    """All tokens one after the other, markers added, and where in its sentence each one stands."""
    lengths = np.array([len(sentence) + 2 for sentence in sentences])
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    tokens = np.full(ends[-1], _END)
    tokens[ends - lengths] = _START
    inside = (places > 0) & (places < np.repeat(lengths, lengths) - 1)
    tokens[inside] = [words.get(word, _UNKNOWN) for word in chain.from_iterable(sentences)]
    return tokens, places


def _discounts(counts: np.ndarray) -> np.ndarray:
    """Chen and Goodman's three discounts of one order; `FALLBACK` where they cannot be had."""
    n, j = np.bincount(np.minimum(counts, 5), minlength=6), np.arange(1, 4)
    if not n[1:4].all():
        return np.array(FALLBACK)
    found = j - (j + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:5] / n[1:4]
    return found if (found >= 0).all() else np.array(FALLBACK)


def _interpolated(
    table: _Table, counts: np.ndarray, discounts: np.ndarray, lower: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of one order's n-grams, and the weight of the lower order after each context.

    Args:
        table: The n-grams.
        counts: Their adjusted counts.
        discounts: Off a count of 1, 2, 3 or more.
        lower: Probabilities of the lower order.
    """
    taken = np.concatenate([[0.0], discounts])[np.minimum(counts, 3)]
    total = np.bincount(table.contexts, counts, table.sizes)
    freed = np.bincount(table.contexts, taken, table.sizes)
    weight = np.divide(freed, total, out=np.ones(table.sizes), where=total > 0)
    kept = (counts - taken) / total[table.contexts]
    return kept + weight[table.contexts] * lower[table.suffixes], weight


def _look_up(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `wanted` in the ascending `keys`, and which of them are really there."""
    found = np.searchsorted(keys, wanted)
    hit = found < len(keys)
    hit[hit] = keys[found[hit]] == wanted[hit]
    return found, hit
