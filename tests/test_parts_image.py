"""Encoders and decoders of images: published sizes, what a pixel may see, exact likelihoods."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.decoders import greedy, sampler
from vaelib.decoders_image import (
    EVALUATION_IMAGES,
    ConvDecoder,
    ImageDecoder,
    PixelCNNDecoder,
    kernel_sizes,
)
from vaelib.encoders_image import ConvEncoder, ResidualBlock, ResNetEncoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.layers_image import MaskedConvolution, convolution, whole
from vaelib.testing import check_decoder, check_encoder

SMALL = {"pixelcnn_channels": 6, "pixelcnn_depth": 5}


def sizes(side: int, latent: int = 4) -> Shape:
    return Shape(vocab_size=side**2, embedding_dim=5, hidden_dim=7, latent_dim=latent)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Constructors draw from torch's own generator, which `build` seeds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def binary(n: int, p: int, seed: int = 0) -> Tensor:
    return torch.rand(n, p, generator=torch.Generator().manual_seed(seed)).round().double()


def codes(n: int, d: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unsettled(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with running statistics far from those of a new module."""
    noise = torch.Generator().manual_seed(2)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=noise)
            layer.running_var.uniform_(0.5, 2, generator=noise)
    return module.double().eval()


def pixelcnn(side: int = 5, **options: int) -> PixelCNNDecoder:
    return unsettled(PixelCNNDecoder(sizes(side), **(SMALL | options)))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- Published sizes -------------------------------------------------------------------------


def test_the_published_networks_have_their_numbers_of_parameters() -> None:
    """Protocol F: 0.75 million, the head 512 -> 2D with its bias included, and 0.89 million."""
    shape = sizes(28, latent=32)
    encoder, decoder = ResNetEncoder(shape), PixelCNNDecoder(shape)
    assert round((parameters(encoder) + (512 + 1) * 2 * 32) / 1e6, 2) == 0.75
    assert round(parameters(decoder) / 1e6, 2) == 0.89
    assert encoder.output_dim == 512


def test_the_published_pixelcnn_has_its_kernels() -> None:
    decoder = PixelCNNDecoder(sizes(28, latent=32))
    layers = [decoder.see, *(layer.masked for layer in decoder.layers)]
    widths = [layer.weight.shape[-1] for layer in layers]
    assert widths == [7, 7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3]
    direct = [block.masked.weight.shape[-1] for block in decoder.direct]
    assert direct == [7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3]
    assert decoder.see.weight.shape[:2] == (64, 1)
    assert decoder.told.weight.shape == (64, 4, 7, 7)
    assert {layer.weight.shape[:2] for layer in layers[1:]} == {(32, 32)}


@pytest.mark.parametrize("depth", range(1, 20))
def test_any_depth_has_as_many_layers_and_two_fewer_direct_blocks(depth: int) -> None:
    widths = kernel_sizes(depth)
    assert len(widths) == depth
    assert widths[0] == 7
    assert widths == sorted(widths, reverse=True)
    assert max(map(widths[1:].count, (7, 5, 3))) - min(map(widths[1:].count, (7, 5, 3))) <= 1
    decoder = PixelCNNDecoder(sizes(3), pixelcnn_channels=2, pixelcnn_depth=depth)
    assert len(decoder.direct) == max(depth - 2, 0)
    assert decoder(torch.ones(2, 9), torch.ones(2, 4)).shape == (2,)


@pytest.mark.parametrize("kernel", [1, 3, 4, 7])
def test_convolutions_start_from_the_published_normal(kernel: int) -> None:
    weight = convolution(32, 48, kernel).weight
    assert abs(weight.std() / math.sqrt(2 / (48 * kernel**2)) - 1) < 0.1
    assert abs(weight.mean()) < 5 * weight.std() / math.sqrt(weight.numel())


def test_the_map_of_z_starts_by_xaviers_rule_with_bias_0() -> None:
    linear = PixelCNNDecoder(sizes(28, latent=32)).to_maps
    bound = math.sqrt(6 / (32 + 4 * 784))
    assert 0.99 * bound < linear.weight.abs().max() <= bound
    assert not linear.bias.any()


# ---- Encoders --------------------------------------------------------------------------------


