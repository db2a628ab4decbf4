"""The importance-weighted bound of K samples (IWAE, Burda et al. 2016)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term


@dataclass(frozen=True)
class Copies(Outputs):
    """A forward pass over `copies` copies of a batch, one after the other, a sample each.

    Attributes:
        copies: K; all other attributes have K B rows.
    """

    copies: int = 1


@TERMS.register("importance_weighted")
class ImportanceWeighted(Term):
    """What turns the distortion into the importance-weighted bound.

    With weight 1 the loss is -log mean_k p(x|z_k) p(z_k) / q(z_k|x). A pass without copies has
    K = 1, the ELBO with a sampled KL; so has every validation.

    Args:
        shape: Sizes; unused.
        iwae_samples: K, the copies that the strategy "multi_sample" makes in training.

    Raises:
        VaelibError: K below 1 or above 1,000.
    """

    scope = "batch"

    def __init__(self, shape: Shape, *, iwae_samples: int = 5) -> None:
        super().__init__()
        if not 1 <= iwae_samples <= 1_000:
            raise VaelibError(f"iwae_samples={iwae_samples}: give 1 to 1,000 samples.")
        self.samples = iwae_samples

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """Minus the bound less the distortion, a scalar in nats."""
        copies = outputs.copies if isinstance(outputs, Copies) else 1
        log_weights = outputs.log_px + outputs.p.log_prob(outputs.z) - outputs.q.log_prob(outputs.z)
        bound = log_weights.view(copies, -1).logsumexp(dim=0) - math.log(copies)
        return -bound.mean() - outputs.distortion.mean()
