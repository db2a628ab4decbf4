import math
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelib.data import Vocabulary, grammar, grammar_pairs
from vaelib.data.grammar_rules import FACTORS
from vaelib.data.pairs import (
    PairSplit,
    PairTexts,
    build_pairs,
    halves,
    post_of,
    read_pair_folder,
    read_pairs,
)
from vaelib.data.texts import Slicing
from vaelib.errors import VaelibError

HALF = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(HALF, HALF), min_size=1, max_size=20)
TEXTS = PairTexts(["a b", "b", "a a c"], ["c", "a b c d", "b"])


def make_split(texts: PairTexts) -> tuple[PairSplit, Vocabulary]:
    vocabulary = Vocabulary.from_texts([*texts.posts, *texts.responses])
    return PairSplit.from_texts(texts, vocabulary), vocabulary


def words(vocabulary: Vocabulary, x: torch.Tensor) -> list[str]:
    return [" ".join(vocabulary.decode(row)) for row in x]


@given(PAIRS)
def test_pairs_survive_the_round_trip(pairs: list[tuple[str, str]]) -> None:
    texts = PairTexts(*(list(side) for side in zip(*pairs, strict=True)))
    split, vocabulary = make_split(texts)
    assert len(split) == len(pairs)
    post, response = halves(split.gather(torch.arange(len(pairs))))
    assert words(vocabulary, post) == list(texts.posts)
    assert words(vocabulary, response) == list(texts.responses)
    for half in (post, response):
        assert (half[:, 0] == 1).all()
        assert ((half == 2).sum(dim=1) == 1).all()
        assert ((half != 0).int().diff(dim=1) <= 0).all()


def test_a_batch_is_padded_on_both_sides_and_no_further() -> None:
    split, _ = make_split(TEXTS)
    x = split.gather(torch.tensor([2, 1]))
    assert x.tolist() == [
        [1, 4, 4, 6, 2, 1, 5, 2, 0, 0, 0],
        [1, 5, 2, 0, 0, 1, 4, 5, 6, 7, 2],
    ]
    assert [part.shape[1] for part in halves(x)] == [5, 6]
    assert split.sentence(1).tolist() == [1, 5, 2, 1, 4, 5, 6, 7, 2]
    assert torch.equal(split.mixed(torch.tensor([2, 1])), x)
    assert split.draw(x, torch.Generator()) is x
    with pytest.raises(VaelibError, match="no pair 3"):
        split.sentence(3)
    with pytest.raises(VaelibError, match="a pair or more"):
        split.gather(torch.tensor([], dtype=torch.int64))


def test_responses_alone_are_predicted() -> None:
    split, _ = make_split(TEXTS)
    assert split.predicted.tolist() == [2, 5, 2]
    assert split.lengths.tolist() == [[4, 3], [3, 6], [5, 3]]
    assert split.labels is None


def test_the_halves_of_posts_alone() -> None:
    post = torch.tensor([[1, 5, 2, 0], [1, 5, 6, 2]])
    assert torch.equal(post_of(post), post)
    with pytest.raises(VaelibError, match="single sentences"):
        halves(post)


@given(PAIRS, st.integers(1, 8))
def test_buckets_hold_every_pair_once_in_order_of_length(
    pairs: list[tuple[str, str]], size: int
) -> None:
    split, _ = make_split(PairTexts(*(list(side) for side in zip(*pairs, strict=True))))
    batches = split.buckets(size)
    assert all(len(batch) == size for batch in batches[:-1])
    order = torch.cat(batches)
    assert sorted(order.tolist()) == list(range(len(pairs)))
    keys = [(*split.lengths[i].flip(0).tolist(), i) for i in order.tolist()]
    assert keys == sorted(keys)


def test_sorting_saves_most_of_the_padding() -> None:
    corpus = build_pairs("pairs", "Pairs", grammar_pairs.texts(), {}, Slicing(train_size=2_000))
    split = corpus.train

    def padding(batches: list[torch.Tensor]) -> float:
        return torch.cat([(split.gather(b) == 0).flatten() for b in batches]).double().mean().item()

    assert padding(split.buckets(32)) < 0.1
    assert padding(split.buckets(32)) < padding(list(torch.arange(2_000).split(32))) / 2
    with pytest.raises(VaelibError, match="batch_size is 0"):
        split.buckets(0)


def test_a_corpus_of_pairs() -> None:
    splits = dict.fromkeys(("train", "valid", "test"), TEXTS)
    corpus = build_pairs("x", "X", splits, {"train.txt": "0"}, Slicing(min_count=2), True)
    assert corpus.holds == "pairs"
    assert corpus.vocabulary.words[4:] == ("a", "b", "c")
    assert corpus.stand_in
    assert corpus.checksums == {"train.txt": "0"}
    smaller = build_pairs("x", "X", splits, {}, Slicing(train_size=2, test_size=1))
    assert [len(s) for s in smaller.splits.values()] == [2, 3, 1]
    assert corpus.statistics()["length_mean"] == pytest.approx((3 + 6 + 3) / 3)
    assert corpus.to("cpu").train.gather(torch.tensor([1])).tolist()[0][-2] == 3  # d is rare


