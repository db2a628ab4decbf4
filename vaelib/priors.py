"""Priors p(z)."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.distributions import HypersphericalUniform, diagonal_normal
from vaelib.layers import Shape
from vaelib.registry import Registry

PRIORS: Registry[type[nn.Module]] = Registry("prior")


@PRIORS.register("normal")
class StandardNormal(nn.Module):
    """N(0, I) over D dimensions."""

    zero: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(shape.latent_dim), persistent=False)

    def forward(self) -> Distribution:
        """The prior, event shape [D], on the module's device."""
        return diagonal_normal(self.zero, self.zero)


@PRIORS.register("uniform_sphere")
class UniformSphere(nn.Module):
    """The uniform distribution on the unit sphere in D dimensions."""

    zero: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(shape.latent_dim), persistent=False)

    def forward(self) -> Distribution:
        """The prior, event shape [D], on the module's device."""
        return HypersphericalUniform(self.zero.shape[0], device=self.zero.device)
