"""Density gap: regularise the batch's aggregated posterior instead of each posterior (DG-VAE)."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution

from vaelib.distributions import diagonal_normal, fresh_generator, mean_logvar, rsample
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe

FORMS = ("marginal", "joint")
BLOCK = 1 << 15  # densities evaluated at a time, so that a block stays in cache


@TERMS.register("density_gap")
class DensityGap(Term):
    """KL(q_b(z) || p(z)) of groups of posteriors, by Monte Carlo (DG-VAE Eqs. 9-13).

    Args:
        shape: Sizes; unused.
        samples: M, samples of each posterior.
        aggregation_size: `|b|`, posteriors a group; 0 is the whole batch whatever its size.
        form: "marginal" sums the KL of each dimension (Eq. 11), "joint" is Eq. 9.
        indivisible: What training does with a batch that it does not divide: "skip" it, as the
            paper says of |b| = 32, or take it as one group ("whole"), as the released code does
            (T5). Validation always takes it as one group.

    Raises:
        VaelibError: A value out of range.
    """

    scope = "batch"

    def __init__(
        self,
        shape: Shape,
        *,
        samples: int = 32,
        aggregation_size: int = 0,
        form: str = "marginal",
        indivisible: str = "skip",
    ) -> None:
        super().__init__()
        if not 1 <= samples <= 10_000 or aggregation_size < 0:
            raise VaelibError(
                f"samples={samples}, aggregation_size={aggregation_size}: give 1 to 10,000 samples "
                "and an aggregation size of 1 or more, or 0 for the whole batch."
            )
        check_name(indivisible, ("skip", "whole"), "value of indivisible")
        self.samples, self.aggregation_size = samples, aggregation_size
        self.form = check_name(form, FORMS, "form of the density gap")
        self.group_size = aggregation_size if aggregation_size and indivisible == "skip" else 1

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """The density gap of the batch, a scalar in nats."""
        size = self.aggregation_size or outputs.z.shape[0]
        size = size if outputs.z.shape[0] % size == 0 else outputs.z.shape[0]
        z = rsample(outputs.q, (self.samples,), generator)
        if self.form == "marginal":
            return _marginal_gap(z, *mean_logvar(outputs.q), size)
        return _joint_gap(z, outputs.q, outputs.p, size)


def density_gap(
    mu: Tensor,
    logvar: Tensor,
    *,
    samples: int = 32,
    aggregation_size: int | None = None,
    form: str = "marginal",
    generator: torch.Generator | None = None,
) -> Tensor:
    """KL of the aggregated posterior of groups of Gaussians against N(0, I) (DG-VAE Eqs. 9, 11).

    Args:
        mu, logvar: Posteriors [n, D].
        samples: M, samples of each posterior.
        aggregation_size: `|b|`, posteriors a group; None or 0 is all n.
        form: "marginal" (Eq. 11, the reported one) or "joint" (Eq. 9).
        generator: Source of the samples; None is a fresh one with a fixed seed.

    Returns:
        Scalar in nats, differentiable in `mu` and `logvar` through samples and densities.

    Raises:
        VaelibError: The shapes differ, the size does not divide n, no sample, an unknown form.

    Example:
        >>> mu = torch.zeros(8, 2)
        >>> bool(density_gap(mu, mu).abs() < 1e-6)
        True
    """
    if mu.dim() != 2 or mu.shape != logvar.shape:
        raise VaelibError(
            f"mu has shape {list(mu.shape)} and logvar {list(logvar.shape)}; give both as [n, D]."
        )
    size = aggregation_size or mu.shape[0]
    if size < 1 or mu.shape[0] % size:
        raise VaelibError(
            f"aggregation_size={size} does not divide the {mu.shape[0]} posteriors; "
            "choose a divisor."
        )
    if samples < 1:
        raise VaelibError(f"samples={samples}: give at least one sample of each posterior.")
    check_name(form, FORMS, "form of the density gap")
    generator = fresh_generator(generator, mu.device)
    q = diagonal_normal(mu, logvar)
    z = rsample(q, (samples,), generator)
    if form == "marginal":
        return _marginal_gap(z, mu, logvar, size)
    return _joint_gap(z, q, diagonal_normal(torch.zeros_like(mu[0]), torch.zeros_like(mu[0])), size)


def _grouped(z: Tensor, size: int) -> Tensor:
    """Samples [M, n, D] as groups of consecutive posteriors [C, M |b|, D]."""
    groups = z.view(z.shape[0], -1, size, z.shape[-1]).transpose(0, 1)
    return groups.flatten(1, 2)


def _marginal_gap(z: Tensor, mu: Tensor, logvar: Tensor, size: int) -> Tensor:
    """Sum over dimensions of mean log q_b(z_i) - log N(z_i; 0, 1); `z [M, n, D]`."""
    mu, logvar = (t.view(-1, 1, size, t.shape[-1]) for t in (mu, logvar))
    gap: Tensor = _MarginalGap.apply(_grouped(z, size), mu, logvar)
    return gap


class _MarginalGap(torch.autograd.Function):
    """The marginal gap and its gradient in one pass over cache-sized blocks of points.

    With u = (z - mu_k) / sigma_k and r_k the share of component k in the mixture density at z, the
    derivative of log q_b is -sum_k r_k u / sigma_k by z, r_k u / sigma_k by mu_k, and
    r_k (u^2 - 1) / 2 by log sigma_k^2; log N adds z.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        inverse = torch.exp(-0.5 * logvar)
        by_point, by_mu = torch.empty_like(points), torch.zeros_like(mu)
        by_logvar, total = torch.zeros_like(mu), points.new_zeros(())
        step = max(1, BLOCK // mu[0].numel())
        for start in range(0, points.shape[1], step):
            z = points[:, start : start + step].unsqueeze(2)
            u = (z - mu) * inverse
            share = u.square().add_(logvar).mul_(-0.5)
            top = share.amax(dim=2, keepdim=True)
            share = share.sub_(top).exp_()
            mass = share.sum(dim=2, keepdim=True)
            total += (top + mass.log() + 0.5 * z.square()).sum()
            share /= mass
            pull = share * u
            by_point[:, start : start + step] = (z - (pull * inverse).sum(2, keepdim=True))[:, :, 0]
            by_mu += pull.sum(dim=1, keepdim=True)
            by_logvar += (pull.mul_(u)).sum(dim=1, keepdim=True) - share.sum(dim=1, keepdim=True)
        count = points.shape[0] * points.shape[1]
        ctx.save_for_backward(by_point / count, by_mu * inverse / count, by_logvar / (2 * count))
        return total / count - points.shape[2] * math.log(mu.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(grads[0] * saved for saved in ctx.saved_tensors)


def _joint_gap(z: Tensor, q: Distribution, p: Distribution, size: int) -> Tensor:
    """Mean of log q_b(z) - log p(z) for any posterior family; `z [M, n, D]`."""
    points = _grouped(z, size)
    groups = points.shape[0]
    pairs = q.log_prob(points.flatten(0, 1).unsqueeze(1)).view(groups, -1, groups, size)
    own = torch.arange(groups, device=z.device)
    log_mixture = torch.logsumexp(pairs[own, :, own], dim=-1) - math.log(size)
    return (log_mixture - p.log_prob(points)).mean()


recipe(
    "dg",
    aliases=("DG-VAE", "DG-VAE (default)"),
    title="DG-VAE",
    paper="Zhang et al. 2022",
    equation="Eq. 11",
    formula=r"\sum_i \mathrm{KL}(q_b(z_i)\,\|\,p(z_i)),\; q_b = \tfrac1{|b|}\sum_{n\in b} q(z|x_n)",
    summary="The batch's aggregated posterior, not each posterior, is pulled towards the prior.",
    changes={"regulariser": "density_gap"},
)
recipe(
    "dg_vmf",
    aliases=("DG-vMF-VAE",),
    title="DG-vMF-VAE",
    paper="Zhang et al. 2022",
    equation="Eqs. 9-10",
    formula=r"\mathrm{KL}(q_b(z)\,\|\,\mathrm{Unif}(S^{D-1}))",
    summary="The joint density gap on the sphere.",
    changes={"regulariser": "density_gap", "posterior": "vmf", "prior": "uniform_sphere"},
    options={"form": "joint"},
)
