"""VAE-MINE: the dual bound, its slope xi, the critic on known information; and InfoVAE."""

import math
from dataclasses import replace

import pytest
import torch
from objective_helpers import outputs_of, seeded
from torch import Tensor, nn

from vaelib.build import resolve
from vaelib.distributions import diagonal_normal, rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives import TERMS, Objective
from vaelib.objectives.critic import MOST_EXPONENT, dual_bound, multilayer
from vaelib.objectives.mine import MOST_ENERGY, other
from vaelib.testing import check_method, check_term

RHO = 0.8


def term(dim: int = 1, **options: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TERMS["mine"](Shape(13, 5, dim, dim), **options)


def correlated(size: int, seed: int = 1, dim: int = 1, rho: float = RHO) -> Outputs:
    """A forward pass whose h and z are standard normals with correlation rho."""
    h = torch.randn(size, dim, generator=seeded(seed))
    q = diagonal_normal(rho * h, torch.full_like(h, math.log(1 - rho**2)))
    plain = outputs_of(diagonal_normal(torch.zeros(2, dim), torch.zeros(2, dim)))
    return replace(plain, h=h, q=q, z=rsample(q, (), seeded(seed + 1000)))


def information(dim: int = 1, rho: float = RHO) -> float:
    """I(h; z) in nats."""
    return -0.5 * dim * math.log(1 - rho**2)


def pointwise(h: Tensor, z: Tensor, rho: float = RHO) -> Tensor:
    """log p(h, z) / p(h) p(z) [N] of a correlated pair."""
    squares = rho**2 * (h**2 + z**2) - 2 * rho * h * z
    return (-0.5 * math.log(1 - rho**2) - squares / (2 * (1 - rho**2)))[:, 0]


# ---- The bound --------------------------------------------------------------------------------


def test_the_best_slope_is_the_reciprocal_and_every_other_one_gives_less() -> None:
    joint, marginal = (torch.randn(50, generator=seeded(s)).double() for s in (1, 2))
    log_mean = marginal.exp().mean().log()
    best = dual_bound(joint, marginal, -log_mean)
    assert best.item() == pytest.approx((joint.mean() - log_mean).item(), rel=1e-12)
    for off in (-2.0, -0.1, 0.1, 2.0):
        value = dual_bound(joint, marginal, -log_mean + off)
        assert value < best
        assert (best - value).item() == pytest.approx(math.exp(off) - off - 1, rel=1e-9)


def test_with_the_pointwise_information_and_xi_one_the_bound_is_the_information() -> None:
    outputs = correlated(400_000)
    h, z = outputs.h.double(), outputs.z.double()
    value = dual_bound(pointwise(h, z), pointwise(h, z.roll(1, 0)))
    assert value.item() == pytest.approx(information(), rel=0.02)


def test_with_a_fixed_slope_small_batches_give_the_gradient_of_the_whole() -> None:
    """The tangent is linear in the expectations; the logarithm is not."""
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    joint, marginal = (torch.randn(64, 8, generator=seeded(s)).double() for s in (1, 2))

    def gradient(a: Tensor, b: Tensor, fixed: bool) -> float:
        log_xi = torch.tensor(0.3) if fixed else -(weight * b).exp().mean().log().detach()
        (made,) = torch.autograd.grad(dual_bound(weight * a, weight * b, log_xi), weight)
        return made.item()

    for fixed in (True, False):
        whole = gradient(joint.flatten(), marginal.flatten(), fixed)
        small = [gradient(a, b, fixed) for a, b in zip(joint, marginal, strict=True)]
        difference = abs(sum(small) / 64 - whole)
        assert difference < 1e-12 if fixed else difference > 0.01


def test_a_huge_energy_stays_finite() -> None:
    value = dual_bound(torch.zeros(2), torch.full((2,), 1000.0))
    assert value.item() == pytest.approx(1 - math.exp(MOST_EXPONENT), rel=1e-6)


# ---- The term ---------------------------------------------------------------------------------


def test_a_rotation_pairs_everyone_with_another() -> None:
    seen = set()
    for seed in range(40):
        places = other(5, seeded(seed))
        assert sorted(places.tolist()) == list(range(5))
        assert not (places == torch.arange(5)).any()
        seen.add(int(places[0]))
    assert seen == {1, 2, 3, 4}
    assert other(1, seeded()).tolist() == [0]


def energies(critic: nn.Module, outputs: Outputs) -> tuple[Tensor, Tensor]:
    """f of the pairs and of the rotated pairs, written out."""
    shuffled = outputs.z[other(len(outputs.h), seeded())]
    values = [critic.network(torch.cat([outputs.h, z], 1))[:, 0] for z in (outputs.z, shuffled)]
    joint, marginal = (MOST_ENERGY * torch.tanh(v / MOST_ENERGY) for v in values)
    return joint, marginal


@pytest.mark.parametrize("alpha", [0.0, 2.0, 5.0])
def test_the_term_is_minus_alpha_times_the_bound(alpha: float) -> None:
    outputs = correlated(32)
    critic = term(mine_alpha=alpha)
    joint, marginal = energies(critic, outputs)
    wanted = -alpha * (joint.mean() - marginal.exp().mean().log())
    assert critic(outputs, seeded()).item() == pytest.approx(wanted.item(), abs=1e-6)


def test_the_critic_ascends_the_bound_and_the_encoder_alpha_times_it() -> None:
    """Algorithm 1, lines 6 to 12, with the alpha of Eq. 17."""
    slopes = []
    for alpha in (1.0, 4.0):
        made, outputs = term(mine_alpha=alpha), correlated(64)
        outputs = replace(outputs, z=outputs.z.clone().requires_grad_())
        made(outputs, seeded()).backward()
        slopes.append((outputs.z.grad, [p.grad for p in made.network.parameters()]))
    (z, network), (far_z, same) = slopes
    assert torch.allclose(far_z, 4 * z, rtol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(network, same, strict=True))


def test_the_published_slope_weighs_the_second_part_by_its_square() -> None:
    outputs = correlated(32)
    best, printed = (term(mine_xi=xi, mine_alpha=1.0) for xi in ("optimal", "published"))
    with torch.no_grad():
        for critic in (best, printed):
            critic.network[-1].weight.mul_(20)
    joint, marginal = energies(printed, outputs)
    mean = marginal.exp().mean()
    wanted = joint.mean() - mean**2 + mean.log() + 1
    assert printed.bound(outputs, seeded()).item() == pytest.approx(wanted.item(), rel=1e-5)
    assert printed.bound(outputs, seeded()) < best.bound(outputs, seeded())
    assert abs(mean.item() - 1) > 0.05  # at E e^f = 1 both slopes are 1


def test_the_average_slope_comes_from_earlier_batches_and_is_part_of_the_state() -> None:
    outputs, critic = correlated(32), term(mine_xi="average", mine_decay=0.9)
    joint, marginal = energies(critic, outputs)
    mean = marginal.exp().mean()
    first = critic.bound(outputs, seeded()).item()
    assert first == pytest.approx((joint.mean() - mean + 1).item(), abs=1e-6)
    average = 0.9 * 1 + 0.1 * mean
    assert critic.log_average.exp().item() == pytest.approx(average.item(), rel=1e-6)
    assert not critic.log_average.requires_grad
    critic.eval()
    before = critic.log_average.clone()
    second = critic.bound(outputs, seeded()).item()
    wanted = joint.mean() - mean / average - average.log() + 1
    assert second == pytest.approx(wanted.item(), abs=1e-6)
    assert torch.equal(critic.log_average, before)
    copy = term(mine_xi="average")
    copy.load_state_dict(critic.state_dict())
    assert torch.equal(copy.log_average, before)


@pytest.mark.parametrize("shared", [True, False])
def test_the_encoders_lower_layers_learn_from_the_critic_when_shared(shared: bool) -> None:
    plain = correlated(16)
    outputs = replace(plain, h=plain.h.clone().requires_grad_(), z=plain.z.clone().requires_grad_())
    sources = [outputs.h, outputs.z]
    value = term(mine_shared=shared)(outputs, seeded())
    by_h, by_z = torch.autograd.grad(value, sources, allow_unused=True)
    assert by_z.abs().sum() > 0
    assert (by_h is not None) == shared


@pytest.mark.parametrize(("xi", "dim"), [("optimal", 1), ("average", 2)])
def test_a_trained_critic_comes_close_to_the_information_from_below(xi: str, dim: int) -> None:
    critic = term(dim, mine_width=32, mine_xi=xi, mine_alpha=1.0)
    update, noise = torch.optim.Adam(critic.parameters(), lr=5e-3), seeded(3)
    for step in range(300):
        loss = critic(correlated(256, 10 + step, dim), noise)
        update.zero_grad()
        loss.backward()
        update.step()
    with torch.no_grad():
        values = [critic.eval().bound(correlated(20_000, s, dim), noise) for s in range(5)]
    value, true = torch.stack(values).mean().item(), information(dim)
    assert 0.88 * true < value < 1.02 * true


def test_independent_variables_have_no_information() -> None:
    critic = term(mine_width=32, mine_alpha=1.0)
    update, noise = torch.optim.Adam(critic.parameters(), lr=1e-3), seeded(3)
    for step in range(100):
        loss = critic(correlated(256, 10 + step, rho=0.0), noise)
        update.zero_grad()
        loss.backward()
        update.step()
    assert abs(critic.bound(correlated(20_000, 5, rho=0.0), noise).item()) < 0.02


def test_the_critic_has_the_published_shape() -> None:
    critic = TERMS["mine"](Shape(13, 5, 7, 4))
    assert [m.weight.shape for m in critic.network[::2]] == [(512, 11), (512, 512), (1, 512)]
    assert all(isinstance(m, nn.ReLU) for m in critic.network[1::2])
    wide = multilayer((3, 4, 2), nn.Tanh)
    assert [type(m) for m in wide] == [nn.Linear, nn.Tanh, nn.Linear]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mine_xi": "best"}, "mine_xi"),
        ({"mine_alpha": -1.0}, "at least 0"),
        ({"mine_width": 0}, "units"),
        ({"mine_decay": 1.0}, "decay between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, words: str) -> None:
    with pytest.raises(VaelibError, match=words):
        term(**options)


def test_options_keep_the_contracts() -> None:
    check_term("mine", mine_xi="published", mine_shared=False)
    check_term("mine", mine_alpha=5.0, mine_width=3)


@pytest.mark.slow
def test_a_run_with_a_running_average_resumes_to_the_same_bits() -> None:
    check_method("mine", mine_xi="average")


# ---- InfoVAE, and MMD of several scales -------------------------------------------------------


def four_posteriors() -> Outputs:
    mu = torch.randn(4, 3, generator=seeded(2)).double()
    return outputs_of(diagonal_normal(mu, 0.3 * mu.flip(0)))


def discrepancy(q: Tensor, p: Tensor, scale: float) -> float:
    """MMD by plain loops: pairs within each set, and across."""

    def kernel(a: Tensor, b: Tensor) -> float:
        return scale / (1e-9 + scale + ((a - b) ** 2).sum().item())

    n = len(q)
    within = sum(kernel(s[i], s[j]) for s in (q, p) for i in range(n) for j in range(n) if i != j)
    return within / (n * (n - 1)) - 2 * sum(kernel(a, b) for a in q for b in p) / n**2


def samples(outputs: Outputs) -> tuple[Tensor, Tensor]:
    """What the terms draw from posteriors and prior."""
    noise = seeded()
    return rsample(outputs.q, (), noise), rsample(outputs.p, (4,), noise)


def test_mmd_of_seven_scales_is_a_sum_over_the_same_samples() -> None:
    outputs = four_posteriors()
    scales = [6.0 * s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    wanted = 10 * sum(discrepancy(*samples(outputs), scale) for scale in scales)
    value = TERMS["mmd_multiscale"](Shape(13, 5, 7, 3))(outputs, seeded())
    assert value.item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("a", "weight"), [(0.0, 11.0), (0.5, 3.0), (1.0, 0.0)])
def test_info_vae_weighs_the_rate_and_the_discrepancy(a: float, weight: float) -> None:
    outputs = four_posteriors()
    wanted = (1 - a) * outputs.rate.mean().item()
    wanted += (a + weight - 1) * discrepancy(*samples(outputs), 6.0)
    term = TERMS["info"](Shape(13, 5, 7, 3), info_alpha=a, info_lambda=weight)
    assert term(outputs, seeded()).item() == pytest.approx(wanted, rel=1e-9)


def test_info_vae_without_the_discrepancy_is_the_vae() -> None:
    outputs = four_posteriors()
    pair = [TERMS["info"](Shape(13, 5, 7, 3), info_lambda=1.0), TERMS["kl"](Shape(13, 5, 7, 3))]
    losses = [Objective(term, {})(outputs, 1.0, seeded())[0].item() for term in pair]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("options", [{"info_alpha": 1.1}, {"info_lambda": 0.5}])
def test_info_vae_refuses_negative_weights(options: dict) -> None:
    with pytest.raises(VaelibError, match="may be negative"):
        TERMS["info"](Shape(13, 5, 7, 3), **options)


def test_the_recipes_have_the_published_schedules() -> None:
    start = {name: resolve(name, data="grammar").options["start"] for name in ("mine", "info")}
    assert start == {"mine": 1.0, "info": 1.0}
    coupled = resolve("wae_multiscale", data="grammar").options
    assert (coupled["beta"], coupled["mmd_weight"], coupled["start"]) == (0.8, 10.0, 0.0)
