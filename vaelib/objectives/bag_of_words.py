"""Bag of words: z alone must also predict which words occur (Zhao et al. 2017)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.decoding import PAD
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe


@TERMS.register("bag_of_words")
class BagOfWords(Term):
    """-log p(words | z) with a small network on z, words independent given z.

    Args:
        shape: Sizes.
        bow_width: Hidden tanh units (400 in Zhao et al.); 0 gives DG-VAE's D sigmoid units.
        bow_reduction: "sum" over the tokens as published by Zhao et al., or "mean_tokens" as in the
            DG-VAE code (T2), which weakens it by the sentence length.
        bow_gradient_only: Take the value out of the loss again, leaving the gradient (T2).

    Raises:
        VaelibError: An unknown reduction, or a width out of range.
    """

    reads = ("text",)

    def __init__(
        self,
        shape: Shape,
        *,
        bow_width: int = 400,
        bow_reduction: str = "sum",
        bow_gradient_only: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= bow_width <= 10_000:
            raise VaelibError(f"bow_width={bow_width}: give 0 to 10,000 units.")
        self.reduction = check_name(bow_reduction, ("sum", "mean_tokens"), "bow_reduction")
        self.gradient_only = bow_gradient_only
        width, squash = (bow_width, nn.Tanh()) if bow_width else (shape.latent_dim, nn.Sigmoid())
        self.network = nn.Sequential(
            nn.Linear(shape.latent_dim, width), squash, nn.Linear(width, shape.vocab_size)
        )

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The cross-entropy [B] in nats of the predicted tokens, end marker included."""
        targets = outputs.x[:, 1:]
        seen = targets != PAD
        log_p = F.log_softmax(self.network(outputs.z), dim=-1).gather(1, targets) * seen
        total = log_p.sum(dim=1)
        loss = -(total if self.reduction == "sum" else total / seen.sum(dim=1))
        return loss - loss.detach() if self.gradient_only else loss


recipe(
    "bow",
    aliases=("bow-VAE", "Bag-of-words", "Bag-of-words loss", "BOW loss"),
    title="bow-VAE",
    paper="Zhao et al. 2017",
    equation="DG-VAE Section 4.1",
    formula=r"-\sum_t \log\mathrm{softmax}(f(z))_{x_t}",
    summary=(
        "A second decoder that sees only z predicts the words without their order; its losses are "
        "summed, as published. DG-VAE's own runs take the mean and its gradient alone (T2): "
        "bow_reduction=mean_tokens bow_gradient_only=true bow_width=0, as its study does."
    ),
    changes={"extra_terms": ("bag_of_words",)},
)
recipe(
    "bow_annealed",
    aliases=("VAE-BOW",),
    title="VAE-BOW",
    paper="Zhao et al. 2017",
    equation="VAE-MINE Section 5.2",
    formula=r"-\sum_t \log\mathrm{softmax}(f(z))_{x_t}",
    summary="As bow-VAE, with the KL annealed from 0.1.",
    changes={"extra_terms": ("bag_of_words",)},
    options={"start": 0.1},
)
