"""Distributions of the latent space: sampling, diagonal normals, the aggregated posterior.

The distributions on the sphere (`VonMisesFisher`, `HypersphericalUniform`) live in
`vaelib.sphere` and are offered here as well.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vaelib.bessel import log_sphere_area, mean_resultant_length
from vaelib.errors import VaelibError
from vaelib.noise import Drawn, fresh_generator, sampling_dtype, standard_normal
from vaelib.sphere import HypersphericalUniform, VonMisesFisher, unit_vector

__all__ = [
    "HypersphericalUniform",
    "VonMisesFisher",
    "aggregated_log_density",
    "aggregated_log_prob",
    "diagonal_normal",
    "fresh_generator",
    "grouped_log_prob",
    "is_gaussian",
    "log_sphere_area",
    "mean_logvar",
    "mean_resultant_length",
    "pairwise_log_prob",
    "rsample",
    "standard_normal",
    "take",
    "unit_vector",
]

_CPU_BLOCK, _DEVICE_BLOCK = 2**18, 2**22  # elements of one block: about a cache, about 32 MB


def rsample(
    q: Distribution, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
) -> Tensor:
    """Draw reparameterised samples with an explicit source of randomness.

    Args:
        q: `Normal`, or one that draws itself, as on the sphere or through a flow; `Independent` or
            not.
        sample_shape: Leading shape of the samples.
        generator: Source of randomness; None is a fresh one with a fixed seed.

    Returns:
        Samples of shape `sample_shape + batch_shape + event_shape`.

    Raises:
        VaelibError: `q` is of another family.
    """
    base = q.base_dist if isinstance(q, Independent) else q
    if isinstance(base, Drawn):
        return base.rsample(sample_shape, generator)
    if not isinstance(base, Normal):
        raise VaelibError(
            f"cannot draw from {type(q).__name__} with a generator; use a Normal, "
            "Independent(Normal), VonMisesFisher or HypersphericalUniform."
        )
    shape = (*sample_shape, *base.loc.shape)
    return base.loc + base.scale * standard_normal(shape, base.loc, generator)


def diagonal_normal(mu: Tensor, logvar: Tensor) -> Independent:
    """N(mu, diag exp(logvar)) with the last axis as its event.

    Args:
        mu: Means `[..., D]`.
        logvar: Log variances `[..., D]`.

    Returns:
        `Independent(Normal, 1)`, arguments not validated.
    """
    base = Normal(mu, torch.exp(0.5 * logvar), validate_args=False)
    return Independent(base, 1, validate_args=False)


def is_gaussian(q: Distribution) -> bool:
    """Whether these are diagonal normals, of which active units and information are known (T10)."""
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal)


def mean_logvar(q: Distribution) -> tuple[Tensor, Tensor]:
    """Means and log variances of a diagonal normal, both `[..., D]`.

    Raises:
        VaelibError: `q` is not `Normal` or `Independent(Normal)`.
    """
    base = q.base_dist if isinstance(q, Independent) else q
    if not isinstance(base, Normal):
        raise VaelibError(
            f"{type(q).__name__} has no mean and log variance; this needs a Gaussian posterior."
        )
    return base.loc, 2 * torch.log(base.scale)


@torch.no_grad()
def aggregated_log_density(z: Tensor, mu: Tensor, logvar: Tensor, joint: bool) -> Tensor:
    """Log density of the aggregated posterior, `log (1/N) sum_n N(z; mu_n, exp(logvar_n))`.

    Worked in cache-sized blocks (at most 2 MB on a CPU, 32 MB elsewhere). The joint form is a
    matrix product in float64 (its expanded square would lose digits in float32); the marginal
    form keeps the dtype of `mu`. Not differentiable.

    Args:
        z: Points `[S, D]`.
        mu: Posterior means `[N, D]`.
        logvar: Posterior log variances `[N, D]`.
        joint: True for the density of whole vectors (DG-VAE Eq. 9), False for each dimension on
            its own (Eq. 11).

    Returns:
        Nats, `[S]` if `joint`, else `[S, D]`; dtype of `z`.
    """
    if joint:
        return aggregated_log_prob(diagonal_normal(mu, logvar), z).to(z.dtype)
    columns = zip(*(t.T.to(mu.dtype).contiguous() for t in (z, mu, logvar)), strict=True)
    return torch.stack([_marginal_log_density(*column) for column in columns], 1).to(z.dtype)


@torch.no_grad()
def aggregated_log_prob(q: Distribution, z: Tensor) -> Tensor:
    """Log density of the aggregated posterior `(1/N) sum_n q_n(z)` of any of our posteriors.

    Args:
        q: Diagonal normal or `VonMisesFisher` with batch shape `[N]`.
        z: Points `[S, D]`.

    Returns:
        Nats `[S]`, in float64 where the device has it. Not differentiable.

    Raises:
        VaelibError: `q` is of another family.
    """
    constant, points, weights = _matrix_form(q, z)
    blocks = points.split(_block_rows(constant))
    return torch.cat([_log_mean_exp_(torch.addmm(constant, part, weights)) for part in blocks])


@torch.no_grad()
def grouped_log_prob(q: Distribution, z: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """Log density of each point under the aggregated posterior of its own group.

    Args:
        q: Diagonal normal or `VonMisesFisher` with batch shape `[N]`.
        z: A point of each posterior, `[N, D]`.
        groups: Positions of the members of each group.

    Returns:
        Nats, one group after the other, in float64 where the device has it. Not differentiable.

    Raises:
        VaelibError: `q` is of another family.
    """
    constant, points, weights = _matrix_form(q, z)
    found = []
    for group in groups:
        own, columns = constant[group], weights[:, group]
        for part in points[group].split(_block_rows(own)):
            found.append(_log_mean_exp_(torch.addmm(own, part, columns)))
    return torch.cat(found)


def pairwise_log_prob(q: Distribution, z: Tensor) -> Tensor:
    """All `log q_n(z_s)` at once, `[S, N]` nats; arguments as in `aggregated_log_prob`.

    Nothing is chunked: the caller keeps S x N small.
    """
    return torch.addmm(*_matrix_form(q, z))


def take(q: Distribution, index: Tensor) -> Distribution:
    """The posteriors of some examples.

    Args:
        q: Diagonal normal or `VonMisesFisher` with batch shape `[N]`.
        index: Positions `[B]`.

    Returns:
        The same family with batch shape `[B]`.

    Raises:
        VaelibError: `q` is of another family.
    """
    if isinstance(q, VonMisesFisher):
        return VonMisesFisher(q.loc[index], q.concentration[index], validate_args=False)
    mu, logvar = mean_logvar(q)
    return diagonal_normal(mu[index], logvar[index])


def _matrix_form(q: Distribution, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Constant `[N]`, points `[S, K]`, weights `[K, N]`: log densities as one affine product."""
    if isinstance(q, VonMisesFisher):
        dtype = sampling_dtype(z)
        weights = (q.concentration[:, None] * q.loc).to(dtype).T
        return -q.log_normaliser().to(dtype), z.to(dtype), weights
    return _quadratic_form(z, *mean_logvar(q))


