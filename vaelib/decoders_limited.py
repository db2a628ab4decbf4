"""Decoders that are given less: words missing from their input, or no code at all."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.decoders import DECODERS, START, UNKNOWN, LSTMDecoder
from vaelib.distributions import diagonal_normal
from vaelib.errors import VaelibError
from vaelib.layers import Shape


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

    def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """As of the LSTM decoder; words [R, L] are dropped in training only."""
        read = drop_words(x, self.rate, generator) if self.training else x
        return super().features(read, h, generator)


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

    def signal(self, z: Tensor) -> Tensor:
        """Nothing: [R, 0] for codes [R, D]."""
        return z[:, :0]

    def initial_state(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros, each [1, R, hidden_dim]."""
        zero = z.new_zeros(1, len(z), self.shape.hidden_dim)
        return zero, zero


class NoEncoder(nn.Module):
    """Reads nothing: where the model has no use for a code.

    Args:
        shape: Sizes; `output_dim` is 1.
    """

    reads_padding = True

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
