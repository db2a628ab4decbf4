"""What a trained model writes, as texts: sentences, responses to posts, or images.

An example is a text as well: a sentence, words separated by spaces; a pair as in a file,
`post<TAB>response`; an image as its pixels 0 and 1, line by line from the top left.
"""

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from vaelib.config import check_whole
from vaelib.data import Corpus
from vaelib.data.corpus import SPECIALS, UNK, padded
from vaelib.data.pairs import PairSplit, halves, read_pairs
from vaelib.decoders_limited import PriorPosterior
from vaelib.distributions import rsample
from vaelib.errors import VaelibError
from vaelib.metrics.search import beam_search
from vaelib.model import VAE

_LONGEST = 2000  # words of an example of one's own
Example = str | int


def generate(
    model: VAE,
    corpus: Corpus,
    n: int | None,
    posts: Sequence[str] | None,
    *,
    seed: int,
    sample_words: bool | None,
    beam: int | None,
) -> list[str]:
    """Texts from codes of the prior; see `vaelib.run.Run.generate`."""
    for name, value in {"n": n, "beam": beam}.items():
        if value is not None:
            check_whole(name, value, 1)
    generator = _seeded("seed", seed)
    x = None
    if corpus.holds == "pairs":
        x = _first(corpus, n) if posts is None else _posts(corpus, posts)
    if posts is not None and (x is None or n is not None):
        told = "give them without n" if x is not None else f"{corpus.title} has none; give n alone"
        raise VaelibError(f"posts are what models of pairs answer: {told}.")
    if x is None and n is None:
        raise VaelibError("generate how many? Give n, 1 or more.")
    count = int(n or 0) if x is None else len(x)
    if beam is not None:
        if sample_words:
            raise VaelibError("a beam searches and sample_words=True draws: give one of the two.")
        decoder: Any = model.decoder  # refused where it writes no text
        return _texts(
            corpus, beam_search(decoder, rsample(model.prior(), (count,), generator), beam, x=x)
        )
    if sample_words is None:  # without a code the likeliest words are the same ones every time
        sample_words = x is None and not has_codes(model)
    return _texts(corpus, model.generate(count, generator, sample_words, x))


def _seeded(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(check_whole(name, seed, 0))


def interpolate(
    model: VAE,
    corpus: Corpus,
    ends: tuple[Example, Example],
    steps: int,
    sample_seed: int | None,
) -> list[str]:
    """Texts on the line between the codes of two examples; see `vaelib.run.Run.interpolate`."""
    check_whole("steps", steps, 1)
    generator = None if sample_seed is None else _seeded("sample_seed", sample_seed)
    if not has_codes(model):
        raise VaelibError(
            "this model has no codes, so there is nothing to walk between; take a run of a method "
            "that has them, such as 'vae'."
        )
    a, b = (read(corpus, end) for end in ends)
    q = [model.encode(x) for x in (a, b)]
    first, last = (e.mode if generator is None else rsample(e, (), generator) for e in q)
    return _texts(corpus, model.walk(first, last, steps, a)[:, 0])


def has_codes(model: VAE) -> bool:
    """Whether the posterior depends on what is read; a language model's does not."""
    return not isinstance(model.posterior, PriorPosterior)


def text_of(corpus: Corpus, number: int) -> str:
    """A test example as a text."""
    x = read(corpus, number)
    parts = halves(x) if corpus.holds == "pairs" else (x,)
    return "\t".join(text for part in parts for text in _texts(corpus, part))


def read(corpus: Corpus, example: Example) -> Tensor:
    """An example as a batch of one, [1, L].

    Args:
        corpus: Whose vocabulary and test split are used.
        example: A text, or the number of a test example.

    Raises:
        VaelibError: Neither, or none that this corpus can hold.
    """
    if isinstance(example, str):
        return _READERS[corpus.holds](corpus, example)
    if not isinstance(example, Integral) or not 0 <= example < len(corpus.test):
        raise VaelibError(
            f"{example!r} is no example of {corpus.title}: give a text, or the number of a test "
            f"example, 0 to {len(corpus.test) - 1}."
        )
    return corpus.test.mixed(torch.tensor([int(example)]))


def _sentence(corpus: Corpus, text: str) -> Tensor:
    return torch.tensor([corpus.vocabulary.encode(_words(corpus, text), markers=True)])


def _words(corpus: Corpus, text: str) -> list[str]:
    """The words of a text; a warning names those that the model never saw.

    Raises:
        VaelibError: It never saw any of them, or there are none.
    """
    words = text.split()
    new = [w for w in dict.fromkeys(words) if w not in corpus.vocabulary and w != SPECIALS[UNK]]
    if not {*words} - {*new}:
        raise VaelibError(
            f"{text!r} holds no word that the model knows; give words of {corpus.title}, as "
            "`example` shows them."
        )
    if new:
        told = f"the model does not know {', '.join(new)}, and reads {SPECIALS[UNK]} instead"
        warnings.warn(told, stacklevel=2)
    return words


def _pair(corpus: Corpus, text: str) -> Tensor:
    pair = read_pairs(text.encode(), f"the example {text!r}", _LONGEST)
    _words(corpus, text)
    return PairSplit.from_texts(pair, corpus.vocabulary).gather(torch.tensor([0]))


def _image(corpus: Corpus, text: str) -> Tensor:
    size = len(corpus.vocabulary)
    if len(text) != size or set(text) - {"0", "1"}:
        raise VaelibError(
            f"{text[:20]!r} is no image of {corpus.title}: give {size} pixels of 0 and 1, or the "
            f"number of a test image, 0 to {len(corpus.test) - 1}."
        )
    return torch.tensor([[float(pixel) for pixel in text]])


_READERS = {"text": _sentence, "pairs": _pair, "images": _image}


def _first(corpus: Corpus, n: int | None) -> Tensor:
    """The first test pairs."""
    if n is None or not 1 <= n <= len(corpus.test):
        raise VaelibError(
            f"n={n}: {corpus.title} has {len(corpus.test)} test posts to answer; give as many or "
            "fewer, 1 at least, or posts of your own as posts=[...]."
        )
    return corpus.test.mixed(torch.arange(n))


def _posts(corpus: Corpus, posts: Sequence[str]) -> Tensor:
    """Posts of one's own [B, Tp]."""
    if isinstance(posts, str) or not posts or not all(post.split() for post in posts):
        raise VaelibError(f"posts={posts!r}: give a list of posts, each of a word or more.")
    return padded([_sentence(corpus, post)[0] for post in posts])


def _texts(corpus: Corpus, written: Tensor) -> list[str]:
    """Word numbers or pixels [N, L] as texts."""
    between = "" if corpus.holds == "images" else " "
    return [between.join(corpus.vocabulary.decode(one)) for one in written]
