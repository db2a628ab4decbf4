import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelib.data import Corpus, Split, Vocabulary
from vaelib.errors import VaelibError

WORDS = st.text("abcd", min_size=1, max_size=2)
SENTENCES = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=60)


def make_split(texts: list[str]) -> Split:
    return Split.from_texts(texts, Vocabulary.from_texts(texts))


def test_words_get_ids_in_order_of_first_appearance_after_the_specials() -> None:
    vocabulary = Vocabulary.from_texts(["b a b", "c a"])
    assert vocabulary.words == ("<pad>", "<s>", "</s>", "<unk>", "b", "a", "c")
    assert vocabulary.encode(["c", "b", "zebra"]) == [6, 4, 3]
    assert vocabulary.encode(["b"], markers=True) == [1, 4, 2]


def test_markers_in_a_text_are_the_unknown_word() -> None:
    vocabulary = Vocabulary.from_texts(["a <unk> </s> <s> <pad>"])
    assert len(vocabulary) == 5
    assert vocabulary.encode(["a", "<unk>", "</s>", "<s>", "<pad>"]) == [4, 3, 3, 3, 3]
    assert "<unk>" not in vocabulary
    assert "a" in vocabulary


def test_min_count_keeps_words_seen_often_enough() -> None:
    vocabulary = Vocabulary.from_texts(["a b a c", "b a d"], min_count=2)
    assert vocabulary.words[4:] == ("a", "b")
    assert Vocabulary.from_texts(["a b a"], min_count=3).words[4:] == ()
    with pytest.raises(VaelibError, match="min_count is 0"):
        Vocabulary.from_texts(["a"], min_count=0)


def test_the_most_frequent_words_stay_in_the_order_of_their_appearance() -> None:
    texts = ["rare twice a a", "b b twice late a"]
    assert Vocabulary.from_texts(texts, most=7).words[4:] == ("twice", "a", "b")
    assert Vocabulary.from_texts(texts, most=8).words[4:] == ("rare", "twice", "a", "b")
    assert Vocabulary.from_texts(texts, min_count=3, most=8).words[4:] == ("a",)
    assert Vocabulary.from_texts(texts, most=5) == Vocabulary.from_texts(texts, min_count=3)
    with pytest.raises(VaelibError, match="max_vocabulary is 4"):
        Vocabulary.from_texts(texts, most=4)


def test_decode_stops_at_the_end_and_drops_markers() -> None:
    vocabulary = Vocabulary.from_texts(["a b"])
    assert vocabulary.decode(torch.tensor([1, 4, 3, 0, 5, 2, 4])) == ["a", "<unk>", "b"]
    with pytest.raises(VaelibError, match="no word has the id 6"):
        vocabulary.decode([6])
    with pytest.raises(VaelibError, match="no word has the id -1"):
        vocabulary.decode([-1])


@pytest.mark.parametrize("words", [("a",), ("<pad>", "<s>", "</s>", "<unk>", "a", "a")])
def test_a_malformed_vocabulary_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(VaelibError, match=r"starts with <pad> <s> </s> <unk>"):
        Vocabulary(words)


@given(SENTENCES)
def test_sentences_survive_the_round_trip(texts: list[str]) -> None:
    vocabulary = Vocabulary.from_texts(texts)
    split = Split.from_texts(texts, vocabulary)
    assert len(split) == len(texts)
    assert [" ".join(vocabulary.decode(split.sentence(i))) for i in range(len(split))] == texts
    assert split.lengths.tolist() == [len(text.split()) + 2 for text in texts]


@given(SENTENCES, st.integers(1, 40))
def test_buckets_hold_each_index_once_one_length_each_in_stable_order(
    texts: list[str], batch_size: int
) -> None:
    split = make_split(texts)
    buckets = split.buckets(batch_size)
    lengths = split.lengths
    flat = torch.cat(buckets).tolist()
    assert sorted(flat) == list(range(len(texts)))
    assert flat == sorted(range(len(texts)), key=lambda i: int(lengths[i]))  # sorted is stable
    assert all(1 <= len(b) <= batch_size and len(lengths[b].unique()) == 1 for b in buckets)
    # only the last chunk of a length may be partial
    partial = [int(lengths[b[0]]) for b in buckets if len(b) < batch_size]
    assert len(partial) == len(set(partial))


@given(SENTENCES)
def test_gather_gives_the_sentences_of_a_batch(texts: list[str]) -> None:
    split = make_split(texts)
    for bucket in split.buckets(4):
        batch = split.gather(bucket)
        assert batch.tolist() == [split.sentence(int(i)).tolist() for i in bucket]
        assert batch[:, 0].eq(1).all()
        assert batch[:, -1].eq(2).all()


def test_gather_refuses_mixed_lengths_and_nothing() -> None:
    split = make_split(["a", "a b"])
    with pytest.raises(VaelibError, match=r"these have \[3, 4\]"):
        split.gather(torch.tensor([0, 1]))
    with pytest.raises(VaelibError, match="one length"):
        split.gather(torch.tensor([], dtype=torch.int64))


def test_what_is_out_of_range_is_named() -> None:
    split = make_split(["a", "a b"])
    with pytest.raises(VaelibError, match="no sentence 2: this split holds 0 to 1"):
        split.sentence(2)
    with pytest.raises(VaelibError, match="batch_size is 0"):
        split.buckets(0)


def test_to_moves_tokens_and_labels_and_keeps_the_offsets() -> None:
    vocabulary = Vocabulary.from_texts(["a b"])
    split = Split.from_texts(["a b"], vocabulary, [0])
    corpus = Corpus("x", "X", split, split, split, vocabulary)
    moved = corpus.to("meta").test
    assert moved.tokens.device.type == "meta"
    assert moved.labels is not None
    assert moved.labels.device.type == "meta"
    assert moved.offsets.device.type == "cpu"
    assert moved.gather(torch.tensor([0])).shape == (1, 4)


def test_statistics_count_both_markers() -> None:
    vocabulary = Vocabulary.from_texts(["a b", "a b c d"])
    train = Split.from_texts(["a b", "a b c d"], vocabulary)
    test = Split.from_texts(["a"], vocabulary)
    assert Corpus("x", "X", train, test, test, vocabulary).statistics() == {
        "n_train": 2,
        "n_valid": 1,
        "n_test": 1,
        "vocab_size": 8,
        "length_mean": 5.0,
        "length_std": 1.0,
    }
