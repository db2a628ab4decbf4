"""The further columns of the table: each is the function it is, each draws on its own."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaelib import measures_text, twins  # noqa: F401 (registers methods)
from vaelib.build import build, load_data, resolve
from vaelib.config import LAPTOP_METRICS
from vaelib.data import Corpus, omniglot
from vaelib.data.omniglot import Drawings
from vaelib.decoders import greedy
from vaelib.decoders_gru import without_unknown
from vaelib.distributions import rsample
from vaelib.layers import uniform_init_
from vaelib.metrics import (
    METRICS,
    Labelled,
    bleu,
    conditional_entropy,
    distinct,
    forward_perplexity,
    linear_probe,
    mutual_information,
    mutual_posterior_divergence,
    reverse_perplexity,
    self_bleu,
)
from vaelib.metrics.catalogue import BLEU_SAMPLES, DISTINCT_SENTENCES, NGRAM_SENTENCES, spec_of
from vaelib.metrics.gradients import gradient_norms
from vaelib.passes import MEASURES, Pass, Values

POSTERIOR = ("mi_skip_self", "mi_aggregate_kl", "mpd", "ce")
WRITTEN = ("bleu", "distinct", "self_bleu", "forward_ppl", "reverse_ppl")
NAMES = (*POSTERIOR, "ppl_elbo", "probe", "gradients", *WRITTEN)
CHARACTERS = [f"character_probe_{n}" for n in (5, 10, 15)]


def work_of(method: str, corpus: Corpus) -> Pass:
    """An evaluation of a model with large weights, so that no metric is trivial."""
    config = resolve(method, data="grammar", profile="smoke")
    model = build(config, len(corpus.vocabulary)).model
    uniform_init_(model, 0.6, 0.6, torch.Generator().manual_seed(4))
    return Pass(config, model.eval(), corpus)


def measured(work: Pass, name: str) -> Values:
    with torch.no_grad():
        value = MEASURES[name](work)
    return value if isinstance(value, dict) else {name: value}


@pytest.fixture(scope="module")
def work(corpus: Corpus) -> Pass:
    return work_of("vae", corpus)


@pytest.fixture(scope="module")
def by_name(work: Pass) -> dict[str, Values]:
    return {name: measured(work, name) for name in NAMES}


@pytest.fixture(scope="module")
def table(by_name: dict[str, Values]) -> Values:
    return {column: v for values in by_name.values() for column, v in values.items()}


def test_every_measure_is_described_and_every_column_found() -> None:
    assert set(MEASURES) == set(METRICS)
    assert not set(NAMES) & set(LAPTOP_METRICS)
    for name in METRICS:
        columns = METRICS[name].columns or (name,)
        assert all(spec_of(column) is METRICS[name] for column in columns)
    assert spec_of("nothing") is None
    assert len({c for s in METRICS.values() for c in s.columns or (s.name,)}) >= 40


def test_columns_are_those_of_the_catalogue(by_name: dict[str, Values], table: Values) -> None:
    for name, values in by_name.items():
        wanted = set(METRICS[name].columns or (name,)) - {"grad_coupled", "grad_total"}
        assert set(values) == wanted
    undefined = {column for column, value in table.items() if not math.isfinite(value)}
    sizes = {f"probe_{n}" for n in (500, 1000, 2000, 10_000)}
    assert undefined == sizes, "a smoke run has 320 labels"


@pytest.mark.parametrize("name", NAMES[::-1])
def test_a_measure_draws_on_its_own(
    name: str, work: Pass, by_name: dict[str, Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ran before: the same values, from the generator of its name, no global state."""
    fresh, purposes = Pass(work.config, work.model, work.corpus), []

    def noted(purpose: str) -> torch.Generator:
        purposes.append(purpose)
        return work.generator(purpose)

    monkeypatch.setattr(fresh, "generator", noted)
    before = torch.get_rng_state()
    values = measured(fresh, name)
    assert torch.equal(before, torch.get_rng_state())
    assert values == pytest.approx(by_name[name], rel=0, abs=0, nan_ok=True)
    shared = {"forward_ppl": "ngram_ppl", "reverse_ppl": "ngram_ppl", "ppl_elbo": "distortion"}
    prefix = shared.get(name, name)
    assert all(purpose in (prefix, f"{prefix}_greedy") for purpose in purposes)


def test_without_a_gaussian_posterior_there_are_no_moments(corpus: Corpus) -> None:
    work = work_of("vmf", corpus)
    for name in POSTERIOR:
        assert all(math.isnan(v) for v in measured(work, name).values()), name
    assert all(math.isfinite(v) for v in measured(work, "bleu").values())
    assert math.isfinite(measured(work, "probe")["probe_100"])