def test_a_residual_block_is_the_published_one() -> None:
    block, x = unsettled(ResidualBlock(3, 4)), torch.randn(2, 3, 7, 7, dtype=torch.float64)

    def norm(layer: nn.Module, x: Tensor) -> Tensor:
        centred = x - layer.running_mean[:, None, None]
        return centred / torch.sqrt(layer.running_var[:, None, None] + 1e-5)

    first, one, _, second, two = block.path
    y = F.elu(norm(one, F.conv2d(x, first.weight, stride=2, padding=1)))
    y = norm(two, F.conv2d(y, second.weight, padding=1))
    short = norm(block.shortcut[1], F.conv2d(x, block.shortcut[0].weight, stride=2))
    assert torch.allclose(block(x), F.elu(y + short), atol=1e-12)
    assert block(x).shape == (2, 4, 4, 4)


@pytest.mark.parametrize(("side", "left"), [(8, 1), (9, 2), (28, 4), (32, 4)])
def test_the_last_convolution_covers_what_is_left(side: int, left: int) -> None:
    encoder = ResNetEncoder(sizes(side), resnet_channels=2, resnet_features=3)
    assert encoder.network[3].weight.shape == (3, 2, left, left)
    assert encoder(binary(2, side**2).float()).shape == (2, 3)


@pytest.mark.parametrize("encoder", [ResNetEncoder, ConvEncoder])
def test_an_image_is_read_alike_alone_and_in_company(encoder: type[nn.Module]) -> None:
    made, x = unsettled(encoder(sizes(9))), binary(6, 81)
    h = made(x)
    assert h.shape == (6, made.output_dim)
    assert torch.allclose(made(x[2:3]), h[2:3], atol=1e-12)
    assert (h[0] - h[1]).abs().max() > 1e-6


@pytest.mark.parametrize("encoder", [ResNetEncoder, ConvEncoder])
def test_every_pixel_reaches_the_encoders_output(encoder: type[nn.Module]) -> None:
    made, x = unsettled(encoder(sizes(8))), binary(1, 64).requires_grad_()
    weights = torch.randn(made.output_dim, dtype=torch.float64)
    (made(x) @ weights).sum().backward()
    assert (x.grad != 0).all()


def test_a_training_batch_of_one_image_is_refused_where_it_cannot_be_normalised() -> None:
    encoder = ResNetEncoder(sizes(8))
    with pytest.raises(VaelibError, match="use min_batch=2"):
        encoder.train()(torch.ones(1, 64))
    for part in (ConvEncoder(sizes(8)), encoder.eval()):
        assert part(torch.ones(1, 64)).isfinite().all()
    for decoder in (ConvDecoder(sizes(8)), PixelCNNDecoder(sizes(8), **SMALL)):
        log_px = decoder.train()(torch.ones(1, 64), torch.ones(1, 4))
        log_px.sum().backward()
        assert log_px.isfinite().all()


@pytest.mark.parametrize(
    ("part", "side", "options"),
    [
        (ResNetEncoder, 7, {}),
        (ResNetEncoder, 8, {"resnet_channels": 0}),
        (ResNetEncoder, 8, {"resnet_features": 0}),
        (ConvEncoder, 8, {"image_channels": 0}),
        (ConvDecoder, 8, {"image_channels": 0}),
        (PixelCNNDecoder, 8, {"pixelcnn_channels": 5}),
        (PixelCNNDecoder, 8, {"pixelcnn_channels": 0}),
        (PixelCNNDecoder, 8, {"pixelcnn_depth": 0}),
    ],
)
def test_sizes_out_of_range_are_refused(part: type, side: int, options: dict[str, Any]) -> None:
    with pytest.raises(VaelibError):
        part(sizes(side), **options)


@pytest.mark.parametrize("part", [ResNetEncoder, ConvEncoder, ConvDecoder, PixelCNNDecoder])
def test_images_must_be_square(part: type) -> None:
    with pytest.raises(VaelibError, match="65 pixels are not square"):
        part(replace(sizes(8), vocab_size=65))


def test_the_parts_keep_the_contracts() -> None:
    x = binary(8, 64).float()
    check_encoder("conv", x)
    check_encoder("resnet", x, resnet_channels=4, resnet_features=6)
    check_decoder("conv", x)
    check_decoder("pixelcnn", x, **SMALL)


