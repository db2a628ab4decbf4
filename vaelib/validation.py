"""What is computed on the validation examples after every epoch."""

import torch
from torch import Tensor

from vaelib.build import Built
from vaelib.config import Config
from vaelib.layers import make_generator
from vaelib.metrics.likelihood import importance_weighted_nll
from vaelib.model import VAE
from vaelib.noise import has_density
from vaelib.objectives import Objective
from vaelib.strategies import autocast
from vaelib.track import TRACKED


@torch.no_grad()
def validate(
    built: Built, batches: list[Tensor], generator: torch.Generator, precision: str = "fp32"
) -> dict[str, float]:
    """Mean over the validation examples, one z each, the regulariser at its full weight.

    Returns:
        `objective`, `elbo`, `distortion`, `rate` in nats per example; a posterior without a
        density has neither a rate nor an ELBO.
    """
    model: VAE = built.model.eval()
    objective: Objective = built.objective.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    for x in batches:
        with autocast(x.device, precision):
            outputs = model(x, generator)
            loss, _ = objective(outputs, built.schedule.final, generator)
        elbo, rate = outputs.elbo.mean(), outputs.rate.mean()
        if not has_density(outputs.q):
            elbo, rate = torch.full_like(elbo, torch.nan), torch.full_like(rate, torch.nan)
        values = (loss, elbo, outputs.distortion.mean(), rate)
        sums += len(x) * torch.stack(values).cpu().double()
    means = (sums / sum(len(x) for x in batches)).tolist()
    return dict(zip(("objective", "elbo", "distortion", "rate"), means, strict=True))


def followed(config: Config, built: Built, batches: list[Tensor], epoch: int) -> dict[str, float]:
    """What else the config asks for: what it tracks, and the NLL where that selects.

    Args:
        config: Its `track` and `select`.
        built: Model and objective.
        batches: Of the validation split.
        epoch: Each epoch has generators of its own.
    """
    found: dict[str, float] = {}
    for name in config.track:
        generator = make_generator(config.seed, f"track/{name}/{epoch}", config.device)
        found |= TRACKED[name](built, batches, generator)
    if config.select == "nll":
        generator = make_generator(config.seed, f"valid_nll/{epoch}", config.device)
        found["nll"] = mean_nll(built, batches, config.select_samples, generator)
    return found


@torch.no_grad()
def mean_nll(
    built: Built, batches: list[Tensor], samples: int, generator: torch.Generator
) -> float:
    """Importance-weighted NLL in nats, mean over examples."""
    model = built.model.eval()
    each = [importance_weighted_nll(model, x, samples, generator) for x in batches]
    return float(torch.cat(each).mean())


def chosen_by(config: Config, values: dict[str, float]) -> float:
    """The number whose lowest value keeps the weights, in nats."""
    if config.select == "elbo":
        return -values["elbo"]
    return values[config.select if config.select in ("nll", "distortion") else "objective"]
