"""A strategy for posteriors that change once the warm-up is over."""

import torch
from torch import Tensor

from vaelib.errors import VaelibError
from vaelib.model import VAE
from vaelib.objectives import Objective
from vaelib.posteriors_du import VarianceDropout
from vaelib.strategies import STRATEGIES, Joint


@STRATEGIES.register("after_warmup")
class AfterWarmup(Joint):
    """The joint step, with a posterior that is told whether the weight has reached 1 (DU-VAE).

    A schedule that ends below 1 never ends the warm-up.

    Args:
        model, objective: What is trained; the posterior is a `VarianceDropout`.
        optimizer: Over the parameters of both.
        clip: Bound of their joint gradient norm.
        precision: "fp32", or "bf16" for autocast.

    Raises:
        VaelibError: The posterior has nothing to switch on.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        clip: float,
        precision: str,
    ) -> None:
        super().__init__(model, objective, optimizer, clip, precision)
        if not isinstance(model.posterior, VarianceDropout):
            raise VaelibError(
                "the strategy 'after_warmup' has nothing to switch on in a "
                f"{type(model.posterior).__name__}; use posterior='variance_dropout', or 'du_iaf'."
            )
        self.posterior: VarianceDropout = model.posterior

    def step(self, x: Tensor, weight: float, generator: torch.Generator) -> dict[str, Tensor]:
        """One update on the batch `x`; its dropout masks come from `generator` as well."""
        self.posterior.begin_step(weight >= 1, generator)
        values = super().step(x, weight, generator)
        self.posterior.end_step()
        return values
