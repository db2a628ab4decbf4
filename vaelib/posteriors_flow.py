"""Posteriors that send a Gaussian through a normalizing flow; their KL is a sampled estimate."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn import functional as F

from vaelib.errors import VaelibError
from vaelib.flows import Flow, FlowChain, FlowNormal, IAFBlock, PlanarFlow
from vaelib.layers import ScaledBatchNorm, Shape
from vaelib.posteriors import POSTERIORS
from vaelib.posteriors_du import LearnedBatchNorm, VarianceDropout

DRAWS = 16  # samples of the KL in evaluation; training takes the one that is decoded


def _sent(
    mu: Tensor, scale: Tensor, flow: Flow, context: Tensor | None, training: bool
) -> Distribution:
    """N(mu, scale^2) `[B, D]` sent through a flow, event shape [D]."""
    base = Normal(mu, scale, validate_args=False)
    q = FlowNormal(base, flow, context, draws=0 if training else DRAWS)
    return Independent(q, 1, validate_args=False)


@POSTERIORS.register("planar")
class PlanarPosterior(nn.Module):
    """A Gaussian sent through planar flows that are the same for all examples (VAE-NF).

    The released code of Coupled-VAE, whose VAE-NF this is, batch-normalises means and log scales
    with a learnable scale and shift, which its paper does not say and which works against collapse.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
        flow_depth: Planar flows in a row, 1 or more.
        norm_heads: Batch-normalise means and log scales.
        norm_eps: Added to the variances, > 0.

    Raises:
        VaelibError: A value out of range.
    """

    def __init__(
        self,
        in_features: int,
        shape: Shape,
        *,
        flow_depth: int = 3,
        norm_heads: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if flow_depth < 1 or norm_eps <= 0:
            raise VaelibError(
                f"flow_depth={flow_depth}, norm_eps={norm_eps}: give one flow or more, and a "
                "positive norm_eps."
            )
        width = 2 * shape.latent_dim
        self.linear = nn.Linear(in_features, width, bias=False)
        self.norm = LearnedBatchNorm(width, 1.0, norm_eps) if norm_heads else nn.Identity()
        self.flow = FlowChain([PlanarFlow(shape.latent_dim) for _ in range(flow_depth)])

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a flow posterior with event shape [D]."""
        mu, log_scale = self.norm(self.linear(h).float()).chunk(2, dim=-1)
        return _sent(mu, log_scale.exp(), self.flow, None, self.training)


def _autoregressive(dim: int, depth: int, width: int) -> FlowChain:
    """Blocks with a context of 2D, dimensions reversed after each.

    Raises:
        VaelibError: No block, or no hidden unit.
    """
    if min(depth, width) < 1:
        raise VaelibError(f"flow_depth={depth}, flow_width={width}: give 1 or more of both.")
    return FlowChain([IAFBlock(dim, 2 * dim, width * dim) for _ in range(depth)], reverse=True)


def _parts(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [B, D], log variance [B, D] and context [B, 2D] from the encoder's 4D outputs."""
    first, context = outputs.float().chunk(2, dim=-1)
    mu, raw_scale = first.chunk(2, dim=-1)
    return mu, 2 * torch.log(F.softplus(raw_scale)), context


@POSTERIORS.register("iaf")
class IAFPosterior(nn.Module):
    """A Gaussian sent through inverse autoregressive flows (Kingma et al. 2016; DU-VAE Eq. S22).

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes; D >= 2.
        gamma: Fixed scale of batch-normalised means before the flow (IAF+BN); 0 for none.
        flow_depth: Blocks, 1 or more.
        flow_width: Hidden units of a block's layers, for each dimension.
        norm_eps: Added to the variance of the raw means, > 0.

    Raises:
        VaelibError: A value out of range.
    """

    def __init__(
        self,
        in_features: int,
        shape: Shape,
        *,
        gamma: float = 0.0,
        flow_depth: int = 2,
        flow_width: int = 60,
        norm_eps: float = 1e-8,
    ) -> None:
        super().__init__()
        if gamma < 0 or norm_eps <= 0:
            raise VaelibError(
                f"gamma={gamma}, norm_eps={norm_eps}: the first must not be negative, and the "
                "second be positive."
            )
        dim = shape.latent_dim
        self.linear = nn.Linear(in_features, 4 * dim, bias=False)
        self.norm = ScaledBatchNorm(dim, gamma, norm_eps) if gamma else nn.Identity()
        self.flow = _autoregressive(dim, flow_depth, flow_width)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a flow posterior with event shape [D]."""
        mu, logvar, context = _parts(self.linear(h))
        scale = torch.exp(0.5 * logvar)
        return _sent(self.norm(mu), scale, self.flow, context, self.training)


@POSTERIORS.register("du_iaf")
class DUIAFPosterior(VarianceDropout):
    """Inverse autoregressive flows from the Gaussian of DU-VAE (DU-IAF, Algorithm S1).

    Needs the strategy `after_warmup`.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes; D >= 2.
        gamma: Root mean square of the scales of the normalised means, > 0.
        keep_probability: p, above 0 and at most 1.
        flow_depth, flow_width: Blocks, and hidden units of a block's layers for each dimension.
        norm_eps: Added to the variance of the raw means, > 0.

    Raises:
        VaelibError: A value out of range.
    """

    def __init__(
        self,
        in_features: int,
        shape: Shape,
        *,
        gamma: float = 0.7,
        keep_probability: float = 0.7,
        flow_depth: int = 2,
        flow_width: int = 60,
        norm_eps: float = 1e-8,
    ) -> None:
        super().__init__(shape, gamma, keep_probability, norm_eps)
        self.linear = nn.Linear(in_features, 4 * shape.latent_dim, bias=False)
        self.flow = _autoregressive(shape.latent_dim, flow_depth, flow_width)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a flow posterior with event shape [D], its base's variances dropped."""
        mu, logvar, context = _parts(self.linear(h))
        scale = torch.exp(0.5 * self.floored(logvar))
        return _sent(self.norm(mu), scale, self.flow, context, self.training)
