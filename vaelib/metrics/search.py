"""Beam search: likelier sentences than the likeliest word at every step gives."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vaelib.conditional import ConditionalDecoder, signal_of
from vaelib.decoding import START, STOP, TextDecoder
from vaelib.encoders import PAD
from vaelib.errors import VaelibError


@torch.no_grad()
def beam_search(
    decoder: TextDecoder | ConditionalDecoder,
    z: Tensor,
    width: int = 5,
    max_length: int = 99,
    x: Tensor | None = None,
    *,
    length_penalty: float = 0.0,
) -> Tensor:
    """The likeliest sentence that is found for each code.

    Of all ways to go on, `width` are kept at each step, those that have ended among them. A
    sentence that has not ended after `max_length` tokens counts with what it has. The greedy
    sentence takes part at the end, so that no code gets a worse one. Width 1 is greedy writing.

    Args:
        decoder: A decoder of text; it writes without dropout and is left as it was.
        z: Codes [N, D].
        width: Ways kept.
        max_length: Most tokens written, the end marker included.
        x: The examples the codes belong to, N of them; conditional decoders read their posts.
        length_penalty: Log-likelihoods are compared after division by (tokens ** this); 0 compares
            them as they are, which favours short sentences, 1 compares means per token.

    Returns:
        Word numbers [N, L], the end marker included, 0 (`<pad>`) after it.

    Raises:
        VaelibError: `width` or `max_length` is below 1, the penalty is negative, or the decoder
            does not write word by word.
    """
    writer = decoder.writer if isinstance(decoder, ConditionalDecoder) else decoder
    if not isinstance(writer, TextDecoder):
        raise VaelibError(f"{type(decoder).__name__} writes no text; search in one that does.")
    if min(width, max_length) < 1 or length_penalty < 0:
        raise VaelibError(
            f"width={width}, max_length={max_length}, length_penalty={length_penalty}: give 1 or "
            "more of the first two, and no negative penalty."
        )
    training = decoder.training
    decoder.eval()
    try:
        h = signal_of(decoder, z, x)
        found, value = _search(writer, h, width, max_length, length_penalty)
        if width == 1:
            return found
        greedy, least = _search(writer, h, 1, max_length, length_penalty)
    finally:
        decoder.train(training)
    longest = max(found.shape[1], greedy.shape[1])
    found, greedy = (F.pad(t, (0, longest - t.shape[1]), value=PAD) for t in (found, greedy))
    best = torch.where((value >= least)[:, None], found, greedy)
    return best[:, : int((best != PAD).any(0).nonzero().max()) + 1]


def _search(
    decoder: TextDecoder, h: Tensor, width: int, max_length: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """The best sentences [N, L] of a beam for signals [N, S], and their compared values [N]."""
    size = len(h)
    first = torch.arange(size, device=h.device)[:, None] * width  # each code's first row
    state = decoder.begin(h.repeat_interleave(width, 0))
    word = torch.full((size, width), START, device=h.device)
    log_p = h.new_full((size, width), -torch.inf)
    log_p[:, 0] = 0
    open_, tokens = torch.ones_like(word, dtype=torch.bool), torch.zeros_like(word)
    written = word[:, :, None][:, :, :0]
    for _ in range(max_length):
        scores, state = decoder.advance(word.flatten(), state)
        after = torch.log_softmax(scores, -1).view(size, width, -1)
        total = log_p[:, :, None] + _closed(after, open_)
        tokens = tokens + open_
        value = total / tokens[:, :, None] ** penalty
        value, place = value.flatten(1).topk(width)
        parent, word = place // after.shape[2], place % after.shape[2]
        log_p = total.flatten(1).gather(1, place)
        state = tuple(part[(first + parent).flatten()] for part in state)
        written = torch.cat([written.take_along_dim(parent[:, :, None], 1), word[:, :, None]], 2)
        tokens, open_ = tokens.gather(1, parent), open_.gather(1, parent) & (word != STOP)
        if not open_.any():
            break
    return written[:, 0], value[:, 0]


def _closed(log_p: Tensor, open_: Tensor) -> Tensor:
    """Log probabilities [N, W, V] where what has ended can only be padded, at no cost."""
    ended = torch.full_like(log_p[0, 0], -torch.inf)
    ended[PAD] = 0
    return torch.where(open_[:, :, None], log_p, ended)
