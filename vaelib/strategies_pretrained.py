"""A strategy whose encoder comes from an autoencoder trained before (Li et al. 2019)."""

from typing import Any

import torch

from vaelib.errors import VaelibError, check_name
from vaelib.model import VAE
from vaelib.objectives import Objective, recipe
from vaelib.strategies import STRATEGIES, Joint

FIRST: dict[str, dict[str, Any]] = {"ae": {}, "dae": {"posterior": "point"}}


@STRATEGIES.register("pretrained")
class Pretrained(Joint):
    """The joint step, after a first stage that trains the encoder in an autoencoder.

    Args:
        model, objective, optimizer, clip, precision: As in the joint step.
        pretrain: "dae", a deterministic autoencoder (Wu et al. 2020), or "ae", the same model with
            weight 0 (Li et al. 2019).
        pretrain_epochs: Epochs of the first stage; 0 takes the run's.

    Raises:
        VaelibError: An unknown autoencoder, or a negative number.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        clip: float,
        precision: str,
        *,
        pretrain: str = "dae",
        pretrain_epochs: int = 0,
    ) -> None:
        super().__init__(model, objective, optimizer, clip, precision)
        check_name(pretrain, FIRST, "pretrain")
        if pretrain_epochs < 0:
            raise VaelibError(f"pretrain_epochs={pretrain_epochs}: give 0 or more.")


recipe(
    "prefb",
    aliases=("PreFB-VAE", "PreFB"),
    title="PreFB-VAE",
    paper="Li et al. 2019; Wu et al. 2020",
    equation="Coupled-VAE Section 5.1",
    formula=r"\sum_d \max(\lambda / D, \mathrm{KL}_d)",
    summary="Free bits, from the encoder of a deterministic autoencoder that was trained before.",
    changes={"strategy": "pretrained", "regulariser": "free_bits", "posterior": "linear_heads"},
    options={"target": 6.0, "variant": "dim_sample_clamp"},
)
recipe(
    "pre",
    aliases=("AE+FB", "Pre-FB (Li et al.)"),
    title="AE+FB",
    paper="Li et al. 2019",
    equation="Li et al. 2019, Section 3",
    formula=r"\sum_d \mathrm{KL}_d\,\mathbf{1}[\mathrm{KL}_d > \lambda / D]",
    summary="Free bits, from the encoder of the same model trained before without a regulariser.",
    changes={"strategy": "pretrained", "regulariser": "free_bits"},
    options={"target": 8.0, "pretrain": "ae"},
)
