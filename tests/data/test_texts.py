import numpy as np
import pytest
from data_helpers import FolderWriter
from hypothesis import given
from hypothesis import strategies as st

from vaelib.data import load
from vaelib.data.texts import Texts, read_texts, slice_indices
from vaelib.errors import VaelibError


@given(st.integers(1, 500), st.integers(1, 600), st.integers(0, 3))
def test_a_slice_is_a_sorted_subset_and_nested(total: int, size: int, seed: int) -> None:
    small = slice_indices(total, size, "train", seed)
    large = slice_indices(total, size + 5, "train", seed)
    assert len(small) == min(size, total)
    assert (np.diff(small) > 0).all()
    assert set(small) <= set(large) <= set(range(total))


def test_the_slice_is_frozen() -> None:
    # Written down once: these indices are part of every record, whatever the numpy release.
    assert slice_indices(1000, 5, "train").tolist() == FROZEN_TRAIN
    assert slice_indices(1000, 5, "test").tolist() == FROZEN_TEST
    assert slice_indices(1000, 5, "train", seed=1).tolist() != FROZEN_TRAIN


FROZEN_TRAIN = [186, 311, 463, 925, 951]
FROZEN_TEST = [51, 138, 197, 950, 951]


def test_a_slice_is_random_in_position() -> None:
    assert abs(slice_indices(10_000, 1_000, "valid").mean() - 4999.5) < 300  # 3.4 standard errors


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_slice_is_refused(size: int) -> None:
    with pytest.raises(VaelibError, match=f"test_size={size}: give a whole number from 1"):
        load("grammar", test_size=size)


def test_the_vocabulary_is_counted_on_the_slice(folder: FolderWriter) -> None:
    root = folder(train="".join(f"word{i} again\n" for i in range(50)))
    corpus = load(root, train_size=10)
    assert len(corpus.train) == 10
    assert len(corpus.vocabulary) == 4 + 10 + 1
    assert load(root, train_size=10).vocabulary == corpus.vocabulary
    assert load(root, train_size=1000).statistics()["n_train"] == 50
    assert load(root, min_count=2).vocabulary.words[4:] == ("again",)


def test_label_ids_do_not_depend_on_the_slice(folder: FolderWriter) -> None:
    rows = "".join(f"{i % 5}\tw\n" for i in range(100))
    root = folder(train=rows, valid=rows, test=rows)
    corpus = load(root, train_size=2, test_size=7)
    kept = slice_indices(100, 7, "test").tolist()
    assert corpus.test.labels is not None
    assert corpus.test.labels.tolist() == [i % 5 for i in kept]


def test_a_tab_may_be_a_space() -> None:
    texts = read_texts(b"a\tb\nc d\n", "here", 10, labelled=False)
    assert texts.labels is None
    assert texts.lines == ["a\tb", "c d"]


def test_only_line_feeds_and_carriage_returns_end_a_line() -> None:
    assert len(read_texts("a\u2028b\x85c\x0cd\n".encode(), "here", 10).lines) == 1


def test_the_digest_is_that_of_the_file() -> None:
    written = "1\ta b\n0\tc\n"
    texts = read_texts(written.encode(), "here", 10)
    assert texts.digest() == Texts(["a b", "c"], ["1", "0"]).digest()
    assert texts.digest() != Texts(["a b", "c"]).digest()
