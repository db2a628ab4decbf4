"""What the tests of terms share: posteriors, seeds, and a forward pass as terms see it."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.distributions import diagonal_normal, rsample
from vaelib.model import Outputs
from vaelib.testing import sentences

Posteriors = tuple[Tensor, Tensor]


def seeded(seed: int = 11) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outputs_of(q: Distribution, p: Distribution | None = None, x: Tensor | None = None) -> Outputs:
    """A forward pass as terms see it."""
    size, dim = q.batch_shape[0], q.event_shape[0]
    zero = torch.zeros(dim, dtype=q.mean.dtype)
    z, p = rsample(q, (), seeded()), p or diagonal_normal(zero, zero)
    x = sentences(size, 6, 13) if x is None else x
    return Outputs(x, torch.zeros(size, 1), q, p, z, -torch.arange(float(size)))
