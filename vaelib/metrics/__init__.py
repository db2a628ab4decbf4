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
