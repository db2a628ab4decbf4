"""What every data set becomes: a vocabulary and three splits of token ids held as flat tensors."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vaelib.errors import VaelibError

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """Words <-> ids: 0-3 are `<pad>`, `<s>`, `</s>`, `<unk>`, then words by first appearance.

    The order is that of the common loader. A literal `<unk>` in a text is the
    special; the three other markers are never words of a text, so they read as `<unk>` as well.

    Args:
        words: All words, the four specials first.
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIALS or len(set(self.words)) != len(self.words):
            raise VaelibError(
                f"a vocabulary starts with {' '.join(SPECIALS)} and holds each word once; "
                "build it with Vocabulary.from_texts."
            )
        ids = {word: i for i, word in enumerate(self.words)} | dict.fromkeys(SPECIALS, UNK)
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], min_count: int = 1, most: int | None = None
    ) -> "Vocabulary":
        """Count the words of whitespace-separated sentences; keep those seen often enough.

        Args:
            texts: The sentences.
            min_count: Times a word must be seen.
            most: Words to keep at most, the most frequent (the earlier where two are seen as
                often), the four specials among them; None keeps all.

        Raises:
            VaelibError: `min_count` is below 1, or `most` leaves no word.
        """
        if min_count < 1:
            raise VaelibError(f"min_count is {min_count}: use 1 (keep every word) or more.")
        if most is not None and most <= len(SPECIALS):
            raise VaelibError(f"max_vocabulary is {most}: use {len(SPECIALS) + 1} or more.")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text.split())
        kept = [word for word, n in counts.items() if n >= min_count and word not in SPECIALS]
        if most is not None:
            often = set(sorted(kept, key=counts.__getitem__, reverse=True)[: most - len(SPECIALS)])
            kept = [word for word in kept if word in often]
        return cls((*SPECIALS, *kept))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids and word not in SPECIALS

    def encode(self, words: Iterable[str], markers: bool = False) -> list[int]:
        """Ids of words, unknown ones as `<unk>`; with `markers` as `<s> ... </s>`."""
        ids = [self._ids.get(word, UNK) for word in words]
        return [BOS, *ids, EOS] if markers else ids

    def decode(self, ids: Iterable[int] | Tensor) -> list[str]:
        """Words of ids `[T]` up to the first `</s>`, without `<s>` and `<pad>`.

        Raises:
            VaelibError: An id lies outside the vocabulary.
        """
        words = []
        for i in ids.tolist() if isinstance(ids, Tensor) else ids:
            if not 0 <= i < len(self.words):
                raise VaelibError(f"no word has the id {i}: ids run from 0 to {len(self) - 1}.")
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.words[i])
        return words


@dataclass(frozen=True, eq=False)
class Split:
    """One split: all sentences in one flat tensor, each stored as `<s> w1 .. wn </s>`.

    Args:
        tokens: Ids of all sentences one after another, int64 `[total]`.
        offsets: Start of each sentence and the end of the last, int64 `[N + 1]`, on the CPU.
        labels: Class of each sentence, int64 `[N]`, or None.
    """

    tokens: Tensor
    offsets: Tensor
    labels: Tensor | None = None

    @classmethod
    def from_texts(
        cls, texts: Iterable[str], vocabulary: Vocabulary, labels: Sequence[int] | None = None
    ) -> "Split":
        """Encode whitespace-separated sentences."""
        flat: list[int] = []
        offsets = [0]
        for text in texts:
            flat += vocabulary.encode(text.split(), markers=True)
            offsets.append(len(flat))
        classes = None if labels is None else torch.tensor(labels, dtype=torch.int64)
        return cls(torch.tensor(flat, dtype=torch.int64), torch.tensor(offsets), classes)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sentence including both markers, int64 `[N]`, on the CPU."""
        return self.offsets.diff()

    @property
    def predicted(self) -> Tensor:
        """Tokens a decoder predicts of each sentence: all but the start marker, int64 `[N]`."""
        return self.lengths - 1

    def sentence(self, i: int) -> Tensor:
        """The ids of sentence `i`, both markers included, `[T]`.

        Raises:
            VaelibError: There is no such sentence.
        """
        if not 0 <= i < len(self):
            raise VaelibError(f"no sentence {i}: this split holds 0 to {len(self) - 1}.")
        start, end = self.offsets[i : i + 2].tolist()
        return self.tokens[start:end]

    def gather(self, indices: Tensor) -> Tensor:
        """The sentences at `indices` `[B]`, all of one length, as `[B, T]` without padding.

        Raises:
            VaelibError: The sentences differ in length, or `indices` is empty.
        """
        at = indices.to(self.offsets.device)
        starts = self.offsets[at]
        lengths = (self.offsets[at + 1] - starts).unique()
        if len(lengths) != 1:
            raise VaelibError(
                f"a batch needs sentences of one length, these have {lengths.tolist()}: "
                "take the indices from Split.buckets."
            )
        places = starts[:, None] + torch.arange(int(lengths))
        return self.tokens[places.to(self.tokens.device)]

    def mixed(self, indices: Tensor) -> Tensor:
        """The sentences at `indices` `[B]`, of any length, as `[B, T]` with `<pad>` behind."""
        return padded([self.sentence(i) for i in indices.tolist()])

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The batch `[B, T]` as it is trained on: itself, since nothing in a text is random."""
        return batch

    def buckets(self, batch_size: int) -> list[Tensor]:
        """The frozen batches of the He family (T4).

        Sentences are sorted by length (stable) and cut into chunks of at most `batch_size` that
        never mix lengths; partial chunks are kept. Only their order is shuffled in training.

        Returns:
            Indices of the sentences of each batch, each int64 `[<= batch_size]`, shortest first.

        Raises:
            VaelibError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise VaelibError(f"batch_size is {batch_size}: use 1 or more.")
        lengths, order = self.lengths.sort(stable=True)
        counts = lengths.unique_consecutive(return_counts=True)[1]
        return [chunk for same in order.split(counts.tolist()) for chunk in same.split(batch_size)]

    def to(self, device: torch.device | str) -> "Split":
        """The same split with tokens and labels on `device`; offsets stay on the CPU."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, tokens=self.tokens.to(device), labels=labels)


