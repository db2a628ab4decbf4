"""The GRU decoder of Coupled-VAE, and its language model."""

import abc

import torch
from torch import Tensor, nn

from vaelib.decoders import DECODERS, beside
from vaelib.decoding import UNKNOWN, Pick, State, TextDecoder
from vaelib.layers import Shape, dropout
from vaelib.products import word_scores


def signal_network(shape: Shape) -> nn.Sequential:
    """From a code to a decoding signal as wide as a word: Linear, ReLU, Linear."""
    width = shape.embedding_dim
    return nn.Sequential(nn.Linear(shape.latent_dim, width), nn.ReLU(), nn.Linear(width, width))


class _GRUWriter(TextDecoder, abc.ABC):
    """A GRU that reads [word; signal] and writes through one tanh layer.

    Args:
        shape: Sizes; the state has twice `hidden_dim` units, as many as both directions of the
            encoder together (T30).
        signal_dim: Width of the signal.
    """

    def __init__(self, shape: Shape, signal_dim: int) -> None:
        super().__init__()
        self.shape = shape
        words, units = shape.embedding_dim, 2 * shape.hidden_dim
        self.embedding = nn.Embedding(shape.vocab_size, words)
        self.gru = nn.GRU(words + signal_dim, units, batch_first=True)
        self.combine = nn.Linear(units, words)
        self.project = nn.Linear(words, shape.vocab_size)

    def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """States [R, L, 2 hidden_dim] after each word; both halves of the input are dropped."""
        inputs = beside(self.embedding(x), h)
        inputs = dropout(inputs, self.shape.dropout_in, self.training, generator)
        states, _ = self.gru(inputs, self.first_state(h).unsqueeze(0))
        return dropout(states, self.shape.dropout_out, self.training, generator)

    def logits(self, features: Tensor) -> Tensor:
        """Word scores [..., V] of states [..., 2 hidden_dim]."""
        return word_scores(self.project, torch.tanh(self.combine(features)))

    @abc.abstractmethod
    def first_state(self, h: Tensor) -> Tensor:
        """The state [N, 2 hidden_dim] before the first word, for signals [N, S]."""

    def begin(self, h: Tensor) -> State:
        """The first state, and the signals."""
        return self.first_state(h), h

    def advance(self, word: Tensor, state: State) -> tuple[Tensor, State]:
        """Read words [N]; word scores [N, V] of the next, and the state after."""
        before, h = state
        inputs = torch.cat([self.embedding(word), h], dim=-1).unsqueeze(1)
        output, _ = self.gru(inputs, before.unsqueeze(0))
        return self.logits(output[:, 0]), (output[:, 0], h)


@DECODERS.register("gru")
class GRUDecoder(_GRUWriter):
    """One-layer GRU told by a decoding signal h(z) at every word (Wu et al. 2020).

    h is as wide as a word. One step on [h; h] from zeros makes the first state.

    Args:
        shape: Sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape, shape.embedding_dim)
        self.to_signal = signal_network(shape)

    def signal(self, z: Tensor) -> Tensor:
        """The decoding signal [R, embedding_dim] of codes [R, D]."""
        return self.to_signal(z)

    def first_state(self, h: Tensor) -> Tensor:
        """One step of the GRU on the signals [N, embedding_dim] alone; no dropout."""
        _, state = self.gru(torch.cat([h, h], dim=-1).unsqueeze(1))
        return state[0]


@DECODERS.register("gru_lm")
class GRULanguageModelDecoder(_GRUWriter):
    """A GRU language model: the decoder that is told nothing, from a zero state (GRU-LM).

    Args:
        shape: Sizes; `latent_dim` is not used.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape, 0)

    def signal(self, z: Tensor) -> Tensor:
        """Nothing: [R, 0] for codes [R, D]."""
        return z[:, :0]

    def first_state(self, h: Tensor) -> Tensor:
        """Zeros [N, 2 hidden_dim]."""
        return h.new_zeros(len(h), self.gru.hidden_size)


def without_unknown(pick: Pick) -> Pick:
    """A `pick` that never writes `<unk>`, as the published decoding of Coupled-VAE (T38).

    Args:
        pick: What chooses among the other words, from scores [N, V] to word numbers [N].

    Example:
        >>> scores = torch.tensor([[0.0, 0.0, 1.0, 5.0, 2.0]])
        >>> without_unknown(lambda s: s.argmax(dim=-1))(scores).tolist()
        [4]
    """

    def picked(scores: Tensor) -> Tensor:
        column = torch.tensor(UNKNOWN, device=scores.device)
        return pick(scores.index_fill(-1, column, -torch.inf))

    return picked
