"""Distributions on the unit sphere: von Mises-Fisher and uniform, with their KL registered."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.constraints import Constraint

from vaelib.bessel import (
    length_slope,
    log_sphere_area,
    mean_resultant_length,
    relative_log_normaliser,
    wide,
)
from vaelib.errors import VaelibError
from vaelib.noise import Drawn, fresh_generator, sampling_dtype, standard_normal


class _UnitVector(Constraint):
    """Vectors of length one, up to rounding in single precision."""

    is_discrete = False
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        """Whether each last-axis vector has length one."""
        return (torch.linalg.vector_norm(value, dim=-1) - 1).abs() < 1e-4


unit_vector = _UnitVector()


class HypersphericalUniform(Drawn, Distribution):
    """Uniform distribution on the unit sphere, the prior of vMF autoencoders.

    Args:
        dim: Dimension d >= 2 of the space; an event is a unit vector `[d]`.
        device: Where samples are made.
        dtype: Floating-point type of samples.
        validate_args: As in `torch.distributions`.

    Raises:
        VaelibError: `dim` is below 2.

    Example:
        >>> round(float(HypersphericalUniform(3).entropy()), 4)  # log(4 pi)
        2.531
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = unit_vector
    has_rsample = True

    def __init__(
        self,
        dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
    ) -> None:
        _check_dim(dim)
        self.dim = dim
        self._like = torch.zeros((), device=device, dtype=dtype)
        super().__init__(torch.Size(), torch.Size([dim]), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "HypersphericalUniform":
        """The same distribution with another batch shape."""
        like = self._like
        new = HypersphericalUniform(self.dim, like.device, like.dtype, validate_args=False)
        new._batch_shape = torch.Size(batch_shape)
        new._validate_args = self._validate_args
        return new

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Normalised Gaussian vectors, `sample_shape + batch_shape + [d]`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.nn.functional.normalize(standard_normal(shape, self._like, generator), dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density `[...]` in nats, by the surface measure, of unit vectors `[..., d]`."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        return value.new_full(shape, -log_sphere_area(self.dim))

    def entropy(self) -> Tensor:
        """Log of the sphere's surface, `batch_shape`, nats."""
        return self._like.new_full(self.batch_shape, log_sphere_area(self.dim))

    @property
    def mean(self) -> Tensor:
        """The origin, `batch_shape + [d]`."""
        return self._like.expand(self._extended_shape())

    @property
    def variance(self) -> Tensor:
        """1 / d for every coordinate, `batch_shape + [d]`."""
        return self.mean + 1 / self.dim


class VonMisesFisher(Drawn, Distribution):
    """Von Mises-Fisher distribution on the unit sphere of R^d.

    The density is `exp(kappa <loc, z>) / C` with respect to the surface measure. Samples are
    reparameterised: exactly with respect to `loc`, and with respect to `concentration` through
    the accepted proposal only (Davidson et al. 2018, without the correction term).

    Args:
        loc: Mean direction, unit vectors `[..., d]`, d >= 2.
        concentration: kappa > 0, `[...]`, broadcast against the batch of `loc`.
        validate_args: As in `torch.distributions`.

    Raises:
        VaelibError: `loc` has fewer than two dimensions in its last axis.

    Example:
        >>> q = VonMisesFisher(torch.eye(32)[0], torch.tensor(25.0))
        >>> round(float(torch.distributions.kl_divergence(q, HypersphericalUniform(32))), 3)
        5.755
    """

    arg_constraints: ClassVar = {"loc": unit_vector, "concentration": constraints.positive}
    support = unit_vector
    has_rsample = True

    def __init__(
        self, loc: Tensor, concentration: Tensor | float, validate_args: bool | None = None
    ) -> None:
        _check_dim(loc.shape[-1] if loc.dim() else 0)
        concentration = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        batch = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc = loc.expand(*batch, loc.shape[-1])
        self.concentration = concentration.expand(batch)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    @property
    def dim(self) -> int:
        """Dimension d of the space in which the sphere lies."""
        return self.event_shape[0]

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "VonMisesFisher":
        """The same distribution with another batch shape."""
        batch = torch.Size(batch_shape)
        new = VonMisesFisher(
            self.loc.expand(*batch, self.dim), self.concentration.expand(batch), validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Reparameterised unit vectors, `sample_shape + batch_shape + [d]`."""
        shape = self._extended_shape(torch.Size(sample_shape))
        source = fresh_generator(generator)
        kappa = self.concentration.to(sampling_dtype(self.loc))
        b = (self.dim - 1) / (2 * kappa + torch.sqrt(4 * kappa**2 + (self.dim - 1) ** 2))
        b, kappa = b.expand(shape[:-1]), kappa.expand(shape[:-1])
        share = _accepted_share(b.detach(), kappa.detach(), self.dim, source)
        below = 1 - (1 - b) * share
        cosine = ((1 - (1 + b) * share) / below).to(self.loc)
        sine = (2 * torch.sqrt(b * share * (1 - share)) / below).to(self.loc)
        tangent = standard_normal(shape, self.loc, source)
        for _ in range(2):  # the second time for noise that was nearly parallel to loc
            tangent = tangent - (tangent * self.loc).sum(-1, keepdim=True) * self.loc
            tangent = torch.nn.functional.normalize(tangent, dim=-1)
        return cosine[..., None] * self.loc + sine[..., None] * tangent

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density `[...]` in nats, by the surface measure, of unit vectors `[..., d]`."""
        if self._validate_args:
            self._validate_sample(value)
        cosine = (self.loc * value).sum(-1)
        return self.concentration * cosine - self.log_normaliser()

    def log_normaliser(self) -> Tensor:
        """`log C(kappa)`, the log-integral of `exp(kappa <loc, z>)`, `batch_shape`, nats."""
        relative = relative_log_normaliser(wide(self.concentration), self.dim)
        return (relative + log_sphere_area(self.dim)).to(self.concentration)

    def entropy(self) -> Tensor:
        """Entropy with respect to the surface measure, `batch_shape`, nats."""
        return (log_sphere_area(self.dim) - _divergence_from_uniform(self)).to(self.concentration)

    @property
    def mode(self) -> Tensor:
        """The mean direction, `batch_shape + [d]`."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        """`A(kappa) loc`, `batch_shape + [d]`."""
        return mean_resultant_length(self.concentration, self.dim)[..., None] * self.loc

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, `batch_shape + [d]`."""
        kappa = wide(self.concentration)
        across = mean_resultant_length(kappa, self.dim) / kappa
        along = (length_slope(kappa, self.dim) - across).to(self.loc)
        return across.to(self.loc)[..., None] + along[..., None] * self.loc**2


def _check_dim(dim: int) -> None:
    """A sphere needs at least a plane."""
    if dim < 2:
        raise VaelibError(f"a distribution on the sphere needs dim >= 2, not {dim}; raise dim.")


def _accepted_share(b: Tensor, kappa: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Accepted Beta((d-1)/2, (d-1)/2) proposals of the rejection sampler of Ulrich and Wood.

    A proposal is `(1 + t) / 2` with `t` one coordinate of a uniform unit vector.

    Args:
        b: Envelope parameter, any shape.
        kappa: Concentration, same shape.
        dim: Dimension d of the space.
        generator: Source of randomness.

    Returns:
        Proposals in (0, 1), shape of `b`, not differentiable.
    """
    shape, b, kappa = b.shape, b.reshape(-1), kappa.reshape(-1)
    centre = (1 - b) / (1 + b)
    limit = kappa * centre + (dim - 1) * torch.log(4 * b / (1 + b) ** 2)
    share, pending = torch.empty_like(b), torch.arange(len(b), device=b.device)
    while len(pending):
        gauss = standard_normal((len(pending), dim), b, generator)
        proposal = (1 + gauss[:, 0] / torch.linalg.vector_norm(gauss, dim=-1)) / 2
        here = b[pending]
        cosine = (1 - (1 + here) * proposal) / (1 - (1 - here) * proposal)
        score = kappa[pending] * cosine + (dim - 1) * torch.log1p(-centre[pending] * cosine)
        uniform = torch.rand(
            len(pending), generator=generator, device=generator.device, dtype=b.dtype
        )
        accepted = score - limit[pending] >= torch.log(uniform).to(b.device)
        accepted &= (proposal > 0) & (proposal < 1)
        share[pending[accepted]] = proposal[accepted]
        pending = pending[~accepted]
    return share.reshape(shape)


def _divergence_from_uniform(q: VonMisesFisher) -> Tensor:
    """KL(q || uniform) = kappa A - F in float64, `batch_shape`."""
    kappa = wide(q.concentration)
    relative = relative_log_normaliser(kappa, q.dim)
    return kappa * mean_resultant_length(kappa, q.dim) - relative


@register_kl(VonMisesFisher, HypersphericalUniform)
def _kl_vmf_uniform(q: VonMisesFisher, p: HypersphericalUniform) -> Tensor:
    """In closed form."""
    if q.dim != p.dim:
        raise VaelibError(
            f"KL between spheres of dimension {q.dim} and {p.dim} is undefined; make them equal."
        )
    shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return _divergence_from_uniform(q).to(q.concentration).expand(shape)
