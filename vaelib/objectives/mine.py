"""Mutual information neural estimation (VAE-MINE, Qian & Cheung 2019), and its VAE-0.5."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

import vaelib.decoders_limited  # noqa: F401  (registers the decoder of VAE-0.5)
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Completed, Shape
from vaelib.model import Outputs
from vaelib.objectives.base import TERMS, Term, recipe
from vaelib.objectives.critic import dual_bound, multilayer

MOST_ENERGY = 15.0  # no estimate from a data set of N reaches beyond log N
SLOPES = ("optimal", "average", "published")


@TERMS.register("mine")
class MINE(Completed, Term):
    """-alpha C, where C is a critic's lower bound of I(x; z) (VAE-MINE Eqs. 12-17).

    C = E f(x, z) - xi E e^f(x, z') + log xi + 1, with z' the code of another sentence. One backward
    pass lets the critic ascend C and the encoder the ELBO + alpha C. The published xi (Eq. 13) is
    the reciprocal of the best one, 1 / E e^f; the paper's Algorithm 1 leaves out alpha, its
    Eqs. 10 and 17 have it. The energy is bent to +-15 nats, beyond which a mini-batch says nothing.

    Args:
        shape: Sizes; the critic reads the encoder's vector, `hidden_dim` wide, and z.
        mine_alpha: Weight of the mutual information; the paper chooses from 2, 2.5, ..., 5.
        mine_width: Units in each of the critic's two hidden layers.
        mine_xi: "optimal" takes 1 / E e^f of the batch, whose gradient is that of the
            Donsker-Varadhan bound; "average" a running one of earlier batches, whose gradient is
            unbiased; "published" takes E e^f, as printed.
        mine_decay: Of the running average.
        mine_shared: Let the encoder's lower layers learn from the critic's input too, as published;
            otherwise the encoder learns through z alone.

    Raises:
        VaelibError: An unknown xi, or a value out of range.
    """

    scope = "batch"

    def __init__(
        self,
        shape: Shape,
        *,
        mine_alpha: float = 2.0,
        mine_width: int = 512,
        mine_xi: str = "optimal",
        mine_decay: float = 0.99,
        mine_shared: bool = True,
    ) -> None:
        super().__init__()
        if mine_alpha < 0 or not 1 <= mine_width <= 10_000 or not 0 < mine_decay < 1:
            raise VaelibError(
                f"mine_alpha={mine_alpha}, mine_width={mine_width}, mine_decay={mine_decay}: give "
                "a weight of at least 0, 1 to 10,000 units and a decay between 0 and 1."
            )
        self.xi = check_name(mine_xi, SLOPES, "mine_xi")
        self.alpha, self.decay, self.shared = mine_alpha, mine_decay, mine_shared
        self.latent_dim, self.width = shape.latent_dim, mine_width
        self.network = self._critic(shape.hidden_dim)
        self.log_average: Tensor
        self.register_buffer("log_average", torch.zeros(()))

    def complete(self, parts: Mapping[str, nn.Module], again: Callable[[str], nn.Module]) -> None:
        """Let the critic be as wide as the encoder's vector, where that is not `hidden_dim`."""
        wide = parts["encoder"].output_dim
        if wide + self.latent_dim != self.network[0].in_features:
            self.network = self._critic(wide)

    def _critic(self, features: int) -> nn.Sequential:
        sizes = (features + self.latent_dim, self.width, self.width, 1)
        return multilayer(sizes, nn.ReLU, bias=False)  # the bound ignores constants

    def forward(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """-alpha C, a scalar in nats."""
        return -self.alpha * self.bound(outputs, generator)

    def bound(self, outputs: Outputs, generator: torch.Generator) -> Tensor:
        """C, a lower bound of I(x; z) in nats; in training the running average moves on."""
        h = outputs.h if self.shared else outputs.h.detach()
        joint = self.energy(h, outputs.z)
        marginal = self.energy(h, outputs.z[other(len(h), generator).to(h.device)])
        log_mean = (marginal.logsumexp(0) - math.log(len(h))).detach()
        if self.xi != "average":
            return dual_bound(joint, marginal, log_mean if self.xi == "published" else -log_mean)
        log_xi = -self.log_average
        if self.training:
            older, newer = math.log(self.decay), math.log1p(-self.decay)
            self.log_average = torch.logaddexp(self.log_average + older, log_mean + newer)
        return dual_bound(joint, marginal, log_xi)

    def energy(self, h: Tensor, z: Tensor) -> Tensor:
        """f(x, z) [B] from encoder vectors [B, H] and codes [B, D]."""
        seen = torch.cat([h, z], dim=-1)
        value = functional_call(self.network, self._slowed(), (seen,))[:, 0].float()
        return MOST_ENERGY * torch.tanh(value / MOST_ENERGY)

    def _slowed(self) -> dict[str, Tensor]:
        """The critic's weights, their gradients divided by alpha: they ascend C, not alpha C."""
        share = 1 / self.alpha if self.alpha else 0.0
        named = self.network.named_parameters()
        return {name: w.detach() + share * (w - w.detach()) for name, w in named}


def other(size: int, generator: torch.Generator) -> Tensor:
    """For each of `size` examples the number of another one [size]: a random rotation."""
    device = generator.device
    shift = torch.randint(1, max(2, size), (), generator=generator, device=device)
    return (torch.arange(size, device=device) + shift) % size


recipe(
    "mine",
    aliases=("VAE-MINE",),
    title="VAE-MINE",
    paper="Qian & Cheung 2019",
    equation="VAE-MINE Eqs. 10-17",
    formula=r"\mathrm{KL}(q(z|x)\,\|\,p(z)) - \alpha\, I_\psi(x; z)",
    summary="A critic's lower bound of the mutual information is added to the ELBO.",
    changes={"extra_terms": ("mine",)},
    options={"start": 1.0},
)
recipe(
    "word_dropout",
    aliases=("VAE-0.5",),
    title="VAE-0.5",
    paper="Bowman et al. 2016",
    equation="VAE-MINE Section 5.2",
    formula=r"\mathrm{KL}(q(z|x)\,\|\,p(z)),\quad p(x_t\,|\,\tilde x_{<t}, z)",
    summary="The decoder reads every second word as <unk>, and has to look at z instead.",
    changes={"decoder": "word_dropout"},
    options={"start": 0.1},
)
