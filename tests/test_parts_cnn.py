"""The dilated convolutional decoder: written out another way, its reach, its statistics."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vaelib.build import build, resolve
from vaelib.decoders_cnn import DILATIONS, CausalBlock, CNNDecoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout, uniform_init_
from vaelib.testing import sentences

SHAPE = Shape(13, 5, 7, 4, dropout_in=0.4, dropout_out=0.9)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def large(shape: Shape = SHAPE, **options: int) -> CNNDecoder:
    """A decoder in float64 with large weights, in evaluation mode."""
    decoder = CNNDecoder(shape, **({"cnn_channels": 6} | options))
    uniform_init_(decoder, 0.8, 0.8, seeded())
    return decoder.double().eval()


def padded_block(block: CausalBlock, x: Tensor, dilation: int) -> Tensor:
    """The block as published: pad both sides by 2 d, then cut the last 2 d positions."""
    inside = F.relu(block.norms[0](block.narrow(x)))
    middle = block.look_back
    inside = F.conv1d(inside, middle.weight, middle.bias, padding=2 * dilation, dilation=dilation)
    inside = F.relu(block.norms[1](inside[:, :, : -2 * dilation]))
    return x + F.relu(block.norms[2](block.widen(inside)))


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_decoder_is_the_published_one(rounds: int) -> None:
    decoder, x = large(cnn_rounds=rounds), sentences(5, 7, 13)
    z = torch.randn(5, 4, generator=seeded(4), dtype=torch.float64)
    h = decoder.signal(z)
    words = decoder.embedding(x[:, :-1])
    rows = [torch.cat([h, h], dim=1)] + [torch.cat([words[:, t], h], dim=1) for t in range(6)]
    value = decoder.enter(torch.stack(rows, dim=2))
    for number, dilation in enumerate(DILATIONS * rounds):
        value = padded_block(decoder.blocks[number], value, dilation)
    scores = decoder.project(value[:, :, 1:].transpose(1, 2))
    wanted = torch.log_softmax(scores, dim=2).gather(2, x[:, 1:, None]).sum(dim=(1, 2))
    assert torch.allclose(decoder(x, z), wanted, atol=1e-12)
    assert len(decoder.blocks) == 5 * rounds


def test_words_are_dropped_and_the_signal_is_not() -> None:
    decoder, x = large().train(), sentences(5, 7, 13)
    h = torch.randn(5, 5, generator=seeded(4), dtype=torch.float64)
    words = dropout(decoder.embedding(x), 0.4, True, seeded(9))
    decoder.shape = Shape(13, 5, 7, 4, dropout_in=0.0)
    decoder.embedding = torch.nn.Embedding.from_pretrained(words.detach().flatten(0, 1))
    places = torch.arange(35).view(5, 7)
    wanted = decoder.features(places, h, seeded(9))
    decoder = large().train()
    assert torch.allclose(decoder.features(x, h, seeded(9)), wanted, atol=1e-12)


@pytest.mark.parametrize(("rounds", "reach"), [(1, 63), (2, 125)])
def test_how_far_back_the_decoder_sees(rounds: int, reach: int) -> None:
    length = reach + 5
    decoder = large(Shape(length + 4, 5, 7, 4), cnn_rounds=rounds, cnn_channels=3)
    with torch.no_grad():
        for parameter in decoder.blocks.parameters():
            parameter.abs_()  # no unit is shut
        decoder.enter.bias.fill_(9.0)
    x = torch.arange(4, length + 4).unsqueeze(0)
    h = torch.zeros(1, 5, dtype=torch.float64)
    last = decoder.features(x, h, None)[0, -1].sum()
    (slope,) = torch.autograd.grad(last, decoder.embedding.weight)
    touched = slope[4:].abs().sum(1) > 0
    assert touched[-reach:].all()
    assert not touched[:-reach].any()


def test_statistics_are_those_of_training_and_include_padding() -> None:
    decoder, x = large().train(), sentences(5, 7, 13)
    block = decoder.blocks[0]
    z = torch.randn(5, 4, generator=seeded(4), dtype=torch.float64)
    x[0, 3], x[0, 4:] = 2, 0
    fed = []
    block.narrow.register_forward_hook(lambda _, inputs, output: fed.append(output.detach()))
    decoder(x, z, seeded())
    wanted = 0.1 * fed[0].mean(dim=(0, 2))  # 5 sentences, 7 positions each
    assert fed[0].shape == (5, 6, 7)
    assert torch.allclose(block.norms[0].running_mean, wanted, atol=1e-12)
    kept = block.norms[0].running_mean.clone()
    decoder.eval()(x, z)
    assert torch.equal(block.norms[0].running_mean, kept)


def test_the_backbone_can_be_built_and_shares_its_embedding() -> None:
    config = resolve("vae", data="grammar", profile="smoke", backbone="cnn", cnn_channels=8)
    model = build(config, 13).model
    assert model.decoder.embedding is model.encoder.embedding
    assert model.decoder.enter.out_channels == 8
    outputs = model.train()(sentences(1, 7, 13), seeded())
    assert outputs.log_px.isfinite().all()  # one sentence has positions enough for statistics


@pytest.mark.parametrize("options", [{"cnn_channels": 0}, {"cnn_rounds": 0}])
def test_a_decoder_without_layers_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(VaelibError, match="1 or more"):
        CNNDecoder(SHAPE, **options)
