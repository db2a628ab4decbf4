"""Squared gradient norms: a linear model by hand, a loop over components, what is left alone."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.build import build, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.distributions import diagonal_normal, rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape, uniform_init_
from vaelib.metrics.gradients import gradient_norms, squared_gradients
from vaelib.model import VAE, Outputs
from vaelib.priors import PRIORS

SIZE, DIM, WIDTH, SIGNAL = 6, 2, 5, 3
LOGVAR = -0.7


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(rows: int, columns: int, seed: int) -> nn.Parameter:
    drawn = torch.randn(rows, columns, generator=seeded(seed), dtype=torch.float64)
    return nn.Parameter(drawn)


class Reader(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Posterior(nn.Module):
    """N(A e, constant variance)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = matrix(DIM, WIDTH, 1)

    def forward(self, h: Tensor) -> Distribution:
        mu = h @ self.a.T
        return diagonal_normal(mu, torch.full_like(mu, LOGVAR))


class Writer(nn.Module):
    """-log p(x|z) = ||x - W z||^2 / 2, told by the signal M z."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.m = matrix(WIDTH, DIM, 2), matrix(SIGNAL, DIM, 3)

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return -0.5 * (x - z @ self.w.T).square().sum(1)

    def signal(self, z: Tensor) -> Tensor:
        return z @ self.m.T


class Path(nn.Module):
    """A coupled path -log p(x|e) = <direction, e>."""

    def __init__(self, direction: Tensor) -> None:
        super().__init__()
        self.direction = direction

    def reconstruction(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        return (outputs.h * self.direction).sum(1)


@pytest.fixture
def linear() -> VAE:
    shape = Shape(WIDTH, 1, WIDTH, DIM)
    return VAE(Reader(), Posterior(), PRIORS["normal"](shape).double(), Writer()).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(SIZE, WIDTH, generator=seeded(9), dtype=torch.float64)


def large(method: str, corpus: Corpus, **changes: object) -> tuple[Config, VAE]:
    """A model with large weights, so that nothing is nearly zero."""
    config = resolve(method, data="grammar", profile="smoke", **changes)
    model = build(config, len(corpus.vocabulary)).model
    uniform_init_(model, 0.6, 0.6, seeded(4))
    return config, model.eval()


def test_a_linear_model_by_hand(linear: VAE, x: Tensor) -> None:
    made = squared_gradients(linear, x, generator=seeded())
    a, w, m = (p.detach() for p in (linear.posterior.a, linear.decoder.w, linear.decoder.m))
    mu = x @ a.T
    z = rsample(diagonal_normal(mu, torch.full_like(mu, LOGVAR)), (), seeded())
    expected = {
        "grad_rec": ((z @ w.T - x) @ w @ a).square().sum(1),
        "grad_kl": (mu @ a).square().sum(1),
        "grad_signal": (m @ a).square().sum() / (z @ m.T).square().sum(1),
    }
    assert set(made) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(made[name], value, rtol=1e-12, atol=0)


def test_squared_norms_of_orthogonal_gradients_add_up(linear: VAE, x: Tensor) -> None:
    """T33: the printed sums are those of squares; norms would give less than their sum."""
    plain = squared_gradients(linear, x, generator=seeded())
    span = torch.linalg.svd(linear.posterior.a.detach()).Vh  # rows DIM and on: orthogonal to A
    made = squared_gradients(linear, x, Path(3 * span[-1]), seeded())
    torch.testing.assert_close(made["grad_coupled"], torch.full_like(made["grad_rec"], 9))
    torch.testing.assert_close(made["grad_total"], made["grad_rec"] + 9)
    assert (made["grad_total"].sqrt() < made["grad_rec"].sqrt() + 3).all()
    assert all(torch.equal(made[name], plain[name]) for name in plain)


def test_gradients_of_both_paths_are_added_before_they_are_squared(linear: VAE, x: Tensor) -> None:
    a = linear.posterior.a.detach()
    direction = torch.ones(1, DIM, dtype=torch.float64) @ a
    made = squared_gradients(linear, x, Path(direction[0]), seeded())
    assert not torch.allclose(made["grad_total"], made["grad_rec"] + made["grad_coupled"])
    most = (made["grad_rec"].sqrt() + made["grad_coupled"].sqrt()).square()
    assert (made["grad_total"] <= most * (1 + 1e-12)).all()


@pytest.mark.parametrize("method", ["vae", "bn", "vmf", "nf", "iaf"])
def test_the_signal_in_one_sweep_is_the_loop_over_components(method: str, corpus: Corpus) -> None:
    _, model = large(method, corpus)
    batch = corpus.test.gather(corpus.test.buckets(8)[-1])
    made = squared_gradients(model, batch, generator=seeded())["grad_signal"]
    e = model.read(batch).detach().requires_grad_()
    z = rsample(model.posterior(e), (), seeded())
    total = torch.zeros(len(batch))
    for component in model.decoder.signal(z).unbind(1):
        (gradient,) = torch.autograd.grad(component.sum(), e, retain_graph=True)
        total += gradient.square().sum(1)
    expected = total / z.detach().square().sum(1)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", ["vae", "bn"])
def test_an_example_has_the_same_gradients_alone_and_in_company(
    method: str, corpus: Corpus
) -> None:
    _, model = large(method, corpus, dropout_in=0.0, dropout_out=0.0)
    batch = next(b for b in map(corpus.test.gather, corpus.test.buckets(8)) if len(b) > 2)
    together = squared_gradients(model, batch, generator=seeded())
    alone = squared_gradients(model, batch[:1], generator=seeded())
    for name, value in alone.items():
        torch.testing.assert_close(value, together[name][:1], rtol=1e-4, atol=1e-10)


def test_dropout_is_on_and_comes_from_the_generator(corpus: Corpus) -> None:
    _, model = large("vae", corpus)
    batch = corpus.test.gather(corpus.test.buckets(8)[-1])
    state = torch.get_rng_state()
    first, again, other = (squared_gradients(model, batch, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["grad_rec"], other["grad_rec"])
    assert torch.equal(first["grad_kl"], other["grad_kl"])  # the rate knows neither z nor dropout
    model.decoder.shape = Shape(13, 5, 7, 4, 0.0, 0.0)
    still = squared_gradients(model, batch, generator=seeded(1))
    assert not torch.equal(first["grad_rec"], still["grad_rec"])


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool, corpus: Corpus) -> None:
    _, model = large("bn", corpus)
    model.train(training)
    model.encoder.train(not training)
    modes = [m.training for m in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # as an evaluation calls it
        squared_gradients(model, corpus.test.gather(corpus.test.buckets(8)[-1]))
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_constant_rate_has_no_gradient(corpus: Corpus) -> None:
    _, model = large("vmf", corpus)
    made = squared_gradients(model, corpus.test.gather(corpus.test.buckets(8)[-1]))
    assert not made["grad_kl"].any()
    assert made["grad_rec"].all()


def test_the_mean_is_over_examples(linear: VAE, x: Tensor) -> None:
    def batches() -> Iterator[Tensor]:
        yield from (x[:1], x[1:4], x[4:])

    path = Path(torch.ones(WIDTH, dtype=torch.float64))
    means = gradient_norms(linear, list(batches()), path, seeded())
    noise = seeded()
    each = [squared_gradients(linear, b, path, noise) for b in batches()]
    assert set(means) == {"grad_rec", "grad_kl", "grad_signal", "grad_coupled", "grad_total"}
    for name, value in means.items():
        total = math.fsum(torch.cat([one[name] for one in each]).tolist())
        assert value == pytest.approx(total / SIZE, rel=1e-12)
    with pytest.raises(VaelibError, match="at least one batch"):
        gradient_norms(linear, [])
