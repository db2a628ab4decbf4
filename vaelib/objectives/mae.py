"""Mutual posterior-divergence regularisation (MAE, Ma et al. 2019)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vaelib.distributions import mean_logvar
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe


def pairwise_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(q_i || q_j) of all ordered pairs of posteriors, dimension by dimension.

    Args:
        mu: Means `[B, D]`.
        logvar: Log variances `[B, D]`.

    Returns:
        Nats `[B, B, D]`, never negative, 0 for i = j. Its mean over all pairs is the mutual
        posterior divergence (DU-VAE Eqs. 2 and 3).

    Example:
        >>> pairwise_kl(torch.tensor([[0.0], [2.0]]), torch.zeros(2, 1))[..., 0].tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """
    ratio = logvar[:, None] - logvar
    gap = (mu[:, None] - mu).square() * torch.exp(-logvar)
    return 0.5 * (gap + (torch.expm1(ratio) - ratio))


@TERMS.register("posterior_divergence")
class PosteriorDivergence(Term):
    """Pushes the posteriors of a batch apart, and evenly so.

    diversity x sum_d softplus(-M_d) + smoothness x S, where M_d is the mean of KL(q_i || q_j) in
    dimension d over pairs i != j of the batch, and S the standard deviation of the pairs' total.
    DU-VAE gives two weights, such as (1, 0.2) for Yahoo, and calls them gamma and eta; in the code
    of MAE gamma is the smoothness and eta the diversity. By their size the first is read as the
    diversity here; exchange the two options for the other reading.

    Args:
        shape: Sizes; unused.
        diversity: Weight of the mean divergence, >= 0.
        smoothness: Weight of its standard deviation, >= 0.

    Raises:
        VaelibError: A negative weight.
    """

    scope = "batch"

    def __init__(self, shape: Shape, *, diversity: float = 1.0, smoothness: float = 0.2) -> None:
        super().__init__()
        if min(diversity, smoothness) < 0:
            raise VaelibError(
                f"diversity={diversity}, smoothness={smoothness}: neither may be negative."
            )
        self.diversity, self.smoothness = diversity, smoothness

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The penalty in nats, a scalar; 0 for a batch of one, which has no pairs."""
        mu, logvar = mean_logvar(outputs.q)
        if len(mu) < 2:
            return mu.new_zeros(())
        different = ~torch.eye(len(mu), dtype=torch.bool, device=mu.device)
        pairs = pairwise_kl(mu, logvar)[different]
        alike = F.softplus(-pairs.mean(0)).sum()
        return self.diversity * alike + self.smoothness * pairs.sum(1).std()


recipe(
    "mae",
    aliases=("MAE", "MPD", "MPD regularisation", "MPD regularization"),
    title="MAE",
    paper="Ma et al. 2019",
    equation="DU-VAE Eq. 2; code of MAE",
    formula=r"\mathrm{KL} + \eta \sum_d \log(1 + e^{-\mathrm{MPD}_d}) + \gamma\,\mathrm{Std}",
    summary="The posteriors of a batch are pushed apart, and evenly so, by two further terms.",
    changes={"extra_terms": ("posterior_divergence",)},
)
