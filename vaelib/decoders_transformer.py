"""A small causal Transformer, to ask whether collapse is about recurrent decoders."""

import math

import torch
from torch import Tensor, nn

from vaelib.decoders import DECODERS
from vaelib.decoding import State, TextDecoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout
from vaelib.products import word_scores


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each behind a layer norm and added.

    Args:
        width: Of the input and the output.
        heads: Attention heads of width / heads units each, rounded up.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, inside = heads, heads * math.ceil(width / heads)
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * inside)
        self.answer = nn.Linear(inside, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, ahead: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One block over `x [N, L, W]`.

        Args:
            x: The positions to be made.
            keys, values: Of the P positions before [N, heads, P, W / heads].
            ahead: Where position i of `x` must not look at position j of all, bool [L, P + L].

        Returns:
            The same positions of the next block [N, L, W], and keys and values of all positions.
        """
        parts = self.ask(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        scores = query @ keys.transpose(2, 3) / math.sqrt(query.shape[-1])
        weights = torch.softmax(scores.masked_fill(ahead, -torch.inf), dim=-1)
        x = x + self.answer((weights @ values).transpose(1, 2).flatten(2))
        return x + self.feed(self.before_feed(x)), keys, values


@DECODERS.register("transformer")
class TransformerDecoder(TextDecoder):
    """A small causal Transformer; z stands before the sentence and is added to every word.

    Positions are sinusoids, so that no length is too long.

    Args:
        shape: Sizes; the Transformer is `hidden_dim` wide. `dropout_in` drops word embeddings, and
            `dropout_out` what the words are predicted from, as in the LSTM decoder.
        transformer_layers: Blocks.
        transformer_heads: Attention heads of each.

    Raises:
        VaelibError: A number below 1.
    """

    def __init__(
        self, shape: Shape, *, transformer_layers: int = 2, transformer_heads: int = 4
    ) -> None:
        super().__init__()
        if min(transformer_layers, transformer_heads) < 1:
            raise VaelibError(
                f"transformer_layers={transformer_layers}, transformer_heads={transformer_heads}: "
                "give 1 or more of both."
            )
        self.shape, self.heads, width = shape, transformer_heads, shape.hidden_dim
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.enter = nn.Linear(shape.embedding_dim, width)
        self.to_signal = nn.Linear(shape.latent_dim, width)
        self.blocks = nn.ModuleList(
            Block(width, transformer_heads) for _ in range(transformer_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, shape.vocab_size)

    def signal(self, z: Tensor) -> Tensor:
        """The decoding signal [R, hidden_dim], a linear map of codes [R, D]."""
        return self.to_signal(z)

    def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """Normalised outputs [R, L, hidden_dim] after each word."""
        words = dropout(self.embedding(x), self.shape.dropout_in, self.training, generator)
        told = h.unsqueeze(1)
        inputs = torch.cat([told, self.enter(words) + told], dim=1)
        outputs = self._through(inputs, self._nothing(h))[0][:, 1:]
        return dropout(outputs, self.shape.dropout_out, self.training, generator)

    def logits(self, features: Tensor) -> Tensor:
        """Word scores [..., V] of outputs [..., hidden_dim]."""
        return word_scores(self.project, features)

    def begin(self, h: Tensor) -> State:
        """The signals, and keys and values of each block at the position before the sentence."""
        return h, *self._through(h.unsqueeze(1), self._nothing(h))[1]

    def advance(self, word: Tensor, state: State) -> tuple[Tensor, State]:
        """Read words [N]; word scores [N, V] of the next, and the state after."""
        h, *seen = state
        inputs = (self.enter(self.embedding(word)) + h).unsqueeze(1)
        outputs, seen = self._through(inputs, seen)
        return self.logits(outputs[:, 0]), (h, *seen)

    def _through(self, inputs: Tensor, seen: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """All blocks over inputs [N, L, W] that follow what was seen: outputs, and all seen."""
        before, new, after = seen[0].shape[2], inputs.shape[1], []
        x = inputs + positions(before, new, inputs)
        ahead = torch.ones(new, before + new, dtype=torch.bool, device=x.device).triu(before + 1)
        for block, keys, values in zip(self.blocks, seen[::2], seen[1::2], strict=True):
            x, keys, values = block(x, keys, values, ahead)
            after += [keys, values]
        return self.norm(x), after

    def _nothing(self, h: Tensor) -> list[Tensor]:
        """Keys and values of no positions, for all blocks."""
        width = math.ceil(self.shape.hidden_dim / self.heads)
        return [h.new_zeros(len(h), self.heads, 0, width)] * (2 * len(self.blocks))


def positions(start: int, count: int, like: Tensor) -> Tensor:
    """Sinusoids [count, W] of positions from `start` on (Vaswani et al. 2017).

    Args:
        start: The first position.
        count: How many.
        like: Tensor [..., W] whose width, type and device they take.
    """
    width = like.shape[-1]
    at = torch.arange(start, start + count, device=like.device, dtype=torch.float32)
    pace = torch.arange(math.ceil(width / 2), device=like.device, dtype=torch.float32)
    angles = at.unsqueeze(1) * torch.exp(-math.log(10_000.0) * 2 * pace / width)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width].to(like.dtype)
