"""What all word-by-word decoders keep: padding, causality, probabilities, writing, sharing."""

import pytest
import torch
from torch import Tensor, nn

from vaelib.data.corpus import BOS, EOS, PAD, UNK
from vaelib.decoders import DECODERS, LSTMDecoder, greedy, sampler
from vaelib.decoders_cnn import CNNDecoder
from vaelib.decoders_gru import GRUDecoder, GRULanguageModelDecoder, without_unknown
from vaelib.decoders_limited import LanguageModelDecoder
from vaelib.decoders_transformer import TransformerDecoder
from vaelib.decoding import START, STOP, UNKNOWN, TextDecoder
from vaelib.encoders import PAD as SEEN_AS_PADDING
from vaelib.encoders import LSTMEncoder
from vaelib.encoders_gru import BiGRUEncoder
from vaelib.layers import Shape, uniform_init_
from vaelib.products import runs_bfloat16
from vaelib.strategies import autocast
from vaelib.strategies_inner import twice_differentiable
from vaelib.testing import check_decoder, sentences

SHAPE = Shape(13, 5, 7, 4, dropout_in=0.4, dropout_out=0.3)
KINDS = {
    "lstm": LSTMDecoder,
    "lm": LanguageModelDecoder,
    "gru": GRUDecoder,
    "gru_lm": GRULanguageModelDecoder,
    "cnn": CNNDecoder,
    "transformer": TransformerDecoder,
}
TOLD = [name for name in KINDS if not name.endswith("lm")]
OPTIONS = {"cnn": {"cnn_channels": 6}, "transformer": {"transformer_heads": 3}}


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str, shape: Shape = SHAPE) -> TextDecoder:
    """A decoder in float64 with large weights and statistics, in evaluation mode."""
    decoder = KINDS[name](shape, **OPTIONS.get(name, {})).double()
    uniform_init_(decoder, 0.8, 0.8, seeded())
    for module in decoder.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5, generator=seeded())
            module.running_var.uniform_(0.5, 2.0, generator=seeded())
    return decoder.eval()


def favour(decoder: TextDecoder, word: int, much: float) -> None:
    """Add so much to the scores of a word."""
    scores = torch.zeros(13, dtype=torch.float64)
    scores[word] = much
    decoder.project.bias = nn.Parameter(scores)


def codes(count: int, seed: int = 4) -> Tensor:
    return torch.randn(count, 4, generator=seeded(seed), dtype=torch.float64)


def padded(x: Tensor, lengths: list[int]) -> Tensor:
    """Sentences cut to so many tokens, both markers included, and padded."""
    x = x.clone()
    for row, length in zip(x, lengths, strict=True):
        row[length - 1] = EOS
        row[length:] = PAD
    return x


