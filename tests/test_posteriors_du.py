"""DU-VAE's posterior against the closed forms of its paper, and the batch norms beside it."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaelib.distributions import diagonal_normal, mean_logvar
from vaelib.errors import VaelibError
from vaelib.layers import Shape, uniform_init_
from vaelib.metrics import conditional_entropy, mutual_posterior_divergence
from vaelib.posteriors_du import ALPHA, DUPosterior, FixedShiftPosterior, LearnedBatchNorm
from vaelib.testing import check_posterior

SHAPE = Shape(13, 5, 7, 4)


def noise(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posterior_of(keep: float, warm: bool = True) -> DUPosterior:
    """A posterior with large weights, in the middle of an update."""
    made = DUPosterior(7, SHAPE, gamma=0.6, keep_probability=keep).train()
    uniform_init_(made, 0.8, 0.8, noise())
    made.begin_step(warm, noise())
    return made


@pytest.fixture
def h() -> Tensor:
    return torch.randn(50, 7, generator=noise(5))


def test_the_floor_is_the_variance_of_zero_entropy() -> None:
    assert pytest.approx(0.0585498315, abs=1e-10) == ALPHA
    entropy = torch.distributions.Normal(0.0, math.sqrt(ALPHA)).entropy()
    assert abs(float(entropy)) < 1e-6


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.8])
def test_variances_are_dropped_to_the_floor_or_scaled_above_it(keep: float) -> None:
    """Eq. 6: two outcomes with chances 1 - p and p; its three expectations are Eq. S14."""
    raw = torch.full((40_000, 4), -0.7, dtype=torch.float64)
    dropped = posterior_of(keep).floored(raw).exp()
    variance = math.exp(-0.7) + ALPHA
    low = torch.isclose(dropped, torch.tensor(ALPHA, dtype=torch.float64))
    high = (variance - ALPHA) / keep + ALPHA
    assert torch.allclose(dropped[~low], torch.tensor(high, dtype=torch.float64))
    share, spread = float((~low).double().mean()), math.sqrt(keep * (1 - keep) / raw.numel())
    assert abs(share - keep) < 5 * spread
    chances = {ALPHA: 1 - keep, high: keep}
    mean, inverse, log = (
        sum(chance * f(v) for v, chance in chances.items())
        for f in (float, lambda v: 1 / v, math.log)
    )
    beneath = variance + (keep - 1) * ALPHA
    assert mean == pytest.approx(variance)
    assert inverse == pytest.approx(keep**2 / beneath + (1 - keep) / ALPHA)
    assert log == pytest.approx(keep * math.log(beneath / (keep * ALPHA)) + math.log(ALPHA))


def outcomes(raw: Tensor, quarters: int) -> Tensor:
    """Log variances `[4 N, D]`: each sentence four times, `quarters` of them kept (p = quarters/4).

    Pairs of rows then stand for independent masks of two sentences, exactly.
    """
    excess = raw.exp() / (quarters / 4)
    kept, dropped = torch.log(excess + ALPHA), torch.full_like(raw, math.log(ALPHA))
    return torch.cat([kept] * quarters + [dropped] * (4 - quarters))


def test_dropping_raises_diversity_and_lowers_uncertainty() -> None:
    """Proposition 1: more so for smaller p, at an unchanged mean variance, above the bound."""
    mu, raw = torch.randn(2, 9, 4, generator=noise(), dtype=torch.float64)
    every = {quarters: outcomes(raw, quarters) for quarters in (4, 3, 2, 1)}
    variances = [logvar.exp().mean(0) for logvar in every.values()]
    assert all(torch.allclose(v, variances[0]) for v in variances)
    diversity = [mutual_posterior_divergence(mu.repeat(4, 1), v) for v in every.values()]
    uncertainty = [conditional_entropy(v) for v in every.values()]
    assert diversity == sorted(diversity)
    assert uncertainty == sorted(uncertainty, reverse=True)
    assert len({*diversity}) == len({*uncertainty}) == 4
    assert uncertainty[-1] > 0
    spread = float(mu.var(0, unbiased=False).sum())
    for quarters, value in zip(every, diversity, strict=True):
        assert value > (1 - quarters / 4) / ALPHA * spread


def test_a_dropped_dimension_costs_a_constant_and_the_mean(h: Tensor) -> None:
    q = posterior_of(0.5)(h)
    mu, logvar = mean_logvar(q)
    kl = kl_divergence(q.base_dist, diagonal_normal(0 * mu, 0 * mu).base_dist)
    dropped = torch.isclose(logvar, torch.tensor(math.log(ALPHA)))
    assert 0 < dropped.sum() < dropped.numel()
    assert torch.allclose(kl[dropped], 0.9483 + 0.5 * mu[dropped].square(), atol=1e-4)


def test_masks_differ_by_sentence_and_dimension_and_come_from_the_generator(h: Tensor) -> None:
    same = h[:1].expand(50, -1) + 0  # one sentence 50 times
    first, again = (mean_logvar(posterior_of(0.5)(same))[1] for _ in range(2))
    assert torch.equal(first, again)
    kept = first > math.log(ALPHA) + 1e-4
    assert 0 < kept.sum(0).min() <= kept.sum(0).max() < 50
    assert len({tuple(row) for row in kept.tolist()}) > 4


def test_in_warm_up_nothing_is_floored_or_dropped(h: Tensor) -> None:
    made = posterior_of(0.5, warm=False)
    assert torch.allclose(mean_logvar(made(h))[1], raw_of(made, h), atol=1e-6)
    assert not made.warm


def raw_of(made: DUPosterior, h: Tensor) -> Tensor:
    return made.linear(h).chunk(2, dim=-1)[1]


def test_evaluation_keeps_the_floor_and_drops_nothing(h: Tensor) -> None:
    made = posterior_of(0.5)
    made.end_step()
    logvar = mean_logvar(made.eval()(h))[1]
    assert torch.allclose(logvar, torch.log(raw_of(made, h).exp() + ALPHA), atol=1e-6)
    assert conditional_entropy(logvar.detach()) > 0


def test_the_end_of_the_warm_up_is_kept_with_the_weights(h: Tensor) -> None:
    made, fresh = posterior_of(0.5), DUPosterior(7, SHAPE, gamma=0.6)
    made(h)
    fresh.load_state_dict(made.state_dict())
    made.end_step()
    pairs = zip(mean_logvar(made.eval()(h)), mean_logvar(fresh.eval()(h)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert fresh.warm


def test_means_keep_the_mean_square_of_their_scales(h: Tensor) -> None:
    """Eq. 9: after any update each mean has its shift, and the scales share gamma^2."""
    made = posterior_of(0.8)
    with torch.no_grad():
        made.norm.offset.add_(torch.tensor([0.9, -0.4, 0.0, 2.0]))
    mu = mean_logvar(made(h))[0].detach()
    assert torch.allclose(mu.mean(0), made.norm.shift, atol=1e-6)
    scale = mu.std(0, unbiased=False)
    assert float(scale.square().mean()) == pytest.approx(0.36, rel=1e-3)
    assert float(scale.std()) > 0.1
    made.end_step()
    free = made.norm.gamma + made.norm.offset  # now of the right mean square by itself
    assert free.square().mean().item() == pytest.approx(0.36)
    assert torch.allclose(mean_logvar(made(h))[0], mu, atol=1e-6)


def test_the_factor_that_rescales_has_no_gradient() -> None:
    """As in the released code, where the weights are rescaled outside the graph."""
    norm = LearnedBatchNorm(3, 0.5, rescaled=True)
    with torch.no_grad():
        norm.offset.copy_(torch.tensor([0.3, -0.2, 0.1]))
    factor = (0.5 / (0.5 + norm.offset).square().mean().sqrt()).item()
    norm.scale.sum().backward()
    assert torch.allclose(norm.offset.grad, torch.full((3,), factor))


def test_scales_start_nearly_equal_whatever_the_initialisation() -> None:
    made = DUPosterior(7, SHAPE, gamma=0.5)
    uniform_init_(made, 0.1, 0.1, noise())
    assert made.norm.scale.isclose(torch.tensor(0.5), atol=0.15).all()
    assert made.norm.offset.abs().max().item() <= 0.1


@pytest.mark.parametrize("shift", [0.1, 0.7])
def test_a_fixed_shift_is_a_floor_that_collapse_can_reach(h: Tensor, shift: float) -> None:
    """Appendix F: the KL stays above D shift^2 / 2 although all posteriors can be the same."""
    made = FixedShiftPosterior(7, SHAPE, shift=shift).train()
    uniform_init_(made, 0.4, 0.4, noise())
    zero = torch.zeros(4)
    floor = 4 * shift**2 / 2
    q = made(h)
    assert torch.allclose(q.mean.mean(0), torch.full_like(zero, shift), atol=1e-6)
    assert kl_divergence(q, diagonal_normal(zero, zero)).mean().item() > floor
    with torch.no_grad():
        made.norm.offset.fill_(-made.norm.gamma)  # scales of 0
        made.linear.weight[4:].zero_()
    q = made(h)
    assert torch.equal(q.mean, torch.full_like(q.mean, shift))
    assert torch.allclose(kl_divergence(q, diagonal_normal(zero, zero)), torch.tensor(floor))
    assert dict(made.named_parameters()).keys() == {"linear.weight", "norm.offset"}


@pytest.mark.parametrize(
    "options",
    [{"gamma": 0.0}, {"keep_probability": 0.0}, {"keep_probability": 1.1}, {"norm_eps": 0.0}],
)
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(VaelibError, match="positive"):
        DUPosterior(7, SHAPE, **options)


def test_a_batch_of_one_is_refused_in_training() -> None:
    with pytest.raises(VaelibError, match="min_batch=2"):
        LearnedBatchNorm(4, 0.5)(torch.zeros(1, 4))
    with pytest.raises(VaelibError, match="norm_eps"):
        FixedShiftPosterior(7, SHAPE, norm_eps=0.0)


def test_they_keep_the_contract() -> None:
    check_posterior("variance_dropout")
    check_posterior("variance_dropout", keep_probability=1.0, gamma=1.2)
    check_posterior("fixed_shift", shift=0.0)


def test_evaluation_has_the_floor_even_if_the_kept_weights_are_from_the_warm_up() -> None:
    """The released code evaluates with the weight 1; else CE >= 0 would not hold."""
    posterior = DUPosterior(6, Shape(13, 5, 6, 4), gamma=0.6, keep_probability=0.8)
    h = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) * 20
    assert not posterior.warm
    assert posterior.eval()(h).base_dist.variance.min() >= ALPHA
    assert posterior.train()(h).base_dist.variance.min() < ALPHA
