"""Adversarial regulariser: a discriminator tells posterior samples from prior ones (AAE)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vaelib.distributions import rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe


@TERMS.register("adversarial")
class Adversarial(Term):
    """Discriminator loss plus the encoder's loss against a frozen copy, in one backward pass.

    The discriminator learns from detached samples; the encoder is pushed through detached weights,
    so that neither undoes the other's step.

    Args:
        shape: Sizes; D is the discriminator's input.
        critic_width: Sigmoid units in each of its two hidden layers (8 in the toy).
        critic_samples: Samples of each posterior.

    Raises:
        VaelibError: A number below 1 or above 10,000.
    """

    scope = "batch"

    def __init__(self, shape: Shape, *, critic_width: int = 8, critic_samples: int = 1) -> None:
        super().__init__()
        if not (1 <= critic_width <= 10_000 and 1 <= critic_samples <= 10_000):
            raise VaelibError(
                f"critic_width={critic_width}, critic_samples={critic_samples}: give 1 to 10,000."
            )
        self.samples = critic_samples
        self.network = nn.Sequential(
            nn.Linear(shape.latent_dim, critic_width),
            nn.Sigmoid(),
            nn.Linear(critic_width, critic_width),
            nn.Sigmoid(),
            nn.Linear(critic_width, 2),
        )

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """Sum of both cross-entropies, a scalar in nats."""
        q = rsample(outputs.q, (self.samples,), generator).flatten(0, 1)
        p = rsample(outputs.p, (q.shape[0],), generator)
        labels = torch.arange(2, device=q.device).repeat_interleave(q.shape[0])
        seen = torch.cat([p, q]).detach()
        critic = F.cross_entropy(self.network(seen), labels)
        frozen = {k: v.detach() for k, v in self.network.named_parameters()}
        fooled = functional_call(self.network, frozen, (q,))
        return critic + F.cross_entropy(fooled, torch.zeros_like(labels[: q.shape[0]]))


recipe(
    "aae",
    aliases=("AAE", "adversarial autoencoder"),
    title="AAE",
    paper="Makhzani et al. 2015",
    equation="DG-VAE Appendix A",
    formula=r"\mathrm{JS}(q(z)\,\|\,p(z))\ \text{by a discriminator}",
    summary="The KL is replaced by a discriminator between samples of q(z) and p(z).",
    changes={"regulariser": "adversarial"},
    options={"warmup_epochs": 0.0},  # weight 1 throughout
)