@pytest.fixture(params=list(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_numbers_of_the_markers_are_the_vocabularys() -> None:
    assert (SEEN_AS_PADDING, START, STOP, UNKNOWN) == (PAD, BOS, EOS, UNK)


@pytest.mark.parametrize("name", TOLD)
def test_they_keep_the_contract(name: str) -> None:
    check_decoder(name, **OPTIONS.get(name, {}))
    assert DECODERS[name].reads_padding


def test_padding_counts_nothing(name: str) -> None:
    decoder, lengths = made(name), [9, 3, 2, 6, 9]
    x, z = padded(sentences(5, 9, 13), lengths), codes(5)
    together = decoder(x, z)
    for i, length in enumerate(lengths):
        alone = decoder(x[i : i + 1, :length], z[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_probabilities_of_all_sentences_sum_to_one(name: str, steps: int) -> None:
    """One word after the start marker, or two; padding is made impossible."""
    decoder = made(name)
    favour(decoder, PAD, -700.0)
    words = torch.arange(1, 13)
    tails = torch.cartesian_prod(*[words] * steps).view(-1, steps)
    x = torch.cat([torch.full((len(tails), 1), BOS), tails], dim=1)
    total = decoder(x, codes(1).expand(len(x), -1)).exp().sum()
    assert float(total.detach()) == pytest.approx(1, abs=1e-12)


def test_features_see_the_past_and_never_what_comes(name: str) -> None:
    decoder, x = made(name), torch.arange(4, 12).unsqueeze(0)  # no word twice
    for t in range(8):
        seen = decoder.features(x, decoder.signal(codes(1)), None)[0, t]
        (slope,) = torch.autograd.grad(seen.square().sum(), decoder.embedding.weight)
        touched = slope.abs().sum(1) > 0
        assert touched[4 : 5 + t].all()
        assert not touched[5 + t :].any()
        assert not touched[:4].any()


def test_k_codes_are_k_copies_of_the_batch(name: str) -> None:
    decoder, x, z = made(name), sentences(5, 7, 13), codes(15)
    with torch.no_grad():
        many = decoder(x, z)
        one_by_one = torch.cat([decoder(x, part) for part in z.split(5)])
    assert many.shape == (15,)
    assert torch.allclose(many, one_by_one, atol=1e-12)


def test_blocks_of_word_scores_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, x, z = made(name), padded(sentences(5, 7, 13), [7, 4, 7, 2, 5]), codes(10)
    whole, sizes = decoder(x, z).detach(), []
    monkeypatch.setattr("vaelib.decoding.EVALUATION_ROWS", 18)
    plain = decoder.logits
    monkeypatch.setattr(decoder, "logits", lambda f: sizes.append(len(f)) or plain(f))
    with torch.no_grad():
        assert torch.allclose(decoder(x, z), whole, atol=1e-12)
    assert max(sizes) == 3


# ---- Writing ------------------------------------------------------------------------------------


def test_writing_one_word_after_the_other_is_reading_them_all(name: str) -> None:
    decoder, x, h = made(name), sentences(5, 9, 13), made(name).signal(codes(5))
    every = decoder.logits(decoder.features(x, h, None))
    state = decoder.begin(h)
    for t in range(9):
        assert all(len(part) == 5 for part in state)
        scores, state = decoder.advance(x[:, t], state)
        assert torch.allclose(scores, every[:, t], atol=1e-12)


def test_rows_of_a_state_can_be_reordered(name: str) -> None:
    """What a beam search does."""
    decoder, x, order = made(name), sentences(5, 4, 13), torch.tensor([3, 3, 0])
    state = decoder.begin(decoder.signal(codes(5)))
    for t in range(3):
        _, state = decoder.advance(x[:, t], state)
    whole, _ = decoder.advance(x[:, 3], state)
    some, _ = decoder.advance(x[order, 3], tuple(part[order] for part in state))
    assert torch.allclose(some, whole[order], atol=1e-12)


def test_greedy_writing_takes_the_best_word_at_every_step(name: str) -> None:
    decoder, z = made(name), codes(5)
    written = decoder.decode(z, greedy, max_length=8)
    for row, code in zip(written, z, strict=True):
        prefix, h = [BOS], decoder.signal(code.unsqueeze(0))
        for word in row.tolist():
            read = torch.tensor([prefix])
            assert decoder.logits(decoder.features(read, h, None))[0, -1].argmax().item() == word
            prefix.append(word)
            if word == EOS:
                break


def test_writing_stops_at_the_end_marker_or_the_last_step(name: str) -> None:
    decoder, z = made(name), codes(3)
    script = iter([[5, 5, 6], [STOP, 5, 7], [7, STOP, 8], [9, 9, STOP], [4, 4, 4]])
    written = decoder.decode(z, lambda scores: torch.tensor(next(script)))
    assert written.tolist() == [[5, 2, 0, 0], [5, 5, 2, 0], [6, 7, 8, 2]]
    endless = decoder.decode(z, lambda scores: torch.full((3,), 5), max_length=4)
    assert endless.shape == (3, 4)
    assert not endless.requires_grad


def test_writing_is_without_noise_and_leaves_the_mode_alone(name: str) -> None:
    decoder, z = made(name), codes(5)
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    quiet = decoder.decode(z, greedy, 12)
    assert torch.equal(decoder.train().decode(z, greedy, 12), quiet)
    assert all(module.training for module in decoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())
    drawn = [decoder.decode(z, sampler(seeded()), 12) for _ in range(2)]
    assert torch.equal(*drawn)


def test_unknown_words_are_never_written() -> None:
    decoder = made("gru")
    favour(decoder, UNK, 50.0)
    z = codes(6)
    assert decoder.decode(z, greedy, 5).eq(UNK).all()
    assert not decoder.decode(z, without_unknown(greedy), 5).eq(UNK).any()
    assert not decoder.decode(z, without_unknown(sampler(seeded())), 5).eq(UNK).any()
    scores = torch.randn(50, 13, generator=seeded())
    kept = scores.clone()
    others = torch.cat([scores[:, :UNK], scores[:, UNK + 1 :]], dim=1).argmax(1)
    assert torch.equal(without_unknown(greedy)(scores), others + (others >= UNK))
    assert torch.equal(scores, kept)


# ---- Noise, precision, sharing ------------------------------------------------------------------


def test_noise_comes_from_the_generator_in_training_only(name: str) -> None:
    decoder, x, z = made(name), sentences(5, 7, 13), codes(5)
    same = [decoder.train()(x, z, seeded(1)) for _ in range(2)]
    other = decoder(x, z, seeded(2))
    assert torch.equal(*same)
    assert not torch.isclose(same[0], other).any()
    assert torch.equal(decoder.eval()(x, z), decoder(x, z, seeded(1)))


@pytest.mark.parametrize("name", TOLD)
def test_log_likelihoods_can_be_differentiated_twice(name: str) -> None:
    """As semi-amortised inference does."""
    decoder, x, z = made(name), sentences(3, 5, 13), codes(3).requires_grad_()
    with twice_differentiable():
        assert torch.autograd.gradgradcheck(lambda code: decoder(x, code), z)


@pytest.mark.skipif(not runs_bfloat16("cpu"), reason="no LSTM in bfloat16 on this processor")
def test_they_work_in_half_precision(name: str) -> None:
    decoder = made(name).float().train()
    x, z = sentences(5, 7, 13), codes(5).float()
    with autocast(x.device, "bf16"):
        rough = decoder(x, z, seeded())
        written = decoder.decode(z, greedy, 5)
    rough.sum().backward()
    exact = decoder(x, z, seeded())
    assert torch.allclose(rough.float(), exact, rtol=0.03)
    assert written.shape[0] == 5


def test_the_embedding_is_the_encoders_where_it_shares_one(name: str) -> None:
    encoder, decoder = BiGRUEncoder(SHAPE), made(name)
    decoder.complete({"encoder": encoder}, lambda _: encoder)
    assert decoder.embedding is encoder.embedding
    for other in (LSTMEncoder(SHAPE), BiGRUEncoder(Shape(13, 6, 7, 4))):
        decoder = made(name)
        decoder.complete({"encoder": other}, lambda _: encoder)
        assert decoder.embedding.weight.shape == (13, 5)
        assert decoder.embedding is not other.embedding
