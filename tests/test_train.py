"""The training loop: its steps, its decay and stop rule, its history, its ways to fail."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaelib.build import build, load_data, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.errors import VaelibError
from vaelib.layers import derived_seed, make_generator
from vaelib.products import runs_bfloat16
from vaelib.run import run_config
from vaelib.store import STATE, Store
from vaelib.train import Training, fit, machine, run_epoch, validate

BF16 = pytest.mark.skipif(not runs_bfloat16("cpu"), reason="no LSTM in bfloat16 on this processor")


def smoke(method: str = "vae", **changes: Any) -> Config:
    return resolve(method, data="grammar", profile="smoke", **changes)


# ---- One step ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_is_backward_clip_update(optimizer: str, corpus: Corpus) -> None:
    """Against a plain loop: one joint gradient norm, clipped, then the optimiser."""
    config = smoke(optimizer=optimizer, lr=0.1, clip=0.05)
    training = Training(config, corpus)
    plain = build(config, len(corpus.vocabulary))
    parameters = [*plain.model.parameters()]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    update = kind(parameters, lr=0.1)
    noise = make_generator(config.seed, "noise")
    training.built.model.train()
    plain.model.train()
    for weight in (0.0, 0.5, 1.0):
        values = training.strategy.step(training.batches[0], weight, training.noise)
        outputs = plain.model(training.batches[0], noise)
        loss = outputs.distortion.mean() + weight * outputs.rate.mean()
        update.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.05)
        update.step()
        assert values["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
        assert values["grad_norm"].item() == pytest.approx(norm.item(), rel=1e-5)
        parts = values["grad_encoder"].item(), values["grad_decoder"].item()
        assert math.hypot(*parts) == pytest.approx(norm.item(), rel=1e-5)
    for mine, theirs in zip(training.built.model.parameters(), parameters, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_terms_networks_are_trained_and_clipped_with_the_rest(corpus: Corpus) -> None:
    training = Training(smoke("bow", clip=1e-9, optimizer="sgd", lr=1.0), corpus)
    before = [p.detach().clone() for p in training.built.objective.parameters()]
    values = training.strategy.step(training.batches[0], 1.0, training.noise)
    parts = values["grad_encoder"].item(), values["grad_decoder"].item()
    assert values["grad_norm"].item() > math.hypot(*parts) * 1.0001
    after = [*training.built.objective.parameters()]
    moved = [(a - b).abs().max().item() for a, b in zip(before, after, strict=True)]
    assert 0 < max(moved) < 1e-8


def test_batches_are_frozen_and_only_their_order_changes(corpus: Corpus) -> None:
    training = Training(smoke(), corpus)
    again = Training(smoke(seed=1), corpus)
    assert all(torch.equal(a, b) for a, b in zip(training.batches, again.batches, strict=True))
    orders = [
        np.random.default_rng(derived_seed(seed, f"order/{epoch}")).permutation(9).tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(9)) for order in orders)


def test_batches_too_small_or_indivisible_are_skipped(corpus: Corpus) -> None:
    sizes = [len(i) for i in corpus.train.buckets(32)]

    def used(**changes: Any) -> list[int]:
        return [len(x) for x in Training(smoke("dg", **changes), corpus).batches]

    assert used() == [n for n in sizes if n >= 2]
    assert used(min_batch=7) == [n for n in sizes if n >= 7]
    assert used(aggregation_size=4) == [n for n in sizes if n % 4 == 0 and n >= 2]
    assert used(aggregation_size=4, indivisible="whole") == used()
    assert used(min_batch=1) == sizes
    with pytest.raises(VaelibError, match="no training batch can be used"):
        used(aggregation_size=31)


def test_validation_uses_every_sentence_and_full_weight(corpus: Corpus) -> None:
    config = smoke("dg", aggregation_size=4)
    training = Training(config, corpus)
    values = validate(training.built, training.valid, torch.Generator().manual_seed(3))
    noise, total = torch.Generator().manual_seed(3), torch.zeros(4, dtype=torch.float64)
    for x in training.valid:
        outputs = training.built.model.eval()(x, noise)
        gap = training.built.objective.regulariser(outputs, noise)
        loss = outputs.distortion.mean() + gap
        means = loss, outputs.elbo.mean(), outputs.distortion.mean(), outputs.rate.mean()
        total += len(x) * torch.stack([v.detach().double() for v in means])
    wanted = dict(
        zip(
            ("objective", "elbo", "distortion", "rate"),
            (total / len(corpus.valid)).tolist(),
            strict=True,
        )
    )
    assert values == pytest.approx(wanted, rel=1e-6)


# ---- The decay and stop rule --------------------------------------------------------------------


@pytest.fixture
def judged(corpus: Corpus) -> Training:
    """Patience 2, decay from epoch 3 on, a stop after 2 decays."""
    config = smoke(patience=2, decay_from_epoch=3, max_decays=2, lr=0.4, optimizer="sgd")
    return Training(config, corpus)


def play(training: Training, values: list[float]) -> list[float]:
    """Give the rule a value an epoch; the learning rates that follow."""
    rates = []
    for value in values:
        with torch.no_grad():
            next(training.built.model.parameters()).fill_(value)
        training.judge(value)
        training.progress.epoch += 1
        rates.append(training.progress.lr)
    return rates


def kept(training: Training) -> float:
    """The value written into the weights that were kept."""
    return float(next(iter(training.best.values())).flatten()[0])


def test_the_rule_decays_after_patience_and_not_too_early(judged: Training) -> None:
    rates = play(judged, [5, 4, 6, 6, 6, 6])
    # bad epochs 2, 3: at epoch 3 patience is reached and decay allowed; then 6 <= 6 counts as good
    assert rates == [0.4, 0.4, 0.4, 0.2, 0.2, 0.2]
    assert judged.progress.decays == 1
    assert kept(judged) == 4


def test_early_bad_epochs_are_counted_until_decay_is_allowed(judged: Training) -> None:
    assert play(judged, [1, 2, 3]) == [0.4] * 3
    assert judged.progress.bad == 2
    assert play(judged, [4]) == [0.2]


def test_a_decay_goes_back_to_the_best_weights_and_the_current_value(judged: Training) -> None:
    play(judged, [5, 4, 6, 7])
    first = next(judged.built.model.parameters())
    assert first.detach().flatten()[0] == 4
    assert judged.progress.reference == 7  # the current value, not the best
    assert judged.progress.best == 4
    assert judged.optimizer.param_groups[0]["lr"] == 0.2
    assert judged.optimizer.param_groups[0]["params"][0] is first
    play(judged, [6.5])
    assert (judged.progress.bad, judged.progress.reference, kept(judged)) == (0, 6.5, 4)


def test_training_stops_after_its_decays(judged: Training) -> None:
    rates = play(judged, [1, 2, 2, 2, 3, 3, 3])
    assert judged.progress.decays == 2
    assert judged.progress.stopped
    assert rates[-1] == pytest.approx(0.1)


def test_early_stopping_can_be_off(corpus: Corpus) -> None:
    training = Training(smoke("cyclic", patience=1, decay_from_epoch=0, max_decays=1), corpus)
    play(training, [1, 2, 3, 4, 5])
    assert training.progress.decays >= 2
    assert not training.progress.stopped


def test_a_tie_counts_as_good(judged: Training) -> None:
    play(judged, [3, 3, 3, 3, 3, 3])
    assert (judged.progress.bad, judged.progress.decays) == (0, 0)


def test_the_defect_of_the_released_rule(corpus: Corpus) -> None:
    """T6: after a decay the reference is the last batch's loss, for checkpoints as well."""

    def after_decay(last_loss: float, values: list[float]) -> float:
        options = {"patience": 1, "decay_from_epoch": 0, "decay_reference": "last_batch"}
        training = Training(smoke(**options), corpus)
        training.progress.last_loss = last_loss
        play(training, [10, 12, *values])
        return kept(training)

    assert after_decay(1.0, [9.0, 8.0]) == 10  # short sentences: nothing is ever kept again
    assert after_decay(50.0, [30.0]) == 30  # long ones: a worse checkpoint replaces the best