def padded(sentences: Sequence[Tensor]) -> Tensor:
    """Sentences of any length as one batch `[B, T]`, `<pad>` behind the shorter ones."""
    return pad_sequence([*sentences], batch_first=True, padding_value=PAD)


class Examples(Protocol):
    """What every split offers, whatever it holds: text, pairs or images."""

    @property
    def labels(self) -> Tensor | None:
        """Class of each example, int64 `[N]`."""

    @property
    def predicted(self) -> Tensor:
        """Tokens or pixels predicted of each example, int64 `[N]`, on the CPU."""

    def __len__(self) -> int:
        """Examples N."""

    def gather(self, indices: Tensor) -> Tensor:
        """A batch of examples of one shape."""

    def mixed(self, indices: Tensor) -> Tensor:
        """A batch of examples of any shape, padded."""

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The batch `[B, ...]` as it is trained on, with fresh noise where the data have it."""

    def buckets(self, batch_size: int) -> list[Tensor]:
        """Indices of frozen batches for `gather`."""

    def to(self, device: torch.device | str) -> "Examples":
        """The same on another device."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A data set ready to train on.

    Args:
        id: The data set's id, as in results ("ptb", "snli_standin", or "folder:<name>").
        title: The name to print.
        train: Training split; the vocabulary is counted on it.
        valid: Validation split.
        test: Test split.
        vocabulary: Words of the training split.
        stand_in: Whether the training file stands in for the papers' own, so that results on it
            are never theirs.
        checksums: SHA-256 of each file as read (embedded data: of the generated text).
        label_names: Names of the classes by id, empty when there are no labels.
        holds: "text", "pairs" or "images".
    """

    id: str
    title: str
    train: Examples
    valid: Examples
    test: Examples
    vocabulary: Any
    stand_in: bool = False
    checksums: dict[str, str] = field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    holds: str = "text"

    @property
    def splits(self) -> dict[str, Examples]:
        """The three splits by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def to(self, device: torch.device | str) -> "Corpus":
        """The same corpus with its tokens on `device`."""
        train, valid, test = (split.to(device) for split in self.splits.values())
        return replace(self, train=train, valid=valid, test=test)

    def statistics(self) -> dict[str, float | int]:
        """The columns of DG-VAE's Table 1: sizes, vocabulary with specials, training lengths.

        Returns:
            n_train, n_valid, n_test, vocab_size, and length_mean, length_std (population) of the
            training sentences in tokens, both markers included. Of pairs the responses count;
            of images the pixels do, as vocabulary and as length.
        """
        lengths = (self.train.predicted + (self.holds != "images")).double()
        return {f"n_{name}": len(split) for name, split in self.splits.items()} | {
            "vocab_size": len(self.vocabulary),
            "length_mean": lengths.mean().item(),
            "length_std": lengths.std(unbiased=False).item(),
        }