# ---- What a pixel sees -----------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_masked_convolution_is_a_convolution_with_a_masked_weight(kernel: int, own: bool) -> None:
    layer = MaskedConvolution(2, 3, kernel, own).double()
    weight = layer.weight.detach().clone()
    flat = weight.view(3, 2, -1)
    flat[:, :, kernel**2 // 2 + own :] = 0
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    wanted = F.conv2d(x, weight, padding=kernel // 2)
    assert torch.allclose(layer(whole(layer, x)), wanted, atol=1e-12)
    assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize("depth", [1, 2, 4, 7])
def test_a_pixel_depends_on_earlier_pixels_only(depth: int) -> None:
    decoder, z = pixelcnn(pixelcnn_depth=depth), codes(1)
    for i in (0, 1, 4, 12, 20, 24):
        x = binary(1, 25).requires_grad_()
        (gradient,) = torch.autograd.grad(decoder.logits(x, z)[0, i], x)
        assert not gradient[0, i:].any()
        assert i == 0 or gradient[0, :i].any()
        assert i < 5 or gradient[0, i - 5] != 0  # the pixel above
        assert i % 5 == 0 or gradient[0, i - 1] != 0  # the pixel to the left


def test_every_pixel_is_told_z_and_sees_all_but_the_blind_spot() -> None:
    """Kernels of width 7 lead 3 columns to the right for each row upwards, no further."""
    decoder = unsettled(PixelCNNDecoder(sizes(9), pixelcnn_channels=6, pixelcnn_depth=13))
    x, z = binary(1, 81).requires_grad_(), codes(1).requires_grad_()
    for i in (0, 18, 40, 80):
        by_x, by_z = torch.autograd.grad(decoder.logits(x, z)[0, i], (x, z))
        assert (by_z != 0).all()
        blind = [j for j in range(i) if j % 9 - i % 9 > 3 * (i // 9 - j // 9)]
        assert (by_x[0, :i] == 0).nonzero().flatten().tolist() == blind


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 13])
def test_direct_blocks_lead_from_three_layers_before(depth: int) -> None:
    decoder, x, z = pixelcnn(pixelcnn_depth=depth), binary(3, 25), codes(3)
    picture = x.view(3, 1, 5, 5)
    maps = decoder.to_maps(z).view(3, 4, 5, 5)
    weight = torch.cat([decoder.see.weight, decoder.told.weight], dim=1).detach().clone()
    weight[:, 0].view(6, -1)[:, 24:] = 0  # of the five inputs only the image is masked
    joint = F.conv2d(torch.cat([picture, maps], dim=1), weight, padding=3)
    outputs = [decoder.start(joint)]
    for layer in range(1, depth + 1):
        given = outputs[layer - 1]
        if layer >= 3:
            given = given + decoder.direct[layer - 3](outputs[layer - 3], whole)
        outputs.append(decoder.layers[layer - 1](given, whole) if layer < depth else given)
    wanted = decoder.head(outputs[-1]).flatten(1)
    assert torch.allclose(decoder.logits(x, z), wanted, atol=1e-10)


# ---- Likelihoods -----------------------------------------------------------------------------


def decoders(side: int) -> list[ImageDecoder]:
    return [unsettled(ConvDecoder(sizes(side))), pixelcnn(side)]


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_the_probabilities_of_all_images_sum_to_1(side: int, place: int) -> None:
    decoder = decoders(side)[place]
    every = torch.tensor([*itertools.product([0.0, 1.0], repeat=side**2)], dtype=torch.float64)
    log_px = decoder(every, codes(1).expand(len(every), -1))
    assert log_px.exp().sum().item() == pytest.approx(1, abs=1e-10)
    assert log_px.std() > 1e-3 or side == 1


def test_pixels_of_the_conv_decoder_are_independent_given_z() -> None:
    decoder, x, z = decoders(6)[0], binary(3, 36), codes(3)
    ink = torch.sigmoid(decoder.logits(x, z))
    assert torch.equal(decoder.logits(1 - x, z), decoder.logits(x, z))
    wanted = torch.where(x > 0, ink, 1 - ink).log().sum(1)
    assert torch.allclose(decoder(x, z), wanted, atol=1e-10)


@pytest.mark.parametrize("place", [0, 1])
def test_a_likelihood_is_never_rounded(place: int) -> None:
    """With log odds of 500 a wrong pixel costs 500 nats, where 1e-12 in the logarithm says 28."""
    decoder = decoders(4)[place].float()
    last = [m for m in decoder.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(500.0)
    blank, full = torch.zeros(1, 16), torch.ones(1, 16)
    assert decoder(blank, torch.ones(1, 4)).item() == -16 * 500
    assert decoder(full, torch.ones(1, 4)).item() == 0


@pytest.mark.parametrize("place", [0, 1])
def test_many_codes_are_read_in_blocks_as_copies_of_the_batch(place: int) -> None:
    decoder, x, z = decoders(4)[place], binary(30, 16), codes(90)
    assert len(z) > EVALUATION_IMAGES
    whole_batch = decoder(x, z)
    with torch.no_grad():
        blocks = decoder(x, z)
    assert whole_batch.shape == (90,)
    assert torch.allclose(whole_batch, blocks, atol=1e-10)
    assert torch.allclose(whole_batch, decoder(x.repeat(3, 1), z), atol=1e-10)


def test_no_block_is_larger_than_it_may_be() -> None:
    decoder, seen = pixelcnn(4), []
    decoder.start.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.no_grad():
        decoder(binary(30, 16), codes(30 * 10))
        decoder.decode(codes(100), greedy)
    assert max(seen) == EVALUATION_IMAGES
    assert sum(seen) == 300 + 100 * 16


def test_normalisation_in_training_covers_the_whole_batch_with_and_without_gradients() -> None:
    decoder, x, z = pixelcnn(4).train(), binary(80, 16), codes(80)
    with torch.no_grad():
        without = decoder(x, z)
    assert torch.allclose(without, decoder(x, z), atol=1e-10)


@pytest.mark.parametrize("place", [0, 1])
def test_half_precision_ends_at_the_logits(place: int) -> None:
    decoder, x, z = decoders(4)[place].float(), binary(3, 16).float(), codes(3).float()
    with torch.autocast("cpu", torch.bfloat16):
        log_px, logits = decoder(x, z), decoder.logits(x, z)
    assert logits.dtype == torch.bfloat16
    assert log_px.dtype == torch.float32
    exact = -F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none")
    assert torch.allclose(log_px.double(), exact.sum(1), atol=1e-4)


@pytest.mark.parametrize("place", [0, 1])
def test_the_signal_is_the_code(place: int) -> None:
    z = codes(3)
    assert torch.equal(decoders(3)[place].signal(z), z)


# ---- Drawing images --------------------------------------------------------------------------


def pixel_by_pixel(decoder: ImageDecoder, z: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """A whole pass for each pixel."""
    x = torch.zeros(len(z), decoder.side**2, dtype=z.dtype)
    for i in range(x.shape[1]):
        logit = decoder.logits(x, z)[:, i]
        x[:, i] = pick(torch.stack([torch.zeros_like(logit), logit], dim=1)).to(z.dtype)
    return x.long()


@pytest.mark.parametrize("depth", [1, 2, 6, 13])
@pytest.mark.parametrize("drawn", [False, True])
@torch.no_grad()
def test_the_pixelcnn_draws_as_if_by_a_pass_for_each_pixel(depth: int, drawn: bool) -> None:
    decoder, z = pixelcnn(6, pixelcnn_depth=depth), codes(5)
    picks = [sampler(torch.Generator().manual_seed(4)) if drawn else greedy for _ in range(2)]
    image = decoder.decode(z, picks[0])
    assert torch.equal(image, pixel_by_pixel(decoder, z, picks[1]))
    assert image.dtype == torch.int64
    assert image.shape == (5, 36)
    assert 0 < image.float().mean() < 1


@torch.no_grad()
def test_the_conv_decoder_takes_the_likelier_value_of_each_pixel() -> None:
    decoder, z = decoders(6)[0], codes(5)
    image = decoder.decode(z, greedy, 3)
    assert torch.equal(image, (decoder.logits(z, z) > 0).long())
    assert image.shape == (5, 36)
    assert (decoder(image, z) > decoder(1.0 - image, z)).all()


@pytest.mark.parametrize("place", [0, 1])
@torch.no_grad()
def test_drawn_pixels_follow_their_distribution(place: int) -> None:
    decoder, z = decoders(2)[place], codes(1).expand(8000, -1)
    noise = torch.Generator().manual_seed(0)
    drawn = decoder.decode(z, sampler(noise))
    counts = (drawn @ torch.tensor([8, 4, 2, 1])).bincount(minlength=16) / 8000
    every = torch.tensor([*itertools.product([0.0, 1.0], repeat=4)], dtype=torch.float64)
    wanted = decoder(every, z[:16]).exp().float()
    assert ((counts - wanted).abs() <= 5 * (wanted * (1 - wanted) / 8000).sqrt() + 1e-6).all()
    assert torch.equal(drawn, decoder.decode(z, sampler(noise.manual_seed(0))))


def test_drawing_leaves_the_decoder_as_it_was() -> None:
    decoder, z = pixelcnn(3).train(), codes(2)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    drawn = decoder.decode(z, greedy)
    assert all(torch.equal(before[name], value) for name, value in decoder.state_dict().items())
    assert all(layer.training for layer in decoder.modules())
    assert torch.equal(drawn, decoder.eval().decode(z, greedy))
