"""Flows: log-determinants against autograd, inverses, densities that sum to 1, KL estimates."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from vaelib.errors import VaelibError
from vaelib.flows import FlowChain, FlowNormal, IAFBlock, PlanarFlow
from vaelib.layers import Shape, uniform_init_
from vaelib.posteriors_du import ALPHA
from vaelib.posteriors_flow import DRAWS, DUIAFPosterior, IAFPosterior, PlanarPosterior

SHAPE = Shape(13, 5, 7, 4)


def noise(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(flow: nn.Module, reach: float = 0.8) -> nn.Module:
    """The flow in float64 with large weights."""
    uniform_init_(flow, reach, reach, noise())
    return flow.double()


def planar(count: int = 1, dim: int = 4) -> nn.Module:
    flows = [made(PlanarFlow(dim), 1.5) for _ in range(count)]
    for number, flow in enumerate(flows):
        uniform_init_(flow, 1.5, 1.5, noise(number))
    return FlowChain(flows) if count > 1 else flows[0]


def autoregressive(blocks: int = 1) -> nn.Module:
    flows = [IAFBlock(4, 3, 24) for _ in range(blocks)]
    return made(FlowChain(flows, reverse=True) if blocks > 1 else flows[0])


FLOWS = {
    "planar": planar,
    "three planar": lambda: planar(3),
    "autoregressive": autoregressive,
    "two autoregressive": lambda: autoregressive(2),
}


@pytest.fixture
def z() -> Tensor:
    return 2 * torch.randn(6, 4, generator=noise(7), dtype=torch.float64)


@pytest.fixture
def context() -> Tensor:
    return torch.randn(6, 3, generator=noise(8), dtype=torch.float64)


def jacobian(flow: nn.Module, z: Tensor, context: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda x: flow(x, context)[0], z)


@pytest.mark.parametrize("name", FLOWS)
def test_log_determinants_are_those_of_autograd(name: str, z: Tensor, context: Tensor) -> None:
    flow = FLOWS[name]()
    log_det = flow(z, context)[1].sum(-1)
    for i in range(len(z)):
        sign, wanted = torch.linalg.slogdet(jacobian(flow, z[i], context[i]))
        assert float(sign) == 1
        assert float(log_det[i].detach()) == pytest.approx(float(wanted), abs=1e-9)


@pytest.mark.parametrize("name", FLOWS)
def test_inverses_undo_the_map(name: str, z: Tensor, context: Tensor) -> None:
    flow = FLOWS[name]()
    assert torch.allclose(flow.inverse(flow(z, context)[0], context), z, atol=1e-8)
    several = torch.stack([z, -z, 3 * z])  # samples in front of the batch
    assert torch.allclose(flow.inverse(flow(several, context)[0], context), several, atol=1e-8)


@pytest.mark.parametrize("pull", [-20.0, -1.0, 0.0, 5.0])
def test_the_planar_constraint_holds_whatever_the_parameters(pull: float, z: Tensor) -> None:
    flow = PlanarFlow(4).double()
    with torch.no_grad():
        flow.w.copy_(torch.tensor([1.0, -0.5, 0.3, 2.0]))
        flow.u.copy_(pull * flow.w)
    direction, steepness = flow._direction()
    assert float(steepness.detach()) > -1
    assert torch.allclose(flow.w @ direction, steepness)
    assert torch.isfinite(flow(z)[1]).all()
    with torch.no_grad():
        flow.w.zero_()  # nothing is bent
    image, log_det = flow(z)
    assert torch.allclose(image - z, (flow.u * torch.tanh(flow.b)).expand_as(z))
    assert not log_det.any()


def test_a_dimension_sees_only_those_before_it(z: Tensor, context: Tensor) -> None:
    block = autoregressive()
    for part in (0, 1):  # m, then the logit of the gate
        by_z = torch.autograd.functional.jacobian(
            lambda x, part=part: block._coefficients(x, context[0])[part], z[0]
        )
        assert not by_z.triu().any()
        assert by_z.tril(-1).count_nonzero() == 6
        by_context = torch.autograd.functional.jacobian(
            lambda c, part=part: block._coefficients(z[0], c)[part], context[0]
        )
        assert not by_context[0].any()
        assert by_context[1:].all()


def test_two_blocks_reversed_let_all_depend_on_all(z: Tensor, context: Tensor) -> None:
    assert jacobian(autoregressive(2), z[0], context[0]).all()


def test_an_autoregressive_block_starts_near_the_identity(z: Tensor, context: Tensor) -> None:
    block = IAFBlock(4, 3, 24).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    image, log_det = block(z, context)
    gate = 1 / (1 + math.exp(-2.0))
    assert torch.allclose(image, gate * z)
    assert torch.allclose(log_det, torch.full_like(z, math.log(gate)))


def test_autoregressive_flows_lower_the_entropy(z: Tensor, context: Tensor) -> None:
    """DU-VAE Eq. S25: H(z_T) = H(z_0) + E log det, and every gate is below 1."""
    assert (autoregressive(2)(50 * z, context)[1] < 0).all()


# ---- Distributions ------------------------------------------------------------------------------


def normals(z: Tensor) -> Normal:
    return Normal(0.5 * z, 0.3 + z.abs() / 4)


@pytest.mark.parametrize("name", FLOWS)
def test_the_remembered_density_is_the_one_of_the_inverse(
    name: str, z: Tensor, context: Tensor
) -> None:
    q = Independent(FlowNormal(normals(z), FLOWS[name](), context), 1)
    drawn = q.base_dist.rsample((5,), noise())
    assert drawn.shape == (5, 6, 4)
    assert q.log_prob(drawn).shape == (5, 6)
    assert torch.allclose(q.log_prob(drawn), q.log_prob(drawn.clone()), atol=1e-7)


def test_densities_integrate_to_one() -> None:
    line = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    one = FlowNormal(Normal(torch.zeros(1, 1).double(), 1.5), planar(3, dim=1))
    assert float(torch.trapezoid(one.log_prob(line.view(-1, 1, 1)).exp()[:, 0, 0], line)) == (
        pytest.approx(1, abs=1e-5)
    )
    block = made(FlowChain([IAFBlock(2, 1, 12), IAFBlock(2, 1, 12)], reverse=True), 0.5)
    two = FlowNormal(Normal(torch.zeros(1, 2).double(), 1.0), block, torch.ones(1, 1).double())
    line = torch.linspace(-7, 7, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)[:, None]
    density = two.log_prob(grid).sum(-1).exp().view(181, 181)
    assert float(torch.trapezoid(torch.trapezoid(density, line), line)) == pytest.approx(
        1, abs=1e-3
    )


def test_a_flow_without_context_keeps_log_ratios(z: Tensor) -> None:
    """So MPD(z_0) = MPD(z_T): one invertible map leaves KL divergences as they are (Lemma 1)."""
    flow, bases = planar(3), [normals(z), normals(z.flip(0))]
    one, other = (FlowNormal(base, flow) for base in bases)
    drawn = one.rsample((), noise())
    start = flow.inverse(drawn)
    wanted = (bases[0].log_prob(start) - bases[1].log_prob(start)).sum(-1)
    ratio = (one.log_prob(drawn) - other.log_prob(drawn)).sum(-1)
    assert torch.allclose(ratio, wanted, atol=1e-7)


def test_the_kl_estimate_is_unbiased(z: Tensor) -> None:
    """Without a flow it has to agree with the closed form."""
    base, p = normals(z), Normal(torch.zeros(4).double(), 1.0)
    draws = 40_000
    q = FlowNormal(base, FlowChain([]), draws=draws)
    estimate, exact = kl_divergence(q, p), kl_divergence(base, p)
    spread = base.loc.abs() * base.scale + (base.scale.square() - 1).abs() / math.sqrt(2)
    assert ((estimate - exact).abs() < 5 * spread / math.sqrt(draws) + 1e-9).all()


def test_in_training_the_kl_is_that_of_the_first_sample(z: Tensor, context: Tensor) -> None:
    q = Independent(FlowNormal(normals(z), autoregressive(2), context), 1)
    p = Independent(Normal(torch.zeros(4).double(), 1.0), 1)
    drawn = q.base_dist.rsample((), noise())
    wanted = q.log_prob(drawn) - p.log_prob(drawn)
    q.base_dist.rsample((7,), noise(4))  # a term's own samples change nothing
    assert torch.allclose(kl_divergence(q, p), wanted)
    assert wanted.requires_grad


def test_in_evaluation_the_kl_does_not_depend_on_what_was_drawn(z: Tensor) -> None:
    p = Normal(torch.zeros(4).double(), 1.0)
    one, other = (FlowNormal(normals(z), planar(2), draws=9) for _ in range(2))
    other.rsample((3,), noise())
    first = one.sampled_kl(p)
    assert torch.equal(first, other.sampled_kl(p))
    one.rsample((), noise())
    assert torch.equal(first, one.sampled_kl(p))


# ---- Posterior families -------------------------------------------------------------------------


@pytest.fixture
def h() -> Tensor:
    return torch.randn(30, 7, generator=noise(5))


FAMILIES = [
    (PlanarPosterior, {}),
    (PlanarPosterior, {"norm_heads": False, "flow_depth": 1}),
    (IAFPosterior, {"flow_width": 6}),
    (IAFPosterior, {"flow_width": 6, "gamma": 0.6}),
    (DUIAFPosterior, {"flow_width": 6}),
]


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_posteriors_have_the_shapes_of_others(family: type, options: dict, h: Tensor) -> None:
    posterior = family(7, SHAPE, **options)
    q = posterior(h)
    assert (q.batch_shape, q.event_shape) == ((30,), (4,))
    before = torch.get_rng_state()
    drawn = q.base_dist.rsample((), noise())
    assert drawn.shape == q.mode.shape == (30, 4)
    p = Independent(Normal(torch.zeros(4), 1.0), 1)
    (kl_divergence(q, p) - drawn.sum(1)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in posterior.parameters())
    assert torch.equal(before, torch.get_rng_state())
    assert posterior.eval()(h).base_dist.draws == DRAWS


def test_iaf_with_batch_norm_normalises_the_means_before_the_flow(h: Tensor) -> None:
    loc = IAFPosterior(7, SHAPE, gamma=0.6, flow_width=6)(h).base_dist.base.loc
    assert torch.allclose(loc.std(0, unbiased=False), torch.full((4,), 0.6), rtol=1e-4)


def test_du_iaf_drops_the_variances_before_the_flow(h: Tensor) -> None:
    posterior = DUIAFPosterior(7, SHAPE, flow_width=6, keep_probability=0.5)
    plain = posterior(h).base_dist.base.variance
    posterior.begin_step(True, noise())
    dropped = posterior(h).base_dist.base.variance
    posterior.end_step()
    low = torch.isclose(dropped, torch.tensor(ALPHA))
    assert 0 < low.sum() < low.numel()
    assert torch.allclose(dropped[~low], 2 * plain[~low] + ALPHA)
    kept = posterior.eval()(h).base_dist.base.variance
    assert torch.allclose(kept, plain + ALPHA)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (PlanarPosterior, {"flow_depth": 0}),
        (PlanarPosterior, {"norm_eps": 0.0}),
        (IAFPosterior, {"flow_width": 0}),
        (IAFPosterior, {"gamma": -0.1}),
        (DUIAFPosterior, {"keep_probability": 0.0}),
        (IAFPosterior, {"latent": 1}),
    ],
)
def test_values_out_of_range_are_refused(family: type, options: dict) -> None:
    shape = Shape(13, 5, 7, options.pop("latent", 4))
    with pytest.raises(VaelibError):
        family(7, shape, **options)
