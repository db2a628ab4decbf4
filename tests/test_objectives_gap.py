"""The density gap against plain loops, quadrature and the identities of the paper."""

import importlib
import math

import pytest
import torch
from objective_helpers import Posteriors, outputs_of, seeded
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn import functional as F

from vaelib.distributions import HypersphericalUniform, VonMisesFisher, diagonal_normal, rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.metrics import kl_normal
from vaelib.objectives import TERMS, Objective, density_gap


def log_normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * ((z - mu) ** 2 / logvar.exp() + logvar + math.log(2 * math.pi))


def plain_gap(mu: Tensor, logvar: Tensor, samples: int, size: int, joint: bool = False) -> Tensor:
    """The density gap as procedure I.2 tells it: loops over groups, points and members."""
    noise = torch.randn(samples, *mu.shape, generator=seeded(), dtype=mu.dtype)
    z = mu + (0.5 * logvar).exp() * noise
    gaps = []
    for start in range(0, len(mu), size):
        members = range(start, start + size)
        points = torch.cat([z[:, n] for n in members])
        each = torch.stack([log_normal(points, mu[k], logvar[k]) for k in members])
        prior = log_normal(points, torch.zeros_like(mu[0]), torch.zeros_like(mu[0]))
        if joint:
            each, prior = each.sum(-1, keepdim=True), prior.sum(-1, keepdim=True)
        gaps.append((each.exp().mean(0).log() - prior).mean(0).sum())
    return torch.stack(gaps).mean()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("form", ["marginal", "joint"])
def test_the_gap_equals_plain_loops(posteriors: Posteriors, size: int, form: str) -> None:
    mine = density_gap(*posteriors, samples=7, aggregation_size=size, form=form, generator=seeded())
    plain = plain_gap(*posteriors, 7, size, joint=form == "joint")
    assert mine.item() == pytest.approx(plain.item(), rel=1e-10)
    for a, b in zip(
        torch.autograd.grad(mine, posteriors), torch.autograd.grad(plain, posteriors), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-11)


def test_the_gap_in_small_blocks_is_the_same(
    posteriors: Posteriors, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = density_gap(*posteriors, samples=7, generator=seeded())
    gradients = torch.autograd.grad(whole, posteriors)
    module = importlib.import_module("vaelib.objectives.density_gap")
    monkeypatch.setattr(module, "BLOCK", 100)
    blocks = density_gap(*posteriors, samples=7, generator=seeded())
    assert blocks.item() == pytest.approx(whole.item(), rel=1e-12)
    for a, b in zip(gradients, torch.autograd.grad(blocks, posteriors), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-13)


def test_the_gap_has_the_gradient_of_finite_differences(posteriors: Posteriors) -> None:
    def gap(mu: Tensor, logvar: Tensor) -> Tensor:
        return density_gap(mu, logvar, samples=4, aggregation_size=6, generator=seeded())

    assert torch.autograd.gradcheck(gap, posteriors, eps=1e-6, atol=1e-6)


def test_the_gap_refuses_a_second_derivative(posteriors: Posteriors) -> None:
    gap = density_gap(*posteriors, samples=4, generator=seeded())
    (first,) = torch.autograd.grad(gap.square(), posteriors[0], create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), posteriors[0])


@pytest.mark.parametrize("form", ["marginal", "joint"])
def test_one_posterior_a_group_is_the_monte_carlo_rate(posteriors: Posteriors, form: str) -> None:
    mu, logvar = posteriors
    gap = density_gap(mu, logvar, samples=9, aggregation_size=1, form=form, generator=seeded())
    q = diagonal_normal(mu, logvar)
    z = rsample(q, (9,), seeded())
    prior = diagonal_normal(torch.zeros_like(mu[0]), torch.zeros_like(mu[0]))
    assert gap.item() == pytest.approx((q.log_prob(z) - prior.log_prob(z)).mean().item(), rel=1e-12)


