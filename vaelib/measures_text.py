"""Further columns of the metrics table: what is written, read by probes, or reaches the encoder.

None is computed by default. `metrics=[...]` of a run or of `vaelib evaluate` asks for them.
"""

import math
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaelib.data.datasets import DATASETS, read_images
from vaelib.data.omniglot import DrawingData
from vaelib.decoders import greedy
from vaelib.decoders_gru import without_unknown
from vaelib.distributions import rsample
from vaelib.flows import FlowNormal
from vaelib.metrics import (
    Labelled,
    bleu,
    character_probe,
    conditional_entropy,
    distinct,
    kneser_ney,
    linear_probe,
    mutual_information,
    mutual_posterior_divergence,
    perplexity,
    self_bleu,
)
from vaelib.metrics.catalogue import (
    BLEU_SAMPLES,
    CHARACTER_BUDGETS,
    DISTINCT_SENTENCES,
    MI_SAMPLES,
    NGRAM_ORDER,
    NGRAM_SENTENCES,
    PATH_POINTS,
    PROBE_BUDGETS,
    SELF_BLEU_SENTENCES,
)
from vaelib.metrics.gradients import gradient_norms
from vaelib.passes import MEASURES, Pass, Values

LONGEST = 200  # words of a reconstruction, as in the published code
ROWS = 512  # codes decoded at a time
Sentences = list[list[str]]


def _undefined(*columns: str) -> Values:
    return dict.fromkeys(columns, math.nan)


# ---------------------------------------------------------------- posteriors


@MEASURES.register("mi_skip_self")
def _mi_skip_self(work: Pass) -> float:
    """Batches of 513 consecutive sentences of the test file, as published."""
    if not work.gaussian:
        return math.nan
    place = torch.cat(work.buckets).argsort()
    mu, logvar = (value[place.to(value.device)] for value in work.statistics)
    generator = work.generator("mi_skip_self")
    return mutual_information(
        mu, logvar, estimator="skip_self", samples=MI_SAMPLES, generator=generator
    )


@MEASURES.register("mi_aggregate_kl")
def _mi_aggregate_kl(work: Pass) -> float:
    if not work.gaussian:
        return math.nan
    generator = work.generator("mi_aggregate_kl")
    return mutual_information(*work.statistics, estimator="aggregate_kl", generator=generator)


@MEASURES.register("mpd")
def _mpd(work: Pass) -> float:
    return mutual_posterior_divergence(*work.statistics) if work.gaussian else math.nan


@MEASURES.register("ce")
def _ce(work: Pass) -> float:
    return conditional_entropy(work.statistics[1]) if work.gaussian else math.nan


@MEASURES.register("ppl_elbo")
def _ppl_elbo(work: Pass) -> float:
    """Of words; an image has none."""
    if work.corpus.holds == "images":
        return math.nan
    total = (work.distortion + work.rate) * len(work.tokens)
    return perplexity(total, float(work.tokens.sum()))


@MEASURES.register("probe")
def _probe(work: Pass) -> Values:
    """Accuracy of a linear probe on frozen codes: the mean over ten draws of the labels."""
    names = {n: f"probe_{n}" for n in PROBE_BUDGETS}
    values = _undefined(*names.values())
    splits = [work.corpus.train, work.corpus.valid, work.corpus.test]
    budgets = [n for n in PROBE_BUDGETS if n <= len(work.corpus.train)]
    if not budgets or any(split.labels is None for split in splits):
        return values
    train, valid, test = (Labelled(_centres(work, split), split.labels) for split in splits)
    found = linear_probe(train, valid, test, budgets).groupby("labels")["accuracy"].mean()
    return values | {names[n]: float(found[n]) for n in budgets}


@MEASURES.register("character_probe")
def _character_probe(work: Pass) -> Values:
    """Where images are of characters in alphabets: the mean over alphabets."""
    names = {n: f"character_probe_{n}" for n in CHARACTER_BUDGETS}
    data = read_images(DATASETS[work.corpus.id]) if work.corpus.holds == "images" else None
    if not isinstance(data, DrawingData):
        return _undefined(*names.values())
    splits = [split.to(work.config.device) for split in data.by_character()]
    train, test = (Labelled(_centres(work, split), split.labels) for split in splits)
    found = character_probe(train, test, data.drawings.alphabets, CHARACTER_BUDGETS)
    return found.groupby("labels")["accuracy"].mean().rename(names).to_dict()


def _centres(work: Pass, split: Any) -> Tensor:
    """The representation of every example [N, D], in the order of the file."""
    buckets = split.buckets(work.config.batch_size)
    each = [_centre(work.model.encode(split.gather(i))) for i in buckets]
    return torch.cat(each)[torch.cat(buckets).argsort().to(each[0].device)]


def _centre(q: Distribution) -> Tensor:
    """Means or directions [B, D]; of a flow its base's mean and where it goes, [B, 2D]."""
    if isinstance(q, Independent) and isinstance(q.base_dist, FlowNormal):
        return torch.cat([q.base_dist.base.loc, q.base_dist.mode], 1)
    return q.mode


# ---------------------------------------------------------------- gradients


