"""Yelp-2013 reviews as Coupled-VAE reads them (T39; pre-processing of Xu & Durrett 2018).

A review keeps its first 50 words; the 15,000 most frequent words of training, validation and test
reviews together stay, the digits of the ratings counted with them, and others become `<unk>`. The
public files are already prepared so, and preparing them once more changes nothing.
"""

from collections import Counter
from collections.abc import Mapping

from vaelib.data.corpus import SPECIALS
from vaelib.data.texts import SPLITS, Texts, decode_utf8
from vaelib.errors import VaelibError

RATINGS = ("0", "1", "2", "3", "4")
MOST_WORDS = 50  # of a review
KEPT_WORDS = 15_000
SEPARATOR = "<sssss>"  # between the sentences of a review
UNKNOWN = SPECIALS[3]


def read_reviews(content: bytes, where: str) -> Texts:
    """Read one file: a rating 0-4 and the words of a review on every line.

    Separators of sentences are dropped, and words after the 50th. A rating without a review is
    left out, as in the released code.

    Args:
        content: The file.
        where: What to call it in messages.

    Returns:
        The reviews, with their ratings as labels (Coupled-VAE does not read them).

    Raises:
        VaelibError: Not UTF-8, a line that does not start with a rating, or no review at all.
    """
    lines, labels = [], []
    for number, line in enumerate(decode_utf8(content, where).split("\n"), start=1):
        rating, *words = line.split() or [""]
        if rating and rating not in RATINGS:
            raise VaelibError(
                f"{where}, line {number} starts with {rating[:40]!r}; write every line as a rating "
                "from 0 to 4 and the words of the review."
            )
        words = [word for word in words if word != SEPARATOR][:MOST_WORDS]
        if words:
            lines.append(" ".join(words))
            labels.append(rating)
    if not lines:
        raise VaelibError(f"{where} holds no review; write a rating and a review on every line.")
    return Texts(lines, labels)


def keep_frequent(texts: Mapping[str, Texts], size: int = KEPT_WORDS) -> dict[str, Texts]:
    """Replace all but the most frequent words by `<unk>`.

    Words are counted over all splits, with the ratings, in the order train, valid, test; of words
    seen equally often those that come first are kept.

    Args:
        texts: Reviews with their ratings, by split.
        size: Words to keep, `<unk>` itself not counted.

    Returns:
        The same splits.

    Raises:
        VaelibError: `size` is below 1.
    """
    if size < 1:
        raise VaelibError(f"size is {size}: keep one word or more.")
    counts: Counter[str] = Counter()
    for name in SPLITS:
        for line, rating in zip(texts[name].lines, texts[name].labels or (), strict=True):
            counts.update((rating, *line.split()))
    del counts[UNKNOWN]
    kept = {word for word, _ in counts.most_common(size)}
    return {
        name: Texts([_only(line, kept) for line in split.lines], split.labels)
        for name, split in texts.items()
    }


def _only(line: str, kept: set[str]) -> str:
    return " ".join(word if word in kept else UNKNOWN for word in line.split())
