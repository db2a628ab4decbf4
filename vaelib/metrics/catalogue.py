"""What each metric is: its estimator, unit, bound and source."""

from dataclasses import dataclass
from typing import Literal

from vaelib.registry import Registry


@dataclass(frozen=True)
class MetricSpec:
    """One column of the metrics table.

    Attributes:
        name: Column name; it says the estimator.
        estimator: How the number is obtained.
        unit: "nats", "dimensions", "F1", ...
        bound: What the number cannot exceed or fall below (in expectation).
        paper: Where it comes from.
        needs: "posterior" (parameters alone), "model" (the decoder) or "text" (generated text).
        direction: Whether "higher" or "lower" is better, or "none" of them.
        columns: What it fills in, where that is not one column of its own name.
    """

    name: str
    estimator: str
    unit: str
    bound: str
    paper: str
    needs: Literal["posterior", "model", "text"]
    direction: Literal["higher", "lower", "none"]
    columns: tuple[str, ...] = ()


METRICS: Registry[MetricSpec] = Registry("metric")

_DG, _HE, _IWAE = "Zhang et al. 2022", "He et al. 2019", "Burda et al. 2016"
_DU, _MINE, _COUPLED = "Shen et al. 2021", "Qian and Cheung 2019", "Wu et al. 2020"

# Numbers of samples, said here once: the estimators below are computed and described with them.
MI_SAMPLES, BLEU_SAMPLES = 100, 10
DISTINCT_SENTENCES, SELF_BLEU_SENTENCES = 3_200, 1_000
PATH_POINTS = 6
NGRAM_ORDER, NGRAM_SENTENCES = 5, {"smoke": 100, "laptop": 10_000, "paper": 100_000}
_SIZES = ", ".join(f"{n:,} at {profile}" for profile, n in NGRAM_SENTENCES.items())
PROBE_BUDGETS = (100, 500, 1_000, 2_000, 10_000)
LABEL_DRAWS = 10  # of the labelled examples of each budget
CHARACTER_BUDGETS = (5, 10, 15)

