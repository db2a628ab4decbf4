"""SA-VAE: refinement against plain loops, and its gradient against differences of the loss."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.build import Built, build, resolve
from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape, uniform_init_
from vaelib.objectives import TERMS
from vaelib.strategies import Joint
from vaelib.strategies_inner import SemiAmortized, twice_differentiable
from vaelib.testing import sentences

X = sentences(4, 6, 30)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Precise(nn.Module):
    """The Gaussian posterior without its conversion to float32."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 8, bias=False)

    def forward(self, h: Tensor) -> Distribution:
        return diagonal_normal(*self.linear(h).chunk(2, dim=-1))


def sa(method: str = "sa", **options: object) -> tuple[SemiAmortized, Built]:
    """The strategy on a small model in float64 with weights of some size."""
    built = build(resolve(method, data="grammar", profile="smoke", **options), 30)
    built.model.posterior = Precise()
    uniform_init_(built.model, 0.5, 0.8, seeded())
    built.model.double().train()
    update = torch.optim.SGD(built.model.parameters(), lr=0.1)
    return SemiAmortized(built.model, built.objective, update, 5.0, "fp32"), built


def loss_of(strategy: SemiAmortized, seed: int = 7) -> Tensor:
    outputs = strategy.outputs(X, 0.7, seeded(seed))
    return strategy.objective(outputs, 0.7, seeded())[0]


def test_without_steps_it_is_the_joint_step() -> None:
    (mine, built), (_, other) = sa(svi_steps=0), sa(svi_steps=0)
    update = torch.optim.SGD(other.model.parameters(), lr=0.1)
    joint = Joint(other.model, other.objective, update, 5.0, "fp32")
    values, wanted = (s.step(X, 0.7, seeded()) for s in (mine, joint))
    assert values.keys() == wanted.keys()
    assert all(values[k].item() == pytest.approx(wanted[k].item(), rel=1e-9) for k in wanted)
    pairs = zip(built.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_the_steps_are_momentum_descent_with_a_clipped_gradient() -> None:
    options = {"svi_steps": 3, "svi_lr": 0.6, "svi_momentum": 0.4, "svi_clip": 0.05}
    strategy, _ = sa(**options)
    start = torch.randn(2, 4, 4, generator=seeded(1), dtype=torch.float64)
    got = strategy.refine(X, start.clone().requires_grad_(), 0.7, seeded())
    noise, code, velocity, clipped = seeded(), start.clone(), torch.zeros_like(start), 0
    for _ in range(3):
        code.requires_grad_()
        (slope,) = torch.autograd.grad(strategy._local_loss(X, 0.7, noise)(code), code)
        clipped += bool(slope.norm() > 0.05)
        slope = slope * min(1.0, 0.05 / (slope.norm().item() + 1e-6))
        velocity = 0.4 * velocity + slope
        code = (code - 0.6 * velocity).detach()
    assert clipped
    assert torch.allclose(got, code, atol=1e-10)


def test_every_step_has_noise_of_its_own_and_keeps_it() -> None:
    strategy, noise = sa()[0], seeded()
    first, second = (strategy._local_loss(X, 0.7, noise) for _ in range(2))
    code = torch.zeros(2, 4, 4, dtype=torch.float64)
    assert first(code) == first(code)
    assert first(code) != second(code)


def test_refinement_lowers_the_local_loss() -> None:
    strategy, _ = sa(svi_steps=10, svi_lr=2.0, svi_momentum=0.0)
    start = torch.ones(2, 4, 4, dtype=torch.float64, requires_grad=True)
    refined = strategy.refine(X, start, 0.7, seeded())
    losses = [strategy._local_loss(X, 0.7, seeded(s)) for s in range(20)]
    before, after = (sum(f(code).item() for f in losses) / 20 for code in (start, refined))
    assert after < before - 0.2


def test_the_exact_gradient_is_that_of_the_loss_after_the_steps() -> None:
    """Along the gradient the loss grows by the gradient's length, steps and all."""
    strategy, built = sa(svi_steps=3)
    inference = [*built.model.encoder.parameters(), *built.model.posterior.parameters()]
    for weights in (inference, [*built.model.decoder.parameters()]):
        way = torch.autograd.grad(loss_of(strategy), weights)
        length = math.sqrt(sum(float(g.square().sum()) for g in way))
        values = []
        for sign in (1e-5, -2e-5):
            with torch.no_grad():
                for weight, g in zip(weights, way, strict=True):
                    weight.add_(g, alpha=sign / length)
            values.append(loss_of(strategy).item())
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(length, rel=1e-5)


@pytest.mark.parametrize("clip", [5.0, 0.02])
def test_finite_differences_come_to_the_exact_gradient(clip: float) -> None:
    grads = []
    for gradient in ("exact", "finite_differences"):
        strategy, built = sa(svi_steps=3, svi_clip=clip, svi_gradient=gradient)
        grads.append(torch.autograd.grad(loss_of(strategy), [*built.model.parameters()]))
    size = max(float(g.abs().max()) for g in grads[0])
    for one, two in zip(*grads, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-6 * size)


def test_the_slow_recurrent_layers_are_used_only_inside() -> None:
    flags = (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled)
    with twice_differentiable():
        assert not torch.backends.mkldnn.enabled
        assert not torch.backends.cudnn.enabled
    with twice_differentiable(False):
        assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == flags
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == flags


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"svi_gradient": "approximate"}, "svi_gradient"),
        ({"svi_steps": -1}, "1,000 steps"),
        ({"svi_lr": 0.0}, "must be positive"),
        ({"svi_momentum": 1.0}, "less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, words: str) -> None:
    with pytest.raises(VaelibError, match=words):
        TERMS["refined_kl"](Shape(13, 5, 7, 4), **options)


def test_the_strategy_needs_its_term() -> None:
    with pytest.raises(VaelibError, match="refined_kl"):
        sa("vae")[0].outputs(X, 1.0, seeded())
