"""The bidirectional GRU encoder, the GRU decoder and GRU language model, step by step by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from vaelib import strategies_inner  # noqa: F401  (registers the parts of a language model)
from vaelib.build import build, resolve
from vaelib.data.corpus import EOS, PAD
from vaelib.decoders_gru import GRUDecoder, GRULanguageModelDecoder
from vaelib.encoders_gru import BiGRUEncoder, bidirectional, count_words, last_states
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout, uniform_init_
from vaelib.metrics import importance_weighted_nll
from vaelib.posteriors_coupled import LinearHeadsPosterior
from vaelib.testing import check_encoder, sentences

SHAPE = Shape(13, 5, 7, 4, dropout_in=0.4, dropout_out=0.3)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def large(part: nn.Module) -> nn.Module:
    """The part in float64 with large weights, in evaluation mode."""
    uniform_init_(part, 0.8, 0.8, seeded())
    return part.double().eval()


def step(gru: nn.GRU, x: Tensor, h: Tensor, end: str = "") -> Tensor:
    """One GRU step, written out."""
    weights = dict(gru.named_parameters())
    read = x @ weights[f"weight_ih_l0{end}"].T + weights[f"bias_ih_l0{end}"]
    kept = h @ weights[f"weight_hh_l0{end}"].T + weights[f"bias_hh_l0{end}"]
    (r, u, n), (hr, hu, hn) = read.chunk(3, dim=1), kept.chunk(3, dim=1)
    update = torch.sigmoid(u + hu)
    return (1 - update) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + update * h


# ---- Encoder ------------------------------------------------------------------------------------


def uneven(x: Tensor, lengths: list[int]) -> Tensor:
    """Sentences cut to so many words, markers not counted, and padded."""
    x = x.clone()
    for row, length in zip(x, lengths, strict=True):
        row[length + 1] = EOS
        row[length + 2 :] = PAD
    return x


def test_the_encoder_keeps_the_contract() -> None:
    check_encoder("bigru")


def test_the_encoder_reads_words_in_both_directions_and_no_markers() -> None:
    encoder, x = large(BiGRUEncoder(SHAPE)), sentences(5, 8, 13)
    forward = backward = torch.zeros(5, 7, dtype=torch.float64)
    for t in range(1, 7):
        forward = step(encoder.gru, encoder.embedding(x[:, t]), forward)
        backward = step(encoder.gru, encoder.embedding(x[:, 7 - t]), backward, "_reverse")
    e = encoder(x)
    assert torch.allclose(e, torch.cat([forward, backward], dim=1), atol=1e-12)
    assert encoder.output_dim == e.shape[1] == 14
    with torch.no_grad():
        encoder.embedding.weight[:4].normal_(generator=seeded())
    assert torch.equal(encoder(x), e)


def test_padded_sentences_are_read_as_if_alone() -> None:
    encoder, lengths = large(BiGRUEncoder(SHAPE)), [3, 6, 1, 0, 4, 6, 2]
    x = uneven(sentences(7, 8, 13), lengths)
    together = encoder(x)
    assert count_words(x).tolist() == lengths
    for i, length in enumerate(lengths):
        alone = encoder(x[i : i + 1, : length + 2])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-12)
    assert not together[3].any()
    longer = torch.cat([x, torch.zeros(7, 5, dtype=torch.long)], dim=1)
    assert torch.allclose(encoder(longer), together, atol=1e-12)


def test_gradients_are_the_same_padded_or_alone() -> None:
    encoder, lengths = large(BiGRUEncoder(SHAPE)), [3, 6, 0, 2]
    x, direction = uneven(sentences(4, 8, 13), lengths), torch.arange(1.0, 15.0).double()
    (encoder(x) @ direction).sum().backward()
    together = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    for i, length in enumerate(lengths):
        if length:
            (encoder(x[i : i + 1, : length + 2]) @ direction).sum().backward()
    for parameter, wanted in zip(encoder.parameters(), together, strict=True):
        assert torch.allclose(parameter.grad, wanted, atol=1e-12)


def test_sentences_without_words_give_zeros() -> None:
    encoder = BiGRUEncoder(SHAPE)
    assert not encoder.eval()(torch.tensor([[1, 2], [1, 2]])).any()
    words = torch.randn(2, 3, 5, generator=seeded())
    assert not last_states(bidirectional(SHAPE), words, torch.tensor([0, 0])).any()


def test_one_dropout_mask_serves_both_directions() -> None:
    encoder, x = large(BiGRUEncoder(SHAPE, encoder_dropout=0.5)), sentences(5, 8, 13)
    noisy = encoder.train()(x, seeded(9))
    words = dropout(encoder.embedding(x[:, 1:-1]), 0.5, True, seeded(9))
    assert torch.equal(noisy, last_states(encoder.gru, words, count_words(x)))
    assert not torch.equal(noisy, encoder(x, seeded(8)))
    assert torch.equal(encoder.eval()(x), encoder(x, seeded(9)))
    with pytest.raises(VaelibError, match="needs a generator"):
        encoder.train()(x)
    with pytest.raises(VaelibError, match="encoder_dropout=1"):
        BiGRUEncoder(SHAPE, encoder_dropout=1.0)


# ---- Decoder ------------------------------------------------------------------------------------


def by_hand(decoder: GRUDecoder, x: Tensor, inputs: Tensor, first: Tensor) -> Tensor:
    """Log-likelihoods of sentences from inputs [B, L, .] and a first state, token by token."""
    state, total = first, torch.zeros(len(x), dtype=torch.float64)
    for t in range(x.shape[1] - 1):
        state = step(decoder.gru, inputs[:, t], state)
        hidden = torch.tanh(state @ decoder.combine.weight.T + decoder.combine.bias)
        scores = hidden @ decoder.project.weight.T + decoder.project.bias
        total += torch.log_softmax(scores, dim=1)[torch.arange(len(x)), x[:, t + 1]]
    return total


def test_the_decoder_is_the_published_one() -> None:
    decoder, x = large(GRUDecoder(SHAPE)), sentences(5, 7, 13)
    z = torch.randn(5, 4, generator=seeded(4), dtype=torch.float64)
    first, _, second = decoder.to_signal
    h = torch.relu(z @ first.weight.T + first.bias) @ second.weight.T + second.bias
    state = step(decoder.gru, torch.cat([h, h], dim=1), torch.zeros(5, 14, dtype=torch.float64))
    inputs = torch.cat([decoder.embedding(x[:, :-1]), h[:, None].expand(-1, 6, -1)], dim=2)
    assert torch.allclose(decoder(x, z), by_hand(decoder, x, inputs, state), atol=1e-12)
    assert torch.allclose(decoder.signal(z), h)
    assert (decoder.gru.input_size, decoder.gru.hidden_size) == (10, 14)


def test_dropout_covers_words_signal_and_states_but_not_the_first_step() -> None:
    decoder, x = large(GRUDecoder(SHAPE)).train(), sentences(5, 7, 13)
    h = torch.randn(5, 5, generator=seeded(4), dtype=torch.float64)
    noise = seeded(9)
    inputs = torch.cat([decoder.embedding(x[:, :-1]), h[:, None].expand(-1, 6, -1)], dim=2)
    inputs = dropout(inputs, 0.4, True, noise)
    first = step(decoder.gru, torch.cat([h, h], dim=1), torch.zeros(5, 14, dtype=torch.float64))
    states, _ = decoder.gru(inputs, first[None])
    states = dropout(states, 0.3, True, noise)
    assert torch.allclose(decoder.features(x[:, :-1], h, seeded(9)), states, atol=1e-12)
    assert (inputs[..., 5:] == 0).any()


def test_the_language_model_is_the_decoder_without_a_signal() -> None:
    decoder, x = large(GRULanguageModelDecoder(SHAPE)), sentences(5, 7, 13)
    zero = torch.zeros(5, 14, dtype=torch.float64)
    wanted = by_hand(decoder, x, decoder.embedding(x[:, :-1]), zero)
    z = torch.randn(10, 4, generator=seeded(4), dtype=torch.float64)
    assert torch.allclose(decoder(x, z), wanted.repeat(2), atol=1e-12)
    assert decoder.gru.input_size == 5


# ---- The methods --------------------------------------------------------------------------------


def test_the_nll_of_the_language_model_is_exact() -> None:
    config = resolve("GRU-LM", data="grammar", profile="smoke")
    built = build(config, 13)
    x = sentences(6, 7, 13)
    model = built.model.eval()
    exact = -model.log_likelihood(x, torch.zeros(6, config.latent_dim))
    assert torch.allclose(importance_weighted_nll(model, x, 3), exact, atol=1e-4)
    assert not kl_divergence(model.encode(x), model.prior()).any()
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"decoder"}


def test_encoder_and_decoder_of_the_backbone_share_one_embedding() -> None:
    built = build(resolve("vae", data="grammar", profile="smoke", backbone="gru"), 13)
    encoder, decoder = built.model.encoder, built.model.decoder
    assert decoder.embedding.weight is encoder.embedding.weight
    spread = encoder.embedding.weight.std().item()
    assert 0.8 < spread < 1.2  # N(0, 1), T31
    out = built.model.train()(sentences(6, 7, 13), seeded())
    out.elbo.sum().backward()
    assert encoder.embedding.weight.grad.any()


@pytest.mark.parametrize(
    ("words", "hidden", "plain", "coupled"),
    [(10_002, 128, 5.2, 7.8), (15_002, 256, 8.8, 13.4), (20_001, 256, 11.0, 16.6)],
)
def test_the_sizes_are_the_published_ones(
    words: int, hidden: int, plain: float, coupled: float
) -> None:
    """Protocol F.1, in millions; the released code has a bag-of-words head of weight 0 too."""
    shape = Shape(words, 200, hidden, 32)
    encoder, decoder = BiGRUEncoder(shape), GRUDecoder(shape)
    decoder.complete({"encoder": encoder}, lambda _: encoder)
    posterior = LinearHeadsPosterior(encoder.output_dim, shape)
    every = sum(p.numel() for p in nn.ModuleList([encoder, posterior, decoder]).parameters())
    own = sum(p.numel() for p in nn.ModuleList([posterior, decoder]).parameters()) - 200 * words
    unused = 33 * words
    assert round((every + unused) / 1e6, 1) == plain
    assert round((every + own + unused) / 1e6, 1) == coupled
