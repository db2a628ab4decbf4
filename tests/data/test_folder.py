from pathlib import Path

import pytest
from data_helpers import FolderWriter

from vaelib.data import load
from vaelib.errors import VaelibError


def files_of(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


def test_a_folder_is_a_corpus(folder: FolderWriter) -> None:
    root = folder(train="the cat sat\n\n  \nthe dog\n", valid="the bird\n", test="a cat")
    corpus = load(str(root))
    assert corpus.id == "folder:corpus"
    assert [len(s) for s in corpus.splits.values()] == [2, 1, 1]
    assert corpus.train.labels is None
    assert corpus.label_names == ()
    assert corpus.valid.sentence(0).tolist() == [1, 4, 3, 2]
    assert not corpus.stand_in
    assert sorted(corpus.checksums) == ["test.txt", "train.txt", "valid.txt"]


def test_line_ends_and_a_byte_order_mark_do_not_matter(folder: FolderWriter) -> None:
    root = folder(train="\ufeffa b\r\nc d\r\n", valid="a\rb\r")
    corpus = load(root)
    assert corpus.vocabulary.words[4:] == ("a", "b", "c", "d")
    assert len(corpus.valid) == 2


def test_labels_are_numbered_by_the_sorted_training_labels(folder: FolderWriter) -> None:
    root = folder(train="10\ta b\n9\tb\n10\tc\n\n9\t \n", valid="9\ta\n", test="10\tb\n")
    corpus = load(root)
    assert corpus.label_names == ("9", "10")
    assert corpus.train.labels is not None
    assert corpus.train.labels.tolist() == [1, 0, 1]
    assert corpus.test.labels is not None
    assert corpus.test.labels.tolist() == [1]
    words = load(folder_with_words(root))
    assert words.label_names == ("neg", "pos")


def folder_with_words(root: Path) -> Path:
    for split in ("train", "valid", "test"):
        (root / f"{split}.txt").write_text("pos\ta b\nneg\tb\n")
    return root


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"valid": None}, r"has no valid\.txt; a corpus needs train\.txt, valid\.txt and test"),
        ({"valid": None, "test": None}, r"has no valid\.txt and no test\.txt"),
        ({"test": ""}, r"test\.txt holds no sentence"),
        ({"test": "\n \n"}, r"test\.txt holds no sentence"),
        ({"train": b"ok\nbad \xff here\n"}, r"train\.txt is not UTF-8: line 2, byte 7 \(0xff\)"),
        ({"train": "a\tb c\nno tab\n"}, r"train\.txt: line 2 has no TAB but line 1 has one"),
        ({"train": "no tab\na\tb c\n"}, r"train\.txt: line 1 has no TAB but line 2 has one"),
        ({"train": "a\tb\tc\n"}, r"line 1 has 2 TABs; write every line as label<TAB>sentence"),
        ({"train": "1\tb\nhow are you\tfine\n"}, r"line 2 starts with 'how are you', which is not"),
        ({"train": "\tb\n"}, r"line 1 starts with '', which is not a one-word label"),
        (dict.fromkeys(("train", "valid"), "1\ta\n"), r"train has labels and test has none"),
        ({"train": "1\ta\n0\tb", "valid": "1\ta", "test": "2\ta"}, r"test has the label '2', whi"),
    ],
)
def test_a_malformed_folder_is_refused_with_one_clear_sentence(
    folder: FolderWriter, contents: dict[str, str | bytes | None], message: str
) -> None:
    root = folder(**contents)
    before = files_of(root.parent)
    with pytest.raises(VaelibError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    assert files_of(root.parent) == before


def test_a_long_line_is_named(folder: FolderWriter) -> None:
    root = folder(train="a b\n" + "w " * 2001 + "\n")
    with pytest.raises(VaelibError, match=r"train\.txt, line 2 has 2001 words and max_words is 20"):
        load(root)
    assert len(load(root, max_words=2001).train) == 2
    with pytest.raises(VaelibError, match=r"line 1 has 2 words and max_words is 1"):
        load(root, max_words=1)


def test_no_folder_and_no_such_data_set(folder: FolderWriter) -> None:
    with pytest.raises(VaelibError, match=r"no folder .*nowhere; give one with train\.txt"):
        load(folder() / "nowhere")
    with pytest.raises(VaelibError, match=r"'grammer': did you mean 'grammar'\?"):
        load("grammer")


def test_a_folder_below_the_working_folder_needs_no_separator(
    folder: FolderWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder().parent)
    assert load("corpus").id == "folder:corpus"
