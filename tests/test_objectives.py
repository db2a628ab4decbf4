"""Terms against plain loops, closed forms and the identities of the papers."""

import math
from dataclasses import replace

import pytest
import torch
from objective_helpers import Posteriors, outputs_of, seeded
from torch import Tensor
from torch.nn import functional as F

from vaelib.build import build, resolve
from vaelib.distributions import HypersphericalUniform, VonMisesFisher, diagonal_normal, rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.metrics import kl_normal
from vaelib.model import Outputs
from vaelib.objectives import TERMS, Objective
from vaelib.testing import sentences

# ---- Free bits ------------------------------------------------------------------------------


def free_bits_loop(kl: Tensor, target: float, variant: str) -> list[float]:
    """The five variants, entry by entry; a list of one for the batch forms."""
    rows, dims = kl.shape
    free, cells = target / dims, kl.tolist()
    if variant == "dim_sample_mask":
        return [sum(v for v in row if v > free) for row in cells]
    if variant == "dim_sample_clamp":
        return [sum(max(free, v) for v in row) for row in cells]
    if variant == "dim_batch_clamp":
        return [sum(max(free, sum(row[d] for row in cells) / rows) for d in range(dims))]
    if variant == "total_sample_mask":
        return [sum(row) if sum(row) > target else 0.0 for row in cells]
    mean = sum(sum(row) for row in cells) / rows
    return [mean if mean > target else 0.0]


VARIANTS = [
    "dim_sample_mask",
    "dim_sample_clamp",
    "dim_batch_clamp",
    "total_sample_mask",
    "total_batch_mask",
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("target", [0.0, 0.9, 3.0, 8.0, 1000.0])
def test_free_bits_are_the_published_forms(
    posteriors: Posteriors, variant: str, target: float
) -> None:
    term = TERMS["free_bits"](Shape(13, 5, 7, 3), target=target, variant=variant)
    value = term(outputs_of(diagonal_normal(*posteriors)), seeded())
    wanted = free_bits_loop(kl_normal(*posteriors).detach(), target, variant)
    assert value.reshape(-1).tolist() == pytest.approx(wanted, rel=1e-9)
    assert value.shape == (() if term.scope == "batch" else (12,))
    if target == 0:
        rate = kl_normal(*posteriors).sum(1)
        assert value.mean().item() == pytest.approx(rate.mean().item(), rel=1e-9)


def test_mask_and_clamp_differ_in_value_and_not_in_gradient(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*posteriors))
    mask, clamp = (
        TERMS["free_bits"](Shape(13, 5, 7, 3), target=2.0, variant=f"dim_sample_{kind}")(
            outputs, seeded()
        ).sum()
        for kind in ("mask", "clamp")
    )
    assert mask < clamp
    one, two = (torch.autograd.grad(v, posteriors, retain_graph=True) for v in (mask, clamp))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_free_bits_need_dimensions() -> None:
    loc = F.normalize(torch.ones(4, 3), dim=1)
    outputs = outputs_of(VonMisesFisher(loc, 5.0), HypersphericalUniform(3))
    with pytest.raises(VaelibError, match="factorises"):
        TERMS["free_bits"](Shape(13, 5, 7, 3))(outputs, seeded())


# ---- Bag of words, MMD, adversarial, KL -------------------------------------------------------


def bow_term(**options: object) -> object:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TERMS["bag_of_words"](Shape(13, 5, 7, 3), **options)


def test_bag_of_words_sums_over_the_predicted_tokens(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*(t.float() for t in posteriors)))
    term = bow_term()
    scores = term.network(outputs.z).log_softmax(1)
    loops = [-sum(scores[i, w] for w in row[1:]) for i, row in enumerate(outputs.x.tolist())]
    value = term(outputs, seeded())
    assert torch.allclose(value, torch.stack(loops), atol=1e-5)
    mean = bow_term(bow_reduction="mean_tokens")(outputs, seeded())
    assert torch.allclose(value, 5 * mean, atol=1e-4)  # T = 6 - 1 predicted tokens


def test_bag_of_words_networks() -> None:
    hidden, squash, _ = bow_term().network
    assert (hidden.out_features, type(squash)) == (400, torch.nn.Tanh)
    hidden, squash, _ = bow_term(bow_width=0).network
    assert (hidden.out_features, type(squash)) == (3, torch.nn.Sigmoid)


def test_gradient_only_keeps_the_gradient_and_drops_the_value(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*(t.float() for t in posteriors)))
    crippled, plain = (
        bow_term(bow_reduction="mean_tokens", bow_gradient_only=flag) for flag in (True, False)
    )
    value = crippled(outputs, seeded())
    assert torch.equal(value, torch.zeros(12))
    sources = [*posteriors, *crippled.parameters()]
    one = torch.autograd.grad(value.sum(), sources, retain_graph=True)
    targets = [*posteriors, *plain.parameters()]
    two = torch.autograd.grad(plain(outputs, seeded()).sum(), targets)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(g.abs().sum() > 0 for g in one)


def test_mmd_equals_a_double_loop(posteriors: Posteriors) -> None:
    mu, logvar = (t.detach()[:5] for t in posteriors)
    term = TERMS["mmd"](Shape(13, 5, 7, 3), mmd_samples=2, mmd_weight=3.0)
    outputs = outputs_of(diagonal_normal(mu, logvar))
    noise = seeded()
    q = rsample(outputs.q, (2,), noise).reshape(10, 3)
    p = rsample(outputs.p, (10,), noise)

    def kernel(a: Tensor, b: Tensor) -> float:
        return 6.0 / (1e-9 + 6.0 + ((a - b) ** 2).sum().item())

    within = sum(kernel(s[i], s[j]) for s in (q, p) for i in range(10) for j in range(10) if i != j)
    across = sum(kernel(a, b) for a in q for b in p)
    wanted = 3.0 * (within / 90 - 2 * across / 100)
    assert term(outputs, seeded()).item() == pytest.approx(wanted, rel=1e-9)


