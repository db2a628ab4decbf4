"""What decoders of text share: log-likelihoods in blocks, and writing word by word."""

import abc
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib.encoders import PAD, SharingEncoder
from vaelib.layers import Completed

START, STOP, UNKNOWN = 1, 2, 3
EVALUATION_ROWS = 256  # word distributions at a time without gradients: they stay in cache
Pick = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], tuple[Tensor, State]]


def token_log_likelihood(
    logits: Callable[[Tensor], Tensor], targets: Tensor, features: Tensor
) -> Tensor:
    """Log-likelihood of the words of sentences, summed over their tokens; padding counts nothing.

    Without gradients the word scores are made in blocks, so that they never fill the memory.

    Args:
        logits: From features [r, L, F] to word scores [r, L, V].
        targets: Word numbers [R, L].
        features: What they are predicted from [R, L, F].

    Returns:
        Nats [R].
    """
    if torch.is_grad_enabled():
        return _summed(logits(features), targets)
    rows = max(1, EVALUATION_ROWS // targets.shape[1])
    blocks = zip(features.split(rows), targets.split(rows), strict=True)
    return torch.cat([_summed(logits(part), words) for part, words in blocks])


def _summed(scores: Tensor, targets: Tensor) -> Tensor:
    loss = F.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=PAD
    )
    return -loss.view(targets.shape).sum(dim=1)


@torch.no_grad()
def write(step: Step, state: State, pick: Pick, z: Tensor, max_length: int) -> Tensor:
    """Write a sentence for each row of a state.

    Args:
        step: From the last words [N] and the state to word scores [N, V] and the next state.
        state: The state before the start marker is read.
        pick: From word scores [N, V] to word numbers [N] (greedy, sampling).
        z: Any tensor with N rows on the device of the model.
        max_length: Most tokens written, the end marker included.

    Returns:
        Word numbers [N, L], the end marker included, 0 (`<pad>`) after it.
    """
    word = z.new_full((z.shape[0],), START, dtype=torch.long)
    open_ = torch.ones_like(word, dtype=torch.bool)
    written = []
    for _ in range(max_length):
        scores, state = step(word, state)
        word = pick(scores)
        written.append(torch.where(open_, word, PAD))
        open_ &= word != STOP
        if not open_.any():
            break
    return torch.stack(written, dim=1)


class TextDecoder(Completed, nn.Module):
    """A decoder that is told a signal and writes word by word, from either end of a sentence.

    What a kind of decoder says is `signal`, `features`, `logits`, `begin` and `advance`; the
    log-likelihood and the writing are the same for all. States are tuples of tensors with one row
    for each sentence, so that rows can be taken, repeated and reordered.

    Attributes:
        embedding: Of the words read; the encoder's, where it shares one of the same size.
    """

    reads_padding = True
    embedding: nn.Embedding

    @abc.abstractmethod
    def signal(self, z: Tensor) -> Tensor:
        """The decoding signal [R, S] of codes [R, D]; S = 0 where the decoder is told nothing."""

    @abc.abstractmethod
    def features(self, x: Tensor, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the words are predicted from.

        Args:
            x: Words read [R, L], start marker first.
            h: Signals [R, S].
            generator: Source of the dropout masks (training only).

        Returns:
            [R, L, F].
        """

    @abc.abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Word scores [..., V] of features [..., F]."""

    @abc.abstractmethod
    def begin(self, h: Tensor) -> State:
        """The state before anything is written, for signals [N, S]."""

    @abc.abstractmethod
    def advance(self, word: Tensor, state: State) -> tuple[Tensor, State]:
        """Read words [N]; word scores [N, V] of the next, and the state after."""

    def complete(self, parts: Mapping[str, nn.Module], again: Callable[[str], nn.Module]) -> None:
        """Take the encoder's embedding, where it shares one of the same size (T31)."""
        encoder = parts["encoder"]
        if isinstance(encoder, SharingEncoder):
            shared = encoder.embedding
            if shared.weight.shape == self.embedding.weight.shape:
                self.embedding = shared

    def forward(self, x: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log-likelihood of sentences under z, summed over their predicted tokens.

        Args:
            x: Sentences [B, T], both markers included, padded or not; R = k B codes take k copies
                of them.
            z: Codes [R, D].
            generator: Source of the dropout masks (training only).

        Returns:
            log p(x|z) [R] in nats.
        """
        return self.told(x, self.signal(z), generator)

    def told(self, x: Tensor, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """log p(x|h) [R] in nats of sentences [B, T] under signals h [R, S], as in `forward`."""
        repeats, copies = len(h) // len(x), 1
        if not h.shape[1]:  # nothing is told, so that all copies are alike
            h, repeats, copies = h[: len(x)], 1, repeats
        x = x.repeat(repeats, 1) if repeats > 1 else x
        features = self.features(x[:, :-1], h, generator)
        return token_log_likelihood(self.logits, x[:, 1:], features).repeat(copies)

    def decode(
        self, z: Tensor, pick: Pick, max_length: int = 99, x: Tensor | None = None
    ) -> Tensor:
        """Write a sentence for each code.

        Args:
            z: Codes [N, D].
            pick: From word scores [N, V] to word numbers [N] (greedy, sampling).
            max_length: Most tokens written, the end marker included.
            x: The examples the codes belong to; not read here.

        Returns:
            Word numbers [N, L], the end marker included, 0 (`<pad>`) after it.
        """
        with torch.no_grad():
            return self.write(self.signal(z), pick, max_length)

    @torch.no_grad()
    def write(self, h: Tensor, pick: Pick, max_length: int = 99) -> Tensor:
        """Write a sentence [N, L] for each signal [N, S], as in `decode`; always without noise."""
        training = self.training
        self.eval()
        try:
            return write(self.advance, self.begin(h), pick, h, max_length)
        finally:
            self.train(training)
