"""Posterior families q(z|x): from the encoder's vector to a distribution over z."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.distributions import VonMisesFisher, diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import ScaledBatchNorm, Shape
from vaelib.registry import Registry

POSTERIORS: Registry[type[nn.Module]] = Registry("posterior family")


def _heads(in_features: int, shape: Shape) -> nn.Linear:
    return nn.Linear(in_features, 2 * shape.latent_dim, bias=False)


@POSTERIORS.register("gaussian")
class GaussianPosterior(nn.Module):
    """N(mu, diag sigma^2) from one bias-free linear layer (He et al. 2019).

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        self.linear = _heads(in_features, shape)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D]."""
        mu, logvar = self.linear(h).float().chunk(2, dim=-1)
        return diagonal_normal(mu, logvar)


@POSTERIORS.register("split")
class SplitPosterior(nn.Module):
    """N(mu, diag sigma^2) where `h` already is [mu | log sigma^2], as a table encoder's.

    Args:
        in_features: 2D.
        shape: Sizes.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        if in_features != 2 * shape.latent_dim:
            raise VaelibError(
                "the split posterior takes the encoder's output for means and log variances, so it "
                "must be 2 latent_dim wide; use the gaussian posterior with this encoder."
            )

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, 2D]` to a diagonal normal with event shape [D]."""
        mu, logvar = h.chunk(2, dim=-1)
        return diagonal_normal(mu, logvar)


@POSTERIORS.register("batch_norm")
class BatchNormPosterior(nn.Module):
    """Gaussian whose means are batch-normalised to a fixed scale (BN-VAE, Zhu et al. 2020).

    E[KL] >= D gamma^2 / 2 whatever the encoder does (Zhu et al. 2020).

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
        gamma: Fixed scale of the normalised means, > 0.
        norm_eps: Added to the variance, 1e-5 in the published code. The floor only holds while the
            raw means vary by more than this; under Adam they shrink below it and the KL escapes.

    Raises:
        VaelibError: gamma or norm_eps is not positive.
    """

    def __init__(
        self, in_features: int, shape: Shape, *, gamma: float = 0.6, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        if min(gamma, norm_eps) <= 0:
            raise VaelibError(f"gamma={gamma}, norm_eps={norm_eps}: both must be positive.")
        self.linear = _heads(in_features, shape)
        self.norm = ScaledBatchNorm(shape.latent_dim, gamma, norm_eps)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D]."""
        mu, logvar = self.linear(h).float().chunk(2, dim=-1)
        return diagonal_normal(self.norm(mu), logvar)


@POSTERIORS.register("delta")
class DeltaPosterior(nn.Module):
    """Gaussian with KL >= delta in every dimension (delta-VAE, Razavi et al. 2019).

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
        delta: Committed rate per dimension in nats, > 0.

    Raises:
        VaelibError: delta is not positive.
    """

    def __init__(self, in_features: int, shape: Shape, *, delta: float = 0.15) -> None:
        super().__init__()
        if delta <= 0:
            raise VaelibError(f"delta={delta}: the committed rate must be positive.")
        self.linear = _heads(in_features, shape)
        self.delta = delta
        self.low, self.high = (math.sqrt(v) for v in delta_roots(delta))

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D]; all means are positive."""
        raw_mu, raw_scale = self.linear(h).float().chunk(2, dim=-1)
        share = torch.sigmoid(raw_scale).clamp_min(1 / 50)
        scale = self.low + (self.high - self.low) * share
        logvar = 2 * scale.log()
        room = 2 * self.delta + 1 + logvar - scale**2
        mu = torch.sqrt(room + raw_mu.clamp_min(0) + 1e-6)
        return diagonal_normal(mu, logvar)


def delta_roots(delta: float) -> tuple[float, float]:
    """The two variances v with ln v - v + 2 delta + 1 = 0, by bisection to machine precision."""

    def gap(v: float) -> float:
        return math.log(v) - v + 2 * delta + 1

    def bisect(inside: float, outside: float) -> float:
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if gap(middle) > 0 else (inside, middle)
        return (inside + outside) / 2

    return bisect(1.0, math.exp(-2 * delta - 2)), bisect(1.0, 4 * delta + 8)


@POSTERIORS.register("vmf")
class VonMisesFisherPosterior(nn.Module):
    """von Mises-Fisher on the unit sphere with a fixed concentration (Xu & Durrett 2018).

    Only the mean direction is learned; the released code has D further outputs that it never reads.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes; D >= 2.
        kappa: Concentration, > 0 and at most 10,000; beyond, single precision loses the density.

    Raises:
        VaelibError: kappa is out of range, or D is below 2.
    """

    def __init__(self, in_features: int, shape: Shape, *, kappa: float = 25.0) -> None:
        super().__init__()
        if not 0 < kappa <= 10_000:
            raise VaelibError(f"kappa={kappa}: it must be positive, and at most 10,000.")
        if shape.latent_dim < 2:
            raise VaelibError("latent_dim=1: a sphere needs 2 or more.")
        self.linear = nn.Linear(in_features, shape.latent_dim, bias=False)
        self.kappa = kappa

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a vMF distribution with event shape [D]."""
        loc = nn.functional.normalize(self.linear(h).float(), dim=-1)
        return VonMisesFisher(loc, loc.new_full(loc.shape[:-1], self.kappa), validate_args=False)
