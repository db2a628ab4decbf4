"""Evaluation: one pass over the test set that fills the whole metrics table."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.distributions import mean_logvar, rsample
from vaelib.errors import VaelibError
from vaelib.layers import make_generator
from vaelib.metrics import (
    active_units,
    consistent_units,
    importance_weighted_nll,
    mutual_information,
    prior_post_ll,
    rouge_l,
)
from vaelib.model import VAE
from vaelib.registry import Registry

LAMBDAS = 11
SAMPLES_SHOWN, PAIRS_SHOWN = 8, 3
Values = dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives.

    Attributes:
        metrics: Name -> value; not-a-number where a metric is not defined (T10).
        arrays: Test-set posteriors `mu`, `logvar` [N, D] (the mean direction alone for vMF).
        texts: A few prior samples and interpolations, as word lists.
    """

    metrics: Values
    arrays: dict[str, np.ndarray]
    texts: dict[str, Any]


class Pass:
    """Shared work of one evaluation; each metric draws from a generator of its own.

    Args:
        config: The run's config.
        model: In evaluation mode.
        corpus: Its data, on the config's device.
    """

    def __init__(self, config: Config, model: VAE, corpus: Corpus) -> None:
        self.config, self.model, self.corpus = config, model, corpus
        self.buckets = corpus.test.buckets(config.batch_size)
        self.batches = [corpus.test.gather(i) for i in self.buckets]
        self.tokens = corpus.test.lengths - 1

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh generator for one metric."""
        return make_generator(self.config.seed, f"evaluate/{purpose}", self.config.device)

    @cached_property
    def posteriors(self) -> list[Distribution]:
        """q(z|x) of every test batch."""
        return [self.model.encode(x) for x in self.batches]

    @property
    def gaussian(self) -> bool:
        """Whether AU, CU and MI are defined (T10)."""
        q = self.posteriors[0]
        return isinstance(q, Independent) and isinstance(q.base_dist, Normal)

    @cached_property
    def rows(self) -> list[Tensor]:
        """Where each batch's sentences stand in `statistics`."""
        sizes = [len(x) for x in self.batches]
        return list(torch.arange(sum(sizes)).split(sizes))

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """mu, logvar [N, D] of the test set, in the order of its batches."""
        pairs = [mean_logvar(q) for q in self.posteriors]
        return torch.cat([m for m, _ in pairs]), torch.cat([v for _, v in pairs])

    @cached_property
    def rate(self) -> float:
        """Mean KL(q(z|x) || p(z)) in nats."""
        p = self.model.prior()
        return float(torch.cat([kl_divergence(q, p) for q in self.posteriors]).mean())

    @cached_property
    def distortion(self) -> float:
        """Mean -log p(x|z) in nats, one z each."""
        generator = self.generator("distortion")
        pairs = zip(self.batches, self.posteriors, strict=True)
        each = [self.model.log_likelihood(x, rsample(q, (), generator)) for x, q in pairs]
        return -float(torch.cat(each).mean())

    @cached_property
    def mixture(self) -> tuple[float, float]:
        """prior_ll and post_ll in nats (T9)."""
        generator, samples = self.generator("prior_ll"), self.config.mixture_samples
        pairs = [prior_post_ll(self.model, x, samples, generator) for x in self.batches]
        prior, post = (torch.cat([pair[i] for pair in pairs]).mean() for i in (0, 1))
        return float(prior), float(post)

    @cached_property
    def iw(self) -> tuple[float, float]:
        """Importance-weighted NLL per sentence and perplexity on the first `nll_size` sentences."""
        wanted = min(self.config.nll_size or len(self.tokens), len(self.tokens))
        generator = self.generator("nll_iw500")
        total = tokens = 0.0
        for indices in self.corpus.test.buckets(self.config.batch_size):
            chosen = indices[indices < wanted]
            if len(chosen):
                x = self.corpus.test.gather(chosen)
                nll = importance_weighted_nll(self.model, x, self.config.iw_samples, generator)
                total += float(nll.sum())
                tokens += float(self.tokens[chosen].sum())
        if total / tokens > 700:
            raise VaelibError(
                f"the NLL is {total / tokens:.3g} nats a token, too much for a perplexity; take "
                "less extreme settings, or metrics without nll_iw500 and ppl_iw500."
            )
        return total / wanted, math.exp(total / tokens)


Measure = Callable[[Pass], float | Values]
MEASURES: Registry[Measure] = Registry("metric")


@MEASURES.register("kl")
def _kl(work: Pass) -> float:
    return work.rate


