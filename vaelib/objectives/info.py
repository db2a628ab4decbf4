"""KL and maximum mean discrepancy together: InfoVAE, and the WAE of Coupled-VAE."""

import torch
from torch import Tensor

from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe
from vaelib.objectives.mmd import MMD

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@TERMS.register("info")
class Info(Term):
    """(1 - a) KL(q(z|x) || p(z)) + (a + l - 1) MMD(q(z), p(z)) (InfoVAE, Zhao et al. 2019).

    Args:
        shape: Sizes.
        info_alpha: a; 0 keeps the whole KL, 1 leaves none.
        info_lambda: l; the published baselines do not say which, 11 weighs the MMD by 10.
        mmd_samples: Samples of each posterior.

    Raises:
        VaelibError: One of the two weights is negative.
    """

    scope = "batch"

    def __init__(
        self,
        shape: Shape,
        *,
        info_alpha: float = 0.0,
        info_lambda: float = 11.0,
        mmd_samples: int = 1,
    ) -> None:
        super().__init__()
        if info_alpha > 1 or info_alpha + info_lambda < 1:
            raise VaelibError(
                f"info_alpha={info_alpha}, info_lambda={info_lambda}: neither 1 - info_alpha nor "
                "info_alpha + info_lambda - 1 may be negative."
            )
        self.rate_weight = 1 - info_alpha
        weight = info_alpha + info_lambda - 1
        self.discrepancy = MMD(shape, mmd_samples=mmd_samples, mmd_weight=weight)

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The weighed sum, a scalar in nats."""
        return self.rate_weight * outputs.rate.mean() + self.discrepancy(outputs, generator)


@TERMS.register("mmd_multiscale")
class MultiScaleMMD(MMD):
    """MMD summed over inverse multiquadratic kernels of seven scales, C = 2 D s (Coupled-VAE).

    Args:
        shape: Sizes; D sets the kernels' scale.
        mmd_samples: Samples of each posterior; as many are drawn from the prior.
        mmd_weight: Multiplies the discrepancy.
    """

    def __init__(self, shape: Shape, *, mmd_samples: int = 1, mmd_weight: float = 10.0) -> None:
        super().__init__(shape, mmd_samples=mmd_samples, mmd_weight=mmd_weight)
        self.scales = tuple(2 * shape.latent_dim * s for s in SCALES)


recipe(
    "info",
    aliases=("InfoVAE",),
    title="InfoVAE",
    paper="Zhao et al. 2019",
    equation="VAE-MINE Section 5.2",
    formula=r"(1-a)\,\mathrm{KL}(q(z|x)\,\|\,p(z)) + (a+\lambda-1)\,\mathrm{MMD}_k(q(z), p(z))",
    summary="A kernel distance between q(z) and p(z) is added to the KL.",
    changes={"regulariser": "info"},
    options={"start": 1.0},
)
recipe(
    "wae_multiscale",
    aliases=("WAE (Coupled-VAE)",),
    title="WAE, seven scales",
    paper="Tolstikhin et al. 2018; Wu et al. 2020",
    equation="Coupled-VAE Section 5.2",
    formula=r"0.8\,\mathrm{KL}(q(z|x)\,\|\,p(z)) + 10 \sum_s \mathrm{MMD}_{k_s}(q(z), p(z))",
    summary="A kernel distance of seven scales, and the KL annealed to a weight of 0.8.",
    changes={"extra_terms": ("mmd_multiscale",)},
    options={"beta": 0.8},
)
