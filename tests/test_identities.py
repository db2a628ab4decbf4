"""What must be equal whatever the code: closed forms of a linear model, bounds, and old defects.

`GUARDS` names, for every trap of the papers that could come back, the test that would fail.
"""

import ast
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal

from vaelib import measures_text  # noqa: F401 (registers)
from vaelib.build import build, resolve
from vaelib.data import Corpus
from vaelib.decoders import LSTMDecoder
from vaelib.distributions import diagonal_normal
from vaelib.layers import Shape
from vaelib.metrics import (
    active_units,
    conditional_entropy,
    consistent_units,
    distortion,
    importance_weighted_nll,
    kl_normal,
    mutual_information,
    mutual_posterior_divergence,
    prior_post_ll,
    rate,
    unit_divergences,
)
from vaelib.model import VAE
from vaelib.objectives import Objective, density_gap
from vaelib.passes import MEASURES, Pass
from vaelib.posteriors_flow import PlanarPosterior
from vaelib.schedules import SCHEDULES, Clock
from vaelib.testing import sentences

# ---------------------------------------------------------------- a linear-Gaussian world

LENGTHS = (0.0, 0.05, 0.6, 1.5)  # of the columns of W: how much each dimension says
SCALE, EXAMPLES = 0.8, 6_000


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


class LinearVAE:
    """p(x|z) = N(W z, s^2 I) with orthogonal columns, its exact posterior moved by `shift`."""

    def __init__(self, shift: float = 0.0) -> None:
        self.weight = torch.linalg.qr(drawn(6, 4, seed=0)).Q * torch.tensor(LENGTHS)
        self.ratio = self.weight.square().sum(0) / SCALE**2  # signal to noise, each dimension
        self.shift = shift

    def encode(self, x: Tensor) -> Distribution:
        variance = 1 / (1 + self.ratio)
        mu = variance * (x @ self.weight) / SCALE**2
        return diagonal_normal(mu + self.shift, variance.log().expand_as(mu))

    def prior(self) -> Distribution:
        zero = torch.zeros(4, dtype=torch.float64)
        return diagonal_normal(zero, zero)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return Normal(z @ self.weight.T, SCALE).log_prob(x).sum(-1)

    def marginal(self) -> MultivariateNormal:
        noise = SCALE**2 * torch.eye(6, dtype=torch.float64)
        return MultivariateNormal(torch.zeros_like(noise[0]), self.weight @ self.weight.T + noise)

    def data(self) -> Tensor:
        z = drawn(EXAMPLES, 4, seed=2)
        return z @ self.weight.T + SCALE * drawn(EXAMPLES, 6, seed=3)

    @property
    def information(self) -> float:
        """I(x; z) in nats."""
        return float(0.5 * torch.log1p(self.ratio).sum())


@pytest.fixture(scope="module")
def world() -> tuple[LinearVAE, Tensor, Tensor, Tensor]:
    """The model, data drawn from it, and their posteriors' mu, logvar."""
    model = LinearVAE()
    x = model.data()
    q = model.encode(x)
    return model, x, q.mean, q.variance.log()


World = tuple[LinearVAE, Tensor, Tensor, Tensor]


def test_the_nll_is_exact_with_one_sample(world: World) -> None:
    model, x, _, _ = world
    exact = -model.marginal().log_prob(x[:50])
    for samples in (1, 4):
        nll = importance_weighted_nll(model, x[:50], samples, seeded())
        torch.testing.assert_close(nll, exact, rtol=0, atol=1e-9)
    mean = float(-model.marginal().log_prob(x).mean())
    assert mean == pytest.approx(float(model.marginal().entropy()), abs=0.1)


