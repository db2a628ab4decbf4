import os
from pathlib import Path

import pytest

from vaelib.data import Vocabulary
from vaelib.data.download import Source, fetch
from vaelib.data.texts import Texts
from vaelib.data.yelp13 import KEPT_WORDS, MOST_WORDS, keep_frequent, read_reviews
from vaelib.errors import VaelibError

PLACE = "jiacheng-xu/vmf_vae_nlp/9f486db7d07aeebbcdb7d8e4002cc33ac88f75de/data/yelp"
FILES = {
    "train": Source("yelp13", f"{PLACE}/train.txt", "9e1c1daf998682f7622baae10506f9beac674e48"),
    "valid": Source("yelp13", f"{PLACE}/valid.txt", "0fd84ab1e1b6f850e80a77dc4e279d7d3b1e067e"),
    "test": Source("yelp13", f"{PLACE}/test.txt", "46235bb28210b5138f92b539fcd760c994776085"),
}


def test_ratings_are_stripped_and_long_reviews_cut() -> None:
    long = " ".join(["3", *["word"] * 60])
    content = f"4 good <sssss> food\n\n0\n{long}\n1 4 times\n".encode()
    texts = read_reviews(content, "f")
    assert texts.labels == ["4", "3", "1"]
    assert texts.lines[0] == "good food"
    assert len(texts.lines[1].split()) == MOST_WORDS
    assert texts.lines[2] == "4 times"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"4 good\ngood food\n", "f, line 2 starts with 'good'"),
        (b"5 good\n", "starts with '5'"),
        (b"4\n\n", "holds no review"),
        (b"4 \xff\n", "not UTF-8"),
    ],
)
def test_a_malformed_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(VaelibError, match=message):
        read_reviews(content, "f")


def test_words_are_counted_over_all_splits_and_with_the_ratings() -> None:
    texts = {
        "train": Texts(["a b c", "a <unk> <unk>"], ["3", "3"]),
        "valid": Texts(["b d"], ["3"]),
        "test": Texts(["d c 3"], ["0"]),
    }
    kept = keep_frequent(texts, 3)  # 3 (four times), then a and b, which come before c and d
    assert kept["train"].lines == ["a b <unk>", "a <unk> <unk>"]
    assert kept["valid"].lines == ["b <unk>"]
    assert kept["test"].lines == ["<unk> <unk> 3"]
    assert kept["test"].labels == ["0"]
    assert keep_frequent(texts, 9) == texts
    with pytest.raises(VaelibError, match="size is 0"):
        keep_frequent(texts, 0)


def test_preparing_twice_changes_nothing() -> None:
    lines = [" ".join(f"w{i % (j + 1)}" for i in range(j + 3)) for j in range(40)]
    texts = dict.fromkeys(("train", "valid", "test"), Texts(lines, ["1"] * len(lines)))
    once = keep_frequent(texts, 12)
    assert once != texts
    assert keep_frequent(once, 12) == once


def test_an_absent_file_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(VaelibError, match=r"yelp13: cannot fetch train\.txt from .*mirror"):
        fetch(FILES["train"])


@pytest.mark.skipif(
    not os.environ.get("VAELIB_MIRROR"), reason="needs Yelp-2013: set VAELIB_MIRROR to a mirror"
)
def test_the_genuine_files_are_prepared_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes of Coupled-VAE 5.1; 48.49 tokens a test review, end marker included (T39)."""
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path))
    contents = {split: fetch(FILES[split]).read_bytes() for split in ("valid", "test")}
    raw = {split: content.decode() for split, content in contents.items()}
    texts = {split: read_reviews(content, split) for split, content in contents.items()}
    assert [len(t.lines) for t in texts.values()] == [7_773, 8_671]
    for split, read in texts.items():
        again = [f"{r} {line}" for r, line in zip(read.labels or (), read.lines, strict=True)]
        given = [" ".join(line.split()) for line in raw[split].strip().split("\n")]
        assert again == given  # nothing was cut, nothing left out
    counts = [len(line.split()) for line in texts["test"].lines]
    assert sum(counts) / len(counts) + 1 == pytest.approx(48.49, abs=0.01)
    assert max(counts) == MOST_WORDS
    together = texts | {"train": texts["valid"]}
    assert len(Vocabulary.from_texts([*texts["valid"].lines, *texts["test"].lines])) < KEPT_WORDS
    assert keep_frequent(together) == together