@pytest.mark.parametrize(("select", "last"), [("objective", 2.0), ("elbo", 2.0), ("last", 7.0)])
def test_which_weights_are_kept(select: str, last: float, corpus: Corpus) -> None:
    training = Training(smoke(select=select), corpus)
    play(training, [3.0, 2.0, 7.0])
    assert kept(training) == last


@pytest.mark.parametrize("select", ["objective", "elbo"])
def test_the_criterion_is_the_methods_objective_or_the_elbo(
    select: str, corpus: Corpus, tmp_path: Path
) -> None:
    training = fit(smoke("beta", beta=0.1, select=select, lr=0.02, epochs=3), corpus, tmp_path)
    rows = training.progress.epochs
    for row in rows:
        rebuilt = row["valid_distortion"] + 0.1 * row["valid_rate"]
        assert row["valid_objective"] == pytest.approx(rebuilt, rel=1e-5)
        elbo = -row["valid_distortion"] - row["valid_rate"]
        assert row["valid_elbo"] == pytest.approx(elbo, rel=1e-5)
    sign, name = (1, "valid_objective") if select == "objective" else (-1, "valid_elbo")
    assert training.progress.best == pytest.approx(min(sign * row[name] for row in rows))


# ---- History ------------------------------------------------------------------------------------


