"""Evaluation: one pass over the test set that fills the whole metrics table."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelib import measures_text  # noqa: F401  (registers further metrics)
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.metrics import active_units, consistent_units, mutual_information, rouge_l
from vaelib.model import VAE
from vaelib.objectives import Objective
from vaelib.passes import MEASURES, Pass, Values

LAMBDAS = 11
SAMPLES_SHOWN, PAIRS_SHOWN = 8, 3


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
    if work.corpus.holds != "text":
        return {f"rouge_l_{i:02d}": math.nan for i in range(LAMBDAS)}
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
    count, posts = SAMPLES_SHOWN, None
    if work.corpus.holds == "pairs":
        count = min(count, len(work.tokens))
        posts = work.corpus.test.mixed(torch.arange(count))
    samples = work.model.generate(count, work.generator("samples"), x=posts)
    if work.corpus.holds == "images":
        return {"samples": ["".join(words(s)) for s in samples], "interpolations": []}
    longest = max((b for b in work.batches), key=len)
    a, b = (ends[:PAIRS_SHOWN] for ends in pairs_of(longest))
    shown = []
    for j in range(len(a)):
        path = work.model.interpolate(a[j : j + 1], b[j : j + 1], 6)[:, 0]
        shown.append({"a": words(a[j]), "b": words(b[j]), "path": [words(y) for y in path]})
    return {"samples": [words(s) for s in samples], "interpolations": shown}


@torch.no_grad()
def evaluate(
    config: Config, model: VAE, corpus: Corpus, objective: Objective | None = None
) -> Evaluation:
    """Compute the config's metrics on the test set.

    Args:
        config: The run's config; `config.metrics` names what is computed.
        model: Trained, moved to the config's device; set to evaluation mode here.
        corpus: Its data, on the same device.
        objective: What it was trained with, for metrics that ask for its terms.

    Raises:
        VaelibError: A metric is unknown.
    """
    work = Pass(config, model.eval(), corpus, objective)
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
