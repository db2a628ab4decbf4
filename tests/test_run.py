"""Asking for a run: loaded when it is a fact, trained when not, and what it offers."""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import vaelib
from vaelib.build import resolve
from vaelib.errors import VaelibError
from vaelib.layers import make_generator
from vaelib.metrics.gradients import gradient_norms
from vaelib.run import Run, key_of, run, run_config
from vaelib.store import HISTORY_ROWS, WEIGHTS, Store, thin


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def made(store: Store) -> Run:
    return ask(store)


def ask(store: Store, method: str = "dg", **changes: Any) -> Run:
    where = {"data": "grammar", "profile": "smoke", "store": store, "progress": False}
    return run(method, **(where | changes))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it trained")

    monkeypatch.setattr(importlib.import_module("vaelib.run"), "_train", refuse)


@pytest.mark.usefixtures("no_training")
def test_a_finished_run_is_never_trained_again(made: Run, store: Store) -> None:
    again = ask(store, "DG-VAE")
    assert again.entry == made.entry
    assert again.metrics == made.metrics
    with pytest.raises(AssertionError, match="it trained"):
        ask(store, seed=1)


@pytest.mark.usefixtures("no_training")
def test_other_metrics_are_computed_without_training(made: Run, store: Store) -> None:
    other = ask(store, metrics=("kl", "au"), nll_size=3)
    assert other.entry.folder == made.entry.folder
    assert other.entry.key != made.entry.key
    assert other.metrics == {k: made.metrics[k] for k in ("kl", "au")}
    assert store.finished(made.entry.key) is not None  # the older fact is still there
    assert other.provenance["train_seconds"] == made.provenance["train_seconds"]
    assert other.history.equals(made.history)


def test_metrics_and_history_are_what_the_design_promises(made: Run) -> None:
    assert all(isinstance(v, float) for v in made.metrics.values())
    assert {"kl", "mi_global", "au", "cu_pq", "prior_ll", "post_ll", "nll_iw500"} <= set(
        made.metrics
    )
    assert isinstance(made.history, pd.DataFrame)
    assert len(made.history) == made.provenance["steps"]
    assert {"step", "weight", "loss", "distortion", "rate", "grad_norm"} <= set(made.history)
    assert list(made.epochs["epoch"]) == list(range(made.config.epochs))
    assert not made.stale


def test_undefined_metrics_come_back_as_nan(store: Store) -> None:
    sphere = ask(store, "vmf")
    assert math.isnan(sphere.metrics["mi_global"])
    assert sphere.entry.record["metrics"]["mi_global"] is None
    assert set(sphere.posterior) == {"mu"}


def test_the_posterior_is_in_the_order_of_the_test_file(made: Run) -> None:
    model, test = made.model(), made.corpus.test
    assert made.posterior["mu"].shape == made.posterior["logvar"].shape == (len(test), 4)
    for i in (0, 5, len(test) - 1):
        q = model.encode(test.sentence(i)[None])
        assert np.allclose(made.posterior["mu"][i], q.mean[0].detach(), atol=1e-5)


def test_the_model_is_the_best_one_and_in_evaluation_mode(made: Run) -> None:
    model = made.model()
    assert not model.training
    x = made.corpus.valid.gather(made.corpus.valid.buckets(4)[0])
    rate = made.epochs["valid_rate"].iloc[made.epochs["valid_objective"].argmin()]
    rates = [
        float(torch.distributions.kl_divergence(model.encode(x), model.prior()).sum().detach())
        for x in map(made.corpus.valid.gather, made.corpus.valid.buckets(32))
    ]
    assert sum(rates) / len(made.corpus.valid) == pytest.approx(rate, rel=1e-4)
    assert torch.equal(model(x).log_px, model(x).log_px)


