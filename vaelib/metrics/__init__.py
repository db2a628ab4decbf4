"""Every number of the papers, as plain functions on tensors, models and token lists.

Nats throughout; every name says its estimator. `METRICS` lists what an evaluation fills in.
"""

from vaelib.metrics.catalogue import METRICS, MetricSpec
from vaelib.metrics.closed_form import (
    check_posteriors,
    conditional_entropy,
    kl_normal,
    mutual_posterior_divergence,
)
from vaelib.metrics.information import mutual_information, mutual_information_from
from vaelib.metrics.likelihood import (
    distortion,
    importance_weighted_nll,
    perplexity,
    prior_post_ll,
    rate,
)
from vaelib.metrics.overlap import distinct, rouge_l
from vaelib.metrics.units import active_units, consistent_units, unit_divergences

__all__ = [
    "METRICS",
    "MetricSpec",
    "active_units",
    "check_posteriors",
    "conditional_entropy",
    "consistent_units",
    "distinct",
    "distortion",
    "importance_weighted_nll",
    "kl_normal",
    "mutual_information",
    "mutual_information_from",
    "mutual_posterior_divergence",
    "perplexity",
    "prior_post_ll",
    "rate",
    "rouge_l",
    "unit_divergences",
]
