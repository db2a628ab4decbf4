"""Encoders: a batch of sentences to one vector each. A new one is a class and a line."""

import abc

import torch
from torch import Tensor, nn

from vaelib.layers import Shape
from vaelib.registry import Registry

PAD = 0
ENCODERS: Registry[type[nn.Module]] = Registry("encoder")


class NoisyEncoder(nn.Module, abc.ABC):
    """An encoder with dropout, which the model gives its generator."""

    @abc.abstractmethod
    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map a batch to `h [B, H]`; noise in training only, drawn from `generator`."""


class SharingEncoder(NoisyEncoder, abc.ABC):
    """An encoder that shares its word embedding with the decoder.

    Attributes:
        embedding: V x embedding_dim.
    """

    embedding: nn.Embedding


@ENCODERS.register("lstm")
class LSTMEncoder(nn.Module):
    """One-layer LSTM; the last hidden state is the sentence (He et al. 2019).

    Args:
        shape: Sizes; `output_dim` is `hidden_dim`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.output_dim = shape.hidden_dim
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.lstm = nn.LSTM(shape.embedding_dim, shape.hidden_dim, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map sentences `x [B, T]`, markers included, to `h [B, hidden_dim]`."""
        _, (h, _) = self.lstm(self.embedding(x))
        return h[-1]


@ENCODERS.register("table")
class TableEncoder(nn.Module):
    """A lookup table: free parameters for each data point, all 0 at first (DG-VAE Appendix A).

    Args:
        shape: `vocab_size` is the number of points; `output_dim` is 2D.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.output_dim = 2 * shape.latent_dim
        self.table = nn.Embedding(shape.vocab_size, self.output_dim)
        nn.init.zeros_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map point numbers `x [B]` to `h [B, 2D]`."""
        return self.table(x)
