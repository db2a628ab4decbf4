"""Pairs of sentences: a post, and the response to it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vaelib.data.corpus import BOS, PAD, Corpus, Vocabulary
from vaelib.data.folder import read_splits
from vaelib.data.texts import SPLITS, Slicing, decode_utf8, slice_indices
from vaelib.errors import VaelibError


@dataclass(frozen=True)
class PairTexts:
    """One split as read: posts and the response to each (words separated by whitespace)."""

    posts: Sequence[str]
    responses: Sequence[str]

    def digest(self) -> str:
        """SHA-256 of the split written out as a file, `post<TAB>response` on every line."""
        rows = zip(self.posts, self.responses, strict=True)
        return hashlib.sha256("".join(f"{a}\t{b}\n" for a, b in rows).encode()).hexdigest()

    def take(self, indices: Iterable[int]) -> "PairTexts":
        """The pairs at these places."""
        kept = list(indices)
        return PairTexts([self.posts[i] for i in kept], [self.responses[i] for i in kept])


def read_pairs(content: bytes, where: str, max_words: int) -> PairTexts:
    """Read one file: `post<TAB>response` on every line; empty lines are dropped.

    Args:
        content: The file.
        where: What to call it in messages.
        max_words: Words a post or response may have.

    Raises:
        VaelibError: Not UTF-8, no pair, a line without two halves, or a half that is too long.
    """
    posts, responses = [], []
    for number, line in enumerate(decode_utf8(content, where).split("\n"), start=1):
        if not line or line.isspace():
            continue
        halves_ = line.split("\t")
        counts = [len(half.split()) for half in halves_]
        if len(counts) != 2 or 0 in counts:
            raise VaelibError(
                f"{where}, line {number} is not a pair; write every line as post<TAB>response, "
                "with a word or more on both sides."
            )
        if max(counts) > max_words:
            raise VaelibError(
                f"{where}, line {number} has {max(counts)} words in one half and max_words is "
                f"{max_words}: split the line, or raise max_words."
            )
        posts.append(halves_[0])
        responses.append(halves_[1])
    if not posts:
        raise VaelibError(f"{where} holds no pair; write one post<TAB>response a line.")
    return PairTexts(posts, responses)


def read_pair_folder(
    folder: str | Path, max_words: int
) -> tuple[dict[str, PairTexts], dict[str, str]]:
    """Read train.txt, valid.txt and test.txt of a folder as pairs.

    Args:
        folder: Holds the three files, in UTF-8.
        max_words: Words a post or response may have.

    Returns:
        The pairs of each split, and the SHA-256 of each file by its name.

    Raises:
        VaelibError: A file cannot be read, or is no file of pairs.
    """
    return read_splits(folder, lambda *content: read_pairs(*content, max_words))


@dataclass(frozen=True, eq=False)
class PairSplit:
    """One split: all pairs in one flat tensor, each as `<s> post </s> <s> response </s>`.

    Args:
        tokens: Ids of all pairs one after another, int64 `[total]`.
        offsets: Start of each half (post, response, post, ...) and the end of the last, int64
            `[2N + 1]`, on the CPU.
        labels: None; pairs have no classes.
    """

    tokens: Tensor
    offsets: Tensor
    labels: Tensor | None = None

    @classmethod
    def from_texts(cls, texts: PairTexts, vocabulary: Vocabulary) -> "PairSplit":
        """Encode posts and responses."""
        flat: list[int] = []
        offsets = [0]
        for pair in zip(texts.posts, texts.responses, strict=True):
            for half in pair:
                flat += vocabulary.encode(half.split(), markers=True)
                offsets.append(len(flat))
        return cls(torch.tensor(flat, dtype=torch.int64), torch.tensor(offsets))

    def __len__(self) -> int:
        return len(self.offsets) // 2

    @property
    def lengths(self) -> Tensor:
        """Tokens of each post and response, both markers included, int64 `[N, 2]`, on the CPU."""
        return self.offsets.diff().view(-1, 2)

    @property
    def predicted(self) -> Tensor:
        """Tokens predicted of each pair: words of the response and its end marker, `[N]`."""
        return self.lengths[:, 1] - 1

    def sentence(self, i: int) -> Tensor:
        """The ids of pair `i`, markers included, without padding.

        Raises:
            VaelibError: There is no such pair.
        """
        if not 0 <= i < len(self):
            raise VaelibError(f"no pair {i}: this split holds 0 to {len(self) - 1}.")
        return self.tokens[int(self.offsets[2 * i]) : int(self.offsets[2 * i + 2])]

    def gather(self, indices: Tensor) -> Tensor:
        """The pairs at `indices` `[B]` as `[B, Tp + Tr]`, posts and responses each padded.

        Raises:
            VaelibError: `indices` is empty.
        """
        at = indices.to(self.offsets.device)
        if not len(at):
            raise VaelibError("a batch needs a pair or more: take the indices from buckets.")
        return torch.cat([self._half(2 * at), self._half(2 * at + 1)], dim=1)

    def _half(self, at: Tensor) -> Tensor:
        """The halves numbered `at` `[B]` as `[B, T]`, `<pad>` behind the shorter ones."""
        starts, ends = self.offsets[at][:, None], self.offsets[at + 1][:, None]
        places = starts + torch.arange(int((ends - starts).max()))
        behind = (places >= ends).to(self.tokens.device)
        found = self.tokens[places.clamp(max=len(self.tokens) - 1).to(self.tokens.device)]
        return found.masked_fill(behind, PAD)

    def mixed(self, indices: Tensor) -> Tensor:
        """The same as `gather`: batches of pairs are always padded."""
        return self.gather(indices)

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The batch as it is trained on: itself, since nothing in a text is random."""
        return batch

    def buckets(self, batch_size: int) -> list[Tensor]:
        """Frozen batches with little padding.

        Pairs are sorted by the length of the response, then of the post (stable), and cut into
        chunks of `batch_size`, the last perhaps smaller.

        Returns:
            Indices of the pairs of each batch, shortest responses first.

        Raises:
            VaelibError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise VaelibError(f"batch_size is {batch_size}: use 1 or more.")
        post, response = self.lengths.unbind(1)
        order = (response * (int(post.max()) + 1) + post).argsort(stable=True)
        return list(order.split(batch_size))

    def to(self, device: torch.device | str) -> "PairSplit":
        """The same split with its tokens on `device`; offsets stay on the CPU."""
        return replace(self, tokens=self.tokens.to(device))


def build_pairs(
    id: str,
    title: str,
    texts: Mapping[str, PairTexts],
    checksums: Mapping[str, str],
    slicing: Slicing,
    stand_in: bool = False,
) -> Corpus:
    """Slice the splits, count the vocabulary on the training posts and responses, encode all.

    Args:
        id: The corpus's id.
        title: Its title.
        texts: Its splits as read.
        checksums: SHA-256 by file.
        slicing: How much to take.
        stand_in: Whether it is a stand-in.

    Raises:
        VaelibError: A size or `min_count` is below 1.
    """
    kept = {}
    for name in SPLITS:
        total = len(texts[name].posts)
        indices = slice_indices(total, slicing.size(name), name, slicing.seed)
        kept[name] = texts[name].take(indices.tolist())
    words = [*kept["train"].posts, *kept["train"].responses]
    vocabulary = Vocabulary.from_texts(words, slicing.min_count, slicing.max_vocabulary)
    splits = {name: PairSplit.from_texts(kept[name], vocabulary) for name in SPLITS}
    return Corpus(
        id,
        title,
        **splits,
        vocabulary=vocabulary,
        stand_in=stand_in,
        checksums=dict(checksums),
        label_names=(),
        holds="pairs",
    )


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Posts [B, Tp] and responses [B, Tr] of a batch of pairs [B, Tp + Tr].

    The responses start at the second start marker, which is in the same column for all.

    Raises:
        VaelibError: The batch holds single sentences.
    """
    post = post_of(x)
    if post.shape[1] == x.shape[1]:
        raise VaelibError(
            "this batch holds single sentences, and pairs are needed; give posts with responses, "
            "as PairSplit.gather does."
        )
    return post, x[:, post.shape[1] :]


def post_of(x: Tensor) -> Tensor:
    """Posts [B, Tp] of a batch of pairs [B, Tp + Tr], or of posts alone."""
    starts = (x[0] == BOS).nonzero()[:, 0].tolist()
    return x[:, : starts[1]] if len(starts) > 1 else x