def test_every_step_is_in_the_history(corpus: Corpus, tmp_path: Path) -> None:
    training = fit(smoke(epochs=3, warmup_epochs=2.0), corpus, tmp_path)
    history, steps = training.history_columns(), 3 * len(training.batches)
    assert history["step"].tolist() == list(range(1, steps + 1))
    assert history["epoch"].tolist() == [e for e in range(3) for _ in training.batches]
    names = {"step", "epoch", "lr", "weight", "loss", "distortion", "rate", "regulariser"}
    assert set(history) == names | {"grad_encoder", "grad_decoder", "grad_norm"}
    unit = len(corpus.train) / 32  # of the warm-up (T44)
    wanted = [min(1.0, (i + 1) / (2 * unit)) for i in range(steps)]
    assert history["weight"].tolist() == pytest.approx(wanted, rel=1e-6)
    rebuilt = history["distortion"] + history["weight"] * history["rate"]
    assert history["loss"] == pytest.approx(rebuilt, rel=1e-5)
    assert np.isfinite(training.history).all()


def test_every_epoch_has_a_row(corpus: Corpus, tmp_path: Path) -> None:
    training = fit(smoke(epochs=3), corpus, tmp_path)
    rows, history = training.progress.epochs, training.history_columns()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for epoch, row in enumerate(rows):
        mine = history["loss"][history["epoch"] == epoch]
        assert row["train_loss"] == pytest.approx(mine.mean(), rel=1e-5)
        assert row["seconds"] > 0


def test_the_watch_sees_every_step(corpus: Corpus, tmp_path: Path) -> None:
    seen = []
    training = fit(smoke(epochs=2), corpus, tmp_path, lambda *what: seen.append(what))
    steps = 2 * len(training.batches)
    assert [done for _, done, _, _ in seen] == list(range(1, steps + 1))
    assert {total for _, _, total, _ in seen} == {steps}


def test_training_learns(corpus: Corpus, tmp_path: Path) -> None:
    training = fit(smoke(epochs=6, lr=0.01), corpus, tmp_path)
    rows = training.progress.epochs
    assert rows[-1]["valid_distortion"] < 0.9 * rows[0]["valid_distortion"]


def test_two_runs_have_the_same_bits_and_seeds_differ(corpus: Corpus, tmp_path: Path) -> None:
    one, two, other = (
        fit(smoke("dg", seed=s), corpus, tmp_path / n) for n, s in (("a", 0), ("b", 0), ("c", 1))
    )
    assert (one.history == two.history).all()
    assert all(torch.equal(a, two.best[k]) for k, a in one.best.items())
    assert (one.history != other.history).any()


