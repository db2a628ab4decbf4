"""The VAE: four parts and the record of one forward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vaelib.decoders import greedy, sampler
from vaelib.distributions import fresh_generator, rsample
from vaelib.encoders import NoisyEncoder
from vaelib.errors import VaelibError


@dataclass(frozen=True)
class Outputs:
    """One forward pass over a batch.

    Attributes:
        x: The batch: sentences [B, T], pairs, images [B, P], or point numbers [B].
        h: The encoder's vectors [B, H].
        q: The posteriors q(z|x), batch shape [B], event shape [D].
        p: The prior, event shape [D].
        z: One sample of each posterior [B, D].
        log_px: log p(x|z) [B] in nats, summed over tokens.
    """

    x: Tensor
    h: Tensor
    q: Distribution
    p: Distribution
    z: Tensor
    log_px: Tensor

    @property
    def rate(self) -> Tensor:
        """KL(q(z|x) || p(z)) [B] in nats, in closed form (Eq. 1 of the DG-VAE paper)."""
        return kl_divergence(self.q, self.p)

    @property
    def distortion(self) -> Tensor:
        """-log p(x|z) [B] in nats."""
        return -self.log_px

    @property
    def elbo(self) -> Tensor:
        """log p(x|z) - KL(q(z|x) || p(z)) [B] in nats, whatever is being minimised."""
        return self.log_px - self.rate


class VAE(nn.Module):
    """Encoder, posterior family, prior and decoder; the plain VAE and every method here.

    Args:
        encoder, posterior, prior, decoder: The parts, as registered.
    """

    def __init__(
        self, encoder: nn.Module, posterior: nn.Module, prior: nn.Module, decoder: nn.Module
    ) -> None:
        super().__init__()
        self.encoder, self.posterior, self.decoder = encoder, posterior, decoder
        self.prior_module = prior

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoder, posterior, prior and decoder by name."""
        return {
            "encoder": self.encoder,
            "posterior": self.posterior,
            "prior": self.prior_module,
            "decoder": self.decoder,
        }

    def prior(self) -> Distribution:
        """p(z), event shape [D]."""
        return self.prior_module()

    def read(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The encoder's vectors [B, H]; noise, where it has any, comes from `generator`."""
        return (
            self.encoder(x, generator)
            if isinstance(self.encoder, NoisyEncoder)
            else self.encoder(x)
        )

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Distribution:
        """q(z|x) of a batch, batch shape [B], event shape [D]."""
        return self.posterior(self.read(x, generator))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Outputs:
        """Encode, sample once per example, decode.

        Args:
            x: A batch, [B, T] for text.
            generator: Source of z and the dropout masks; None is a fresh one with a fixed seed.
        """
        generator = fresh_generator(generator, x.device)
        h = self.read(x, generator)
        q = self.posterior(h)
        z = rsample(q, generator=generator)
        return Outputs(x, h, q, self.prior(), z, self.decoder(x, z, generator))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) in nats: [S, B] for codes [S, B, D], [B] for codes [B, D]."""
        return self.decoder(x, z.reshape(-1, z.shape[-1])).view(z.shape[:-1])

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        max_length: int = 99,
        generator: torch.Generator | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Sentences or images for codes [N, D]; [N, L].

        Args:
            z: Codes [N, D].
            max_length: Most tokens of a sentence.
            generator: Draw the words with it; None takes the likeliest.
            x: The examples the codes belong to, N of them; conditional decoders read their posts.
        """
        pick = greedy if generator is None else sampler(generator)
        return self.decoder.decode(z, pick, max_length, x)

    @torch.no_grad()
    def generate(
        self,
        n: int,
        generator: torch.Generator | None = None,
        sample_words: bool = False,
        x: Tensor | None = None,
    ) -> Tensor:
        """n sentences or images from the prior [n, L]; words greedy (as in the paper) or sampled.

        Args:
            n: How many.
            generator: Source of codes and words; None is a fresh one with a fixed seed.
            sample_words: Draw the words too.
            x: n examples whose posts a conditional decoder answers.

        Raises:
            VaelibError: n is below 1.
        """
        if n < 1:
            raise VaelibError(f"n={n}: give the number of sentences, 1 or more.")
        generator = fresh_generator(generator)
        z = rsample(self.prior(), (n,), generator)
        return self.decode(z, generator=generator if sample_words else None, x=x)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Greedy sentences [B, L] from the posteriors' centres (mode: the mean of a Gaussian)."""
        return self.decode(self.encode(x).mode, x=x)

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int = 11) -> Tensor:
        """Greedy sentences [steps, B, L] between posterior means of `a` and `b` (T12: the paper's).

        Args:
            a, b: Sentences [B, T] and [B, T'].
            steps: Points from a (first) to b (last).

        Raises:
            VaelibError: `steps` is below 1.
        """
        return self.walk(self.encode(a).mode, self.encode(b).mode, steps, a)

    @torch.no_grad()
    def walk(self, start: Tensor, end: Tensor, steps: int, x: Tensor | None = None) -> Tensor:
        """Greedy sentences [steps, B, L] on the line from codes `start` to `end`, both [B, D].

        Args:
            start, end: Codes [B, D].
            steps: Points, both ends included.
            x: B examples whose posts a conditional decoder reads.

        Raises:
            VaelibError: `steps` is below 1.
        """
        if steps < 1:
            raise VaelibError(f"steps={steps}: give the number of points, 1 or more.")
        weights = torch.linspace(0, 1, steps, device=start.device)
        z = torch.stack([(1 - w) * start + w * end for w in weights])
        copies = None if x is None else x.repeat(steps, *[1] * (x.dim() - 1))
        written = self.decode(z.flatten(0, 1), x=copies)
        return written.view(steps, -1, written.shape[-1])
