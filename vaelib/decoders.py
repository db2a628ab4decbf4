"""Decoders: from z (and the words so far) to a distribution over the data."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.layers import Shape, dropout
from vaelib.registry import Registry

DECODERS: Registry[type[nn.Module]] = Registry("decoder")
START, STOP = 1, 2
EVALUATION_ROWS = 256  # word distributions at a time without gradients: they stay in cache
Pick = Callable[[Tensor], Tensor]


@DECODERS.register("lstm")
class LSTMDecoder(nn.Module):
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

    def initial_state(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(tanh(c0), c0) with c0 = W z, each [1, B, hidden_dim]."""
        cell = self.to_cell(z).unsqueeze(0)
        return torch.tanh(cell), cell

    def logits(self, output: Tensor, z: Tensor) -> Tensor:
        """Word scores [B, T, V] from LSTM outputs [B, T, hidden_dim]."""
        if self.skip:
            output = torch.cat([output, z.unsqueeze(1).expand(-1, output.shape[1], -1)], dim=-1)
        return self.project(output)

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log-likelihood of sentences under z, summed over their T - 1 predicted tokens.

        Args:
            x: Sentences [B, T], both markers included; R = k B codes take k copies of them.
            z: Codes [R, D].
            generator: Source of the dropout masks (training only).

        Returns:
            log p(x|z) [R] in nats.
        """
        repeats = z.shape[0] // x.shape[0]
        words = dropout(self.embedding(x[:, :-1]), self.shape.dropout_in, self.training, generator)
        if repeats > 1:
            words = words.repeat(repeats, 1, 1)
        inputs = torch.cat([words, z.unsqueeze(1).expand(-1, words.shape[1], -1)], dim=-1)
        output, _ = self.lstm(inputs, self.initial_state(z))
        output = dropout(output, self.shape.dropout_out, self.training, generator)
        targets = x[:, 1:].repeat(repeats, 1) if repeats > 1 else x[:, 1:]
        if torch.is_grad_enabled():
            return self._log_likelihood(output, z, targets)
        rows = max(1, EVALUATION_ROWS // targets.shape[1])
        blocks = zip(output.split(rows), z.split(rows), targets.split(rows), strict=True)
        return torch.cat([self._log_likelihood(*block) for block in blocks])

    def _log_likelihood(self, output: Tensor, z: Tensor, targets: Tensor) -> Tensor:
        logits = self.logits(output, z)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return -loss.view(targets.shape).sum(dim=1)

    @torch.no_grad()
    def decode(self, z: Tensor, pick: Pick, max_length: int = 99) -> Tensor:
        """Write a sentence for each code.

        Args:
            z: Codes [N, D].
            pick: From word scores [N, V] to word numbers [N] (greedy, sampling).
            max_length: Most tokens written, the end marker included (99 in the published code).

        Returns:
            Word numbers [N, L], the end marker included, 0 (`<pad>`) after it.
        """
        state = self.initial_state(z)
        word = z.new_full((z.shape[0],), START, dtype=torch.long)
        open_ = torch.ones_like(word, dtype=torch.bool)
        written = []
        for _ in range(max_length):
            inputs = torch.cat([self.embedding(word), z], dim=-1).unsqueeze(1)
            output, state = self.lstm(inputs, state)
            word = pick(self.logits(output, z)[:, 0])
            written.append(torch.where(open_, word, 0))
            open_ &= word != STOP
            if not open_.any():
                break
        return torch.stack(written, dim=1)


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
    """A `pick` that draws words from their distribution with `generator`."""

    def pick(scores: Tensor) -> Tensor:
        probabilities = torch.softmax(scores / temperature, dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    return pick
