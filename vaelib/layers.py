"""Layers and initialisation shared by encoders, decoders and posteriors."""

import abc
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaelib.errors import VaelibError


@dataclass(frozen=True)
class Shape:
    """Sizes every part is built from.

    Attributes:
        vocab_size: V, markers included.
        embedding_dim, hidden_dim, latent_dim: Word embedding, LSTM state, D.
        dropout_in, dropout_out: Dropout on the decoder's embeddings and outputs.
    """

    vocab_size: int
    embedding_dim: int
    hidden_dim: int
    latent_dim: int
    dropout_in: float = 0.5
    dropout_out: float = 0.5


class Completed(abc.ABC):
    """A part or term that uses other parts, and takes them once all are there."""

    @abc.abstractmethod
    def complete(self, parts: Mapping[str, nn.Module], again: Callable[[str], nn.Module]) -> None:
        """Take what is shared.

        Args:
            parts: "encoder", "posterior", "prior" and "decoder" of the model. A parameter that two
                parts hold is one parameter; it counts as the encoder's.
            again: Makes a fresh part of the same configuration, by the same names.
        """


def derived_seed(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose, so that no two draws share a stream."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator for one purpose ("init", "noise", "evaluate/nll_iw500", ...)."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, purpose))


def dropout(x: Tensor, p: float, training: bool, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout that draws from `generator` (torch's own draws from global state).

    Args:
        x: Any tensor.
        p: Probability of dropping an entry.
        training: False returns `x` unchanged.
        generator: Source of the mask.

    Raises:
        VaelibError: A mask is needed and there is no generator: draws from torch's global state
            would make a run depend on whatever ran before it.
    """
    if not training or p == 0.0:
        return x
    if generator is None:
        raise VaelibError("dropout in training needs a generator; give one, or call model.eval().")
    mask = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * mask.div_(1 - p)


class OwnStart(nn.Module):
    """A part of a model that keeps the start its constructor gives it, whatever `init_range`."""


def uniform_init_(
    module: nn.Module,
    init_range: float,
    embedding_range: float,
    generator: torch.Generator,
    spared: Iterable[nn.Module] = (),
) -> None:
    """Draw every parameter from U(-r, r), embeddings from their own range (He et al. 2019).

    Args:
        module: Initialised in place, biases and normalisation shifts included.
        init_range: r of all parameters but embeddings.
        embedding_range: r of `nn.Embedding` weights.
        generator: Source of the draws.
        spared: Parts of it that keep the start they have.
    """
    kept = {id(parameter) for part in spared for parameter in part.parameters()}
    wide = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for parameter in module.parameters():
            if id(parameter) not in kept:
                bound = embedding_range if id(parameter) in wide else init_range
                parameter.uniform_(-bound, bound, generator=generator)


class ScaledBatchNorm(nn.Module):
    """Batch normalisation with a fixed scale and a learnable shift (Zhu et al. 2020).

    Args:
        dim: Features D.
        gamma: The fixed scale; no gradient reaches it.
        eps: Added to the variance; features of less variance than this escape the normalisation.
    """

    def __init__(self, dim: int, gamma: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=eps, momentum=0.1, affine=False)
        self.shift = nn.Parameter(torch.zeros(dim))
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x [B, D]`; batch statistics in training, running ones in evaluation.

        Raises:
            VaelibError: A training batch of one sentence, which has no variance.
        """
        if self.training and len(x) < 2:
            raise VaelibError("batch normalisation needs two sentences a batch: use min_batch=2.")
        return self.norm(x) * self.gamma + self.shift