def test_reading_a_file_of_pairs() -> None:
    texts = read_pairs(b"how are you\tfine\r\n\n  \nand\tso on\n", "f.txt", 9)
    assert texts == PairTexts(["how are you", "and"], ["fine", "so on"])
    again = read_pairs(b"how are you\tfine\nand\tso on\n", "f.txt", 9)
    assert texts.digest() == again.digest()
    assert texts.digest() != texts.take([0]).digest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\na b\n", "f.txt, line 2 is not a pair"),
        (b"a\tb\tc\n", "line 1 is not a pair"),
        (b"a\t \n", "line 1 is not a pair"),
        (b"a\tb c d e\n", "line 1 has 4 words in one half and max_words is 3"),
        (b" \n", "holds no pair"),
        (b"a\t\xff\n", "not UTF-8"),
    ],
)
def test_a_malformed_file_of_pairs_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(VaelibError, match=message):
        read_pairs(content, "f.txt", 3)


def test_reading_a_folder_of_pairs(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text(f"{split} ?\tyes\n")
    with pytest.raises(VaelibError, match="has no test.txt; a corpus needs"):
        read_pair_folder(tmp_path, 10)
    (tmp_path / "test.txt").write_text("test ?\tyes\n")
    texts, checksums = read_pair_folder(tmp_path, 10)
    assert texts["valid"] == PairTexts(["valid ?"], ["yes"])
    assert checksums["test.txt"] == texts["test"].digest()


def test_the_embedded_pairs_are_frozen() -> None:
    texts = grammar_pairs.texts()
    assert [len(t.posts) for t in texts.values()] == [10_000, 1_000, 1_000]
    assert list(texts["test"].posts) == list(grammar.texts()["test"].lines)
    assert texts["test"].digest() == DIGEST
    with pytest.raises(VaelibError, match="unknown split"):
        grammar_pairs.derivations("dev")


DIGEST = "33eb2b8dd03e7a08caf1a91b08ad331edf36780ae02ae77ffa925eabe50f098e"


def test_every_rule_of_responses_is_reached() -> None:
    reached, slots = set(), set()
    for known in combinations():
        for slot in grammar_pairs.DEPENDS:
            parts = [slot, *(known[factor] for factor in grammar_pairs.DEPENDS[slot])]
            found = [n for i in range(len(parts)) if (n := ".".join(parts[: i + 1])) in RULES]
            reached.add(found[-1])
    for text in RULES.values():
        slots |= {word[1:-1] for word in text.split() if word.startswith("{")}
    assert reached | slots >= set(RULES)
    assert slots <= {name.split(".")[0] for name in (*RULES, *grammar.rules())} | {"topic"}


RULES = grammar_pairs.RULES


def combinations() -> list[dict[str, str]]:
    """Everything that responses depend on."""
    tables = FACTORS | grammar_pairs.CHOICES
    names = ("sentiment", "place", "aspect", "time", "act", "tone")
    every = product(*(tables[name] for name in names))
    return [dict(zip(names, values, strict=True)) | {"topic": "topic"} for values in every]


def expansions(slot: str, known: dict[str, str]) -> list[tuple[tuple[str, ...], float]]:
    """All word sequences of a slot, one a derivation, with their probabilities."""
    rule = grammar_pairs._rule(slot, known)
    every = []
    for alternative, p in zip(rule.alternatives, rule.probabilities, strict=True):
        parts = [expansions(s[1:-1], known) if s[0] == "{" else [((s,), 1.0)] for s in alternative]
        for chosen in product(*parts):
            said = tuple(word for piece, _ in chosen for word in piece)
            every.append((said, p * math.prod(q for _, q in chosen)))
    return every


def test_a_response_has_one_derivation_given_its_post() -> None:
    """So act and tone can be read off it, and its entropy is that of its derivation."""
    total, seen = 0.0, {}
    tables = FACTORS | grammar_pairs.CHOICES
    for known in combinations():
        about = tuple(known[name] for name in ("sentiment", "place", "aspect", "time"))
        weight = math.prod(tables[name][known[name]] for name in known if name != "topic")
        said = expansions("response", known)
        assert sum(p for _, p in said) == pytest.approx(1.0, abs=1e-12)
        total -= weight * sum(p * math.log(p) for _, p in said)
        for response, _ in said:
            assert seen.setdefault((about, response), known) is known
    assert grammar_pairs.response_entropy() == pytest.approx(
        total + grammar_pairs.choice_entropy(), abs=1e-9
    )


def test_the_entropy_is_met_by_the_log_probabilities() -> None:
    pairs = grammar_pairs.derivations("train")
    values = torch.tensor([-pair.log_prob for pair in pairs], dtype=torch.float64)
    error = values.std().item() / math.sqrt(len(values))
    assert values.mean().item() == pytest.approx(grammar_pairs.response_entropy(), abs=4 * error)
    assert 0 < grammar_pairs.choice_entropy() < grammar_pairs.response_entropy()


def test_responses_follow_the_post_and_their_choices_do_not() -> None:
    pairs = grammar_pairs.derivations("train")
    for pair in pairs[:2_000]:
        if pair.choices["act"] == "agree" and "too" in pair.words:
            assert grammar_pairs.topic(pair.post) in pair.words
        if pair.choices["act"] == "reply" and pair.post.factors["sentiment"] == "negative":
            assert {"praise", "proud", "compliment"}.isdisjoint(pair.words)
        assert (pair.words[-1] == "?") == (pair.choices["act"] == "ask")
    for sentiment in ("positive", "negative"):
        mine = [p.choices["act"] for p in pairs if p.post.factors["sentiment"] == sentiment]
        for act, count in Counter(mine).items():
            wanted = grammar_pairs.CHOICES["act"][act]
            assert count / len(mine) == pytest.approx(wanted, abs=4 * math.sqrt(0.25 / len(mine)))
