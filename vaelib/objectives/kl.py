"""The KL term of the ELBO, and the methods that keep it: VAE, AE, beta, cyclic, skip, BN, ..."""

import torch
from torch import Tensor

from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe


@TERMS.register("kl")
class KL(Term):
    """KL(q(z|x) || p(z)) [B] in closed form (DG-VAE Eq. 1).

    Args:
        shape: Sizes; unused.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The rate [B] in nats."""
        return outputs.rate


recipe(
    "vae",
    aliases=("VAE", "VAE (default)", "KL annealing", "VAE + linear KL annealing"),
    title="VAE",
    paper="Kingma & Welling 2014; Bowman et al. 2016",
    equation="DG-VAE Eq. 1",
    formula=r"\mathrm{KL}(q(z|x)\,\|\,p(z))",
    summary="The ELBO with the KL weight annealed linearly from 0 to 1.",
)
recipe(
    "ae",
    aliases=("AE",),
    title="AE",
    paper="DG-VAE repository (beta = 0)",
    equation="DG-VAE Section 4.1 (beta = 0)",
    formula=r"0",
    summary="No regulariser: the posterior is still sampled, but free to shrink to a point.",
    options={"beta": 0.0},
)
recipe(
    "beta",
    aliases=("beta-VAE", "β-VAE"),
    title="beta-VAE",
    paper="Higgins et al. 2017",
    equation="DG-VAE Section 4.1",
    formula=r"\beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))",
    summary="The KL term is weighed by beta, on top of the annealing.",
    options={"beta": 0.4},
)
recipe(
    "cyclic",
    aliases=("cyclic-VAE", "Cyclical annealing"),
    title="cyclic-VAE",
    paper="Fu et al. 2019",
    equation="DG-VAE Section 4.1 (T8)",
    formula=r"w_t\,\mathrm{KL}(q(z|x)\,\|\,p(z))",
    summary="The annealing starts anew every fifth of the run; no early stopping.",
    changes={"schedule": "cyclic", "early_stop": False},
)
recipe(
    "cyclic_four",
    aliases=("CyclicalVAE",),
    title="CyclicalVAE",
    paper="Fu et al. 2019",
    equation="VAE-MINE Section 5.2",
    formula=r"w_t\,\mathrm{KL}(q(z|x)\,\|\,p(z))",
    summary="Four cycles of annealing, the weight rising in the first half of each.",
    changes={"schedule": "cyclic"},
    options={"cycles": 4, "ramp_fraction": 0.5},
)
recipe(
    "cyclic_delayed",
    aliases=("CycAnn-VAE", "CycAnn"),
    title="CycAnn-VAE",
    paper="Fu et al. 2019",
    equation="Coupled-VAE Section 5.1 and Appendix C",
    formula=r"w_t\,\mathrm{KL}(q(z|x)\,\|\,p(z))",
    summary="Four cycles of annealing after a wait, and the full weight for the rest of the run.",
    changes={"schedule": "delayed"},
    options={"anneal_cycles": 4, "anneal_share": 0.5},
)
recipe(
    "cnn",
    aliases=("CNN-VAE",),
    title="CNN-VAE",
    paper="Yang et al. 2017; Wu et al. 2020",
    equation="Coupled-VAE Section 5.1",
    formula=r"\mathrm{KL}(q(z|x)\,\|\,p(z))",
    summary="Dilated convolutions write instead of a recurrent network, and see less of the past.",
    changes={"backbone": "cnn"},
)
recipe(
    "skip",
    aliases=("skip-VAE",),
    title="skip-VAE",
    paper="Dieng et al. 2019",
    equation="DG-VAE Section 4.1",
    formula=r"\mathrm{logits} = W[o_t; z]",
    summary="z also reaches the vocabulary projection of every word.",
    options={"skip": True},
)
recipe(
    "bn",
    aliases=("BN-VAE",),
    title="BN-VAE",
    paper="Zhu et al. 2020",
    equation="DG-VAE Section 4.1",
    formula=r"\mu = \gamma\,\mathrm{BN}(\hat\mu) + b",
    summary="Posterior means are batch-normalised to a fixed scale, so the KL has a floor.",
    changes={"posterior": "batch_norm"},
)
recipe(
    "delta",
    aliases=("delta-VAE", "δ-VAE"),
    title="delta-VAE",
    paper="Razavi et al. 2019",
    equation="DG-VAE Section 4.1",
    formula=r"\mathrm{KL}_d \ge \delta",
    summary="The posterior family excludes every Gaussian within delta nats of the prior.",
    changes={"posterior": "delta"},
)
recipe(
    "vmf",
    aliases=("vMF-VAE", "vMF-VAE (fixed kappa)"),
    title="vMF-VAE",
    paper="Davidson et al. 2018; Xu & Durrett 2018",
    equation="DG-VAE Section 3",
    formula=r"q(z|x) = \mathrm{vMF}(\mu(x), \kappa)",
    summary="A von Mises-Fisher posterior of fixed concentration: the KL is a constant.",
    changes={"posterior": "vmf", "prior": "uniform_sphere"},
)