def _quadratic_form(z: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`_matrix_form` of diagonal normals: `-(z - mu)^2 / 2 sigma^2` expanded, K = 2D."""
    z, mu, logvar = (value.to(sampling_dtype(mu)) for value in (z, mu, logvar))
    centre = mu.mean(0)
    z, mu = z - centre, mu - centre
    precision = torch.exp(-logvar)
    constant = -0.5 * (mu * mu * precision + logvar + math.log(2 * math.pi)).sum(1)
    weights = torch.cat([-0.5 * precision, mu * precision], 1).T.contiguous()
    return constant, torch.cat([z * z, z], 1), weights


def _marginal_log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Log of a one-dimensional mixture, `z` `[S]`, `mu` and `logvar` `[N]`, to `[S]`."""
    scale = torch.exp(-0.5 * logvar) * math.sqrt(0.5)
    constant, blocks = -0.5 * (logvar + math.log(2 * math.pi)), []
    for part in z.split(_block_rows(mu)):
        scaled = (part[:, None] - mu).mul_(scale)
        blocks.append(_log_mean_exp_(torch.addcmul(constant, scaled, scaled, value=-1, out=scaled)))
    return torch.cat(blocks)


def _block_rows(mu: Tensor) -> int:
    """Rows of one block of densities against all of `mu`."""
    budget = _CPU_BLOCK if mu.device.type == "cpu" else _DEVICE_BLOCK
    return max(1, budget // max(1, len(mu)))


def _log_mean_exp_(values: Tensor) -> Tensor:
    """`log mean exp` over the last axis, overwriting `values`.

    Exponents far below the largest are lifted to the smallest normal number: they cannot change
    the sum, and denormal numbers are slow.
    """
    floor = math.log(torch.finfo(values.dtype).tiny) + 1
    top = values.amax(-1, keepdim=True)
    total = values.sub_(top).clamp_(min=floor).exp_().sum(-1)
    return total.log_().add_(top[..., 0]).sub_(math.log(values.shape[-1]))