def test_the_gap_of_the_elbo_is_the_divergence_from_the_exact_posterior() -> None:
    model = LinearVAE(shift=0.3)
    x = model.data()[:20]
    elbo = -(distortion(model, x, 20_000, seeded()) + rate(model, x))
    gap = model.marginal().log_prob(x) - elbo
    expected = float(0.5 * (0.3**2 * (1 + model.ratio)).sum())
    assert float(gap.mean()) == pytest.approx(expected, abs=0.02)
    assert (gap > 0).all()


def test_prior_and_posterior_likelihood_differ_by_what_the_posterior_knows(world: World) -> None:
    model, x, mu, _ = world
    prior_ll, post_ll = prior_post_ll(model, x[:40], 20_000, seeded())
    torch.testing.assert_close(prior_ll, model.marginal().log_prob(x[:40]), rtol=0, atol=0.05)
    variance = 1 / (1 + model.ratio)
    spread = (model.weight * variance) @ model.weight.T + SCALE**2 * torch.eye(6).double()
    exact = MultivariateNormal(mu[:40] @ model.weight.T, spread).log_prob(x[:40])
    torch.testing.assert_close(post_ll, exact, rtol=0, atol=0.05)


def test_rate_and_information_are_equal_where_the_codes_match_the_prior(world: World) -> None:
    """E KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)), and the last is 0 here."""
    model, _, mu, logvar = world
    assert float(kl_normal(mu, logvar).sum(1).mean()) == pytest.approx(model.information, abs=0.06)
    for estimator in ("global", "aggregate_kl"):
        found = mutual_information(mu, logvar, estimator=estimator, generator=seeded())
        assert found == pytest.approx(model.information, abs=0.1)


def test_batches_bound_the_information_from_below_and_leaving_oneself_out_from_above(
    world: World,
) -> None:
    """Poole et al. 2019, section 2: both with the true density; equal in the limit."""
    model, _, mu, logvar = world
    low = mutual_information(
        mu, logvar, estimator="in_batch", batch_size=32, samples=5, generator=seeded()
    )
    high = mutual_information(
        mu, logvar, estimator="skip_self", batch_size=32, samples=5, generator=seeded()
    )
    assert low < model.information - 0.01
    assert high > model.information + 0.01
    wider = mutual_information(
        mu, logvar, estimator="skip_self", batch_size=513, samples=5, generator=seeded()
    )
    assert abs(wider - model.information) < high - model.information


def test_diversity_and_uncertainty_are_formulas_of_the_signal_to_noise_ratio(world: World) -> None:
    """Var mu / sigma^2 is the ratio itself, and the entropy that of N(0, 1 / (1 + ratio))."""
    model, _, mu, logvar = world
    diversity, noise = mutual_posterior_divergence(mu, logvar), 5 * math.sqrt(2 / EXAMPLES)
    assert diversity == pytest.approx(float(model.ratio.sum()), rel=noise)
    entropy = 4 * 0.5 * math.log(2 * math.pi * math.e) - model.information
    assert conditional_entropy(logvar) == pytest.approx(entropy, abs=1e-9)


def test_units_that_say_something_are_active_and_all_match_the_prior(world: World) -> None:
    """Var mu_d = ratio / (1 + ratio): 0, 0.004, 0.36 and 0.78; q(z) = p(z)."""
    model, _, mu, logvar = world
    variances = model.ratio / (1 + model.ratio)
    assert ((variances - 0.01).abs() > 0.005).all()
    assert active_units(mu) == int((variances >= 0.01).sum()) == 2
    for direction in ("p||q", "q||p"):
        assert consistent_units(mu, logvar, direction=direction) == 4


# ---------------------------------------------------------------- bounds and decompositions


