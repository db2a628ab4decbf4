"""Encoders, decoders, posterior families and priors against formulas written out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn import functional as F

from vaelib.decoders import (
    STOP,
    CategoricalDecoder,
    LSTMDecoder,
    greedy,
    sampler,
)
from vaelib.distributions import HypersphericalUniform, VonMisesFisher, mean_logvar
from vaelib.encoders import LSTMEncoder, TableEncoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape, uniform_init_
from vaelib.metrics import kl_normal
from vaelib.posteriors import (
    BatchNormPosterior,
    DeltaPosterior,
    GaussianPosterior,
    SplitPosterior,
    VonMisesFisherPosterior,
    delta_roots,
)
from vaelib.priors import PRIORS
from vaelib.testing import sentences


def step(lstm: nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM by its equations."""
    gates = x @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
    i, f, g, o = gates.chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


@pytest.fixture
def decoder(shape: Shape, generator: torch.Generator, request: pytest.FixtureRequest) -> nn.Module:
    """An LSTM decoder in float64 with large weights, in evaluation mode."""
    made = LSTMDecoder(shape, skip=getattr(request, "param", False))
    uniform_init_(made, 0.8, 0.8, generator)
    return made.double().eval()


@pytest.fixture
def z(generator: torch.Generator) -> Tensor:
    return torch.randn(5, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("decoder", [False, True], indirect=True)
def test_the_decoder_is_the_published_one(decoder: LSTMDecoder, z: Tensor) -> None:
    x = sentences(5, 7, 13)
    c = z @ decoder.to_cell.weight.T
    h, total = torch.tanh(c), torch.zeros(5, dtype=torch.float64)
    for t in range(6):
        h, c = step(decoder.lstm, torch.cat([decoder.embedding(x[:, t]), z], 1), h, c)
        seen = torch.cat([h, z], 1) if decoder.skip else h
        scores = seen @ decoder.project.weight.T
        total += torch.log_softmax(scores, 1)[torch.arange(5), x[:, t + 1]]
    assert torch.allclose(decoder(x, z), total, atol=1e-12)


def test_the_skip_connection_widens_the_projection(shape: Shape) -> None:
    plain, skip = LSTMDecoder(shape), LSTMDecoder(shape, skip=True)
    assert plain.project.weight.shape == (13, 7)
    assert skip.project.weight.shape == (13, 7 + 4)
    assert plain.project.bias is None
    assert plain.to_cell.bias is None
    assert plain.lstm.input_size == 5 + 4


@pytest.mark.parametrize("decoder", [False, True], indirect=True)
def test_z_reaches_every_step(decoder: LSTMDecoder, z: Tensor) -> None:
    """Cut the first state off: without it z still changes every word, through inputs or skip."""
    with torch.no_grad():
        decoder.to_cell.weight.zero_()
        decoder.lstm.weight_hh_l0.zero_()
        decoder.lstm.bias_ih_l0[7:14] = -60.0  # the forget gate is shut: no memory at all
    scores = decoder.eval().logits(decoder.features(torch.full((5, 6), 4), z, None))
    assert torch.allclose(scores, scores[:, :1].expand_as(scores), atol=1e-12)
    assert (scores[0] - scores[1]).abs().amax(1).min() > 0.01


def test_the_end_marker_counts_and_the_start_marker_does_not(
    decoder: LSTMDecoder, z: Tensor
) -> None:
    with torch.no_grad():
        decoder.project.weight.zero_()  # every word equally likely
    log_px = decoder(sentences(5, 7, 13), z)
    assert torch.allclose(log_px, torch.full((5,), -6 * math.log(13), dtype=torch.float64))


def test_dropout_spares_z_and_the_first_state(shape: Shape, generator: torch.Generator) -> None:
    model = LSTMDecoder(Shape(13, 5, 7, 4, dropout_in=0.999999, dropout_out=0.0)).train()
    uniform_init_(model, 0.8, 0.8, generator)
    x, other = sentences(5, 7, 13), sentences(5, 7, 13).flip(0)
    z = torch.randn(5, 4, generator=generator)
    first, second = (model(x, z, torch.Generator().manual_seed(0)) for x in (x, x))
    assert torch.equal(first, second)
    words = model.embedding.weight.clone()
    with torch.no_grad():
        model.embedding.weight.normal_(generator=generator)
        assert torch.allclose(model(x, z, torch.Generator().manual_seed(0)), first)
        assert not torch.allclose(model(x, z + 1, torch.Generator().manual_seed(0)), first)
    assert words.shape == (13, 5)
    assert not torch.equal(x, other)


def test_output_dropout_changes_the_likelihood_in_training_only(
    shape: Shape, generator: torch.Generator
) -> None:
    model = LSTMDecoder(shape)
    uniform_init_(model, 0.8, 0.8, generator)
    x, z = sentences(5, 7, 13), torch.randn(5, 4, generator=generator)
    noisy = [model.train()(x, z, generator) for _ in range(2)]
    clean = [model.eval()(x, z, generator) for _ in range(2)]
    assert not torch.equal(*noisy)
    assert torch.equal(*clean)


def test_writing_stops_at_the_end_marker(decoder: LSTMDecoder, z: Tensor) -> None:
    script = iter([[5, 5, 6], [STOP, 5, 7], [7, STOP, 8], [9, 9, STOP], [4, 4, 4]])
    written = decoder.decode(z[:3], lambda scores: torch.tensor(next(script)))
    assert written.tolist() == [[5, 2, 0, 0], [5, 5, 2, 0], [6, 7, 8, 2]]


def test_writing_ends_after_99_words(decoder: LSTMDecoder, z: Tensor) -> None:
    def never(scores: Tensor) -> Tensor:
        return torch.full((len(scores),), 5)

    assert decoder.decode(z, never).shape == (5, 99)
    assert decoder.decode(z, never, max_length=4).shape == (5, 4)


def test_greedy_writing_takes_the_best_word_at_every_step(decoder: LSTMDecoder, z: Tensor) -> None:
    written = decoder.decode(z, greedy, max_length=8)
    for row, code in zip(written, z, strict=True):
        prefix = [1]
        for word in row.tolist():
            if word == 0:
                break
            every = torch.tensor([[*prefix, w] for w in range(1, 13)])  # 0 is padding, for free
            scores = decoder(every, code.expand(12, -1))
            assert scores.argmax().item() + 1 == word
            prefix.append(word)


def test_sampling_words_follows_their_distribution(generator: torch.Generator) -> None:
    scores = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).expand(20_000, -1)
    counts = sampler(generator)(scores).bincount(minlength=3) / 20_000
    assert torch.allclose(counts, torch.tensor([0.7, 0.2, 0.1]), atol=0.02)
    assert sampler(generator, temperature=0.01)(scores).eq(0).all()


