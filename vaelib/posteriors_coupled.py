"""Posterior families of Coupled-VAE: two heads with bias, a learned concentration, a point."""

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from vaelib.distributions import VonMisesFisher, diagonal_normal
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Shape
from vaelib.points import Point
from vaelib.posteriors import POSTERIORS

HEADS = ("log_sigma", "log_variance")


@POSTERIORS.register("linear_heads")
class LinearHeadsPosterior(nn.Module):
    """N(mu, diag sigma^2), mu and log sigma from a linear layer each, with bias (Wu et al. 2020).

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
        second_head: What the second layer gives: "log_sigma", or "log_variance" as the encoders of
            He et al. (2019), whose image encoder starts both by Xavier's rule with bias 0.

    Raises:
        VaelibError: An unknown second head.
    """

    def __init__(self, in_features: int, shape: Shape, *, second_head: str = "log_sigma") -> None:
        super().__init__()
        check_name(second_head, HEADS, "second_head")
        self.factor = 2 if second_head == "log_sigma" else 1
        self.mu = nn.Linear(in_features, shape.latent_dim)
        self.log_scale = nn.Linear(in_features, shape.latent_dim)
        if second_head == "log_variance":
            for head in (self.mu, self.log_scale):
                nn.init.xavier_uniform_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a diagonal normal with event shape [D]."""
        return diagonal_normal(self.mu(h).float(), self.factor * self.log_scale(h).float())


@POSTERIORS.register("vmf_learned")
class LearnedVonMisesFisherPosterior(nn.Module):
    """von Mises-Fisher on the unit sphere, direction and concentration from the encoder.

    kappa = softplus(linear) + 1 for each example (Davidson et al. 2018, as in Wu et al. 2020). Its
    gradient through samples passes the accepted proposals alone, without the correction for what
    is accepted; the gradient of the KL is exact.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes; D >= 2.

    Raises:
        VaelibError: D is below 2.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        if shape.latent_dim < 2:
            raise VaelibError("latent_dim=1: a sphere needs 2 or more.")
        self.mu = nn.Linear(in_features, shape.latent_dim)
        self.concentration = nn.Linear(in_features, 1)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to a vMF distribution with event shape [D]."""
        loc = F.normalize(self.mu(h).float(), dim=-1)
        kappa = F.softplus(self.concentration(h).float()[:, 0]) + 1
        return VonMisesFisher(loc, kappa, validate_args=False)


@POSTERIORS.register("point")
class PointPosterior(nn.Module):
    """No noise: z is a linear map of the encoder's vector, with bias (the DAE of Wu et al. 2020).

    The KL is 0 by convention and the importance-weighted NLL infinite; see `vaelib.points.Point`.

    Args:
        in_features: Width of the encoder's output.
        shape: Sizes.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        self.mu = nn.Linear(in_features, shape.latent_dim)

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to points with event shape [D]."""
        return Point(self.mu(h).float())