def test_one_posterior_a_group_tends_to_the_rate(posteriors: Posteriors) -> None:
    gap = density_gap(*posteriors, samples=20_000, aggregation_size=1, generator=seeded())
    assert gap.item() == pytest.approx(kl_normal(*posteriors).sum(1).mean().item(), abs=0.03)


@pytest.mark.parametrize("size", [1, 2, 4, 6, 12])
def test_the_gap_never_exceeds_the_rate(posteriors: Posteriors, size: int) -> None:
    """R_marginal = mean KL - sum_i I_i, with 0 <= I_i <= ln |b|."""
    gap = density_gap(*posteriors, samples=5_000, aggregation_size=size, generator=seeded())
    rate = kl_normal(*posteriors).sum(1).mean()
    information = (rate - gap).item()
    assert -0.05 <= information <= 3 * math.log(size) + 0.05
    if size > 1:
        assert information > 0.1


def test_larger_groups_have_smaller_gaps(posteriors: Posteriors) -> None:
    gaps = [
        density_gap(*posteriors, samples=5_000, aggregation_size=size, generator=seeded()).item()
        for size in (1, 2, 4, 12)
    ]
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("form", ["marginal", "joint"])
@pytest.mark.parametrize("size", [1, 4, 8])
def test_posteriors_at_the_prior_have_no_gap(form: str, size: int) -> None:
    zero = torch.zeros(8, 5)
    gap = density_gap(zero, zero, samples=6, aggregation_size=size, form=form)
    assert gap.abs().item() < 1e-5


@pytest.mark.parametrize("form", ["marginal", "joint"])
def test_identical_posteriors_give_the_rate(form: str) -> None:
    mu = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64).expand(8, 3)
    logvar = torch.tensor([-1.0, 0.3, 0.0], dtype=torch.float64).expand(8, 3)
    alone = density_gap(mu, logvar, samples=5, aggregation_size=1, form=form, generator=seeded())
    grouped = density_gap(mu, logvar, samples=5, aggregation_size=8, form=form, generator=seeded())
    assert grouped.item() == pytest.approx(alone.item(), rel=1e-12)
    many = density_gap(mu, logvar, samples=20_000, form=form, generator=seeded())
    assert many.item() == pytest.approx(kl_normal(mu[:1], logvar[:1]).sum().item(), abs=0.03)


def test_many_samples_give_the_marginal_divergences(posteriors: Posteriors) -> None:
    mu, logvar = (t.detach() for t in posteriors)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None, None]
    q = log_normal(grid, mu, logvar).exp().mean(1)
    log_p = log_normal(grid, torch.zeros(()), torch.zeros(()))[:, 0]
    integrand = torch.where(q > 0, q * (q.clamp_min(1e-300).log() - log_p), 0.0)
    exact = torch.trapezoid(integrand, grid[:, 0], dim=0).sum()
    gap = density_gap(mu, logvar, samples=20_000, generator=seeded())
    assert gap.item() == pytest.approx(exact.item(), abs=0.03)


def test_the_gap_survives_sharp_and_distant_posteriors() -> None:
    mu = torch.tensor([[60.0], [-60.0]], requires_grad=True)
    logvar = torch.full((2, 1), -14.0, requires_grad=True)
    gap = density_gap(mu, logvar, samples=8)
    gap.backward()
    assert torch.isfinite(gap)
    assert torch.isfinite(mu.grad).all()
    assert torch.isfinite(logvar.grad).all()
    rate = kl_normal(mu, logvar).mean()
    assert gap.item() == pytest.approx((rate - math.log(2)).item(), rel=1e-2)


def test_a_group_size_that_does_not_fit_is_refused_by_the_function() -> None:
    with pytest.raises(VaelibError, match="aggregation_size=5 does not divide the 8 posteriors"):
        density_gap(torch.zeros(8, 2), torch.zeros(8, 2), aggregation_size=5)
    with pytest.raises(VaelibError, match="unknown form of the density gap 'marginals'"):
        density_gap(torch.zeros(8, 2), torch.zeros(8, 2), form="marginals")