def test_the_encoder_reads_both_markers_and_returns_the_last_state(
    shape: Shape, generator: torch.Generator
) -> None:
    encoder = LSTMEncoder(shape)
    uniform_init_(encoder, 0.8, 0.8, generator)
    encoder = encoder.double()
    x = sentences(5, 7, 13)
    h = c = torch.zeros(5, 7, dtype=torch.float64)
    for t in range(7):
        h, c = step(encoder.lstm, encoder.embedding(x[:, t]), h, c)
    assert torch.allclose(encoder(x), h, atol=1e-12)
    assert encoder.output_dim == 7


def test_the_table_starts_at_the_prior() -> None:
    encoder = TableEncoder(Shape(128, 1, 1, 2))
    q = SplitPosterior(encoder.output_dim, Shape(128, 1, 1, 2))(encoder(torch.arange(128)))
    assert kl_divergence(q, PRIORS["normal"](Shape(128, 1, 1, 2))()).abs().max() == 0


def test_a_split_needs_twice_the_latent_size(shape: Shape) -> None:
    with pytest.raises(VaelibError, match="2 latent_dim wide"):
        SplitPosterior(7, shape)


def test_the_toy_decoder_names_points(generator: torch.Generator) -> None:
    decoder = CategoricalDecoder(Shape(128, 1, 1, 2))
    z = torch.randn(16, 2, generator=generator)
    x = torch.arange(8)
    first, _, second = decoder.network
    scores = torch.sigmoid(z @ first.weight.T + first.bias) @ second.weight.T + second.bias
    wanted = -F.cross_entropy(scores, torch.cat([x, x]), reduction="none")
    assert torch.allclose(decoder(x, z), wanted)
    assert first.out_features == 8


def test_the_gaussian_head_is_one_linear_map_without_bias(
    shape: Shape, generator: torch.Generator
) -> None:
    posterior = GaussianPosterior(6, shape)
    h = torch.randn(5, 6, generator=generator)
    mu, logvar = mean_logvar(posterior(h))
    both = h @ posterior.linear.weight.T
    assert posterior.linear.bias is None
    assert torch.allclose(torch.cat([mu, logvar], 1), both, atol=1e-5)


@pytest.mark.parametrize(
    ("delta", "low", "high"),
    [
        (0.10, 0.49324, 1.77225),
        (0.15, 0.41111, 1.98625),
        (0.20, 0.34990, 2.17875),
        (0.25, 0.30171, 2.35768),
    ],
)
def test_delta_roots_are_those_of_the_table(delta: float, low: float, high: float) -> None:
    assert delta_roots(delta) == pytest.approx((low, high), abs=1e-5)
    for v in delta_roots(delta):
        assert math.log(v) - v + 2 * delta + 1 == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("delta", [0.1, 0.15, 0.25])
