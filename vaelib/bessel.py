"""Modified Bessel functions as the sphere needs them: log-normaliser and mean resultant length.

The von Mises-Fisher density needs `log I_v(kappa)` for orders up to 255 and concentrations up to
10,000, where exponentially scaled Bessel functions underflow. Everything here rests on
`F(kappa) = log 0F1(; d/2; kappa^2 / 4)`, the log-normaliser *relative to the uniform sphere*: it is
zero at `kappa = 0` and its derivative is the mean resultant length
`A(kappa) = I_{d/2}(kappa) / I_{d/2-1}(kappa)`. Small concentrations use the power series, large
ones the uniform (Debye) expansion in powers of `(v^2 + kappa^2)^(-1/2)`, both in float64.
"""

import functools
import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

_SERIES_BELOW = 40.0  # concentration at which the power series hands over to the expansion
_SERIES_TERMS = 96
_DEBYE_ORDER = 9


@functools.cache
def _debye_terms() -> tuple[tuple[int, int, float], ...]:
    """Terms `(k, m, c)` of the uniform expansion's sum `sum c t^(m-k) r^(-k)`, r^2 = v^2 + kappa^2.

    The polynomials follow the classical recurrence
    `u_{k+1}(t) = t^2 (1 - t^2) u_k'(t) / 2 + (1/8) int_0^t (1 - 5 s^2) u_k(s) ds`.
    """
    polynomial, terms = {0: Fraction(1)}, []
    for k in range(_DEBYE_ORDER):
        terms += [(k, m, float(c)) for m, c in polynomial.items()]
        following: dict[int, Fraction] = {}
        for m, c in polynomial.items():
            up, down = Fraction(m, 2) + Fraction(1, 8 * (m + 1)), Fraction(m, 2)
            down += Fraction(5, 8 * (m + 3))
            following[m + 1] = following.get(m + 1, Fraction(0)) + c * up
            following[m + 3] = following.get(m + 3, Fraction(0)) - c * down
        polynomial = following
    return tuple(terms)


def _debye(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """`(F, A)` at large concentrations by the uniform expansion."""
    v = dim / 2 - 1
    r = torch.sqrt(kappa * kappa + v * v)
    k, m, c = (kappa.new_tensor(column) for column in zip(*_debye_terms(), strict=True))
    terms = c * (v / r)[..., None] ** (m - k) * r[..., None] ** (-k)
    total = terms.sum(-1)
    slope = -(m * terms).sum(-1) * kappa / (r * r)
    value = r + v * torch.log(2 / (v + r)) - 0.5 * torch.log(2 * math.pi * r)
    value = value + torch.log(total) + math.lgamma(dim / 2)
    return value, kappa / (r + v) - kappa / (2 * r * r) + slope / total


def _series(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """`(F, A)` at small concentrations by the power series of 0F1."""
    k = torch.arange(1, _SERIES_TERMS + 1, dtype=kappa.dtype, device=kappa.device)
    x = (kappa * kappa / 4)[..., None]
    lower = torch.cumprod(x / (k * (dim / 2 + k - 1)), -1).sum(-1)
    upper = torch.cumprod(x / (k * (dim / 2 + k)), -1).sum(-1)
    return torch.log1p(lower), kappa / dim * (1 + upper) / (1 + lower)


def _value_and_length(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """`(F, A)` for any concentration; `kappa` is float64."""
    small = _series(kappa.clamp(max=_SERIES_BELOW), dim)
    large = _debye(kappa.clamp(min=_SERIES_BELOW), dim)
    below = kappa <= _SERIES_BELOW
    return torch.where(below, small[0], large[0]), torch.where(below, small[1], large[1])


class _MeanLength(torch.autograd.Function):
    """`A(kappa)` with `A' = 1 - A^2 - (d - 1) A / kappa`."""

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return _value_and_length(kappa, dim)[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (kappa,) = ctx.saved_tensors
        return grad * length_slope(kappa, ctx.dim), None


class _RelativeLogNormaliser(torch.autograd.Function):
    """`F(kappa)` with `F' = A`."""

    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(kappa)
        ctx.dim = dim
        return _value_and_length(kappa, dim)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (kappa,) = ctx.saved_tensors
        return grad * _MeanLength.apply(kappa, ctx.dim), None


def length_slope(kappa: Tensor, dim: int) -> Tensor:
    """`A'(kappa)`, the variance of the cosine to the mean direction; `kappa` is float64."""
    length = _MeanLength.apply(kappa, dim)
    return 1 - length * length - (dim - 1) * length / kappa


def relative_log_normaliser(kappa: Tensor, dim: int) -> Tensor:
    """`F(kappa)`: log-normaliser of the vMF density minus that of the uniform one.

    Args:
        kappa: Concentrations in float64 (see `wide`), any shape.
        dim: Dimension d >= 2 of the space.

    Returns:
        Nats, shape of `kappa`; differentiable.
    """
    return _RelativeLogNormaliser.apply(kappa, dim)


def wide(kappa: Tensor) -> Tensor:
    """`kappa` in float64, on the CPU where the device has no float64."""
    return kappa.to("cpu" if kappa.device.type == "mps" else kappa.device, torch.float64)


def log_sphere_area(dim: int) -> float:
    """Log of the surface of the unit sphere in `dim` dimensions: the uniform entropy in nats."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def mean_resultant_length(concentration: Tensor, dim: int) -> Tensor:
    """Length of the mean of a von Mises-Fisher variable, `I_{d/2}(kappa) / I_{d/2-1}(kappa)`.

    Args:
        concentration: kappa > 0, any shape.
        dim: Dimension d >= 2 of the space in which the sphere lies.

    Returns:
        Values in (0, 1), shape and dtype of `concentration`; differentiable.
    """
    return _MeanLength.apply(wide(concentration), dim).to(concentration)
