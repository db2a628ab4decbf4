"""The Transformer decoder: attention against torch's own, positions, and what z does."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vaelib.build import build, resolve
from vaelib.decoders_transformer import Block, TransformerDecoder, positions
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout, uniform_init_
from vaelib.testing import sentences

SHAPE = Shape(13, 5, 8, 4, dropout_in=0.4, dropout_out=0.3)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def large(**options: int) -> TransformerDecoder:
    """A decoder in float64 with large weights, in evaluation mode."""
    decoder = TransformerDecoder(SHAPE, **options)
    uniform_init_(decoder, 0.8, 0.8, seeded())
    return decoder.double().eval()


def with_torch(block: Block, x: Tensor) -> Tensor:
    """The block by torch's attention; positions see themselves and those before."""
    size = x.shape[-1] // block.heads
    asked = block.ask(block.before_attention(x)).chunk(3, dim=-1)
    split = [part.unflatten(-1, (block.heads, size)).transpose(1, 2) for part in asked]
    seen = F.scaled_dot_product_attention(*split, is_causal=True)
    x = x + block.answer(seen.transpose(1, 2).flatten(2))
    return x + block.feed(block.before_feed(x))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_decoder_written_out(heads: int) -> None:
    decoder, x = large(transformer_heads=heads, transformer_layers=3), sentences(5, 7, 13)
    z = torch.randn(5, 4, generator=seeded(4), dtype=torch.float64)
    told = (z @ decoder.to_signal.weight.T + decoder.to_signal.bias)[:, None]
    value = torch.cat([told, decoder.enter(decoder.embedding(x[:, :-1])) + told], dim=1)
    value = value + positions(0, 7, value)
    for block in decoder.blocks:
        value = with_torch(block, value)
    scores = decoder.project(decoder.norm(value)[:, 1:])
    wanted = torch.log_softmax(scores, dim=2).gather(2, x[:, 1:, None]).sum(dim=(1, 2))
    assert torch.allclose(decoder(x, z), wanted, atol=1e-12)
    assert len(decoder.blocks) == 3


def test_positions_are_all_different_and_turn_by_the_same_angle() -> None:
    """A shift is a rotation, the same wherever one starts."""
    like = torch.zeros(1, 8)
    at = positions(0, 300, like)
    assert at.shape == (300, 8)
    assert torch.pdist(at).min() > 0.1
    products = at @ at.T
    assert torch.allclose(products[10, 25], products[200, 215], atol=1e-4)
    assert torch.allclose(positions(40, 3, like), at[40:43])
    assert positions(0, 3, torch.zeros(7)).shape == (3, 7)


def test_any_width_can_have_any_number_of_heads() -> None:
    decoder = TransformerDecoder(Shape(13, 5, 7, 4), transformer_heads=4).eval()
    assert decoder.blocks[0].ask.out_features == 3 * 4 * 2
    assert decoder(sentences(5, 7, 13), torch.zeros(5, 4)).shape == (5,)


def test_words_and_outputs_are_dropped_and_the_signal_is_not() -> None:
    decoder, x = large().train(), sentences(5, 7, 13)
    h = torch.randn(5, 8, generator=seeded(4), dtype=torch.float64)
    noise = seeded(9)
    words = dropout(decoder.embedding(x), 0.4, True, noise)
    inputs = torch.cat([h[:, None], decoder.enter(words) + h[:, None]], dim=1)
    outputs = decoder._through(inputs, decoder._nothing(h))[0][:, 1:]
    wanted = dropout(outputs, 0.3, True, noise)
    assert torch.allclose(decoder.features(x, h, seeded(9)), wanted, atol=1e-12)


def test_z_reaches_every_word_by_both_ways() -> None:
    """With attention cut off, and with the sum cut off."""
    z = torch.randn(2, 4, generator=seeded(4), dtype=torch.float64)
    x = sentences(1, 7, 13)[:, :-1].expand(2, -1)
    deaf = large()
    with torch.no_grad():
        for block in deaf.blocks:
            block.answer.weight.zero_()
    told = deaf.features(x, deaf.signal(z), None)
    assert (told[0] - told[1]).abs().amax(1).min() > 0.01
    decoder, signals = large(), large().signal(z)
    words = decoder.enter(decoder.embedding(x)) + signals[:1, None]
    inputs = torch.cat([signals[:, None], words], dim=1)
    heard = decoder._through(inputs, decoder._nothing(signals))[0][:, 1:]
    assert (heard[0] - heard[1]).abs().amax(1).min() > 1e-4


def test_the_backbone_can_be_built() -> None:
    config = resolve("vae", data="grammar", profile="smoke", backbone="transformer")
    outputs = build(config, 13).model.train()(sentences(6, 7, 13), seeded())
    outputs.elbo.sum().backward()
    assert outputs.log_px.shape == (6,)


@pytest.mark.parametrize("options", [{"transformer_layers": 0}, {"transformer_heads": 0}])
def test_a_decoder_without_layers_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(VaelibError, match="1 or more"):
        TransformerDecoder(SHAPE, **options)
