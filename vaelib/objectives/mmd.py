"""Maximum mean discrepancy between aggregated posterior and prior (WAE, Tolstikhin et al. 2018)."""

import torch
from torch import Tensor

from vaelib.distributions import rsample
from vaelib.errors import VaelibError
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe


@TERMS.register("mmd")
class MMD(Term):
    """MMD summed over inverse multiquadratic kernels; here of one scale, C = 2D.

    Args:
        shape: Sizes; D sets the kernel's scale.
        mmd_samples: Samples of each posterior; as many are drawn from the prior.
        mmd_weight: Multiplies the discrepancy.

    Raises:
        VaelibError: A value out of range.
    """

    scope = "batch"

    def __init__(self, shape: Shape, *, mmd_samples: int = 1, mmd_weight: float = 1.0) -> None:
        super().__init__()
        if not 1 <= mmd_samples <= 1_000 or mmd_weight < 0:
            raise VaelibError(
                f"mmd_samples={mmd_samples}, mmd_weight={mmd_weight}: give 1 to 1,000 samples and "
                "a weight of at least 0."
            )
        self.scales: tuple[float, ...] = (2.0 * shape.latent_dim,)
        self.samples, self.weight = mmd_samples, mmd_weight

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The discrepancy, a scalar (no unit; it stands where a divergence would)."""
        q = rsample(outputs.q, (self.samples,), generator).flatten(0, 1)
        p = rsample(outputs.p, (q.shape[0],), generator)
        within_q, within_p, across = _distances(q, q), _distances(p, p), _distances(q, p)
        total = q.new_zeros(())
        for scale in self.scales:
            within = _off_diagonal(within_q, scale) + _off_diagonal(within_p, scale)
            total = total + within - 2 * _kernel(across, scale).mean()
        return self.weight * total


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances [n, m] between points [n, D] and [m, D]."""
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(dim=-1)


def _kernel(distance: Tensor, scale: float) -> Tensor:
    """Inverse multiquadratic kernel of squared distances."""
    return scale / (1e-9 + scale + distance)


def _off_diagonal(distance: Tensor, scale: float) -> Tensor:
    """Mean kernel over ordered pairs of different points of one set, from distances [n, n]."""
    n, kernel = len(distance), _kernel(distance, scale)
    return (kernel.sum() - kernel.diagonal().sum()) / max(1, n * (n - 1))


recipe(
    "wae",
    aliases=("WAE", "WAE-MMD"),
    title="WAE",
    paper="Tolstikhin et al. 2018",
    equation="DG-VAE Appendix A",
    formula=r"\mathrm{MMD}_k(q(z), p(z))",
    summary="The KL is replaced by a kernel distance between samples of q(z) and p(z).",
    changes={"regulariser": "mmd"},
    options={"warmup_epochs": 0.0},  # weight 1 throughout
)
