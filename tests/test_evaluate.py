"""The evaluation: each metric by itself, the arrays, the texts."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaelib.build import build, load_data, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.errors import VaelibError
from vaelib.evaluate import LAMBDAS, Evaluation, Pass, evaluate, pairs_of
from vaelib.layers import uniform_init_
from vaelib.metrics import (
    active_units,
    importance_weighted_nll,
    kl_normal,
    mutual_information,
    rouge_l,
)
from vaelib.model import VAE
from vaelib.run import key_of, run_config
from vaelib.store import Store
from vaelib.track import TRACKED
from vaelib.validation import validate


def smoke(method: str = "vae", **changes: Any) -> Config:
    return resolve(method, data="grammar", profile="smoke", **changes)


def model_of(config: Config, corpus: Corpus) -> VAE:
    """A model with large weights, so that no metric is trivial."""
    model = build(config, len(corpus.vocabulary)).model
    uniform_init_(model, 0.6, 0.6, torch.Generator().manual_seed(4))
    return model.eval()


@pytest.fixture(scope="module")
def whole(corpus: Corpus) -> dict[str, tuple[Config, VAE, Evaluation]]:
    """All metrics of a Gaussian and of a spherical model."""
    made = {}
    for method in ("vae", "vmf"):
        config = smoke(method)
        model = model_of(config, corpus)
        made[method] = config, model, evaluate(config, model, corpus)
    return made


def test_a_metric_does_not_depend_on_which_others_ran(corpus: Corpus, whole: dict) -> None:
    config, model, every = whole["vae"]
    for name in reversed(config.metrics):
        alone = evaluate(replace(config, metrics=(name,)), model, corpus).metrics
        expected = {k: every.metrics[k] for k in alone}
        assert alone == expected


def test_the_table_is_whole_and_finite(whole: dict) -> None:
    metrics = whole["vae"][2].metrics
    curve = [f"rouge_l_{i:02d}" for i in range(LAMBDAS)]
    names = {*whole["vae"][0].metrics} - {"rouge_l"} | {*curve}
    assert set(metrics) == names
    assert all(math.isfinite(v) for v in metrics.values())
    assert all(0 <= metrics[name] <= 1 for name in curve)


def test_vmf_has_no_units_and_no_information(whole: dict) -> None:
    metrics = whole["vmf"][2].metrics
    undefined = {name for name, value in metrics.items() if math.isnan(value)}
    assert undefined == {"mi_global", "mi_in_batch", "au", "cu_pq", "cu_qp"}  # T10


def test_metrics_agree_with_the_functions_they_are(corpus: Corpus, whole: dict) -> None:
    config, model, made = whole["vae"]
    work = Pass(config, model, corpus)
    with torch.no_grad():
        mu, logvar = work.statistics
        assert made.metrics["kl"] == pytest.approx(kl_normal(mu, logvar).sum(1).mean().item())
        assert made.metrics["au"] == active_units(mu)
        information = mutual_information(mu, logvar, generator=work.generator("mi_global"))
        assert made.metrics["mi_global"] == pytest.approx(information)
    whole_nll = made.metrics["distortion"] + made.metrics["kl"]
    assert made.metrics["nll_elbo"] == pytest.approx(whole_nll)
    assert made.metrics["mi_in_batch"] <= math.log(config.batch_size) + 0.2


def test_the_nll_takes_the_first_sentences_and_counts_their_tokens(corpus: Corpus) -> None:
    config = smoke(nll_size=6, iw_samples=3, metrics=("nll_iw500", "ppl_iw500"))
    model = model_of(config, corpus)
    metrics = evaluate(config, model, corpus).metrics
    noise = Pass(config, model, corpus).generator("nll_iw500")
    total, tokens = 0.0, 0
    for indices in corpus.test.buckets(config.batch_size):
        chosen = indices[indices < 6]
        if len(chosen):
            x = corpus.test.gather(chosen)
            total += importance_weighted_nll(model, x, 3, noise).sum().item()
            tokens += len(x) * (x.shape[1] - 1)
    words = sum(len(corpus.vocabulary.decode(corpus.test.sentence(i))) + 1 for i in range(6))
    assert tokens == words  # the end marker is predicted, the start marker is not
    assert metrics["nll_iw500"] == pytest.approx(total / 6, rel=1e-6)
    assert metrics["ppl_iw500"] == pytest.approx(math.exp(total / tokens), rel=1e-6)


def test_without_a_density_there_is_no_rate_and_no_bound() -> None:
    config = smoke("dae", metrics=("kl", "nll_elbo", "distortion"), track=("kl",))
    corpus = load_data(config)
    metrics = evaluate(config, model_of(config, corpus), corpus).metrics
    assert math.isnan(metrics["kl"])
    assert math.isnan(metrics["nll_elbo"])
    assert metrics["distortion"] > 0
    built = build(config, len(corpus.vocabulary))
    batches = [corpus.valid.gather(i) for i in corpus.valid.buckets(config.batch_size)]
    values = validate(built, batches, torch.Generator().manual_seed(0))
    assert math.isnan(values["rate"])
    assert math.isnan(values["elbo"])
    assert values["objective"] == pytest.approx(values["distortion"])
    tracked = TRACKED["kl"](built, batches, torch.Generator().manual_seed(0))
    assert math.isnan(tracked["kl"])


def test_an_image_has_a_likelihood_and_no_perplexity() -> None:
    metrics = ("nll_iw500", "ppl_iw500", "ppl_elbo")
    config = resolve("vae", data="digits", profile="smoke", metrics=metrics)
    corpus = load_data(config)
    found = evaluate(config, model_of(config, corpus), corpus).metrics
    assert found["nll_iw500"] > 0
    assert math.isnan(found["ppl_iw500"])
    assert math.isnan(found["ppl_elbo"])


def test_a_size_beyond_the_test_set_takes_all(corpus: Corpus) -> None:
    sizes = {"iw_samples": 2, "metrics": ("nll_iw500",)}
    model = model_of(smoke(), corpus)
    every, beyond = (
        evaluate(smoke(nll_size=size, **sizes), model, corpus).metrics for size in (None, 10_000)
    )
    assert every == beyond


def test_rouge_is_the_mean_over_neighbours_of_both_ends(corpus: Corpus, whole: dict) -> None:
    _, model, made = whole["vae"]
    words = corpus.vocabulary.decode
    scores: list[list[float]] = [[] for _ in range(LAMBDAS)]
    for indices in corpus.test.buckets(32):
        for first, second in zip(indices[::2].tolist(), indices[1::2].tolist(), strict=False):
            a, b = (corpus.test.sentence(i)[None] for i in (first, second))
            path = model.interpolate(a, b, LAMBDAS)[:, 0]
            for i, written in enumerate(path):
                ends = [rouge_l(words(s[0]), words(written)) for s in (a, b)]
                scores[i].append(sum(ends) / 2)
    mine = [made.metrics[f"rouge_l_{i:02d}"] for i in range(LAMBDAS)]
    assert mine == pytest.approx([float(np.mean(s)) for s in scores], abs=1e-6)


def test_neighbours_form_pairs_and_a_last_one_is_left_out() -> None:
    a, b = pairs_of(torch.arange(5)[:, None])
    assert (a.flatten().tolist(), b.flatten().tolist()) == ([0, 2], [1, 3])
    assert len(pairs_of(torch.arange(1)[:, None])[0]) == 0


@pytest.mark.parametrize("method", ["vae", "vmf"])
def test_arrays_lead_back_to_the_sentences(method: str, corpus: Corpus, whole: dict) -> None:
    _, model, made = whole[method]
    order = made.arrays["order"].tolist()
    assert sorted(order) == list(range(len(corpus.test)))
    for place in (0, 7, len(order) - 1):
        q = model.encode(corpus.test.sentence(order[place])[None])
        assert np.allclose(made.arrays["mu"][place], q.mode[0].detach(), atol=1e-5)
    assert ("logvar" in made.arrays) == (method == "vae")
    if method == "vmf":
        assert np.allclose(np.linalg.norm(made.arrays["mu"], axis=1), 1, atol=1e-5)


def test_texts_are_words_of_the_vocabulary(corpus: Corpus, whole: dict) -> None:
    texts = whole["vae"][2].texts
    assert len(texts["samples"]) == 8
    assert texts["interpolations"]
    for shown in texts["interpolations"]:
        assert len(shown["path"]) == 6
        assert all(word in corpus.vocabulary or word == "<unk>" for word in shown["a"])


def test_the_model_is_left_in_evaluation_mode_and_unchanged(corpus: Corpus) -> None:
    config = smoke("bn", metrics=("kl", "distortion"))
    model = build(config, len(corpus.vocabulary)).model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(config, model, corpus)
    assert not model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_an_unknown_metric_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="unknown metric 'kll': did you mean 'kl'"):
        key_of(smoke(metrics=("kll",)))
    with pytest.raises(VaelibError, match="unknown metric 'kll'"):
        run_config(smoke(metrics=("kll",)), store=Store(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_beta_zero_is_evaluated_with_its_true_rate(corpus: Corpus) -> None:
    config = smoke("ae", metrics=("kl", "nll_elbo", "distortion"))
    metrics = evaluate(config, model_of(config, corpus), corpus).metrics
    assert metrics["kl"] > 0.1
    assert metrics["nll_elbo"] == pytest.approx(metrics["distortion"] + metrics["kl"])


def test_free_bits_are_evaluated_with_their_true_rate(corpus: Corpus) -> None:
    plain, masked = smoke("vae", metrics=("kl",)), smoke("free_bits", target=1e6, metrics=("kl",))
    values = [evaluate(c, model_of(c, corpus), corpus).metrics["kl"] for c in (plain, masked)]
    assert values[0] == values[1] > 0