def other_work(method: str, data: str) -> Pass:
    config = resolve(method, data=data, profile="smoke")
    corpus = load_data(config)
    return Pass(config, build(config, len(corpus.vocabulary)).model.eval(), corpus)


def test_images_have_no_columns_of_text() -> None:
    work = other_work("vae", "digits")
    for name in WRITTEN:
        values = measured(work, name)
        assert values
        assert all(math.isnan(v) for v in values.values()), name
    assert 0 <= measured(work, "probe")["probe_100"] <= 1
    assert math.isfinite(measured(work, "mpd")["mpd"])


@pytest.mark.parametrize("method", ["cvae", "seq2seq"])
def test_of_pairs_the_responses_are_written(method: str) -> None:
    work = other_work(method, "pairs")
    for name in set(WRITTEN) - {"distinct"} | {"probe"}:
        assert all(math.isnan(v) for v in measured(work, name).values()), name
    for name in ("distinct", "gradients", "ppl_elbo"):
        assert all(math.isfinite(v) for v in measured(work, name).values()), name
    posts = work.corpus.test.mixed(torch.arange(len(work.tokens)))
    z = rsample(work.model.prior(), (len(posts),), work.generator("distinct"))
    tokens = work.model.decoder.decode(z, without_unknown(greedy), measures_text.LONGEST, posts)
    written = [work.corpus.vocabulary.decode(s) for s in tokens]
    assert measured(work, "distinct")["distinct_1"] == pytest.approx(distinct(written, 1))


# ---------------------------------------------------------------- posteriors


@torch.no_grad()
def test_formulas_of_the_posteriors(work: Pass, table: Values) -> None:
    mu, logvar = work.statistics
    assert table["mpd"] == pytest.approx(mutual_posterior_divergence(mu, logvar))
    assert table["ce"] == pytest.approx(conditional_entropy(logvar))
    information = mutual_information(
        mu, logvar, estimator="aggregate_kl", generator=work.generator("mi_aggregate_kl")
    )
    assert table["mi_aggregate_kl"] == pytest.approx(information)
    assert table["mi_aggregate_kl"] < work.rate + 0.5


