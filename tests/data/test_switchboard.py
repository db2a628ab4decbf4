import json
import os
from pathlib import Path

import pytest

from vaelib.data.download import Source, fetch
from vaelib.data.pairs import PairTexts, read_pair_folder
from vaelib.data.switchboard import MOST_WORDS, read_dialogues, tokenise, utterance_pairs
from vaelib.errors import VaelibError

PLACE = "snakeztc/NeuralDialog-CVAE/6376dbeb8a9d052f671cf23ac2ccda175ab27687/data/json_data"
FILES = {
    "valid": Source(
        "switchboard", f"{PLACE}/valid.jsonl", "9c321920c918938b5feb57131b646156853cd7e4"
    ),
    "test": Source(
        "switchboard", f"{PLACE}/test.jsonl", "67407f35fd1a4ae084509ab6daa5e708fc077629"
    ),
}


def dialogue(*texts: object) -> str:
    return json.dumps({"utts": [["A", text, ["yes", [0.0]]] for text in texts]}) + "\n"


def test_words_are_lower_cased_and_cut_from_punctuation() -> None:
    assert tokenise("I don't KNOW, uh-huh...  Ok?!") == "i don ' t know , uh - huh ... ok ?!"
    assert tokenise("  ") == ""
    assert tokenise(" a" * 300).split() == ["a"] * MOST_WORDS


def test_each_utterance_answers_the_one_before_it() -> None:
    spoken = ["a", "b", "c", "d"]
    assert utterance_pairs(spoken, drop_last=False) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert utterance_pairs(spoken) == [("a", "b"), ("b", "c")]  # T41
    assert utterance_pairs(["a", "b"]) == utterance_pairs(["a"]) == utterance_pairs([]) == []
    assert utterance_pairs(["a", "", "c", "d", "e"]) == [("c", "d")]


def test_pairs_never_cross_dialogues() -> None:
    content = (dialogue("Hi.", "Hello", "Bye") + "\n" + dialogue("Yes", "No", "So?")).encode()
    assert read_dialogues(content, "f") == PairTexts(["hi .", "yes"], ["hello", "no"])
    assert read_dialogues(content, "f", drop_last=False) == PairTexts(
        ["hi .", "hello", "yes", "no"], ["hello", "bye", "no", "so ?"]
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json\n", "f, line 2 is no dialogue"),
        ('{"turns": []}\n', "line 2 is no dialogue"),
        ('{"utts": [["A"]]}\n', "line 2 is no dialogue"),
        ("[1, 2]\n", "line 2 is no dialogue"),
        (dialogue("a", 3), "line 2 is no dialogue"),
    ],
)
def test_a_malformed_file_is_refused(line: str, message: str) -> None:
    with pytest.raises(VaelibError, match=message):
        read_dialogues((dialogue("a", "b", "c") + line).encode(), "f")


def test_a_file_without_pairs_is_refused() -> None:
    with pytest.raises(VaelibError, match="holds no pair of utterances"):
        read_dialogues(dialogue("a", "b").encode(), "f")


@pytest.mark.skipif(
    not os.environ.get("VAELIB_MIRROR") or not os.environ.get("VAELIB_STANDIN"),
    reason="needs Switchboard: set VAELIB_MIRROR and VAELIB_STANDIN to folders with it",
)
def test_the_genuine_dialogues_give_the_known_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About 5K pairs each (Coupled-VAE I.3); the stand-in holds the same two splits as pairs."""
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path))
    known, _ = read_pair_folder(Path(os.environ["VAELIB_STANDIN"], "switchboard"), MOST_WORDS)
    for split, size in (("valid", 5_105), ("test", 5_419)):
        content = fetch(FILES[split]).read_bytes()
        pairs = read_dialogues(content, split)
        assert len(pairs.posts) == size
        assert pairs == known[split]
        every = read_dialogues(content, split, drop_last=False)
        assert len(every.posts) - size == len(content.decode().strip().split("\n"))
