"""The dilated convolutional decoder of Coupled-VAE's CNN-VAE."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.decoders import DECODERS, beside
from vaelib.decoders_gru import signal_network
from vaelib.decoding import State, TextDecoder
from vaelib.errors import VaelibError
from vaelib.layers import Shape, dropout
from vaelib.products import word_scores

DILATIONS = (1, 2, 4, 8, 16)


class CausalBlock(nn.Module):
    """A residual block that sees the past alone: 1x1, dilated and 1x1 convolutions.

    Each is followed by batch normalisation, over padded positions too, and ReLU.

    Args:
        channels: Of the input, inside and of the output.
        dilation: Positions between the three taps of the middle convolution.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.reach = 2 * dilation
        self.narrow, self.widen = (nn.Conv1d(channels, channels, 1) for _ in range(2))
        self.look_back = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(3))

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """One block over `x [N, C, L]`.

        Args:
            x: The positions to be made.
            past: What the middle convolution saw at the positions before [N, C, 2 dilation].

        Returns:
            The same positions of the next block [N, C, L], and the past after them.
        """
        seen = torch.cat([past, F.relu(self.norms[0](self.narrow(x)))], dim=2)
        inside = F.relu(self.norms[1](self.look_back(seen)))
        return x + F.relu(self.norms[2](self.widen(inside))), seen[:, :, -self.reach :]


@DECODERS.register("cnn")
class CNNDecoder(TextDecoder):
    """Dilated causal convolutions over [word; signal] (Yang et al. 2017, as in Wu et al. 2020).

    One position [h; h] stands before the sentence. Only words are dropped.

    Args:
        shape: Sizes; `hidden_dim` and `dropout_out` are not used.
        cnn_channels: Channels of all blocks; 256 on PTB and Yahoo, 128 on Yelp.
        cnn_rounds: Times that dilations 1, 2, 4, 8 and 16 come; 1 on PTB, 2 on Yelp and Yahoo.

    Raises:
        VaelibError: A number below 1.
    """

    def __init__(self, shape: Shape, *, cnn_channels: int = 256, cnn_rounds: int = 1) -> None:
        super().__init__()
        if min(cnn_channels, cnn_rounds) < 1:
            raise VaelibError(
                f"cnn_channels={cnn_channels}, cnn_rounds={cnn_rounds}: give 1 or more of both."
            )
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_dim)
        self.to_signal = signal_network(shape)
        self.enter = nn.Conv1d(2 * shape.embedding_dim, cnn_channels, 1)
        dilations = DILATIONS * cnn_rounds
        self.blocks = nn.ModuleList(CausalBlock(cnn_channels, d) for d in dilations)
        self.project = nn.Linear(cnn_channels, shape.vocab_size)

    def signal(self, z: Tensor) -> Tensor:
        """The decoding signal [R, embedding_dim] of codes [R, D]."""
        return self.to_signal(z)

    def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """Channels [R, L, C] after each word."""
        words = dropout(self.embedding(x), self.shape.dropout_in, self.training, generator)
        inputs = beside(torch.cat([h.unsqueeze(1), words], dim=1), h)
        return self._through(inputs, self._nothing(h))[0][:, 1:]

    def logits(self, features: Tensor) -> Tensor:
        """Word scores [..., V] of channels [..., C]."""
        return word_scores(self.project, features)

    def begin(self, h: Tensor) -> State:
        """The signals, and what each block remembers after the position [h; h]."""
        _, pasts = self._through(torch.cat([h, h], dim=-1).unsqueeze(1), self._nothing(h))
        return h, *pasts

    def advance(self, word: Tensor, state: State) -> tuple[Tensor, State]:
        """Read words [N]; word scores [N, V] of the next, and the state after."""
        h, *pasts = state
        inputs = torch.cat([self.embedding(word), h], dim=-1).unsqueeze(1)
        output, after = self._through(inputs, pasts)
        return self.logits(output[:, 0]), (h, *after)

    def _through(self, inputs: Tensor, pasts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """All blocks over inputs [N, L, 2 embedding_dim]: channels [N, L, C], and new pasts."""
        x, after = self.enter(inputs.transpose(1, 2)), []
        for block, past in zip(self.blocks, pasts, strict=True):
            x, past = block(x, past)
            after.append(past)
        return x.transpose(1, 2), after

    def _nothing(self, h: Tensor) -> list[Tensor]:
        """The past of each block before the first position: zeros, one row for each signal."""
        channels = self.enter.out_channels
        reaches = [2 * d for d in DILATIONS] * (len(self.blocks) // len(DILATIONS))
        return [h.new_zeros(len(h), channels, reach) for reach in reaches]