def test_no_delta_posterior_comes_within_delta_of_the_prior(
    delta: float, shape: Shape, generator: torch.Generator
) -> None:
    posterior = DeltaPosterior(6, shape, delta=delta)
    for scale in (0.01, 1.0, 30.0, 1000.0):
        q = posterior(scale * torch.randn(500, 6, generator=generator))
        mu, logvar = mean_logvar(q)
        assert kl_normal(mu, logvar).min() >= delta - 1e-6
        assert (mu > 0).all()
        low, high = delta_roots(delta)
        assert logvar.exp().min() >= low - 1e-4
        assert logvar.exp().max() <= high + 1e-4


def test_the_delta_posterior_is_the_published_formula(
    shape: Shape, generator: torch.Generator
) -> None:
    posterior = DeltaPosterior(6, shape, delta=0.15)
    h = torch.randn(50, 6, generator=generator)
    m, s = (h @ posterior.linear.weight.T).chunk(2, 1)
    low, high = (math.sqrt(v) for v in delta_roots(0.15))
    sigma = low + (high - low) / (1 + torch.exp(-s)).clamp(1, 50)
    mu = torch.sqrt(0.3 + 1 + (sigma**2).log() - sigma**2 + m.clamp_min(0) + 1e-6)
    got_mu, got_logvar = mean_logvar(posterior(h))
    assert torch.allclose(got_mu, mu, atol=1e-5)
    assert torch.allclose(got_logvar, 2 * sigma.log(), atol=1e-5)


def test_the_delta_posterior_has_finite_gradients_at_extreme_inputs(shape: Shape) -> None:
    posterior = DeltaPosterior(8, shape)
    with torch.no_grad():
        posterior.linear.weight.copy_(torch.eye(8))
    h = torch.tensor([-1e4, -200.0, -90.0, -1.0, 1.0, 90.0, 200.0, 1e4]).expand(8, 8)
    h = torch.stack([h[i].roll(i) for i in range(8)]).requires_grad_()
    mu, logvar = mean_logvar(posterior(h))
    kl_normal(mu, logvar).sum().backward()
    assert torch.isfinite(h.grad).all()


@pytest.mark.parametrize(
    ("gamma", "bound"),
    [(0.6, 5.76), (0.7, 7.84), (0.9, 12.96), (1.2, 23.04), (1.5, 36.0), (1.8, 51.84)],
)
def test_batch_norm_bounds_the_rate_from_below(
    gamma: float, bound: float, generator: torch.Generator
) -> None:
    shape = Shape(13, 5, 7, 32)
    posterior = BatchNormPosterior(20, shape, gamma=gamma).train()
    q = posterior(3 * torch.randn(64, 20, generator=generator))
    mu, logvar = mean_logvar(q)
    mean_part = kl_normal(mu, torch.zeros_like(mu)).sum(1).mean()
    assert mean_part.item() == pytest.approx(bound, rel=1e-3)
    assert kl_normal(mu, logvar).sum(1).mean() >= bound * 0.999
    with torch.no_grad():
        posterior.norm.shift.fill_(0.5)
    shifted, _ = mean_logvar(posterior(3 * torch.randn(64, 20, generator=generator)))
    floor = 32 * (gamma**2 + 0.25) / 2
    assert (shifted.square().sum(1).mean() / 2).item() == pytest.approx(floor, rel=1e-3)


@pytest.mark.parametrize(("kappa", "rate"), [(25.0, 5.755404), (100.0, 20.758528)])
def test_the_rate_of_vmf_is_the_published_constant(
    kappa: float, rate: float, generator: torch.Generator
) -> None:
    posterior = VonMisesFisherPosterior(20, Shape(13, 5, 7, 32), kappa=kappa)
    q = posterior(torch.randn(6, 20, generator=generator))
    values = kl_divergence(q, HypersphericalUniform(32))
    assert values.tolist() == pytest.approx([rate] * 6, abs=1e-5)
    assert isinstance(q, VonMisesFisher)
    assert torch.allclose(q.loc.norm(dim=1), torch.ones(6))


def test_priors_are_what_they_are_called(shape: Shape) -> None:
    normal, sphere = (PRIORS[name](shape)() for name in ("normal", "uniform_sphere"))
    at = torch.tensor([0.0, 1.0, -2.0, 0.5])
    wanted = -0.5 * (at.square().sum() + 4 * math.log(2 * math.pi))
    assert normal.log_prob(at).item() == pytest.approx(wanted.item(), abs=1e-6)
    assert sphere.log_prob(at / at.norm()).item() == pytest.approx(-math.log(2 * math.pi**2))
    assert normal.batch_shape == sphere.batch_shape == ()


@pytest.mark.parametrize(
    ("part", "options"),
    [
        (BatchNormPosterior, {"gamma": -0.1}),
        (DeltaPosterior, {"delta": 0.0}),
        (VonMisesFisherPosterior, {"kappa": 0.0}),
    ],
)
def test_parts_refuse_what_makes_no_sense(part: type, options: dict, shape: Shape) -> None:
    with pytest.raises(VaelibError, match="must be positive"):
        part(6, shape, **options)
