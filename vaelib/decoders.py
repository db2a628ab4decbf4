"""Decoders: from z (and the words so far) to a distribution over the data."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.decoding import START, STOP, UNKNOWN, Pick, State, TextDecoder
from vaelib.layers import Shape, dropout
from vaelib.products import word_scores
from vaelib.registry import Registry

__all__ = ["DECODERS", "START", "STOP", "UNKNOWN", "Pick", "greedy", "sampler"]

DECODERS: Registry[type[nn.Module]] = Registry("decoder")


@DECODERS.register("lstm")
class LSTMDecoder(TextDecoder):
    """One-layer LSTM fed with [word; z]; z also sets its first state (He et al. 2019).

    Args:
        shape: Sizes.
        skip: Give z once more to the vocabulary projection (skip-VAE, Dieng et al. 2019).
    """

    def __init__(self, shape: Shape, *, skip: bool = False) -> None:
        super().__init__()
        self.shape, self.skip = shape, skip
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.to_cell = nn.Linear(shape.latent_dim, shape.hidden_dim, bias=False)
        inputs = shape.embedding_dim + shape.latent_dim
        self.lstm = nn.LSTM(inputs, shape.hidden_dim, batch_first=True)
        features = shape.hidden_dim + (shape.latent_dim if skip else 0)
        self.project = nn.Linear(features, shape.vocab_size, bias=False)

    def signal(self, z: Tensor) -> Tensor:
        """What the decoder is told by codes [R, D]: the codes themselves."""
        return z

    def initial_state(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(tanh(c0), c0) with c0 = W z, each [1, R, hidden_dim]."""
        cell = self.to_cell(z).unsqueeze(0)
        return torch.tanh(cell), cell

    def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """LSTM outputs [R, L, hidden_dim] after each word, with z behind them where it skips."""
        words = dropout(self.embedding(x), self.shape.dropout_in, self.training, generator)
        output, _ = self.lstm(beside(words, h), self.initial_state(h))
        output = dropout(output, self.shape.dropout_out, self.training, generator)
        return beside(output, h) if self.skip else output

    def logits(self, features: Tensor) -> Tensor:
        """Word scores [..., V] of features [..., F]."""
        return word_scores(self.project, features)

    def begin(self, h: Tensor) -> State:
        """The first state and cell [N, hidden_dim], and the codes."""
        state, cell = self.initial_state(h)
        return state[0], cell[0], h

    def advance(self, word: Tensor, state: State) -> tuple[Tensor, State]:
        """Read words [N]; word scores [N, V] of the next, and the state after."""
        before, cell, h = state
        inputs = torch.cat([self.embedding(word), h], dim=-1).unsqueeze(1)
        output, (after, cell) = self.lstm(inputs, (before.unsqueeze(0), cell.unsqueeze(0)))
        features = torch.cat([output[:, 0], h], dim=-1) if self.skip else output[:, 0]
        return self.logits(features), (after[0], cell[0], h)


def beside(words: Tensor, h: Tensor) -> Tensor:
    """Signals [R, S] put behind what there is of every word [R, L, E]: [R, L, E + S]."""
    return torch.cat([words, h.unsqueeze(1).expand(-1, words.shape[1], -1)], dim=-1)


@DECODERS.register("categorical")
class CategoricalDecoder(nn.Module):
    """A small network that names the data point z came from (DG-VAE Appendix A).

    Args:
        shape: `vocab_size` is the number of points.
        width: Hidden sigmoid units.
    """

    def __init__(self, shape: Shape, *, width: int = 8) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(shape.latent_dim, width), nn.Sigmoid(), nn.Linear(width, shape.vocab_size)
        )

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log p(x|z) [R] in nats of point numbers `x [B]` under codes `z [R, D]`, R = k B."""
        logits = self.network(z)
        return -F.cross_entropy(logits, x.repeat(z.shape[0] // x.shape[0]), reduction="none")


def greedy(scores: Tensor) -> Tensor:
    """The most likely word [N] of scores [N, V]."""
    return scores.argmax(dim=-1)


def sampler(generator: torch.Generator, temperature: float = 1.0) -> Pick:
    """A `pick` that draws words from their distribution, on the generator's device."""

    def pick(scores: Tensor) -> Tensor:
        probabilities = torch.softmax(scores / temperature, dim=-1).to(generator.device)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(scores.device)

    return pick