@torch.no_grad()
def test_skip_self_takes_the_sentences_in_the_order_of_the_file(
    work: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def noted(mu: Tensor, logvar: Tensor, **options: Any) -> float:
        seen.extend((mu, logvar))
        assert options["estimator"] == "skip_self"
        assert options["samples"] == 100
        return 0.0

    monkeypatch.setattr(measures_text, "mutual_information", noted)
    measured(work, "mi_skip_self")
    for place in (0, 5, len(work.corpus.test) - 1):
        q = work.model.encode(work.corpus.test.sentence(place)[None])
        torch.testing.assert_close(seen[0][place], q.mode[0], rtol=0, atol=1e-5)


def test_the_perplexity_is_that_of_the_elbo(work: Pass, table: Values) -> None:
    """T27: what VAE-MINE prints. Every word and the end marker counts, the start marker not."""
    test, words = work.corpus.test, work.corpus.vocabulary.decode
    tokens = sum(len(words(test.sentence(i))) + 1 for i in range(len(test)))
    with torch.no_grad():
        total = (work.distortion + work.rate) * len(test)
    assert table["ppl_elbo"] == pytest.approx(math.exp(total / tokens), rel=1e-6)


@torch.no_grad()
def test_the_probe_reads_the_codes_of_every_split(work: Pass, table: Values) -> None:
    def codes(split: Any) -> Labelled:
        each = [work.model.encode(split.sentence(i)[None]).mode for i in range(len(split))]
        return Labelled(torch.cat(each), split.labels)

    corpus = work.corpus
    found = linear_probe(codes(corpus.train), codes(corpus.valid), codes(corpus.test), [100])
    assert table["probe_100"] == pytest.approx(found["accuracy"].mean(), abs=0.02)


def test_without_labels_or_with_too_few_there_is_no_probe(corpus: Corpus) -> None:
    unlabelled = replace(corpus.train, labels=None)
    for train in (unlabelled, corpus.valid):
        bare = SimpleNamespace(corpus=replace(corpus, train=train))
        values = MEASURES["probe"](bare)  # type: ignore[arg-type]
        assert isinstance(values, dict)
        assert all(math.isnan(v) for v in values.values())


def test_where_no_characters_are_there_is_no_probe_of_them(work: Pass) -> None:
    for other in (work, other_work("vae", "digits")):
        values = measured(other, "character_probe")
        assert list(values) == CHARACTERS
        assert all(math.isnan(v) for v in values.values())


def test_characters_are_read_from_the_codes_of_the_whole_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Characters of 8 by 8 pixels, a square of ink each at a place of its own."""
    character = np.arange(12).repeat(20)
    pixels = np.zeros((240, 8, 8), dtype=np.uint8)
    for i, c in enumerate(character):
        pixels[i, 2 * (c // 4) : 2 * (c // 4) + 2, 2 * (c % 4) : 2 * (c % 4) + 2] = 255
    drawings = Drawings(pixels.reshape(-1, 64), character % 2, character, ("A", "B"))
    places = np.arange(240) % 20 < 15
    monkeypatch.setattr(omniglot, "VALID_SIZE", 5)
    made = omniglot.image_data(drawings, *map(np.flatnonzero, (places, ~places)), {}, "dynamic")
    monkeypatch.setattr(measures_text, "read_images", lambda spec: made)
    values = measured(other_work("vae", "digits"), "character_probe")
    assert values == dict.fromkeys(CHARACTERS, 1.0)


@torch.no_grad()
def test_a_flow_is_probed_at_both_its_ends(corpus: Corpus) -> None:
    work = work_of("iaf", corpus)
    codes = measures_text._centres(work, corpus.test)
    q = work.model.encode(corpus.test.sentence(3)[None])
    flow = q.base_dist  # type: ignore[attr-defined]
    expected = torch.cat([flow.base.loc, flow.mode], 1)[0]
    torch.testing.assert_close(codes[3], expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_the_mean_over_the_test_sentences(work: Pass, table: Values) -> None:
    values = gradient_norms(work.model, work.batches, None, work.generator("gradients"))
    assert values == {column: table[column] for column in values}


# ---------------------------------------------------------------- what is written


@torch.no_grad()
def test_bleu_is_of_ten_reconstructions_against_the_sentence(work: Pass, table: Values) -> None:
    """T32; and the words written are never `<unk>`, those of the sentence may be (T38)."""
    words, noise = work.corpus.vocabulary.decode, work.generator("bleu")
    decoder: Any = work.model.decoder
    written, references = [], []
    for x in work.batches:
        for z in rsample(work.model.encode(x), (BLEU_SAMPLES,), noise):
            written += [words(s) for s in decoder.decode(z, _second_if_unknown, 200)]
            references += [words(s) for s in x]
    assert len(written) == 10 * len(work.corpus.test)
    assert not any("<unk>" in sentence for sentence in written)
    for n in (1, 2):
        assert table[f"bleu_{n}"] == pytest.approx(bleu(written, references, n), abs=1e-9)


def _second_if_unknown(scores: Tensor) -> Tensor:
    """The likeliest word [N], or the next where that is `<unk>`."""
    first, second = scores.topk(2).indices.T
    return torch.where(first == 3, second, first)


@torch.no_grad()
def test_samples_of_the_prior_are_greedy_and_as_many_as_said(work: Pass, table: Values) -> None:
    words, longest = work.corpus.vocabulary.decode, int(work.corpus.train.predicted.max())
    known = {"pick": without_unknown(greedy), "max_length": measures_text.LONGEST}  # T38
    every = {"pick": greedy, "max_length": longest}

    def sentences(purpose: str, count: int, how: dict) -> list[list[str]]:
        noise, rows = work.generator(purpose), measures_text.ROWS
        chunks = [rsample(work.model.prior(), (min(rows, count - start),), noise)
                  for start in range(0, count, rows)]  # fmt: skip
        return [words(s) for z in chunks for s in work.model.decoder.decode(z, **how)]

    written = sentences("distinct", DISTINCT_SENTENCES, known)
    assert len(written) == 3_200
    for n in (1, 2):
        assert table[f"distinct_{n}"] == pytest.approx(distinct(written, n))
    assert table["self_bleu"] == pytest.approx(self_bleu(sentences("self_bleu", 1_000, every)))


def test_perplexities_are_about_the_same_sentences(work: Pass, table: Values) -> None:
    """T29: words drawn and greedy are two numbers, told apart by their names."""
    corpus = work.corpus
    train, test = (measures_text._words(work, split) for split in (corpus.train, corpus.test))
    for end, text in measures_text._writings(work).items():
        assert len(text) == NGRAM_SENTENCES["smoke"]
        assert table[f"forward_ppl{end}"] == pytest.approx(forward_perplexity(train, text))
        assert table[f"reverse_ppl{end}"] == pytest.approx(reverse_perplexity(text, test))
    drawn, likeliest = measures_text._writings(work).values()
    assert len({tuple(s) for s in drawn}) > len({tuple(s) for s in likeliest})


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_profile_says_how_many_sentences(profile: str) -> None:
    assert f"{NGRAM_SENTENCES[profile]:,} at {profile}" in METRICS["forward_ppl"].estimator


def test_the_sentences_are_forgotten_with_the_evaluation(corpus: Corpus) -> None:
    work = work_of("vae", corpus)
    measured(work, "forward_ppl")
    assert work in measures_text._written
    count = len(measures_text._written)
    del work
    assert len(measures_text._written) == count - 1
