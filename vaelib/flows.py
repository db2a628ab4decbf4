"""Normalizing flows: planar and inverse autoregressive maps, and normals sent through them.

A flow maps `z [..., D]` to its image and to the log-determinant of its Jacobian in nats, handed out
over dimensions `[..., D]`: only the sum over D is meant. `inverse` undoes the map; it carries no
gradient.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, constraints, register_kl
from torch.distributions.constraints import Constraint
from torch.nn import functional as F

from vaelib.errors import VaelibError
from vaelib.layers import OwnStart
from vaelib.noise import Drawn, sampling_dtype, standard_normal

GATE_START = 2.0  # logit of the gate at the start: near the identity


class Flow(Protocol):
    """An invertible map of codes."""

    def __call__(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Image and log-determinant of `z [..., D]`, both `[..., D]`."""

    def inverse(self, z: Tensor, context: Tensor | None) -> Tensor:
        """The codes `[..., D]` whose image is `z`."""


class PlanarFlow(nn.Module):
    """`z + u tanh(w z + b)`, the same for all examples (Rezende & Mohamed 2015).

    u is bent so that w u > -1, which makes the map invertible (their Appendix A).

    Args:
        dim: Dimensions D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.u, self.w, self.b = (nn.Parameter(torch.empty(n)) for n in ([dim], [dim], []))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01)

    def _direction(self) -> tuple[Tensor, Tensor]:
        """The bent u `[D]`, and w u, a scalar above -1."""
        product, square = self.w @ self.u, self.w @ self.w
        least = square.clamp_min(1e-12)  # w = 0 leaves u as it is
        wanted = (F.softplus(product) - 1).clamp_min(1e-6 - 1)
        direction = self.u + (wanted - product) * self.w / least
        return direction, torch.lerp(product, wanted, square / least)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Image and log-determinant, `[..., D]`; the determinant is split evenly over D."""
        direction, steepness = self._direction()
        bend = torch.tanh(z @ self.w + self.b)[..., None]
        log_det = torch.log1p((1 - bend.square()) * steepness)
        return z + direction * bend, (log_det / z.shape[-1]).expand_as(z)

    @torch.no_grad()
    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The codes `[..., D]` whose image is `z`, by bisection along w."""
        direction, steepness = (t.to(sampling_dtype(z)) for t in self._direction())
        wide, w, b = (t.to(sampling_dtype(z)) for t in (z, self.w, self.b))
        target = wide @ w
        low, high = target - steepness.abs(), target + steepness.abs()
        for _ in range(60):
            middle = (low + high) / 2
            above = middle + steepness * torch.tanh(middle + b) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (wide - direction * torch.tanh(low + b)[..., None]).to(z.dtype)


class IAFBlock(OwnStart):
    """`g z + (1 - g) m`, where m and the gate g of a dimension see those before it and a context.

    Both come from one masked network (MADE, Germain et al. 2015) with two hidden layers. The first
    dimension sees nothing, not even the context, as in the released code of DU-VAE.

    Args:
        dim: Dimensions D, 2 or more.
        context_dim: Width of the context.
        width: Width of the hidden layers.

    Raises:
        VaelibError: One dimension, which has none before it.
    """

    def __init__(self, dim: int, context_dim: int, width: int) -> None:
        super().__init__()
        from zuko.nn import MaskedMLP

        if dim < 2:
            raise VaelibError("latent_dim=1: an autoregressive flow needs 2 or more.")
        earlier = torch.ones(dim, dim).tril(-1)
        seen = torch.cat([earlier, torch.ones(dim, context_dim)], 1).bool()
        seen[0] = False
        self.network = MaskedMLP(seen.repeat(2, 1), [width, width])
        self.gate_offset = nn.Parameter(torch.zeros(dim))

    def _coefficients(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """m and the logit of g, both `[..., D]`."""
        seen = torch.cat([z, context.expand(*z.shape[:-1], -1)], -1)
        m, logit = self.network(seen).float().chunk(2, dim=-1)
        return m, logit + self.gate_offset + GATE_START

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Image and log-determinant, `[..., D]`, of codes `[..., D]` and contexts `[B, C]`."""
        m, logit = self._coefficients(z, context)
        gate = torch.sigmoid(logit)
        return gate * z + (1 - gate) * m, F.logsigmoid(logit)

    @torch.no_grad()
    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        """The codes `[..., D]` whose image is `z`, one dimension after the other: D passes."""
        found = torch.zeros_like(z)
        for here in torch.eye(z.shape[-1], dtype=torch.bool, device=z.device):
            m, logit = self._coefficients(found, context)
            gate = torch.sigmoid(logit)
            found = torch.where(here, (z - (1 - gate) * m) / gate, found)
        return found


