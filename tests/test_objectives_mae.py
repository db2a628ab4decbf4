"""The regulariser of MAE against torch's own KL, a loop, and the moment form of the divergence."""

import math

import pytest
import torch
from objective_helpers import Posteriors, outputs_of, seeded
from torch.distributions import kl_divergence

from vaelib import METHODS
from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.metrics import mutual_posterior_divergence
from vaelib.objectives.mae import PosteriorDivergence, pairwise_kl
from vaelib.testing import check_method, check_term

SHAPE = Shape(13, 5, 7, 3)


def test_pairs_are_the_divergences_of_torch(posteriors: Posteriors) -> None:
    mu, logvar = posteriors
    pairs = pairwise_kl(mu, logvar)
    for i in range(len(mu)):
        one = diagonal_normal(mu[i].expand_as(mu), logvar[i].expand_as(mu)).base_dist
        wanted = kl_divergence(one, diagonal_normal(mu, logvar).base_dist)
        assert torch.allclose(pairs[i], wanted, rtol=1e-9, atol=1e-12)
    assert not pairs.diagonal().any()


def test_their_mean_is_the_mutual_posterior_divergence(posteriors: Posteriors) -> None:
    """The metric works with moments (DU-VAE Eq. 3), which the logarithms leave."""
    mu, logvar = (t.detach() for t in posteriors)
    mean = float(pairwise_kl(mu, logvar).sum(2).mean())
    assert mean == pytest.approx(mutual_posterior_divergence(mu, logvar), rel=1e-9)


@pytest.mark.parametrize(("diversity", "smoothness"), [(1.0, 0.2), (0.5, 0.0), (0.0, 2.0)])
def test_the_term_is_the_published_one(
    posteriors: Posteriors, diversity: float, smoothness: float
) -> None:
    term = PosteriorDivergence(SHAPE, diversity=diversity, smoothness=smoothness)
    value = term(outputs_of(diagonal_normal(*posteriors)), seeded()).item()
    cells, n = pairwise_kl(*posteriors).tolist(), len(posteriors[0])
    pairs = [cells[i][j] for i in range(n) for j in range(n) if i != j]
    means = [sum(pair[d] for pair in pairs) / len(pairs) for d in range(3)]
    totals = [sum(pair) for pair in pairs]
    mean = sum(totals) / len(totals)
    std = math.sqrt(sum((t - mean) ** 2 for t in totals) / (len(totals) - 1))
    wanted = diversity * sum(math.log1p(math.exp(-m)) for m in means) + smoothness * std
    assert value == pytest.approx(wanted, rel=1e-9)


def test_collapse_costs_a_bit_a_dimension_and_has_a_gradient() -> None:
    """Equal posteriors: log 2 for each dimension, and no infinite slope where the spread is 0."""
    mu = torch.zeros(6, 3, requires_grad=True)
    q = diagonal_normal(mu, torch.zeros(6, 3))
    value = PosteriorDivergence(SHAPE)(outputs_of(q), seeded())
    assert value.item() == pytest.approx(3 * math.log(2), rel=1e-6)
    value.backward()
    assert torch.isfinite(mu.grad).all()


def test_it_falls_as_the_posteriors_move_apart(posteriors: Posteriors) -> None:
    mu, logvar = (t.detach() for t in posteriors)
    term = PosteriorDivergence(SHAPE, smoothness=0.0)
    near, far = (float(term(outputs_of(diagonal_normal(s * mu, logvar)), seeded())) for s in (1, 2))
    assert far < near


def test_a_single_posterior_has_no_pairs() -> None:
    q = diagonal_normal(torch.ones(1, 3), torch.zeros(1, 3))
    assert float(PosteriorDivergence(SHAPE)(outputs_of(q), seeded())) == 0


def test_negative_weights_are_refused() -> None:
    with pytest.raises(VaelibError, match="neither may be negative"):
        PosteriorDivergence(SHAPE, diversity=-1.0)
    with pytest.raises(VaelibError, match="neither may be negative"):
        PosteriorDivergence(SHAPE, smoothness=-0.1)


def test_it_keeps_the_contract() -> None:
    check_term("posterior_divergence")
    check_term("posterior_divergence", diversity=0.2, smoothness=1.0)
    check_method("mae")
    assert METHODS["MAE"].changes == {"extra_terms": ("posterior_divergence",)}