@MEASURES.register("distortion")
def _distortion(work: Pass) -> float:
    return work.distortion


@MEASURES.register("nll_elbo")
def _nll_elbo(work: Pass) -> float:
    return work.distortion + work.rate


@MEASURES.register("prior_ll")
def _prior_ll(work: Pass) -> float:
    return work.mixture[0]


@MEASURES.register("post_ll")
def _post_ll(work: Pass) -> float:
    return work.mixture[1]


@MEASURES.register("nll_iw500")
def _nll_iw(work: Pass) -> float:
    return work.iw[0]


@MEASURES.register("ppl_iw500")
def _ppl_iw(work: Pass) -> float:
    return work.iw[1]


@MEASURES.register("mi_global")
def _mi_global(work: Pass) -> float:
    if not work.gaussian:
        return math.nan
    return mutual_information(
        *work.statistics, estimator="global", generator=work.generator("mi_global")
    )


@MEASURES.register("mi_in_batch")
def _mi_in_batch(work: Pass) -> float:
    if not work.gaussian:
        return math.nan
    return mutual_information(
        *work.statistics,
        estimator="in_batch",
        batches=work.rows,
        generator=work.generator("mi_in_batch"),
    )


@MEASURES.register("au")
def _au(work: Pass) -> float:
    return active_units(work.statistics[0]) if work.gaussian else math.nan


@MEASURES.register("cu_pq")
def _cu_pq(work: Pass) -> float:
    return consistent_units(*work.statistics, direction="p||q") if work.gaussian else math.nan


@MEASURES.register("cu_qp")
def _cu_qp(work: Pass) -> float:
    return consistent_units(*work.statistics, direction="q||p") if work.gaussian else math.nan


def pairs_of(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours 2j, 2j + 1 of a same-length batch [B, T], as endpoints."""
    even = len(batch) // 2 * 2
    return batch[0:even:2], batch[1:even:2]


@MEASURES.register("rouge_l")
def _rouge(work: Pass) -> Values:
    """Rouge-L F1 (Eq. 14, token LCS) between both ends and what lies at each lambda."""
    words = work.corpus.vocabulary.decode
    scores: list[list[float]] = [[] for _ in range(LAMBDAS)]
    for batch in work.batches:
        a, b = pairs_of(batch)
        if not len(a):
            continue
        written = work.model.interpolate(a, b, LAMBDAS)
        ends = [(words(s), words(t)) for s, t in zip(a, b, strict=True)]
        for i, sentences in enumerate(written):
            scores[i] += [
                _ends_score(words(y), pair) for y, pair in zip(sentences, ends, strict=True)
            ]
    return {f"rouge_l_{i:02d}": float(np.mean(s)) if s else math.nan for i, s in enumerate(scores)}


def _ends_score(written: list[str], ends: tuple[list[str], list[str]]) -> float:
    return sum(rouge_l(end, written, variant="lcs") for end in ends) / 2


def _texts(work: Pass) -> dict[str, Any]:
    words = work.corpus.vocabulary.decode
    samples = work.model.generate(SAMPLES_SHOWN, work.generator("samples"))
    longest = max((b for b in work.batches), key=len)
    a, b = (ends[:PAIRS_SHOWN] for ends in pairs_of(longest))
    shown = []
    for j in range(len(a)):
        path = work.model.interpolate(a[j : j + 1], b[j : j + 1], 6)[:, 0]
        shown.append({"a": words(a[j]), "b": words(b[j]), "path": [words(y) for y in path]})
    return {"samples": [words(s) for s in samples], "interpolations": shown}


@torch.no_grad()
def evaluate(config: Config, model: VAE, corpus: Corpus) -> Evaluation:
    """Compute the config's metrics on the test set.

    Args:
        config: The run's config; `config.metrics` names what is computed.
        model: Trained, moved to the config's device; set to evaluation mode here.
        corpus: Its data, on the same device.

    Raises:
        VaelibError: A metric is unknown.
    """
    work = Pass(config, model.eval(), corpus)
    metrics: Values = {}
    for name in config.metrics:
        value = MEASURES[name](work)
        metrics |= value if isinstance(value, dict) else {name: float(value)}
    if work.gaussian:
        mu, logvar = work.statistics
        arrays = {"mu": mu.cpu().numpy(), "logvar": logvar.cpu().numpy()}
    else:
        arrays = {"mu": torch.cat([q.mode for q in work.posteriors]).cpu().numpy()}
    arrays["order"] = torch.cat(work.buckets).numpy()
    return Evaluation(metrics, arrays, _texts(work))
