"""Models of a response x given its post y: CVAE (Zhao et al. 2017), and an encoder-decoder.

The codes of a CVAE have a prior of their own for every post, p(z|y) = N(mu_p, diag sigma_p^2).
They are handled as u = (z - mu_p) / sigma_p instead. Then the prior is N(0, I) for all posts, and
the decoder, which reads the post anyway, goes back to z = mu_p + sigma_p u. As u and z are images
of one another, KL(q(u|x, y) || N(0, I)) = KL(q(z|x, y) || p(z|y)), and importance weights are the
same; a sample of z is mu_q + sigma_q times noise, as ever. So model, terms and metrics need not
know.

Posts are read again by the decoder, and by a coupled one, each time with the same dropout mask; at
the published sizes that costs about a fourteenth of a step each time.
"""

import abc
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.data.pairs import halves, post_of
from vaelib.decoders import DECODERS
from vaelib.decoders_gru import GRUDecoder
from vaelib.decoding import Pick
from vaelib.distributions import diagonal_normal
from vaelib.encoders import ENCODERS
from vaelib.encoders_gru import SharingEncoder, bidirectional, checked_rate, read_words
from vaelib.errors import VaelibError
from vaelib.layers import Completed, Shape
from vaelib.posteriors import POSTERIORS


@ENCODERS.register("pair_bigru")
class PairEncoder(SharingEncoder):
    """Two bidirectional GRUs with one word embedding, for response and post (Wu et al. 2020, I.1).

    Args:
        shape: Sizes; each direction has `hidden_dim` units, so `output_dim` is four times that.
        encoder_dropout: Dropout on the word embeddings.

    Raises:
        VaelibError: The dropout is not at least 0 and below 1.
    """

    reads_padding = True

    def __init__(self, shape: Shape, *, encoder_dropout: float = 0.2) -> None:
        super().__init__()
        self.rate = checked_rate(encoder_dropout)
        self.output_dim = 4 * shape.hidden_dim
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.response, self.post = bidirectional(shape), bidirectional(shape)
        self._before: tuple[torch.device, Tensor] | None = None

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map pairs `x [B, Tp + Tr]` to `h = [response | post]`, [B, 4 hidden_dim].

        Args:
            x: Pairs, as `PairSplit.gather` makes them.
            generator: Source of the dropout masks (training only).
        """
        post, response = halves(x)
        if self.training and generator is not None:
            self._before = generator.device, generator.get_state()
        rate = self.rate if self.training else 0.0
        second = read_words(post, self.embedding, self.post, rate, generator)
        first = read_words(response, self.embedding, self.response, rate, generator)
        return torch.cat([first, second], dim=-1)

    def read_post(
        self, x: Tensor, generator: torch.Generator | None = None, noisy: bool = True
    ) -> Tensor:
        """The posts alone, the second half of `h`: [B, 2 hidden_dim].

        In training the mask is that of the last `forward`, so that posterior, prior and decoder
        of a step see the same vector.

        Args:
            x: Pairs, or posts [B, Tp].
            generator: Source of the mask where there has been no `forward` (training only).
            noisy: False leaves the dropout out, in training too.
        """
        noisy = noisy and self.training
        if noisy and self._before is not None:
            device, state = self._before
            generator = torch.Generator(device)
            generator.set_state(state)
        rate = self.rate if noisy else 0.0
        return read_words(post_of(x), self.embedding, self.post, rate, generator)


@POSTERIORS.register("conditional")
class ConditionalPosterior(Completed, nn.Module):
    """q(z|x, y) in the coordinates in which its prior p(z|y) is N(0, I) (CVAE).

    Both are Gaussians with mu and log sigma from a linear layer each, with bias. A coupled
    posterior has the prior of the model's.

    Args:
        in_features: Width of `h = [response | post]`.
        shape: Sizes.

    Raises:
        VaelibError: `h` has no halves of one width.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        if in_features % 2:
            raise VaelibError(
                "the conditional posterior reads response and post side by side, so that the "
                "encoder's output must have an even width; use the encoder pair_bigru."
            )
        self.mu = nn.Linear(in_features, shape.latent_dim)
        self.log_scale = nn.Linear(in_features, shape.latent_dim)
        self.prior = nn.Linear(in_features // 2, 2 * shape.latent_dim)

    def complete(self, parts: Mapping[str, nn.Module], again: Any) -> None:
        """Take the prior of the model's posterior, where this is another one."""
        first = parts["posterior"]
        if isinstance(first, ConditionalPosterior):
            self.prior = first.prior

    def given(self, post: Tensor) -> tuple[Tensor, Tensor]:
        """mu_p and log sigma_p of p(z|y), both [B, D], for posts as vectors [B, H / 2]."""
        mu, log_scale = self.prior(post).float().chunk(2, dim=-1)
        return mu, log_scale

    def forward(self, h: Tensor) -> Distribution:
        """Map `h [B, H]` to the diagonal normal q(u|x, y) with event shape [D]."""
        mu, log_scale = self.given(h[:, h.shape[1] // 2 :])
        loc = (self.mu(h).float() - mu) * torch.exp(-log_scale)
        return diagonal_normal(loc, 2 * (self.log_scale(h).float() - log_scale))


class ConditionalDecoder(nn.Module, abc.ABC):
    """A decoder of responses, which reads the posts; all its methods want them.

    log p(x|z, y) is of the response alone, its words and its end marker.

    Attributes:
        writer: Writes, told a decoding signal.
    """

    reads_padding = True
    writer: GRUDecoder

    @abc.abstractmethod
    def tell(self, z: Tensor, x: Tensor, generator: torch.Generator | None, noisy: bool) -> Tensor:
        """Decoding signals.

        Args:
            z: Codes [R, D].
            x: Pairs or posts, B rows with R = k B.
            generator: Source of the dropout mask (training only).
            noisy: False leaves the dropout out, in training too.

        Returns:
            [R, S], or [B, S] where they do not depend on the code.
        """

    def _tell(
        self, z: Tensor, x: Tensor | None, generator: torch.Generator | None, noisy: bool
    ) -> Tensor:
        if x is None or not len(x) or len(z) % len(x):
            raise VaelibError(
                f"a conditional decoder needs the posts that its {len(z)} codes belong to: give "
                "the pairs or posts as x, one for each code."
            )
        return self.tell(z, x, generator, noisy)

    def signal(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """The decoding signal h [R, embedding_dim] for codes [R, D].

        Args:
            z: Codes.
            x: Pairs or posts, B rows with R = k B.

        Raises:
            VaelibError: The posts are missing, or do not fit the codes.
        """
        h = self._tell(z, x, None, True)
        return h.repeat(len(z) // len(h), 1)

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log-likelihood of responses under codes and posts, summed over their predicted tokens.

        Args:
            x: Pairs [B, Tp + Tr]; R = k B codes take k copies of them.
            z: Codes [R, D].
            generator: Source of the dropout masks (training only).

        Returns:
            log p(x|z, y) [R] in nats.
        """
        h = self._tell(z, x, generator, True)
        log_px = self.writer.told(halves(x)[1], h, generator)
        return log_px.repeat(len(z) // len(h))

    @torch.no_grad()
    def decode(
        self, z: Tensor, pick: Pick, max_length: int = 99, x: Tensor | None = None
    ) -> Tensor:
        """Write a response for each code; never with noise.

        Args:
            z: Codes [N, D].
            pick: From word scores [N, V] to word numbers [N] (greedy, sampling).
            max_length: Most tokens written, the end marker included.
            x: Pairs or posts, B rows with N = k B.

        Returns:
            Word numbers [N, L], the end marker included, 0 (`<pad>`) after it.

        Raises:
            VaelibError: The posts are missing, or do not fit the codes.
        """
        h = self._tell(z, x, None, False)
        return self.writer.write(h.repeat(len(z) // len(h), 1), pick, max_length)


def signal_of(decoder: Any, z: Tensor, x: Tensor | None) -> Tensor:
    """The decoding signal [R, S] of codes [R, D] of any decoder; conditional ones read `x` for it.

    Raises:
        VaelibError: The decoder is conditional, and the posts are missing or do not fit the codes.
    """
    return decoder.signal(z, x) if isinstance(decoder, ConditionalDecoder) else decoder.signal(z)


@DECODERS.register("conditional_gru")
class ConditionalGRUDecoder(Completed, ConditionalDecoder):
    """The GRU decoder of Coupled-VAE, told h = MLP(z) + r(y) about code and post.

    r is linear in the vector of the post; a coupled decoder has the r of the model's.

    Args:
        shape: Sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.writer = GRUDecoder(shape)
        self.represent = nn.Linear(2 * shape.hidden_dim, shape.embedding_dim)
        self._uses: tuple[PairEncoder, ConditionalPosterior] | None = None

    def complete(self, parts: Mapping[str, nn.Module], again: Any) -> None:
        """Take the embedding, the reader of posts, their prior, and r of the model's decoder.

        Raises:
            VaelibError: Encoder and posterior are not those of a CVAE.
        """
        encoder, posterior, first = (parts[n] for n in ("encoder", "posterior", "decoder"))
        if not (isinstance(encoder, PairEncoder) and isinstance(posterior, ConditionalPosterior)):
            raise VaelibError(
                "the decoder conditional_gru needs the encoder pair_bigru and the posterior "
                f"conditional, not {type(encoder).__name__} and {type(posterior).__name__}; take "
                "the backbone 'conditional'."
            )
        self.writer.complete(parts, again)
        self._uses = encoder, posterior
        if isinstance(first, ConditionalGRUDecoder):
            self.represent = first.represent

    def tell(self, z: Tensor, x: Tensor, generator: torch.Generator | None, noisy: bool) -> Tensor:
        """h = MLP(mu_p + sigma_p u) + r [R, embedding_dim] for codes u [R, D].

        Raises:
            VaelibError: The decoder belongs to no model yet.
        """
        if self._uses is None:
            raise VaelibError("this decoder is not part of a model yet; use vaelib.build.build.")
        encoder, posterior = self._uses
        post = encoder.read_post(x, generator, noisy)
        mu, log_scale = posterior.given(post)
        parts = (mu, log_scale.exp(), self.represent(post))
        mu, scale, r = (part.repeat(len(z) // len(x), 1) for part in parts)
        return self.writer.signal(mu + scale * z) + r


@DECODERS.register("seq2seq_gru")
class Seq2SeqDecoder(ConditionalDecoder):
    """A GRU encoder-decoder, which has no code: h = r(y) (Cho et al. 2014; Wu et al. 2020, I.5).

    It reads the post itself, with the embedding that it writes with.

    Args:
        shape: Sizes; `latent_dim` is not used.
        encoder_dropout: Dropout on the word embeddings of the post.

    Raises:
        VaelibError: The dropout is not at least 0 and below 1.
    """

    def __init__(self, shape: Shape, *, encoder_dropout: float = 0.2) -> None:
        super().__init__()
        self.rate = checked_rate(encoder_dropout)
        self.post = bidirectional(shape)
        self.represent = nn.Linear(2 * shape.hidden_dim, shape.embedding_dim)
        self.writer = GRUDecoder(shape)
        self.writer.to_signal = nn.Sequential()  # there is no code to make a signal of

    def tell(self, z: Tensor, x: Tensor, generator: torch.Generator | None, noisy: bool) -> Tensor:
        """r [B, embedding_dim] of the posts; the codes are not read."""
        rate = self.rate if noisy and self.training else 0.0
        read = read_words(post_of(x), self.writer.embedding, self.post, rate, generator)
        return self.represent(read)