for _spec in (
    MetricSpec(
        "kl",
        "mean KL(q(z|x) || p(z)), closed form",
        "nats",
        ">= 0; constant for vMF",
        f"{_DG}, Table 2",
        "posterior",
        "none",
    ),
    MetricSpec(
        "mi_global",
        "closed-form entropy, mixture over all N test sentences, one z each; noise of about "
        "sqrt(D / 2N), collapsed or not",
        "nats",
        "<= ln N",
        f"{_DG}, Table 2",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "mi_in_batch",
        "closed-form entropy, mixture over the test batch of at most B (`batch_size`, 32), one z "
        "per sentence; the same noise",
        "nats",
        "<= ln B",
        _HE,
        "posterior",
        "higher",
    ),
    MetricSpec(
        "au",
        "dimensions whose posterior mean has unbiased variance >= 0.01",
        "dimensions",
        "<= D",
        f"{_IWAE}; {_DG}, Table 2",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "cu_pq",
        "dimensions with KL(p(z_i) || q(z_i)) < 0.03, quadrature",
        "dimensions",
        "<= D",
        f"{_DG}, Table 2, as their code computes it (T1)",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "cu_qp",
        "dimensions with KL(q(z_i) || p(z_i)) < 0.03, quadrature",
        "dimensions",
        "<= D",
        f"{_DG}, as their slides print it (T1)",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "prior_ll",
        "log E_p(z) p(x|z), 8 + 8 samples of prior and posterior, balance heuristic",
        "nats",
        "<= 0",
        f"{_DG}, Table 2",
        "model",
        "higher",
    ),
    MetricSpec(
        "post_ll",
        "log E_q(z|x) p(x|z), 8 + 8 samples of prior and posterior, balance heuristic",
        "nats",
        "<= 0",
        f"{_DG}, Table 2",
        "model",
        "higher",
    ),
    MetricSpec(
        "nll_elbo",
        "distortion + kl, one z per sentence",
        "nats",
        ">= NLL",
        "Kingma and Welling 2014",
        "model",
        "lower",
    ),
    MetricSpec(
        "nll_iw500",
        "importance sampling from q(z|x), K samples (`iw_samples`); of the first `nll_size` test "
        "examples alone, nll_elbo of all",
        "nats",
        ">= NLL, <= nll_elbo of the same examples",
        f"{_IWAE}; {_HE}",
        "model",
        "lower",
    ),
    MetricSpec(
        "ppl_iw500",
        "exp(sum of nll_iw500 / predicted tokens, end marker counted)",
        "1",
        ">= 1",
        _HE,
        "model",
        "lower",
    ),
    MetricSpec(
        "distortion",
        "mean -log p(x|z), one z per sentence",
        "nats",
        ">= 0",
        "Alemi et al. 2018",
        "model",
        "lower",
    ),
    MetricSpec(
        "rouge_l",
        "token LCS F1 between both ends and the interpolations at lambda 0.0 ... 1.0, greedy",
        "F1",
        "in [0, 1]",
        f"{_DG}, Eq. 14, Figure 5",
        "text",
        "higher",
        tuple(f"rouge_l_{i:02d}" for i in range(11)),
    ),
    MetricSpec(
        "mi_skip_self",
        "log q(z|x) - log mixture of the other sentences, 513 in the file's order at a time, "
        f"{MI_SAMPLES} z per sentence; biased upwards",
        "nats",
        "none: may exceed kl and ln 512 = 6.238 (T34)",
        f"{_COUPLED}, Tables 2 and 3",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "mi_aggregate_kl",
        "kl - sampled KL(q(z) || p(z)), mixture over the whole test set, one z per sentence",
        "nats",
        "<= kl, <= ln N",
        f"{_MINE}, Eq. 6 and 19",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "mpd",
        "mean KL(q(z|x) || q(z|x')) over all ordered pairs of test sentences, closed form",
        "nats",
        ">= 0",
        f"Ma et al. 2019; {_DU}, Eq. 4",
        "posterior",
        "none",
    ),
    MetricSpec(
        "ce",
        "mean entropy of q(z|x), closed form",
        "nats",
        ">= 0 for DU-VAE",
        f"{_DU}, Eq. 5",
        "posterior",
        "none",
    ),
    MetricSpec(
        "ppl_elbo",
        "exp(sum of nll_elbo / predicted tokens, end marker counted)",
        "1",
        ">= perplexity",
        f"{_MINE}, Table 2 (T27)",
        "model",
        "lower",
    ),
    MetricSpec(
        "probe",
        f"logistic regression on {', '.join(map(str, PROBE_BUDGETS))} training sentences' "
        f"posterior means, mean accuracy of {LABEL_DRAWS} draws of the labels",
        "1",
        "in [0, 1]",
        f"{_DU}, Table 2",
        "posterior",
        "higher",
        tuple(f"probe_{n}" for n in PROBE_BUDGETS),
    ),
    MetricSpec(
        "character_probe",
        f"logistic regression on the posterior means of {', '.join(map(str, CHARACTER_BUDGETS))} "
        "training images of each character (all, where there are fewer) for each alphabet; mean "
        "accuracy over alphabets on up to 5 test images of each character",
        "1",
        "in [0, 1]",
        f"{_DU}, Table 3",
        "posterior",
        "higher",
        tuple(f"character_probe_{n}" for n in CHARACTER_BUDGETS),
    ),
    MetricSpec(
        "gradients",
        "squared gradient norms at the encoder's vector of -log p(x|z), of the unweighted KL, of "
        "the decoding signal over its own, and where there is one of the coupled path; dropout "
        "on, one z per sentence",
        "1",
        ">= 0",
        f"{_COUPLED}, Table 5 (T33)",
        "model",
        "none",
        ("grad_rec", "grad_kl", "grad_signal", "grad_coupled", "grad_total"),
    ),
    MetricSpec(
        "bleu",
        f"n-gram precision x brevity penalty of reconstructions, {BLEU_SAMPLES} z per sentence, "
        "greedy without <unk>",
        "0-100",
        "in [0, 100]",
        f"{_COUPLED}, Table 2 (T32)",
        "text",
        "higher",
        ("bleu_1", "bleu_2"),
    ),
    MetricSpec(
        "distinct",
        f"different n-grams / n-grams of {DISTINCT_SENTENCES:,} prior samples, or of pairs of a "
        "response to every test post; greedy",
        "1",
        "in [0, 1]",
        f"{_COUPLED}, Table 6",
        "text",
        "higher",
        ("distinct_1", "distinct_2"),
    ),
    MetricSpec(
        "self_bleu",
        f"mean BLEU-4 of each of {SELF_BLEU_SENTENCES:,} prior samples against the others, greedy",
        "0-100",
        "in [0, 100]",
        "Zhu et al. 2018",
        "text",
        "lower",
    ),
    MetricSpec(
        "path_distinct",
        f"different sentences among {PATH_POINTS} on the line between two posterior means, greedy; "
        "mean over pairs of test sentences",
        "sentences",
        f"in [1, {PATH_POINTS}]",
        f"{_MINE}, Section 5.5 and Table 4, which count nothing",
        "text",
        "none",
    ),
    MetricSpec(
        "forward_ppl",
        f"prior samples under a Kneser-Ney {NGRAM_ORDER}-gram model of the training sentences; "
        f"{_SIZES}; words sampled, or greedy",
        "1",
        ">= 1",
        f"{_MINE}, Table 2 (T29)",
        "text",
        "lower",
        ("forward_ppl", "forward_ppl_greedy"),
    ),
    MetricSpec(
        "reverse_ppl",
        f"test sentences under a Kneser-Ney {NGRAM_ORDER}-gram model of prior samples; "
        f"{_SIZES}; words sampled, or greedy",
        "1",
        ">= 1",
        f"{_MINE}, Table 2 (T29)",
        "text",
        "lower",
        ("reverse_ppl", "reverse_ppl_greedy"),
    ),
):
    METRICS.add(_spec.name, _spec)


def spec_of(column: str) -> MetricSpec | None:
    """What a column of a run's metrics is; None where no metric fills it in."""
    return next((s for s in METRICS.values() if column in (s.columns or (s.name,))), None)
