"""The bidirectional GRU encoder of Coupled-VAE, and what readers of padded sentences share."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from vaelib.encoders import ENCODERS, PAD, SharingEncoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout


@ENCODERS.register("bigru")
class BiGRUEncoder(SharingEncoder):
    """One-layer bidirectional GRU; its last states are the sentence (Wu et al. 2020, T30).

    It reads the words alone: no markers, no padding.

    Args:
        shape: Sizes; each direction has `hidden_dim` units, so `output_dim` is twice that.
        encoder_dropout: Dropout on the word embeddings.

    Raises:
        VaelibError: The dropout is not at least 0 and below 1.
    """

    reads_padding = True

    def __init__(self, shape: Shape, *, encoder_dropout: float = 0.2) -> None:
        super().__init__()
        self.output_dim = 2 * shape.hidden_dim
        self.rate = checked_rate(encoder_dropout)
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.gru = bidirectional(shape)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map sentences `x [B, T]`, padded or not, to `h [B, 2 hidden_dim]`.

        Args:
            x: Both markers included; padding follows the end marker.
            generator: Source of the dropout mask (training only).
        """
        rate = self.rate if self.training else 0.0
        return read_words(x, self.embedding, self.gru, rate, generator)


def checked_rate(encoder_dropout: float) -> float:
    """The option `encoder_dropout`, where it is a probability below 1.

    Raises:
        VaelibError: It is not.
    """
    if not 0 <= encoder_dropout < 1:
        raise VaelibError(
            f"encoder_dropout={encoder_dropout}: give a probability of at least 0 and below 1."
        )
    return encoder_dropout


def read_words(
    x: Tensor, embedding: nn.Embedding, gru: nn.GRU, rate: float, generator: torch.Generator | None
) -> Tensor:
    """Last states [B, 2 hidden_dim] after sentences `x [B, T]`, `rate` of the embeddings dropped.

    Markers and padding are not read.
    """
    words = dropout(embedding(x[:, 1:-1]), rate, True, generator)
    return last_states(gru, words, count_words(x))


def bidirectional(shape: Shape) -> nn.GRU:
    """A GRU that reads embedded words in both directions, `hidden_dim` units each."""
    return nn.GRU(shape.embedding_dim, shape.hidden_dim, batch_first=True, bidirectional=True)


def count_words(x: Tensor) -> Tensor:
    """Words [B] of padded sentences `x [B, T]`, the two markers not counted."""
    return (x != PAD).sum(dim=1) - 2


def last_states(gru: nn.GRU, words: Tensor, lengths: Tensor) -> Tensor:
    """Last state of the forward direction, and of the backward one: [B, 2H].

    Sentences of one length are read as they are; others are packed, which is as exact and spares
    the steps over padding. A sentence without words gives zeros, the state the GRU starts from.

    Args:
        gru: Bidirectional, one layer, `batch_first`.
        words: Embedded words [B, L, E]; what lies beyond the length is not read.
        lengths: Words of each sentence [B], 0 to L.
    """
    counts = lengths.cpu()
    if not counts.any():
        return words.new_zeros(len(words), 2 * gru.hidden_size)
    if bool((counts == words.shape[1]).all()):
        _, state = gru(words)
        return torch.cat([state[0], state[1]], dim=-1)
    packed = pack_padded_sequence(
        words, counts.clamp(min=1), batch_first=True, enforce_sorted=False
    )
    _, state = gru(packed)
    return torch.cat([state[0], state[1]], dim=-1) * (lengths > 0).unsqueeze(1)
