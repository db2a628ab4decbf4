"""Beam search against greedy writing, an exhaustive search, and the decoder's own likelihood."""

from itertools import product

import pytest
import torch
from torch import Tensor

from vaelib import decoders_cnn, decoders_transformer, twins  # noqa: F401 (registers)
from vaelib.build import build, load_data, resolve
from vaelib.decoders import DECODERS, CategoricalDecoder, greedy
from vaelib.decoding import START, STOP, TextDecoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape, uniform_init_
from vaelib.metrics.search import beam_search

BOUNDS = {"lstm": 1.2, "gru": 1.2, "cnn": 0.9, "transformer": 0.6}  # of the weights
KINDS = [*BOUNDS]
CODES = 40


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoder_of(kind: str, words: int) -> TextDecoder:
    """A decoder whose words depend much on what stands before them, in double precision."""
    options = {"cnn_channels": 6} if kind == "cnn" else {}
    made = DECODERS[kind](Shape(words, 5, 8, 4), **options)
    uniform_init_(made, BOUNDS[kind], BOUNDS[kind], seeded(1))
    return made.double().eval()


@pytest.fixture
def z() -> Tensor:
    return torch.randn(CODES, 4, generator=seeded(), dtype=torch.float64)


def log_likelihood(decoder: TextDecoder, z: Tensor, sentence: list[int]) -> Tensor:
    """log p [N] of one sentence, word by word, whatever stands at its end."""
    state, total = decoder.begin(decoder.signal(z)), torch.zeros(len(z), dtype=z.dtype)
    for before, word in zip([START, *sentence], sentence, strict=False):
        scores, state = decoder.advance(torch.full((len(z),), before), state)
        total = total + torch.log_softmax(scores, -1)[:, word]
    return total


def values(decoder: TextDecoder, z: Tensor, written: Tensor) -> Tensor:
    """log p [N] of each code's own sentence, words after the end marker left out."""
    each = []
    for code, row in zip(z.split(1), written.tolist(), strict=True):
        cut = row[: row.index(STOP) + 1] if STOP in row else row
        each.append(log_likelihood(decoder, code, cut))
    return torch.cat(each)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_width_one_is_greedy(kind: str, z: Tensor) -> None:
    decoder = decoder_of(kind, 9)
    written = decoder.decode(z, greedy, 12)
    assert torch.equal(beam_search(decoder, z, 1, 12), written)
    assert len({tuple(row) for row in written.tolist()}) > 5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_width_is_worse_than_greedy_and_some_are_better(kind: str, z: Tensor) -> None:
    decoder = decoder_of(kind, 9)
    least = values(decoder, z, beam_search(decoder, z, 1, 12))
    for width in (2, 3, 8):
        found = values(decoder, z, beam_search(decoder, z, width, 12))
        assert (found >= least - 1e-12).all()
        assert (found > least + 1e-6).any()


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@torch.no_grad()
def test_a_beam_that_holds_all_sentences_finds_the_best(
    kind: str, penalty: float, z: Tensor
) -> None:
    words, longest = 5, 3
    decoder = decoder_of(kind, words)
    others = [word for word in range(words) if word != STOP]
    every = [[*middle, STOP] for n in range(longest) for middle in product(others, repeat=n)] + [
        list(whole) for whole in product(others, repeat=longest)
    ]
    table = torch.stack([log_likelihood(decoder, z, s) / len(s) ** penalty for s in every], 1)
    if penalty == 0:
        chances = table.exp().sum(1)  # all sentences, those cut short included
        torch.testing.assert_close(chances, torch.ones_like(chances))
    written = beam_search(decoder, z, len(every), longest, length_penalty=penalty)
    for row, best in zip(written.tolist(), table.argmax(1).tolist(), strict=True):
        wanted = every[best]
        assert row == wanted + [0] * (len(row) - len(wanted))


@torch.no_grad()
def test_a_trap_for_the_greedy() -> None:
    """The likelier first word leads on to unlikely ones: 0.6 x 0.5 against 0.4 x 1."""

    class Trap(TextDecoder):
        def signal(self, z: Tensor) -> Tensor:
            return z

        def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
            raise NotImplementedError

        def logits(self, features: Tensor) -> Tensor:
            raise NotImplementedError

        def begin(self, h: Tensor) -> tuple[Tensor, ...]:
            return (h,)

        def advance(
            self, word: Tensor, state: tuple[Tensor, ...]
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            chances = torch.full((7, 7), 1e-9)
            chances[START, 4], chances[START, 5] = 0.6, 0.4
            chances[4, STOP], chances[4, 6] = 0.5, 0.5 - 1e-6
            chances[5, STOP] = chances[6, STOP] = 1.0
            return chances.log()[word], state

    code = torch.zeros(1, 1)
    assert beam_search(Trap(), code, 1).tolist() == [[4, STOP]]
    assert beam_search(Trap(), code, 2).tolist() == [[5, STOP]]


@torch.no_grad()
def test_found_sentences_have_the_likelihood_the_decoder_says(z: Tensor) -> None:
    decoder = decoder_of("gru", 9)
    written = beam_search(decoder, z, 4, 30)
    for code, row in zip(z.split(1), written.tolist(), strict=True):
        if STOP not in row:
            continue
        cut = row[: row.index(STOP) + 1]
        assert not any(row[len(cut) :])
        if 0 not in cut:  # the decoder's likelihood counts no padding
            own = decoder(torch.tensor([[START, *cut]]), code)
            torch.testing.assert_close(own, log_likelihood(decoder, code, cut))


@torch.no_grad()
def test_codes_do_not_see_one_another_and_dropout_is_off(z: Tensor) -> None:
    decoder = decoder_of("cnn", 9).train()
    together = beam_search(decoder, z, 3, 12)
    assert decoder.training
    assert all(m.training for m in decoder.modules())
    for code, row in zip(z[:6].split(1), together.tolist(), strict=False):
        alone = beam_search(decoder, code, 3, 12)[0].tolist()
        assert row == alone + [0] * (len(row) - len(alone))


@torch.no_grad()
def test_responses_are_searched_for_their_posts() -> None:
    config = resolve("cvae", data="pairs", profile="smoke")
    corpus = load_data(config)
    model = build(config, len(corpus.vocabulary)).model.eval()
    x = corpus.test.mixed(torch.arange(6))
    z = model.encode(x).mode
    assert torch.equal(beam_search(model.decoder, z, 1, 20, x), model.decode(z, 20, x=x))
    assert beam_search(model.decoder, z, 4, 20, x).shape[0] == 6
    with pytest.raises(VaelibError, match="needs the posts"):
        beam_search(model.decoder, z, 4, 20)


@torch.no_grad()
def test_a_length_penalty_writes_longer(z: Tensor) -> None:
    decoder = decoder_of("lstm", 9)
    lengths = []
    for penalty in (0.0, 1.0):
        written = beam_search(decoder, z, 6, 20, length_penalty=penalty)
        lengths.append((written != 0).sum())
    assert lengths[1] > lengths[0]


def test_bad_calls_are_refused(z: Tensor) -> None:
    decoder = decoder_of("lstm", 9)
    for options in ({"width": 0}, {"max_length": 0}, {"length_penalty": -1.0}):
        with pytest.raises(VaelibError, match="1 or more of the first two"):
            beam_search(decoder, z, **options)
    with pytest.raises(VaelibError, match="CategoricalDecoder writes no text"):
        beam_search(CategoricalDecoder(Shape(9, 5, 8, 4)), z)  # type: ignore[arg-type]