class FlowChain(nn.ModuleList):
    """Several flows in a row.

    Args:
        flows: Each takes the codes of the one before.
        reverse: Reverse the order of the dimensions after each, so that all depend on all.
    """

    def __init__(self, flows: Sequence[nn.Module], reverse: bool = False) -> None:
        super().__init__(flows)
        self.reverse = reverse

    def _turned(self, value: Tensor) -> Tensor:
        return value.flip(-1) if self.reverse else value

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Image and log-determinant, `[..., D]`; its parts stay with their dimensions."""
        log_det = torch.zeros_like(z)
        for flow in self:
            z, part = flow(z, context)
            z, log_det = self._turned(z), self._turned(log_det + part)
        return z, log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The codes `[..., D]` whose image is `z`."""
        flows: list[Any] = list(self)
        for flow in reversed(flows):
            z = flow.inverse(self._turned(z), context)
        return z


class FlowNormal(Drawn, Distribution):
    """Normals sent through a flow; `Independent(FlowNormal(...), 1)` is the posterior of a VAE.

    The density of a sample is known when it is drawn, and remembered for the last one; that of
    other points takes an inversion and carries no gradient. Densities are handed out over
    dimensions as log-determinants are: only their sum is one. There is no closed-form KL, mean or
    entropy.

    Args:
        base: Normals, batch shape `[B, D]`.
        flow: The map.
        context: What it sees of the example, `[B, C]`.
        draws: Samples of its own at which the KL is estimated, from a fresh generator of seed 0;
            0 takes the first sample drawn, as training does.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    support = constraints.real
    has_rsample = True

    def __init__(
        self, base: Normal, flow: Flow, context: Tensor | None = None, draws: int = 0
    ) -> None:
        self.base, self.flow, self.context, self.draws = base, flow, context, draws
        self._first: tuple[Tensor, Tensor] | None = None
        self._last: tuple[Tensor, Tensor] | None = None
        super().__init__(base.batch_shape, validate_args=False)

    def _sent(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """Image and log density `[..., B, D]` of samples of the base."""
        z, log_det = self.flow(start, self.context)
        return z, self.base.log_prob(start) - log_det

    def _drawn(self, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
        loc = self.base.loc
        return loc + self.base.scale * standard_normal((*shape, *loc.shape), loc, generator)

    def rsample(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Tensor:
        """Reparameterised samples `sample_shape + [B, D]`; None is a fresh generator."""
        self._last = self._sent(self._drawn(sample_shape, generator))
        self._first = self._first or self._last
        return self._last[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats `[..., B, D]`, to be summed over D; no gradient if inverted."""
        if self._last is not None and value is self._last[0]:
            return self._last[1]
        with torch.no_grad():
            return self._sent(self.flow.inverse(value, self.context))[1]

    @property
    def mode(self) -> Tensor:
        """Image of the base's mean `[B, D]`, which stands for the centre; not the true mode."""
        return self.flow(self.base.loc, self.context)[0]

    def sampled_kl(self, p: Distribution) -> Tensor:
        """Estimate of KL(q || p) `[B, D]` in nats, to be summed over D; it may be negative."""
        if self._first is None or self.draws:
            self._first = self._sent(
                self._drawn((max(1, self.draws),), torch.Generator().manual_seed(0))
            )
            self.draws = 0
        z, log_q = self._first
        return (log_q - p.log_prob(z)).reshape(-1, *self.batch_shape).mean(0)


@register_kl(FlowNormal, Normal)
def _kl_flow_normal(q: FlowNormal, p: Normal) -> Tensor:
    return q.sampled_kl(p)
