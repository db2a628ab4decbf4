"""Word overlap between texts: Rouge-L in two variants, distinct n-grams."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Literal

from vaelib.errors import VaelibError, check_name

Variant = Literal["lcs", "distinct_words"]


def distinct(sentences: Iterable[Sequence[Hashable]], n: int) -> float:
    """Distinct-n: different n-grams over all n-grams of all sentences pooled.

    Args:
        sentences: Token lists without end markers; n-grams do not cross sentences.
        n: Length of an n-gram, at least 1.

    Returns:
        A fraction in [0, 1]; 0 where there is no n-gram.

    Raises:
        VaelibError: n is below 1.

    Example:
        >>> distinct([["a", "b", "a"], ["a"]], 1)
        0.5
    """
    check_order(n, "n")
    seen: set[tuple[Hashable, ...]] = set()
    total = 0
    for sentence in sentences:
        seen.update(ngrams(sentence, n))
        total += max(0, len(sentence) - n + 1)
    return len(seen) / total if total else 0.0


def check_order(n: int, name: str = "order") -> None:
    """Refuse a length of n-grams below 1; `name` is what the caller calls it.

    Raises:
        VaelibError: n is below 1.
    """
    if n < 1:
        raise VaelibError(f"{name}={n}: an n-gram has at least one word; raise {name}.")


def ngrams(tokens: Sequence[Hashable], n: int) -> Iterator[tuple[Hashable, ...]]:
    """The n-grams of a sentence in order; none where it is shorter."""
    return zip(*[tokens[i:] for i in range(n)], strict=False)


def rouge_l(reference: Sequence[str], hypothesis: Sequence[str], variant: Variant = "lcs") -> float:
    """Rouge-L F1 between two texts (DG-VAE Eq. 14).

    Args:
        reference: Tokens of the reference.
        hypothesis: Tokens of the generated text.
        variant: "lcs" is the F1 of the longest common subsequence of tokens. "distinct_words" is
            what the authors' script computes: the summary-level score over sets of distinct words
            of sentences cut at ".", with levels of its own.

    Returns:
        F1 in [0, 1]; 0 where a text is empty.

    Raises:
        VaelibError: The variant is unknown.

    Example:
        >>> rouge_l(["a", "b", "c", "d"], ["a", "c", "x", "d"])
        0.75
    """
    check_name(variant, ("lcs", "distinct_words"), "variant")
    if variant == "distinct_words":
        return _distinct_words_f1(_cut(reference), _cut(hypothesis))
    total = len(reference) + len(hypothesis)
    return 2 * _lcs_length(reference, hypothesis) / total if total else 0.0


def _lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table held in one integer's bits."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(a) - row.bit_count()


def _cut(tokens: Sequence[str]) -> list[list[str]]:
    """Sentences of a text, cut at every period; as in the authors' tool a blank one is one word."""
    return [part.split() or [""] for part in " ".join(tokens).split(".") if part]


def _distinct_words_f1(reference: list[list[str]], hypothesis: list[list[str]]) -> float:
    """F1 of the words in the union of one LCS for every pair of sentences."""
    shared: set[str] = set()
    for sentence in reference:
        shared.update(*(_lcs_words(sentence, other) for other in hypothesis))
    sizes = [len({w for sentence in text for w in sentence}) for text in (reference, hypothesis)]
    if not all(sizes):
        return 0.0
    recall, precision = (len(shared) / size for size in sizes)
    return 2 * precision * recall / (precision + recall + 1e-8)


def _lcs_words(a: list[str], b: list[str]) -> set[str]:
    """Words of one longest common subsequence: of several, the one that uses `a` to its end."""
    table = [[0] * (len(b) + 1)]
    for word in a:
        above, row = table[-1], [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    words, i, j = set(), len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            words.add(a[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words
