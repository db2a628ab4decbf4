"""What neural estimators share: the critic's network and the dual bound of a divergence."""

from itertools import pairwise

import torch
from torch import Tensor, nn

MOST_EXPONENT = 30.0  # e^30 is far beyond any density ratio here, and safe in float32


def multilayer(
    sizes: tuple[int, ...], activation: type[nn.Module], bias: bool = True
) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them.

    Args:
        sizes: Widths, input first.
        activation: Between two layers; none after the last.
        bias: Whether the last layer has one.
    """
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, narrow), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=bias))


def dual_bound(joint: Tensor, marginal: Tensor, log_xi: Tensor | float = 0.0) -> Tensor:
    """E f - xi E e^f' + log xi + 1, a lower bound of a KL divergence (VAE-MINE Eq. 12).

    The bound holds for every xi > 0, which is the slope of a tangent to the logarithm, and is
    highest at xi = 1 / E e^f', where it is E f - log E e^f' (Donsker and Varadhan).

    Args:
        joint: f at samples of the first distribution [N].
        marginal: f' at samples of the second one [M].
        log_xi: log xi; no gradient should pass through it.

    Returns:
        Scalar in nats.
    """
    ratio = torch.exp((marginal + log_xi).clamp(max=MOST_EXPONENT))
    return joint.mean() - ratio.mean() + log_xi + 1