def test_mmd_is_unbiased_at_the_prior_and_positive_elsewhere() -> None:
    term = TERMS["mmd"](Shape(13, 5, 7, 4))
    zero, far = torch.zeros(32, 4), torch.full((32, 4), 1.0)
    at, off = outputs_of(diagonal_normal(zero, zero)), outputs_of(diagonal_normal(far, zero))
    values = torch.tensor([float(term(at, seeded(s))) for s in range(400)])
    assert abs(values.mean()) < 4 * values.std() / 20
    assert values.min() < 0 < values.max()
    assert min(float(term(off, seeded(s))) for s in range(20)) > values.max()


def test_mmd_of_a_single_example_is_finite() -> None:
    zero = torch.zeros(1, 4)
    value = TERMS["mmd"](Shape(13, 5, 7, 4))(outputs_of(diagonal_normal(zero, zero)), seeded())
    assert torch.isfinite(value)


def test_encoder_and_critic_do_not_undo_each_other(posteriors: Posteriors) -> None:
    term = TERMS["adversarial"](Shape(13, 5, 7, 3), critic_samples=4).double()
    outputs = outputs_of(diagonal_normal(*posteriors))
    value = term(outputs, seeded())
    noise = seeded()
    q = rsample(outputs.q, (4,), noise).flatten(0, 1)
    p = rsample(outputs.p, (48,), noise)
    labels = torch.cat([torch.zeros(48), torch.ones(48)]).long()
    critic = F.cross_entropy(term.network(torch.cat([p, q]).detach()), labels)
    fooled = F.cross_entropy(term.network(q), torch.zeros(48).long())
    assert value.item() == pytest.approx((critic + fooled).item(), rel=1e-12)
    weights = [*term.parameters()]
    total = torch.autograd.grad(value, [*posteriors, *weights], retain_graph=True)
    wanted = [
        *torch.autograd.grad(fooled, posteriors, retain_graph=True),
        *torch.autograd.grad(critic, weights),
    ]
    for a, b in zip(total, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-14)


def test_the_discriminator_has_the_toys_shape() -> None:
    sizes = [m.weight.shape for m in TERMS["adversarial"](Shape(128, 1, 1, 2)).network[::2]]
    assert sizes == [(8, 2), (8, 8), (2, 8)]


def test_the_kl_term_is_the_rate(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*posteriors))
    value = TERMS["kl"](Shape(13, 5, 7, 3))(outputs, seeded())
    assert torch.allclose(value, kl_normal(*posteriors).sum(1))


# ---- The objective ---------------------------------------------------------------------------


def test_the_loss_is_the_sum_of_its_weighed_parts(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*(t.float() for t in posteriors)))
    objective = Objective(TERMS["kl"](Shape(13, 5, 7, 3)), {"bag_of_words": bow_term()})
    for weight in (0.0, 0.3, 1.0):
        loss, parts = objective(outputs, weight, seeded())
        wanted = parts["distortion"] + weight * parts["regulariser"] + parts["bag_of_words"]
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert parts["distortion"].item() == pytest.approx(sum(range(12)) / 12)
        assert parts["rate"].item() == pytest.approx(outputs.rate.mean().item())
        assert not any(v.requires_grad for v in parts.values())


def test_a_weight_of_zero_cuts_a_regulariser_that_is_not_finite(posteriors: Posteriors) -> None:
    class Infinite(torch.nn.Module):
        group_size = 1

        def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
            return outputs.rate * math.inf

    loss, _ = Objective(Infinite(), {})(outputs_of(diagonal_normal(*posteriors)), 0.0, seeded())
    assert torch.isfinite(loss)


def test_the_terms_noise_does_not_touch_the_sample_of_the_reconstruction() -> None:
    models = [build(resolve(m, data="grammar", profile="smoke"), 30) for m in ("vae", "dg")]
    x, seen = sentences(8, 6, 30), []
    for built in models:
        noise = seeded()
        outputs = built.model(x, noise)
        built.objective(outputs, 1.0, noise)
        seen.append((outputs.z, outputs.log_px))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize(
    ("method", "same_as"),
    [
        ({"method": "beta", "beta": 1.0}, "vae"),
        ({"method": "free_bits", "target": 0.0}, "vae"),
        ({"method": "ae"}, None),
    ],
)
def test_limits_of_methods(method: dict, same_as: str | None) -> None:
    name = method["method"]
    changes = {k: v for k, v in method.items() if k != "method"}
    built = build(resolve(name, data="grammar", profile="smoke", **changes), 30)
    outputs = built.model(sentences(8, 6, 30), seeded())
    loss, parts = built.objective(outputs, built.schedule.final, seeded())
    plain = outputs.distortion.mean() + (outputs.rate.mean() if same_as else 0.0)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    assert "regulariser" in parts


def test_outputs_are_frozen(posteriors: Posteriors) -> None:
    outputs = outputs_of(diagonal_normal(*posteriors))
    changed = replace(outputs, z=outputs.z + 1)
    assert torch.equal(changed.q.mean, outputs.q.mean)
