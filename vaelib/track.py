"""Cheap numbers that a run may log after every epoch, on its validation examples.

`Config.track` names some of `TRACKED`. Each takes the model and its objective, in evaluation mode,
the validation batches and a generator of its own, and fills one or more columns of the epoch's
row. A column is not a number where it needs a Gaussian posterior and there is none.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vaelib.build import Built
from vaelib.distributions import is_gaussian, mean_logvar
from vaelib.metrics import (
    active_units,
    conditional_entropy,
    mutual_information,
    mutual_posterior_divergence,
)
from vaelib.metrics.gradients import gradient_norms
from vaelib.noise import has_density
from vaelib.registry import Registry

GRADIENT_BATCHES = 8  # of the validation sentences, evenly spread over their lengths

Tracked = Callable[[Built, list[Tensor], torch.Generator], dict[str, float]]
TRACKED: Registry[Tracked] = Registry("tracked number")
Posteriors = tuple[Tensor, Tensor]


@torch.no_grad()
def _posteriors(built: Built, batches: list[Tensor]) -> Posteriors | None:
    """mu, logvar [N, D] in the order of the batches; None of another family (T10)."""
    each = [built.model.encode(x) for x in batches]
    if not is_gaussian(each[0]):
        return None
    mu, logvar = zip(*map(mean_logvar, each), strict=True)
    return torch.cat(mu), torch.cat(logvar)


@TRACKED.register("kl")
@torch.no_grad()
def _kl(built: Built, batches: list[Tensor], generator: torch.Generator) -> dict[str, float]:
    """Mean KL(q(z|x) || p(z)) in nats; not a number where q(z|x) has no density."""
    p, posteriors = built.model.prior(), [built.model.encode(x) for x in batches]
    if not has_density(posteriors[0]):
        return {"kl": math.nan}
    each = [kl_divergence(q, p) for q in posteriors]
    return {"kl": float(torch.cat(each).mean())}


@TRACKED.register("mi_in_batch")
def _mi(built: Built, batches: list[Tensor], generator: torch.Generator) -> dict[str, float]:
    """Mutual information in nats, the mixture over each batch (He et al. 2019)."""
    found = _posteriors(built, batches)
    if found is None:
        return {"mi_in_batch": math.nan}
    sizes = [len(x) for x in batches]
    groups = torch.arange(sum(sizes)).split(sizes)
    value = mutual_information(*found, estimator="in_batch", batches=groups, generator=generator)
    return {"mi_in_batch": value}


@TRACKED.register("au")
def _au(built: Built, batches: list[Tensor], generator: torch.Generator) -> dict[str, float]:
    """Active units."""
    found = _posteriors(built, batches)
    return {"au": math.nan if found is None else float(active_units(found[0]))}


@TRACKED.register("mpd")
def _mpd(built: Built, batches: list[Tensor], generator: torch.Generator) -> dict[str, float]:
    """Diversity and uncertainty of the posteriors in nats (DU-VAE)."""
    found = _posteriors(built, batches)
    if found is None:
        return {"mpd": math.nan, "ce": math.nan}
    return {"mpd": mutual_posterior_divergence(*found), "ce": conditional_entropy(found[1])}


@TRACKED.register("gradients")
def _gradients(built: Built, batches: list[Tensor], generator: torch.Generator) -> dict[str, float]:
    """Squared gradient norms at the encoder's vector, over some batches (Coupled-VAE, Figure 2)."""
    step = math.ceil(len(batches) / GRADIENT_BATCHES)
    coupled: Any = built.objective.term("coupled")
    return gradient_norms(built.model, batches[::step], coupled, generator)
