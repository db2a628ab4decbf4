"""Free bits: the regulariser stops pulling once it is small enough."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vaelib.errors import VaelibError, check_name
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import METHODS, TERMS, Term, recipe

Variant = Callable[[Tensor, float], Tensor]


def _dim_sample_mask(kl: Tensor, target: float) -> Tensor:
    return (kl * (kl > target / kl.shape[1])).sum(dim=1)


def _dim_sample_clamp(kl: Tensor, target: float) -> Tensor:
    return kl.clamp_min(target / kl.shape[1]).sum(dim=1)


def _dim_batch_clamp(kl: Tensor, target: float) -> Tensor:
    return kl.mean(dim=0).clamp_min(target / kl.shape[1]).sum()


def _total_sample_mask(kl: Tensor, target: float) -> Tensor:
    total = kl.sum(dim=1)
    return total * (total > target)


def _total_batch_mask(kl: Tensor, target: float) -> Tensor:
    total = kl.sum(dim=1).mean()
    return total * (total > target)


VARIANTS: dict[str, Variant] = {
    "dim_sample_mask": _dim_sample_mask,
    "dim_sample_clamp": _dim_sample_clamp,
    "dim_batch_clamp": _dim_batch_clamp,
    "total_sample_mask": _total_sample_mask,
    "total_batch_mask": _total_batch_mask,
}


@TERMS.register("free_bits")
class FreeBits(Term):
    """The KL with `target` nats free of charge, in one of the five published forms.

    With KL_d [B, D] and lambda = `target` (a total; per dimension lambda / D):
    `dim_sample_mask` sum_d KL_d 1[KL_d > lambda/D] (DG-VAE, T3); `dim_sample_clamp`
    sum_d max(lambda/D, KL_d) (Coupled-VAE, T42); `dim_batch_clamp` sum_d max(lambda/D, mean KL_d)
    (Kingma et al. 2016, DU-VAE: its lambda is per dimension, so target = lambda D, T23);
    `total_sample_mask` KL 1[KL > lambda]; `total_batch_mask` the same on the batch mean.

    Args:
        shape: Sizes; unused.
        target: lambda in nats, a total over dimensions, >= 0.
        variant: One of the five forms.

    Raises:
        VaelibError: A negative target or an unknown variant.
    """

    def __init__(
        self, shape: Shape, *, target: float = 4.0, variant: str = "dim_sample_mask"
    ) -> None:
        super().__init__()
        if target < 0:
            raise VaelibError(f"target={target}: the free nats cannot be negative.")
        self.target = target
        self.penalty = VARIANTS[check_name(variant, VARIANTS, "variant of free bits")]
        self.scope = "batch" if "batch" in variant else "example"

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The penalty in nats: [B], or a scalar for the batch forms."""
        return self.penalty(_per_dimension(outputs.q, outputs.p), self.target)


def _per_dimension(q: Distribution, p: Distribution) -> Tensor:
    """KL of each dimension [B, D]; only factorised posteriors have one."""
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise VaelibError(
            f"free bits needs a posterior that factorises over dimensions, not {type(q).__name__}; "
            "use the gaussian posterior."
        )
    return kl_divergence(q.base_dist, p.base_dist)


recipe(
    "free_bits",
    aliases=("FB-VAE", "FB"),
    title="FB-VAE",
    paper="Kingma et al. 2016; Li et al. 2019",
    equation="DG-VAE Section 4.1; masks of the repository (T3)",
    formula=r"\sum_d \mathrm{KL}_d\,\mathbf{1}[\mathrm{KL}_d > \lambda / D]",
    summary="Dimensions below lambda/D nats are not pulled towards the prior.",
    changes={"regulariser": "free_bits"},
)
for _variant in VARIANTS:
    METHODS.note(f"FB-{_variant}", f"give free_bits with variant={_variant}")
METHODS.note("CoarseFB", "give free_bits with variant=total_sample_mask")