def test_sentences_can_be_written_and_repeat(made: Run) -> None:
    first, again = made.generate(3), made.generate(3)
    assert first == again
    assert len(first) == 3
    path = made.interpolate("the food was good .", "i hated the room .", steps=4)
    assert len(path) == 4
    assert all(isinstance(sentence, str) for sentence in path)
    sampled = [made.interpolate("the food was good .", "i hated", 3, seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1]
    assert [len(sentences) for sentences in sampled] == [3, 3, 3]
    for none in (lambda: made.generate(0), lambda: made.interpolate("a", "b", steps=0)):
        with pytest.raises(VaelibError, match="=0: give a whole number from 1"):
            none()


def test_lost_weights_are_made_again_when_asked(tmp_path: Path) -> None:
    store, quick = Store(tmp_path), {"epochs": 1, "metrics": ("kl",)}
    lost = ask(store, **quick)
    before = lost.model().state_dict()
    (lost.entry.folder / WEIGHTS).unlink()
    with pytest.raises(VaelibError, match="record without weights; .*fresh=True"):
        lost.model()
    assert ask(store, **quick).entry == lost.entry
    again = ask(store, fresh=True, **quick)
    assert again.metrics == lost.metrics
    after = again.model().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_lost_posteriors_are_made_again_without_training(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, quick = Store(tmp_path), {"epochs": 1, "metrics": ("kl",)}
    mu = ask(store, **quick).posterior["mu"]
    lost = store.entries()[0].arrays_path
    assert lost is not None
    lost.unlink()
    with pytest.raises(VaelibError, match="without its posterior arrays; .*fresh=True"):
        _ = ask(store, **quick).posterior
    request.getfixturevalue("no_training")
    assert np.array_equal(ask(store, fresh=True, **quick).posterior["mu"], mu)


def test_what_an_objective_learnt_is_kept_with_the_weights(tmp_path: Path) -> None:
    """So that a finished run's coupled path can be asked for its gradients."""
    made = ask(Store(tmp_path), "coupled", metrics=("gradients",))
    assert made.metrics["grad_coupled"] > 0
    built, again = made.built(), made.built()
    names = {name for name, _ in built.objective.named_parameters()}
    assert names
    for name, value in again.objective.state_dict().items():
        assert torch.equal(value, built.objective.state_dict()[name]), name
    batches = [made.corpus.test.gather(i) for i in made.corpus.test.buckets(32)]
    values = gradient_norms(
        built.model,
        batches,
        built.objective.term("coupled"),
        make_generator(made.config.seed, "evaluate/gradients", "cpu"),
    )
    assert values == {k: made.metrics[k] for k in values}
    path = made.entry.folder / WEIGHTS
    own = sum(p.numel() for p in {*built.model.parameters(), *built.objective.parameters()})
    assert path.stat().st_size < 4 * own * 1.1 + 20_000  # what is shared lies there once
    assert "grad_total" not in ask(Store(tmp_path), "vae", metrics=("gradients",)).metrics


def test_damaged_weights_are_one_clear_sentence(tmp_path: Path) -> None:
    damaged = ask(Store(tmp_path), epochs=1, metrics=("kl",))
    path = damaged.entry.folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-7])
    told = r"cannot read .*model\.safetensors.*delete the file and .*fresh=True"
    with pytest.raises(VaelibError, match=told):
        damaged.model()
    with pytest.raises(VaelibError, match=told) as caught:  # another evaluation reads them too
        ask(damaged.store, epochs=1, metrics=("au",))
    assert "\n" not in str(caught.value)
    path.unlink()
    assert ask(damaged.store, epochs=1, metrics=("kl",), fresh=True).model()


def test_damaged_arrays_are_one_clear_sentence(tmp_path: Path) -> None:
    damaged = ask(Store(tmp_path), epochs=1, metrics=("kl",))
    for file in (damaged.entry.arrays_path, damaged.entry.folder / "history.npz"):
        file.write_bytes(b"no zip")
    with pytest.raises(VaelibError, match=r"cannot read .*history\.npz"):
        _ = damaged.history
    with pytest.raises(VaelibError, match=r"cannot read .*posterior\.npz"):
        _ = damaged.posterior


def test_a_long_history_is_thinned_to_means(store: Store) -> None:
    columns = {"step": np.arange(1.0, 1001.0), "loss": np.ones(1000)}
    thinned = thin(columns, HISTORY_ROWS)
    assert len(thinned["step"]) == 200
    assert thinned["step"][:2] == [3.0, 8.0]
    assert set(thinned["loss"]) == {1.0}
    assert thin({"step": np.arange(3.0)}, 200)["step"] == [0.0, 1.0, 2.0]
    assert thin({}, 200) == {}


