"""Posteriors of Coupled-VAE: two heads, a learned concentration, a point; and their methods."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn import functional as F

from vaelib.bessel import length_slope, mean_resultant_length
from vaelib.build import Built, build, resolve
from vaelib.distributions import (
    HypersphericalUniform,
    VonMisesFisher,
    diagonal_normal,
    mean_logvar,
    rsample,
)
from vaelib.errors import VaelibError
from vaelib.flows import FlowNormal
from vaelib.layers import Shape, uniform_init_
from vaelib.metrics import importance_weighted_nll
from vaelib.points import Point
from vaelib.posteriors_coupled import (
    LearnedVonMisesFisherPosterior,
    LinearHeadsPosterior,
    PointPosterior,
)
from vaelib.testing import check_posterior, sentences

SHAPE = Shape(13, 5, 7, 4)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def h() -> Tensor:
    return torch.randn(6, 9, generator=seeded(5))


@pytest.mark.parametrize("name", ["linear_heads", "vmf_learned", "point"])
def test_they_keep_the_contract(name: str) -> None:
    check_posterior(name)


# ---- Two heads ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("second", "factor"), [("log_sigma", 2), ("log_variance", 1)])
def test_two_linear_heads_with_bias(second: str, factor: int, h: Tensor) -> None:
    posterior = LinearHeadsPosterior(9, SHAPE, second_head=second)
    mu, logvar = mean_logvar(posterior(h))
    assert torch.allclose(mu, h @ posterior.mu.weight.T + posterior.mu.bias, atol=1e-6)
    raw = h @ posterior.log_scale.weight.T + posterior.log_scale.bias
    assert torch.allclose(logvar, factor * raw, atol=1e-5)
    assert bool(posterior.mu.bias.any()) == (second == "log_sigma")
    with pytest.raises(VaelibError, match="second_head"):
        LinearHeadsPosterior(9, SHAPE, second_head="sigma")


# ---- A learned concentration --------------------------------------------------------------------


def spread(count: int, dim: int, kappa: float) -> tuple[Tensor, VonMisesFisher]:
    """A concentration for each of many copies of one vMF distribution around the first axis."""
    loc = torch.zeros(count, dim, dtype=torch.float64)
    loc[:, 0] = 1
    concentration = torch.full((count,), kappa, dtype=torch.float64, requires_grad=True)
    return concentration, VonMisesFisher(loc, concentration, validate_args=False)


def envelope(kappa: Tensor, dim: int) -> Tensor:
    """b(kappa) of the sampler of Ulrich and Wood."""
    return (dim - 1) / (2 * kappa + torch.sqrt(4 * kappa**2 + (dim - 1) ** 2))


def test_direction_and_concentration_are_those_of_the_heads(h: Tensor) -> None:
    posterior = LearnedVonMisesFisherPosterior(9, SHAPE)
    uniform_init_(posterior, 0.3, 0.3, seeded(1))
    q = posterior(30 * h)
    assert torch.allclose(q.loc, F.normalize(posterior.mu(30 * h), dim=1))
    raw = posterior.concentration(30 * h)[:, 0]
    assert torch.allclose(q.concentration, torch.log1p(raw.exp()) + 1, atol=1e-5)
    assert q.concentration.min() >= 1
    assert q.concentration.std() > 1
    with pytest.raises(VaelibError, match="sphere"):
        LearnedVonMisesFisherPosterior(9, Shape(13, 5, 7, 1))


def test_the_least_concentration_is_collapse() -> None:
    """Protocol A.13: at kappa = 1 and D = 32 the KL is 0.016 nats."""
    posterior = LearnedVonMisesFisherPosterior(9, Shape(13, 5, 7, 32))
    with torch.no_grad():
        posterior.concentration.weight.zero_()
        posterior.concentration.bias.fill_(-60.0)
    rate = kl_divergence(posterior(torch.ones(2, 9)), HypersphericalUniform(32))
    assert rate.tolist() == pytest.approx([0.0156] * 2, abs=5e-5)


def test_the_gradient_of_the_kl_is_the_closed_form(h: Tensor) -> None:
    """KL = kappa A - F with F' = A, so that its slope is kappa A'."""
    posterior = LearnedVonMisesFisherPosterior(9, SHAPE)
    q = posterior(h)
    rate = kl_divergence(q, HypersphericalUniform(4)).sum()
    (slope,) = torch.autograd.grad(rate, posterior.concentration.bias)
    kappa = q.concentration.detach().double()
    inner = 1 - torch.exp(1 - kappa)  # of softplus, at softplus^-1(kappa - 1)
    wanted = (kappa * length_slope(kappa, 4) * inner).sum()
    assert slope.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_the_gradient_of_the_kl_is_the_numerical_one() -> None:
    def rate(kappa: Tensor) -> Tensor:
        loc = F.normalize(torch.ones(3, 4, dtype=torch.float64), dim=1)
        return kl_divergence(VonMisesFisher(loc, kappa), HypersphericalUniform(4))

    kappa = torch.tensor([1.0, 6.0, 90.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rate, kappa)


def test_samples_carry_the_gradient_of_the_accepted_proposal() -> None:
    kappa, q = spread(50, 3, 4.0)
    cosine = q.rsample((), seeded())[:, 0]
    (slopes,) = torch.autograd.grad(cosine.sum(), kappa)
    b = envelope(kappa, 3)
    share = ((1 - cosine) / (1 + b - (1 - b) * cosine)).detach()
    again = (1 - (1 + b) * share) / (1 - (1 - b) * share)
    assert torch.allclose(again, cosine, atol=1e-12)
    assert torch.allclose(slopes, torch.autograd.grad(again.sum(), kappa)[0], atol=1e-12)
    assert (slopes > 0).all()


def test_with_the_correction_the_gradient_of_the_mean_is_the_closed_form() -> None:
    """d E[cos] / d kappa = A', by the samples' slopes and the score of what is accepted."""
    kappa, q = spread(100_000, 3, 1.5)
    cosine = q.rsample((), seeded())[:, 0]
    (slopes,) = torch.autograd.grad(cosine.sum(), kappa, retain_graph=True)
    b = envelope(kappa, 3)
    share = ((1 - cosine) / (1 + b - (1 - b) * cosine)).detach()
    stretch = torch.log(2 * b) - 2 * torch.log(1 - (1 - b) * share)
    density = q.log_prob(q.loc * cosine[:, None])  # in 3 dimensions the cosine has this density
    (score,) = torch.autograd.grad((density + stretch).sum(), kappa)
    length = mean_resultant_length(torch.tensor(1.5).double(), 3)
    every = slopes + (cosine.detach() - length) * score
    wanted = length_slope(torch.tensor(1.5).double(), 3).item()
    error = every.std().item() / math.sqrt(len(every))
    assert error < 0.003
    assert every.mean().item() == pytest.approx(wanted, abs=4 * error)
    assert slopes.mean().item() < 0.8 * wanted  # what is missing without it


@pytest.mark.parametrize("kappa", [1.5, 25.0, 100.0])
def test_at_the_published_size_the_missing_correction_is_small(kappa: float) -> None:
    concentration, q = spread(20_000, 32, kappa)
    (slopes,) = torch.autograd.grad(q.rsample((), seeded())[:, 0].sum(), concentration)
    wanted = length_slope(torch.tensor(kappa).double(), 32).item()
    assert slopes.mean().item() == pytest.approx(wanted, rel=0.03)


# ---- A point ------------------------------------------------------------------------------------


def test_a_point_has_no_noise_and_no_rate(h: Tensor) -> None:
    posterior = PointPosterior(9, SHAPE)
    q = posterior(h)
    wanted = h @ posterior.mu.weight.T + posterior.mu.bias
    drawn = rsample(q, (3,), seeded())
    assert drawn.shape == (3, 6, 4)
    assert torch.allclose(drawn, wanted.expand(3, -1, -1), atol=1e-6)
    assert torch.equal(q.mode, q.mean)
    for p in (diagonal_normal(torch.zeros(4), torch.zeros(4)), HypersphericalUniform(4)):
        assert kl_divergence(q, p).tolist() == [0.0] * 6


def test_a_point_has_no_density() -> None:
    q = Point(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert q.log_prob(torch.tensor([[1.0, 2.0], [3.0, 5.0]])).tolist() == [math.inf, -math.inf]


# ---- Methods ------------------------------------------------------------------------------------


def test_the_autoencoder_minimises_the_distortion_and_has_an_infinite_nll() -> None:
    model, x = built("DAE"), sentences(6, 7, 13)
    outputs = model.model(x, seeded())
    loss, _ = model.objective(outputs, 1.0, seeded())
    assert torch.equal(loss, outputs.distortion.mean())
    nll = importance_weighted_nll(model.model.eval(), x, 3)
    assert nll.tolist() == [math.inf] * 6


def built(method: str) -> Built:
    """A method's parts at the smoke profile, for 13 words."""
    return build(resolve(method, data="grammar", profile="smoke"), 13)


def test_the_methods_have_their_posteriors() -> None:
    x = sentences(6, 7, 13)
    learned = built("vMF-VAE-kappa").model(x, seeded())
    assert isinstance(learned.q, VonMisesFisher)
    assert learned.rate.grad_fn is not None
    flown = built("WAE-NF").model(x, seeded())
    assert isinstance(flown.q.base_dist, FlowNormal)


def test_wae_nf_is_wae_on_flows() -> None:
    mine, wae = (
        resolve(name, data="grammar", profile="smoke") for name in ("wae_nf", "wae_multiscale")
    )
    assert mine.options.items() >= wae.options.items()
    assert (mine.options["mmd_weight"], mine.options["beta"]) == (10.0, 0.8)
    assert mine.extra_terms == wae.extra_terms == ("mmd_multiscale",)
    assert mine.options["flow_depth"] == 3
