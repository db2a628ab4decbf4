"""Posteriors of DU-VAE (Shen et al. 2021): learnable batch norm of means, dropout of variances."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout
from vaelib.posteriors import POSTERIORS

ALPHA = 1 / (2 * math.pi * math.e)  # variance of a normal distribution of entropy 0


class LearnedBatchNorm(nn.Module):
    """Batch normalisation with a learnable scale, free or of a fixed mean square.

    The scale is kept as its offset from `gamma`, so that the common start of all parameters near 0
    leaves nearly equal scales.

    Args:
        dim: Features D.
        gamma: Where all scales start; with `rescaled` also their root mean square for good.
        eps: Added to the variance; features of less variance than this escape the normalisation.
        rescaled: Hold the mean square of the scales at gamma^2 (DU-VAE Algorithm 1).
        shift: A fixed shift; None learns one for every feature, from 0.
    """

    def __init__(
        self,
        dim: int,
        gamma: float,
        eps: float = 1e-5,
        rescaled: bool = False,
        shift: float | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=eps, momentum=0.1, affine=False)
        self.offset = nn.Parameter(torch.zeros(dim))
        self.shift: Tensor | float = nn.Parameter(torch.zeros(dim)) if shift is None else shift
        self.gamma, self.rescaled = gamma, rescaled

    @property
    def scale(self) -> Tensor:
        """The scale of each feature [D]; the factor that rescales it carries no gradient."""
        scale = self.gamma + self.offset
        if not self.rescaled:
            return scale
        return scale * (self.gamma / scale.square().mean().sqrt()).detach()

    @torch.no_grad()
    def rescale(self) -> None:
        """Write the rescaled scale back, as DU-VAE does after every update."""
        self.offset.copy_(self.scale - self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x [B, D]`; batch statistics in training, running ones in evaluation.

        Raises:
            VaelibError: A training batch of one sentence, which has no variance.
        """
        if self.training and len(x) < 2:
            raise VaelibError("batch norm in training needs 2 sentences a batch: use min_batch=2.")
        return self.norm(x) * self.scale + self.shift


class VarianceDropout(nn.Module):
    """Both regularisers of DU-VAE for a posterior family: means normalised, variances dropped.

    In warm-up, and as long as no strategy says that it is over, the variance is as the encoder has
    it. Then it gets a floor alpha = 1 / (2 pi e), which keeps its entropy above 0; in training what
    lies above the floor is dropped or scaled by 1 / p, each dimension of each sentence on its own
    (Eq. 6). Whether the warm-up is over is kept with the weights.

    Args:
        shape: Sizes.
        gamma: Root mean square of the scales of the normalised means, > 0.
        keep_probability: p, above 0 and at most 1. The released code and Table 3 count the other
            way: 1 - p.
        norm_eps: Added to the variance of the raw means, > 0.

    Raises:
        VaelibError: A value out of range.
    """

    warm: Tensor

    def __init__(
        self, shape: Shape, gamma: float, keep_probability: float, norm_eps: float
    ) -> None:
        super().__init__()
        if min(gamma, norm_eps) <= 0 or not 0 < keep_probability <= 1:
            raise VaelibError(
                f"gamma={gamma}, norm_eps={norm_eps}, keep_probability={keep_probability}: all "
                "must be positive, and a probability is at most 1."
            )
        self.norm = LearnedBatchNorm(shape.latent_dim, gamma, norm_eps, rescaled=True)
        self.drop = 1 - keep_probability
        self.noise: torch.Generator | None = None
        self.register_buffer("warm", torch.tensor(False))

    def begin_step(self, warm: bool, generator: torch.Generator) -> None:
        """Prepare an update.

        Args:
            warm: Whether the weight of the KL term has reached 1.
            generator: Source of the dropout masks.
        """
        self.warm.fill_(warm)
        self.noise = generator if warm else None

    def end_step(self) -> None:
        """Close an update: no further masks, scales back to their mean square."""
        self.noise = None
        self.norm.rescale()

    def floored(self, logvar: Tensor) -> Tensor:
        """Log variances `[B, D]` with what lies above the floor dropped, once warmed up.

        Validation and evaluation, whose weight is 1, have the floor from the start, as published.
        """
        excess = dropout(logvar.exp(), self.drop, self.noise is not None, self.noise)
        floored = torch.log(excess + ALPHA)
        return torch.where(self.warm, floored, logvar) if self.training else floored


@POSTERIORS.register("variance_dropout")
class DUPosterior(VarianceDropout):
    """The Gaussian posterior of DU-VAE (Shen et al. 2021, Algorithm 1).

    Needs the strategy `after_warmup`. With `keep_probability=1.0` it is the BN-VAE of the released
    code: a learnable scale, and the floor.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
        gamma: Root mean square of the scales of the normalised means, > 0.
        keep_probability: p, above 0 and at most 1.
        norm_eps: Added to the variance of the raw means, > 0.

    Raises:
        VaelibError: A value out of range.
    """

    def __init__(
        self,
        in_features: int,
        shape: Shape,
        *,
        gamma: float = 0.5,
        keep_probability: float = 0.8,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(shape, gamma, keep_probability, norm_eps)
        self.linear = nn.Linear(in_features, 2 * shape.latent_dim, bias=False)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D], its variances dropped."""
        mu, logvar = self.linear(h).float().chunk(2, dim=-1)
        return diagonal_normal(self.norm(mu), self.floored(logvar))


@POSTERIORS.register("fixed_shift")
class FixedShiftPosterior(nn.Module):
    """Gaussian whose means are batch-normalised to a fixed shift (DU-VAE Appendix F).

    E[KL] >= D shift^2 / 2, and yet all posteriors may be the same: the scale is free to vanish.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
        shift: Mean of every normalised mean; the paper's beta.
        norm_eps: Added to the variance of the raw means, > 0.

    Raises:
        VaelibError: norm_eps is not positive.
    """

    def __init__(
        self, in_features: int, shape: Shape, *, shift: float = 0.5, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        if norm_eps <= 0:
            raise VaelibError(f"norm_eps={norm_eps}: it must be positive.")
        self.linear = nn.Linear(in_features, 2 * shape.latent_dim, bias=False)
        self.norm = LearnedBatchNorm(shape.latent_dim, 1.0, norm_eps, shift=shift)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D]."""
        mu, logvar = self.linear(h).float().chunk(2, dim=-1)
        return diagonal_normal(self.norm(mu), logvar)
