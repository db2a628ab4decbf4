"""BLEU of reconstructions (one reference each) and Self-BLEU of samples."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from vaelib.errors import VaelibError
from vaelib.metrics.ngram import Sentences, check_sentences
from vaelib.metrics.overlap import check_order, ngrams

_NO_MATCH = 0.1  # counted in place of no match in Self-BLEU, as Texygen does


def bleu(hypotheses: Sentences, references: Sentences, order: int) -> float:
    """BLEU-n as Coupled-VAE reports it: n-gram precision times brevity penalty.

    It is read off multi-bleu's line of precisions, and is not the geometric mean over orders that
    "BLEU-2" means elsewhere. Counts are pooled over the corpus; an n-gram matches at most as often
    as its reference has it. The penalty is exp(1 - r/c) where all hypotheses together, c words,
    are shorter than all references, r words.

    Args:
        hypotheses: Generated token lists without markers.
        references: The reference of each hypothesis, as many.
        order: Length n of an n-gram.

    Returns:
        A number in [0, 100].

    Raises:
        VaelibError: `order` is below 1, the numbers of sentences differ, there are none, or one
            of them is a string.

    Example:
        >>> bleu([["a", "b", "x", "x"]], [["a", "b", "x", "c"]], 1)
        75.0
    """
    check_order(order)
    check_sentences(hypotheses, "hypotheses")
    check_sentences(references, "references")
    if len(hypotheses) != len(references):
        raise VaelibError(
            f"there are {len(hypotheses)} hypotheses and {len(references)} references; "
            "give one reference to each."
        )
    matched = total = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        found, known = (Counter(ngrams(text, order)) for text in (hypothesis, reference))
        matched += sum(min(count, known[gram]) for gram, count in found.items() if gram in known)
        total += max(0, len(hypothesis) - order + 1)
    if not matched:
        return 0.0
    return 100 * _brevity(_words(hypotheses), _words(references)) * matched / total


def self_bleu(sentences: Sentences, order: int = 4) -> float:
    """Self-BLEU: how alike generated sentences are (Zhu et al. 2018).

    The mean BLEU of every sentence against all the others: the geometric mean of the precisions of
    length 1 to `order`, times the brevity penalty against the reference nearest in length. A
    precision without a match counts 0.1 matches; a sentence shorter than `order` is scored up to
    its own length; one that shares no word with the others scores 0.

    Args:
        sentences: Generated token lists without markers, at least two.
        order: Longest n-gram.

    Returns:
        A number in [0, 100]; the higher, the less diverse.

    Raises:
        VaelibError: `order` is below 1, there are fewer than two sentences, or one is a string.
    """
    check_order(order)
    check_sentences(sentences, "sentences")
    if len(sentences) < 2:
        raise VaelibError("Self-BLEU compares sentences with one another; give at least two.")
    matches = [_matches_with_others(sentences, n) for n in range(1, order + 1)]
    lengths = Counter(map(len, sentences))
    total = 0.0
    for i, sentence in enumerate(sentences):
        total += _sentence_bleu([found[i] for found in matches], len(sentence), lengths)
    return 100 * total / len(sentences)


def _words(sentences: Sentences) -> int:
    return sum(map(len, sentences))


def _brevity(length: int, reference: int) -> float:
    """The brevity penalty; `length` is not 0."""
    return math.exp(min(0.0, 1 - reference / length))


def _matches_with_others(sentences: Sentences, n: int) -> list[int]:
    """For each sentence, n-grams that another one has, at most as often as any one of those."""
    counted = [Counter(ngrams(sentence, n)) for sentence in sentences]
    best: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}  # most, whose, most of the rest
    for i, counts in enumerate(counted):
        for gram, count in counts.items():
            most, owner, rest = best.get(gram, (0, -1, 0))
            best[gram] = (count, i, most) if count > most else (most, owner, max(rest, count))
    return [
        sum(
            min(count, best[gram][2 if best[gram][1] == i else 0]) for gram, count in counts.items()
        )
        for i, counts in enumerate(counted)
    ]


def _sentence_bleu(matches: Sequence[int], length: int, lengths: Counter[int]) -> float:
    """BLEU of one sentence, its matches of length 1, 2, ... given.

    Args:
        matches: Clipped matches of each order.
        length: Its number of words.
        lengths: How many sentences have each length, this one included.
    """
    if not length or not matches[0]:
        return 0.0
    others = (known for known, count in lengths.items() if count > (known == length))
    nearest = min(others, key=lambda known: (abs(known - length), known))
    orders = range(1, min(len(matches), length) + 1)
    logs = [math.log((matches[n - 1] or _NO_MATCH) / (length - n + 1)) for n in orders]
    return _brevity(length, nearest) * math.exp(sum(logs) / len(logs))
