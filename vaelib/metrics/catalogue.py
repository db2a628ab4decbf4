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
    """

    name: str
    estimator: str
    unit: str
    bound: str
    paper: str
    needs: Literal["posterior", "model", "text"]
    direction: Literal["higher", "lower", "none"]


METRICS: Registry[MetricSpec] = Registry("metric")

_DG, _HE, _IWAE = "Zhang et al. 2022", "He et al. 2019", "Burda et al. 2016"

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
        "closed-form entropy, mixture over the whole test set, one z per sentence",
        "nats",
        "<= ln N (9.210 for 10,000)",
        f"{_DG}, Table 2",
        "posterior",
        "higher",
    ),
    MetricSpec(
        "mi_in_batch",
        "closed-form entropy, mixture over the test batch, one z per sentence",
        "nats",
        "<= ln 32 = 3.466",
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
        "importance sampling from q(z|x), 500 samples (the run's `iw_samples`)",
        "nats",
        ">= NLL, <= nll_elbo",
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
    ),
):
    METRICS.add(_spec.name, _spec)
