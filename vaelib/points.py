"""A distribution that is one point: the posterior of a deterministic autoencoder."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.constraints import Constraint

from vaelib.noise import Drawn


class Point(Drawn, Distribution):
    """All mass at one point of R^D.

    It has no density: `log_prob` is infinite at the point, minus infinite elsewhere. Its KL to a
    prior would be infinite too; a deterministic autoencoder has no such term, so that the KL is
    registered as 0, whatever the prior. Estimates that weigh samples by their density are
    infinite or not a number; the published tables say the same of their NLL.

    Args:
        loc: The points `[..., D]`.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {"loc": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True
    dense = False

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """The point itself, `sample_shape + batch_shape + [D]`; nothing is drawn."""
        return self.loc.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Infinite at the point, minus infinite elsewhere, `[...]`."""
        here = (value == self.loc).all(-1)
        return torch.where(here, torch.inf, -torch.inf).to(self.loc.dtype)

    @property
    def mode(self) -> Tensor:
        """The point `[..., D]`."""
        return self.loc

    @property
    def mean(self) -> Tensor:
        """The point `[..., D]`."""
        return self.loc


@register_kl(Point, Distribution)
def _kl_point(q: Point, p: Distribution) -> Tensor:
    """0 by convention, see `Point`."""
    return q.loc.new_zeros(q.batch_shape)