@MEASURES.register("gradients")
def _gradients(work: Pass) -> Values:
    """Of the coupled path too, where the model was trained with one."""
    coupled: Any = None if work.objective is None else work.objective.term("coupled")
    return gradient_norms(work.model, work.batches, coupled, work.generator("gradients"))


# ---------------------------------------------------------------- what is written


@MEASURES.register("bleu")
def _bleu(work: Pass) -> Values:
    """Reconstructions from samples of the posteriors, each against the sentence itself (T32)."""
    if work.corpus.holds != "text":
        return _undefined("bleu_1", "bleu_2")
    words, generator = work.corpus.vocabulary.decode, work.generator("bleu")
    decoder: Any = work.model.decoder
    written: Sentences = []
    references: Sentences = []
    for x, q in zip(work.batches, work.posteriors, strict=True):
        z = rsample(q, (BLEU_SAMPLES,), generator).flatten(0, 1)
        written += [words(s) for s in decoder.decode(z, without_unknown(greedy), LONGEST)]
        references += [words(s) for s in x] * BLEU_SAMPLES
    return {f"bleu_{n}": bleu(written, references, n) for n in (1, 2)}


@MEASURES.register("distinct")
def _distinct(work: Pass) -> Values:
    """Samples of the prior, or of pairs a response to every test post; never `<unk>` (T38)."""
    if work.corpus.holds == "images":
        return _undefined("distinct_1", "distinct_2")
    count = DISTINCT_SENTENCES if work.corpus.holds == "text" else len(work.tokens)
    written = list(_from_prior(work, "distinct", count, sampled=False, known=True))
    return {f"distinct_{n}": distinct(written, n) for n in (1, 2)}


@MEASURES.register("self_bleu")
def _self_bleu(work: Pass) -> float:
    if work.corpus.holds != "text":
        return math.nan
    return self_bleu(list(_from_prior(work, "self_bleu", SELF_BLEU_SENTENCES, sampled=False)))


@MEASURES.register("path_distinct")
def _path_distinct(work: Pass) -> float:
    """A path that jumps from one end to the other has two sentences, a smooth one has more."""
    if work.corpus.holds != "text":
        return math.nan
    counts: list[int] = []
    for batch in work.batches:
        if len(b := batch[1::2]):
            a = batch[: 2 * len(b) : 2]
            written = work.model.interpolate(a, b, PATH_POINTS)
            words = [[tuple(work.corpus.vocabulary.decode(y)) for y in s] for s in written]
            counts += [len(set(path)) for path in zip(*words, strict=True)]
    return sum(counts) / len(counts) if counts else math.nan


@MEASURES.register("forward_ppl")
def _forward_ppl(work: Pass) -> Values:
    """Prior samples under an n-gram model of the training sentences."""
    if work.corpus.holds != "text":
        return _undefined("forward_ppl", "forward_ppl_greedy")
    model = kneser_ney(_words(work, work.corpus.train), NGRAM_ORDER)
    return {f"forward_ppl{end}": model.perplexity(text) for end, text in _writings(work).items()}


@MEASURES.register("reverse_ppl")
def _reverse_ppl(work: Pass) -> Values:
    """Test sentences under n-gram models of prior samples."""
    if work.corpus.holds != "text":
        return _undefined("reverse_ppl", "reverse_ppl_greedy")
    test = _words(work, work.corpus.test)
    return {
        f"reverse_ppl{end}": kneser_ney(text, NGRAM_ORDER).perplexity(test)
        for end, text in _writings(work).items()
    }


_written: WeakKeyDictionary[Pass, dict[str, Sentences]] = WeakKeyDictionary()


def _writings(work: Pass) -> dict[str, Sentences]:
    """The prior samples that both perplexities are about, by the end of the column's name."""
    if work not in _written:
        size = NGRAM_SENTENCES[work.config.profile]
        _written[work] = {
            end: list(_from_prior(work, f"ngram_ppl{end}", size, sampled=not end))
            for end in ("", "_greedy")
        }
    return _written[work]


def _from_prior(
    work: Pass, purpose: str, count: int, sampled: bool, known: bool = False
) -> Iterator[list[str]]:
    """Sentences of prior codes, no longer than the longest training sentence; of pairs responses.

    Args:
        work: The evaluation.
        purpose: Names the generator.
        count: How many sentences; of pairs, to the posts of the first test examples.
        sampled: Draw each word, instead of taking the likeliest.
        known: Take the likeliest but `<unk>`, and up to 200 words, as Coupled-VAE's released code.
    """
    generator, longest = work.generator(purpose), int(work.corpus.train.predicted.max())
    decoder: Any = work.model.decoder
    for start in range(0, count, ROWS):
        places = torch.arange(start, min(start + ROWS, count))
        z = rsample(work.model.prior(), (len(places),), generator)
        x = work.corpus.test.mixed(places) if work.corpus.holds == "pairs" else None
        if known:
            tokens = decoder.decode(z, without_unknown(greedy), LONGEST, x)
        else:
            tokens = work.model.decode(z, longest, generator if sampled else None, x)
        yield from map(work.corpus.vocabulary.decode, tokens.tolist())


def _words(work: Pass, split: Any) -> Sentences:
    """The sentences of a split."""
    words = work.corpus.vocabulary.decode
    return [words(split.sentence(i)) for i in range(len(split))]