def gap_term(**options: object) -> object:
    return TERMS["density_gap"](Shape(13, 5, 7, 3), samples=6, **options)


def test_the_term_is_the_function(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*posteriors))
    for size, form in ((0, "marginal"), (4, "marginal"), (4, "joint")):
        term = gap_term(aggregation_size=size, form=form)
        wanted = density_gap(
            *posteriors,
            samples=6,
            aggregation_size=size or None,
            form=form,
            generator=seeded(),
        )
        assert term(outputs, seeded()).item() == pytest.approx(wanted.item(), rel=1e-12)


def test_skip_and_whole_treat_a_batch_that_does_not_fit(posteriors: Posteriors) -> None:
    """T5: training skips it (the paper), or takes it as one group (the released code)."""
    skip, whole = (gap_term(aggregation_size=5, indivisible=how) for how in ("skip", "whole"))
    assert [Objective(skip, {}).accepts(n) for n in (4, 5, 10, 12)] == [False, True, True, False]
    assert all(Objective(whole, {}).accepts(n) for n in range(1, 40))
    outputs = outputs_of(diagonal_normal(*posteriors))
    default = gap_term(aggregation_size=0)
    assert all(Objective(default, {}).accepts(n) for n in range(1, 40))
    value = default(outputs, seeded())
    assert torch.equal(whole(outputs, seeded()), value)
    assert torch.equal(skip(outputs, seeded()), value)  # as validation needs it


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_gap_on_the_sphere_equals_plain_loops(size: int) -> None:
    loc = F.normalize(torch.randn(4, 5, generator=seeded(1), dtype=torch.float64), dim=1)
    q, p = VonMisesFisher(loc, 20.0), HypersphericalUniform(5, dtype=torch.float64)
    mine = gap_term(aggregation_size=size, form="joint")(outputs_of(q, p), seeded())
    z, gaps = rsample(q, (6,), seeded()), []
    for start in range(0, 4, size):
        for n in range(start, start + size):
            for s in range(6):
                each = [
                    VonMisesFisher(loc[k], 20.0).log_prob(z[s, n]).exp()
                    for k in range(start, start + size)
                ]
                gaps.append(sum(each).div(size).log() - p.log_prob(z[s, n]))
    assert mine.item() == pytest.approx(torch.stack(gaps).mean().item(), rel=1e-9)


def test_identical_directions_give_the_rate_of_vmf() -> None:
    loc = F.normalize(torch.ones(8, 16, dtype=torch.float64), dim=1)
    q, p = VonMisesFisher(loc, 25.0), HypersphericalUniform(16, dtype=torch.float64)
    term = TERMS["density_gap"](Shape(13, 5, 7, 16), samples=3_000, form="joint")
    rate = kl_divergence(q, p)[0].item()
    assert term(outputs_of(q, p), seeded()).item() == pytest.approx(rate, abs=0.05)


def test_the_gap_pulls_the_directions_apart() -> None:
    base = torch.nn.functional.one_hot(torch.zeros(4, dtype=torch.long), 6).double()
    raw = (base + 0.1 * torch.randn(4, 6, generator=seeded(2))).requires_grad_()
    q = VonMisesFisher(F.normalize(raw, dim=1), 15.0)
    term = TERMS["density_gap"](Shape(13, 5, 7, 6), samples=200, form="joint")
    p = HypersphericalUniform(6, dtype=torch.float64)
    (slope,) = torch.autograd.grad(term(outputs_of(q, p), seeded()), raw)
    moved = VonMisesFisher(F.normalize(raw - 5 * slope, dim=1), 15.0)
    spread = [(d.loc @ d.loc.T).sum().item() for d in (q, moved)]
    assert spread[1] < spread[0]


@pytest.mark.parametrize("shapes", [((8, 2), (8, 3)), ((2,), (2,))])
def test_posteriors_of_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    for function in (density_gap, kl_normal):
        if function is density_gap or shapes[0] != shapes[1]:
            with pytest.raises(VaelibError, match="shape"):
                function(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
