"""Word dropout, and the language model whose KL is 0 by construction."""

import pytest
import torch
from torch.distributions import kl_divergence

import vaelib.strategies_inner  # noqa: F401  (registers the language model)
from vaelib.build import build, resolve
from vaelib.data.corpus import BOS, UNK
from vaelib.decoders import DECODERS, START, LSTMDecoder, greedy
from vaelib.decoders_limited import UNKNOWN, LanguageModelDecoder, WordDropoutDecoder, drop_words
from vaelib.errors import VaelibError
from vaelib.layers import Shape, uniform_init_
from vaelib.metrics import importance_weighted_nll
from vaelib.strategies import STRATEGIES
from vaelib.testing import check_decoder, sentences

PLAIN = Shape(13, 5, 7, 4, dropout_in=0.0, dropout_out=0.0)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def word_dropout(rate: float) -> WordDropoutDecoder:
    made = WordDropoutDecoder(PLAIN, word_dropout=rate)
    uniform_init_(made, 0.8, 0.8, seeded())
    return made.double()


# ---- Word dropout -------------------------------------------------------------------------------


def test_the_numbers_of_the_markers_are_the_vocabularys() -> None:
    assert (START, UNKNOWN) == (BOS, UNK)


def test_words_are_dropped_at_their_rate_and_never_the_start_marker() -> None:
    x = torch.randint(4, 13, (400, 26), generator=seeded())
    x[:, 0] = START
    seen = drop_words(x, 0.3, seeded())
    assert seen[:, 0].eq(START).all()
    dropped = seen[:, 1:] == UNKNOWN
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(seen[:, 1:][~dropped], x[:, 1:][~dropped])
    assert len(set(dropped.sum(1).tolist())) > 5  # each word on its own, not sentences
    assert torch.equal(drop_words(x, 0.0, seeded()), x)
    assert drop_words(x, 1.0, seeded())[:, 1:].eq(UNKNOWN).all()
    assert torch.equal(seen, drop_words(x, 0.3, seeded()))


def test_without_dropping_it_is_the_lstm_decoder() -> None:
    x, z = sentences(5, 7, 13), torch.randn(10, 4, generator=seeded()).double()
    mine, plain = word_dropout(0.0), LSTMDecoder(PLAIN).double()
    plain.load_state_dict(mine.state_dict())
    assert torch.allclose(mine.train()(x, z, seeded()), plain.train()(x, z, seeded()), atol=1e-12)
    half = word_dropout(0.5).eval()
    assert torch.equal(half(x, z), plain.eval()(x, z))


def test_dropped_words_are_not_read_and_still_predicted() -> None:
    x, z = sentences(5, 7, 13), torch.randn(5, 4, generator=seeded()).double()
    mine = word_dropout(1.0).train()
    other = x.clone()
    other[:, -2] = 4 + (other[:, -2] - 3) % 9
    first, second = (mine(words, z, seeded()) for words in (x, other))
    assert (first != second).all()  # a target
    with torch.no_grad():
        mine.embedding.weight[4:].normal_(generator=seeded())
    assert torch.equal(mine(x, z, seeded()), first)  # no word is an input


def test_words_are_dropped_with_a_generator_and_a_probability() -> None:
    with pytest.raises(VaelibError, match="needs a generator"):
        word_dropout(0.5).train()(sentences(5, 7, 13), torch.zeros(5, 4).double())
    with pytest.raises(VaelibError, match="from 0 to 1"):
        WordDropoutDecoder(PLAIN, word_dropout=1.5)


def test_vae_05_drops_every_second_word_and_anneals_from_a_tenth() -> None:
    options = resolve("VAE-0.5", data="grammar", profile="paper").options
    assert (options["word_dropout"], options["start"], options["warmup_epochs"]) == (0.5, 0.1, 10)
    check_decoder("word_dropout", word_dropout=0.9)


# ---- The language model -------------------------------------------------------------------------


def test_the_language_model_is_the_decoder_blind_to_z() -> None:
    x, z = sentences(5, 7, 13), torch.randn(10, 4, generator=seeded()).double()
    full, blind = LSTMDecoder(PLAIN), LanguageModelDecoder(PLAIN)
    uniform_init_(full, 0.8, 0.8, seeded())
    weights = full.state_dict()
    weights["lstm.weight_ih_l0"][:, 5:] = 0
    weights.pop("to_cell.weight").zero_()
    full, blind = full.double(), blind.double()
    blind.load_state_dict(weights | {"lstm.weight_ih_l0": weights["lstm.weight_ih_l0"][:, :5]})
    for mode in (True, False):
        values = [decoder.train(mode)(x, z, seeded()) for decoder in (full, blind)]
        assert torch.allclose(*values, atol=1e-12)
        assert torch.equal(values[1][:5], values[1][5:])
    written = blind.decode(z, greedy, max_length=6)
    assert torch.equal(written, full.decode(z, greedy, max_length=6))
    assert (written == written[0]).all()


def test_its_kl_is_0_and_its_nll_exact_with_any_number_of_samples() -> None:
    built = build(resolve("lm", data="grammar", profile="smoke"), 30)
    model, x = built.model.eval(), sentences(6, 7, 30)
    assert kl_divergence(model.encode(x), model.prior()).abs().max() == 0
    exact = -model.decoder(x, torch.zeros(6, 4))
    for samples in (1, 7):
        nll = importance_weighted_nll(model, x, samples, seeded())
        assert torch.allclose(nll, exact, atol=1e-5)
    assert [name for name, _ in model.named_parameters()] == [
        f"decoder.{name}" for name, _ in LanguageModelDecoder(PLAIN).named_parameters()
    ]


def test_its_step_is_clipped_and_recorded_like_any_other() -> None:
    built = build(resolve("LSTM-LM", data="grammar", profile="smoke"), 30)
    update = torch.optim.SGD(built.model.parameters(), lr=1.0)
    strategy = STRATEGIES["decoder_only"](built.model, built.objective, update, 1e-6, "fp32")
    before = [p.detach().clone() for p in built.model.parameters()]
    values = strategy.step(sentences(6, 7, 30), 1.0, seeded())
    moved = [(a - b).norm() for a, b in zip(before, built.model.parameters(), strict=True)]
    assert torch.stack(moved).norm().item() <= 1.1e-6
    assert values["grad_decoder"] == values["grad_norm"] > 1e-3
    assert (values["grad_encoder"], values["rate"]) == (0, 0)
    assert values["loss"] == values["distortion"]
    assert DECODERS["lm"] is LanguageModelDecoder