# ---- What can go wrong --------------------------------------------------------------------------


def test_divergence_is_one_clear_sentence_and_leaves_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    config = smoke(lr=1e6, clip=1e30, optimizer="sgd")
    for _ in range(2):
        with pytest.raises(VaelibError, match="training diverged: .* at step .* lower lr"):
            run_config(config, store=store)
        assert store.entries() == []
        assert not store.unfinished()


def test_divergence_at_validation_is_caught(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = dict.fromkeys(("objective", "elbo", "distortion", "rate"), math.nan)
    monkeypatch.setattr("vaelib.train.validate", lambda *_: nothing)
    with pytest.raises(VaelibError, match="validation loss is nan after epoch 0"):
        fit(smoke(), corpus, tmp_path)
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize("damage", ["cut", "noise", "other"])
def test_a_damaged_checkpoint_is_named_with_its_remedy(
    damage: str, corpus: Corpus, tmp_path: Path
) -> None:
    config, path = smoke(), tmp_path / STATE
    training = Training(config, corpus)
    run_epoch(training, path)
    training.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "noise":
        path.write_bytes(b"\xff" * 500)
    else:
        config = smoke(hidden_dim=13)
    with pytest.raises(VaelibError, match=rf"cannot resume from {path}: (.|\n)*delete it"):
        fit(config, corpus, tmp_path)


def test_a_checkpoint_is_a_plain_safetensors_file(corpus: Corpus, tmp_path: Path) -> None:
    training = Training(smoke(), corpus)
    run_epoch(training, tmp_path / STATE)
    training.save(tmp_path / STATE)
    content = (tmp_path / STATE).read_bytes()
    size = int.from_bytes(content[:8], "little")
    about = json.loads(content[8 : 8 + size])["__metadata__"]
    assert json.loads(about["progress"])["epoch"] == 1
    assert json.loads(about["columns"])[:2] == ["step", "epoch"]


def test_the_machine_is_put_back(corpus: Corpus) -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with machine(smoke(threads=2, matmul_precision="high")):
        assert torch.get_num_threads() == 2
        assert torch.get_float32_matmul_precision() == "high"
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


@BF16
def test_bfloat16_steps_are_finite_and_keep_float32_weights(corpus: Corpus) -> None:
    for method in ("vae", "dg", "bn", "delta", "vmf"):
        training = Training(smoke(method, precision="bf16"), corpus)
        values = training.strategy.step(training.batches[0], 1.0, training.noise)
        assert all(torch.isfinite(v) for v in values.values()), method
        assert {p.dtype for p in training.built.model.parameters()} == {torch.float32}


# ---- On a GPU -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["vae", "dg", "bow", "vmf"])
def test_the_gpu_takes_the_same_first_step_within_tolerance(method: str) -> None:
    """One noise-free loss in evaluation mode: relative difference below 1e-4."""
    values = []
    for device in ("cpu", "cuda"):
        config = smoke(method, device=device)
        training = Training(config, load_data(config).to(device))
        generator = torch.Generator().manual_seed(0)
        x = training.batches[0]
        outputs = training.built.model.eval()(x, generator)
        values.append(outputs.elbo.mean().item())
        assert outputs.z.device.type == device
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["cpu", "cuda", None])
def test_words_are_drawn_on_the_gpu_whatever_the_generator(where: str | None) -> None:
    config = resolve("vae", data="grammar", profile="smoke", device="cuda")
    model = build(config, 100).model.eval()
    generator = None if where is None else torch.Generator(where).manual_seed(0)
    assert model.generate(3, generator, sample_words=True).device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_the_gpu_ends(precision: str, tmp_path: Path) -> None:
    run = run_config(smoke("dg", device="cuda", precision=precision), store=Store(tmp_path))
    assert math.isfinite(run.metrics["nll_iw500"])
    assert run.model().generate(2).device.type == "cpu"