def test_provenance_says_all_there_is_to_judge_a_run_by(made: Run) -> None:
    about = made.provenance
    assert about["seed"] == 0
    assert about["threads"] == 1
    assert about["data"]["id"] == "grammar"
    assert about["data"]["checksums"] == made.corpus.checksums
    assert about["vocabulary"] == len(made.corpus.vocabulary)
    assert about["parameters"] == sum(p.numel() for p in made.model().parameters())
    assert about["steps"] == len(made.history)
    assert {"python", "torch", "numpy", "vaelib"} <= set(about["versions"])
    assert about["evaluate_seconds"] >= 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of one's own."""
    corpus = tmp_path / "mine"
    corpus.mkdir()
    for name, count in (("train", 60), ("valid", 12), ("test", 12)):
        lines = [f"the {a} {b} ." for a in "abcdefgh" for b in "uvwxyz"] * 2
        (corpus / f"{name}.txt").write_text("\n".join(lines[:count]) + "\n", "utf-8")
    return corpus


def test_an_own_corpus_runs_and_its_content_belongs_to_the_key(
    folder: Path, tmp_path: Path
) -> None:
    store, sizes = Store(tmp_path / "runs"), {"train_size": None, "min_count": 1}
    first = ask(store, "vae", data=str(folder), **sizes)
    assert first.provenance["data"]["id"] == "folder:mine"
    assert not first.stale
    text = folder / "train.txt"
    text.write_text(text.read_text("utf-8").replace("the a", "an a"), "utf-8")
    assert Run(first.entry, store).stale
    second = ask(store, "vae", data=str(folder), **sizes)
    assert second.entry.key != first.entry.key
    assert second.metrics != first.metrics
    assert len(store.entries()) == 2


def test_what_cannot_be_trained_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with pytest.raises(VaelibError, match="no training batch can be used"):
        ask(store, aggregation_size=1000)
    (folder / "test.txt").write_text("one sentence .\n", "utf-8")
    with pytest.raises(VaelibError, match="the test split holds one sentence"):
        ask(store, "vae", data=folder)
    assert not store.root.exists()


def test_a_perplexity_that_overflows_does_not_lose_the_run(tmp_path: Path) -> None:
    made = ask(Store(tmp_path), "bn", gamma=1e9, metrics=("nll_iw500", "ppl_iw500"))
    assert made.metrics["nll_iw500"] > 700
    assert math.isnan(made.metrics["ppl_iw500"])  # infinite, which JSON has not


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (RuntimeError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("a defect"), False),
    ],
)
def test_too_little_memory_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, known: bool
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("vaelib.run"), "_make", fail)
    with pytest.raises(VaelibError if known else RuntimeError, match="memory" if known else "def"):
        ask(Store(tmp_path), seed=5)


def test_missing_data_is_refused_and_leaves_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with pytest.raises(VaelibError):
        ask(store, data=str(tmp_path / "nowhere"))
    with pytest.raises(VaelibError, match="did you mean 'grammar'"):
        ask(store, data="grammer")
    assert store.entries() == []


def test_the_public_run_takes_the_store_of_the_environment(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELIB_RESULTS", str(own_store / "none"))
    small = vaelib.run(
        "vae", data="grammar", profile="smoke", epochs=1, metrics=("kl",), progress=False
    )
    assert small.entry.folder is not None
    assert small.entry.folder.parent == own_store


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(Store(tmp_path), epochs=1, metrics=("kl",), progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert "dg on grammar, seed 0" in output.err


def test_two_stores_give_the_same_numbers(made: Run, tmp_path: Path) -> None:
    other = ask(Store(tmp_path))
    assert other.metrics == made.metrics
    assert other.entry.key == made.entry.key == key_of(made.config)


def test_a_resolved_config_is_as_good_as_names(made: Run, store: Store) -> None:
    config = resolve("dg", data="grammar", profile="smoke")
    assert run_config(config, store=store).entry == made.entry
