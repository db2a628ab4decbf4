"""Decoders that are given less: words missing from their input, or no code at all."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.decoders import DECODERS, START, LSTMDecoder, Pick
from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout

UNKNOWN = 3


@DECODERS.register("word_dropout")
class WordDropoutDecoder(LSTMDecoder):
    """The LSTM decoder that in training reads `<unk>` in place of some words (Bowman et al. 2016).

    What it must predict stays; the start marker is always read.

    Args:
        shape: Sizes.
        word_dropout: Probability of replacing a word of the input, each on its own.

    Raises:
        VaelibError: The probability is not between 0 and 1.
    """

    def __init__(self, shape: Shape, *, word_dropout: float = 0.5) -> None:
        super().__init__(shape)
        if not 0 <= word_dropout <= 1:
            raise VaelibError(f"word_dropout={word_dropout}: give a probability from 0 to 1.")
        self.rate = word_dropout

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log p(x|z) [R] in nats, as of the LSTM decoder; words are dropped in training only."""
        if not self.training:
            return super().forward(x, z, generator)
        x = x.repeat(z.shape[0] // x.shape[0], 1)
        words = self.embedding(drop_words(x[:, :-1], self.rate, generator))
        words = dropout(words, self.shape.dropout_in, True, generator)
        codes = z.unsqueeze(1).expand(-1, words.shape[1], -1)
        output, _ = self.lstm(torch.cat([words, codes], dim=-1), self.initial_state(z))
        output = dropout(output, self.shape.dropout_out, True, generator)
        return self._log_likelihood(output, z, x[:, 1:])


def drop_words(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Replace words by `<unk>`, never the start marker.

    Args:
        x: Word numbers [B, T].
        rate: Probability of each word.
        generator: Source of the mask.

    Raises:
        VaelibError: There is no generator.
    """
    if generator is None:
        raise VaelibError("word dropout needs a generator; give one, or call model.eval().")
    mask = torch.empty(x.shape, device=x.device).bernoulli_(rate, generator=generator).bool()
    return x.masked_fill(mask & (x != START), UNKNOWN)


class LanguageModelDecoder(LSTMDecoder):
    """An LSTM language model: the decoder without z, from a zero state (LSTM-LM).

    Args:
        shape: Sizes; `latent_dim` is not used.
    """

    def __init__(self, shape: Shape) -> None:
        nn.Module.__init__(self)  # the layers of the LSTM decoder are as wide as z asks for
        self.shape, self.skip = shape, False
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.lstm = nn.LSTM(shape.embedding_dim, shape.hidden_dim, batch_first=True)
        self.project = nn.Linear(shape.hidden_dim, shape.vocab_size, bias=False)

    def initial_state(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros, each [1, B, hidden_dim]."""
        zero = z.new_zeros(1, len(z), self.shape.hidden_dim)
        return zero, zero

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log p(x) [R] in nats of sentences [B, T], R = k B: the same for all codes of one."""
        log_px = super().forward(x, z[: len(x), :0], generator)
        return log_px.repeat(z.shape[0] // x.shape[0])

    @torch.no_grad()
    def decode(self, z: Tensor, pick: Pick, max_length: int = 99) -> Tensor:
        """Write as many sentences as there are codes [N, D], which are not read; [N, L]."""
        return super().decode(z[:, :0], pick, max_length)


class NoEncoder(nn.Module):
    """Reads nothing: where the model has no use for a code.

    Args:
        shape: Sizes; `output_dim` is 1.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.output_dim = 1

    def forward(self, x: Tensor) -> Tensor:
        """Zeros [B, 1]."""
        return torch.zeros(len(x), 1, device=x.device)


class PriorPosterior(nn.Module):
    """q(z|x) = N(0, I) whatever the sentence, so that KL(q(z|x) || p(z)) is exactly 0.

    Args:
        in_features: Width of the encoder's output; not used.
        shape: Sizes.
    """

    def __init__(self, in_features: int, shape: Shape) -> None:
        super().__init__()
        self.dim = shape.latent_dim

    def forward(self, h: Tensor) -> Distribution:
        """Standard normals for `h [B, H]`, event shape [D]."""
        zero = h.new_zeros(len(h), self.dim)
        return diagonal_normal(zero, zero)