def posteriors(n: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    return 1.5 * drawn(n, dim, seed=seed), drawn(n, dim, seed=seed + 1) - 0.5


@settings(max_examples=8, deadline=None)
@given(st.integers(3, 40), st.integers(0, 10_000))
def test_the_rate_is_information_plus_mismatch(n: int, seed: int) -> None:
    """E KL(q_n || p) = I(n; z) + KL(q(z) || p(z)) in one dimension, the last by quadrature."""
    mu, logvar = posteriors(n, 1, seed)
    mismatch = float(unit_divergences(mu, logvar, "q||p").sum())
    draws = 20_000 // n
    information = mutual_information(mu, logvar, samples=draws, generator=seeded(seed))
    kl = float(kl_normal(mu, logvar).mean())
    assert kl == pytest.approx(information + mismatch, abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 10_000))
def test_diversity_is_at_least_the_information(n: int, dim: int, seed: int) -> None:
    """KL is convex: E_i E_j KL(q_i || q_j) >= E_i KL(q_i || mean of q_j) = I."""
    mu, logvar = posteriors(n, dim, seed)
    information = mutual_information(mu, logvar, samples=2_000 // n, generator=seeded(seed))
    noise = 4 * math.sqrt(dim / 2 / 2_000)
    assert information <= mutual_posterior_divergence(mu, logvar) + noise


def test_the_marginal_gap_is_the_rate_less_the_information_of_each_dimension() -> None:
    """DG-VAE, Eq. 11: R = E KL - sum_i I(n; z_i), each at most ln |b|."""
    mu, logvar = posteriors(16, 3, 5)
    gap = float(density_gap(mu, logvar, samples=4_000, generator=seeded()))
    columns = zip(mu.split(1, 1), logvar.split(1, 1), strict=True)
    pieces = [mutual_information(m, v, samples=4_000, generator=seeded(7)) for m, v in columns]
    assert gap == pytest.approx(float(kl_normal(mu, logvar).sum(1).mean()) - sum(pieces), abs=0.03)
    assert all(0 < piece <= math.log(16) for piece in pieces)


@pytest.mark.parametrize(
    ("estimator", "bound"), [("global", math.log(300)), ("in_batch", math.log(32))]
)
def test_no_estimate_of_certain_posteriors_exceeds_its_bound(estimator: str, bound: float) -> None:
    """However much the codes know: ln N, and ln B."""
    mu = 1e3 * drawn(300, 8, seed=3)
    logvar = torch.full_like(mu, -2.0)
    found = mutual_information(mu, logvar, estimator=estimator, samples=20, generator=seeded())
    assert found <= bound + 0.1
    assert float(kl_normal(mu, logvar).sum(1).mean()) > 1e5


# ---------------------------------------------------------------- the whole evaluation


def test_a_decoder_that_knows_nothing_has_the_perplexity_of_its_vocabulary(corpus: Corpus) -> None:
    """All scores 0: -log p(x|z) = tokens ln V, and every perplexity of a collapsed model is V."""
    config = resolve("vae", data="grammar", profile="smoke", nll_size=None)
    model = build(config, len(corpus.vocabulary)).model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        work, words = Pass(config, model, corpus), len(corpus.vocabulary)
        mean = float(corpus.test.predicted.double().mean())
        assert work.distortion == pytest.approx(mean * math.log(words), rel=1e-5)
        assert work.rate == pytest.approx(0, abs=1e-6)
        for name in ("ppl_elbo", "ppl_iw500"):
            assert MEASURES[name](work) == pytest.approx(words, rel=1e-4)
        for name in ("prior_ll", "post_ll"):
            assert MEASURES[name](work) == pytest.approx(-mean * math.log(words), rel=1e-5)


def test_free_bits_of_nothing_are_the_rate(corpus: Corpus) -> None:
    """A target of 0 trains as the VAE does: same loss, same gradients."""
    losses, gradients = [], []
    batch = corpus.train.gather(corpus.train.buckets(16)[3])
    for method, options in (("vae", {}), ("free_bits", {"target": 0.0})):
        config = resolve(method, data="grammar", profile="smoke", init_range=0.3, **options)
        built = build(config, len(corpus.vocabulary))
        loss, _ = built.objective(built.model(batch, seeded()), 1.0, seeded(2))
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in built.model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


# ---------------------------------------------------------------- old defects


def test_the_consistent_units_are_those_of_the_code_unless_asked_otherwise() -> None:
    """T1: the two directions differ, and p||q is the default of the function and of `cu_pq`."""
    logvar = torch.tensor([[0.71]]).log()  # inside the window of q||p alone
    mu = torch.zeros(1, 1)
    assert consistent_units(mu, logvar) == 0 == consistent_units(mu, logvar, direction="p||q")
    assert consistent_units(mu, logvar, direction="q||p") == 1


def test_the_last_word_of_the_vocabulary_learns() -> None:
    """T43: padding_idx=-1 means the last word, which then never has a gradient."""
    shape = Shape(13, 5, 7, 4)
    decoder = LSTMDecoder(shape)
    x = sentences(4, 6, 13)
    x[:, 2] = 12
    decoder(x, drawn(4, 4, seed=1).float(), seeded()).sum().backward()
    assert decoder.embedding.padding_idx is None
    assert decoder.embedding.weight.grad[12].any()


def test_the_heads_of_planar_flows_are_normalised_as_in_the_released_code() -> None:
    """T35: means and log scales have mean 0 and variance 1 over the batch, unless switched off."""
    h = 3 + 2 * drawn(64, 7, seed=4).float()
    for norm_heads in (True, False):
        base = PlanarPosterior(7, Shape(13, 5, 7, 4), norm_heads=norm_heads)(h).base_dist.base
        for head in (base.loc, base.scale.log()):
            centred = torch.allclose(head.mean(0), torch.zeros(4), atol=1e-4)
            spread = torch.allclose(head.std(0, unbiased=False), torch.ones(4), atol=1e-2)
            assert centred == spread == norm_heads


def test_the_weights_of_coupled_vae_are_the_published_ones() -> None:
    """H.4 and T37: nothing for 2,000 steps, then a slope that the highest weight leaves alone."""

    def weight(step: int, **options: float) -> float:
        schedule = SCHEDULES["delayed"](**options)
        return schedule(Clock(0, step, step, 10, 1_000))

    assert weight(2_000) == 0
    assert weight(22_000) == pytest.approx(0.5)
    assert weight(42_000) == weight(60_000) == 1
    assert weight(49_999, beta=1.2) < 1.2
    assert weight(50_000, beta=1.2) == 1.2
    assert weight(33_000, anneal_wait=1_000, beta=0.8) == 0.8
    assert weight(32_999, anneal_wait=1_000, beta=0.8) < 0.8


def test_the_rate_counts_a_constant_for_every_dimension() -> None:
    """T22: the -1 of the closed form stands inside the sum over dimensions."""
    mu, logvar = posteriors(5, 7, 3)
    expected = 0.5 * (mu.square() + logvar.exp() - logvar).sum(1) - 7 / 2
    torch.testing.assert_close(kl_normal(mu, logvar).sum(1), expected)


def test_a_weight_never_hides_a_reduction(corpus: Corpus) -> None:
    """Nats are summed over tokens and dimensions: twice the sentence costs about twice."""
    config = resolve("vae", data="grammar", profile="smoke")
    built = build(config, len(corpus.vocabulary))
    objective: Objective = built.objective
    model: VAE = built.model.eval()
    short, long = (sentences(8, n, len(corpus.vocabulary)) for n in (7, 13))
    losses = [objective(model(x, seeded()), 0.0, seeded())[0].item() for x in (short, long)]
    assert losses[1] == pytest.approx(2 * losses[0], rel=0.1)  # 6 and 12 predicted tokens


# Trap -> the file and the test that would fail if the defect came back.
GUARDS = {
    "T1": ("identities", "test_the_consistent_units_are_those_of_the_code_unless_asked_otherwise"),
    "T2": ("objectives", "test_gradient_only_keeps_the_gradient_and_drops_the_value"),
    "T3": ("objectives", "test_mask_and_clamp_differ_in_value_and_not_in_gradient"),
    "T4": ("train", "test_batches_are_frozen_and_only_their_order_changes"),
    "T5": ("objectives_gap", "test_skip_and_whole_treat_a_batch_that_does_not_fit"),
    "T6": ("train", "test_a_decay_goes_back_to_the_best_weights_and_the_current_value"),
    "T7": ("train", "test_the_criterion_is_the_methods_objective_or_the_elbo"),
    "T8": ("schedules", "test_cycles_restart_at_their_beginning"),
    "T9": ("metrics_likelihood", "test_mixture_estimates_converge"),
    "T10": ("evaluate", "test_vmf_has_no_units_and_no_information"),
    "T12": ("model", "test_interpolation_walks_between_the_means"),
    "T13": ("posteriors_du", "test_variances_are_dropped_to_the_floor_or_scaled_above_it"),
    "T14": ("objectives_du", "test_the_end_of_the_warm_up_switches_the_posterior_on"),
    "T15": ("protocol", "test_only_du_vae_has_a_floor"),
    "T16": ("layers", "test_every_parameter_is_drawn_from_its_range"),
    "T17": ("posteriors_du", "test_means_keep_the_mean_square_of_their_scales"),
    "T18": ("train", "test_batches_too_small_or_indivisible_are_skipped"),
    "T19": ("flows", "test_du_iaf_drops_the_variances_before_the_flow"),
    "T20": (
        "protocol",
        "test_validation_sentences_of_the_synthetic_data_are_not_the_test_sentences",
    ),
    "T21": ("protocol", "test_suspected_errors_are_kept_as_printed"),
    "T22": ("identities", "test_the_rate_counts_a_constant_for_every_dimension"),
    "T23": ("objectives", "test_free_bits_are_the_published_forms"),
    "T24": ("protocol", "test_the_majority_of_short_yelp"),
    "T24a": ("protocol", "test_bn_vae_of_du_vae_is_du_vae_that_drops_nothing"),
    "T25": ("objectives_mine", "test_the_term_is_minus_alpha_times_the_bound"),
    "T26": ("objectives_mine", "test_the_term_is_minus_alpha_times_the_bound"),
    "T27": ("measures", "test_the_perplexity_is_that_of_the_elbo"),
    "T28": ("protocol", "test_suspected_errors_are_kept_as_printed"),
    "T29": ("measures", "test_perplexities_are_about_the_same_sentences"),
    "T30": ("parts_gru", "test_the_sizes_are_the_published_ones"),
    "T31": ("parts_gru", "test_encoder_and_decoder_of_the_backbone_share_one_embedding"),
    "T32": ("metrics_bleu", "test_bleu_against_sacrebleu"),
    "T33": ("metrics_gradients", "test_squared_norms_of_orthogonal_gradients_add_up"),
    "T34": ("metrics_information", "test_skip_self_exceeds_its_neighbours"),
    "T35": ("identities", "test_the_heads_of_planar_flows_are_normalised_as_in_the_released_code"),
    "T36": ("objectives_coupled", "test_the_papers_models_are_there"),
    "T37": ("identities", "test_the_weights_of_coupled_vae_are_the_published_ones"),
    "T38": ("protocol", "test_reconstructions_are_written_without_the_unknown_word"),
    "T42": ("protocol", "test_a_method_has_its_published_defaults"),
    "T43": ("identities", "test_the_last_word_of_the_vocabulary_learns"),
    "T44": ("train", "test_every_step_is_in_the_history"),
    "T45": ("metrics_information", "test_far_apart_posteriors_reach_ln_batch"),
}


@pytest.mark.parametrize("trap", GUARDS)
def test_every_trap_has_its_guard(trap: str) -> None:
    file, name = GUARDS[trap]
    tree = ast.parse(Path(__file__).with_name(f"test_{file}.py").read_text("utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
