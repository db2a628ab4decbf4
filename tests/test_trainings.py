"""Trainings: aggressive (who moves when, when it stops), pretrained; both resume to the bit."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import vaelib.train
from vaelib.build import build, load_data, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.distributions import rsample
from vaelib.errors import VaelibError
from vaelib.layers import make_generator
from vaelib.strategies import Joint
from vaelib.strategies_inner import Aggressive
from vaelib.testing import sentences
from vaelib.train import Training, fit, training_of
from vaelib.trainings import (
    INFORMATION,
    PATIENCE,
    STAGE,
    AggressiveTraining,
    PretrainedTraining,
    first_stage,
    still_growing,
)

X = sentences(6, 5, 30)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config_of(**changes: Any) -> Config:
    small = {"train_size": 60, "valid_size": 16, "test_size": 8, "lr": 0.01, "epochs": 3}
    options = {"inner_steps": 4, "inner_window": 2}
    return resolve("lagging", data="grammar", profile="smoke", **(small | options | changes))


def aggressive(**options: int) -> Aggressive:
    built = build(resolve("vae", data="grammar", profile="smoke"), 30)
    update = torch.optim.SGD(built.model.train().parameters(), lr=0.1)
    made = Aggressive(built.model, built.objective, update, 5.0, "fp32", **options)
    made.batches = [sentences(4, 6, 30), sentences(5, 4, 30)]
    return made


def copy_of(parameters: list) -> list[torch.Tensor]:
    return [p.detach().clone() for p in parameters]


def equal(one: list, two: list) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_encoder_moves_first_and_the_decoder_once(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, step, seen = aggressive(inner_steps=3, inner_window=99), Joint.step, []
    start = copy_of(strategy.generation)

    def watched(self: Joint, x: torch.Tensor, *rest: Any) -> Any:
        values = step(self, x, *rest)
        seen.append((x, copy_of(self.inference), copy_of(self.generation)))
        return values

    monkeypatch.setattr(Joint, "step", watched)
    values = strategy.step(X, 1.0, seeded())
    assert values["inner_steps"] == 3
    assert len(seen) == 4
    for (_, before, _), (_, after, decoder) in pairwise(seen[:3]):
        assert equal(decoder, start)
        assert not equal(before, after)
    assert equal(seen[3][1], seen[2][1])
    assert not equal(seen[3][2], start)
    assert seen[0][0] is X
    assert seen[3][0] is X
    assert all(any(x is batch for batch in strategy.batches) for x, *_ in seen[1:3])


@pytest.mark.parametrize(
    ("losses", "done"),
    [
        ([4.0, 4.0, 3.0, 3.0, 3.0, 3.5, 1.0], 6),  # windows of two: 4, 3, 3.25
        ([4.0, 4.0, 3.0, 5.0, 3.0, 5.0, 9.0], 7),  # 4, 4, 4, then the cap: equal is no increase
        ([1.0, 9.0, 5.0, 5.1, 0.0, 0.0, 0.0], 4),
    ],
)
def test_it_stops_when_a_window_is_worse_than_the_one_before(
    losses: list[float], done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, script = aggressive(inner_steps=7, inner_window=2), iter(losses)
    strategy.batches = [X]

    def scripted(self: Joint, *_: Any) -> Any:
        return {"loss": torch.tensor(next(script))}

    monkeypatch.setattr(Joint, "step", scripted)
    assert strategy._catch_up(X, 1.0, seeded()) == done


def test_the_loss_of_a_window_is_per_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long sentences cost more and are no worse: 8 nats for 4 words, then 18 for 9."""
    strategy = aggressive(inner_steps=2, inner_window=1)
    strategy.batches = [sentences(6, 10, 30)]

    def scripted(self: Joint, x: torch.Tensor, *_: Any) -> Any:
        return {"loss": torch.tensor(2.0 * (x.shape[1] - 1))}

    monkeypatch.setattr(Joint, "step", scripted)
    assert strategy._catch_up(X, 1.0, seeded()) == 2


def test_afterwards_it_is_the_joint_step() -> None:
    mine, other = aggressive(), aggressive()
    mine.aggressive = False
    joint = Joint(other.model, other.objective, other.optimizer, 5.0, "fp32")
    values, wanted = (s.step(X, 0.7, seeded()) for s in (mine, joint))
    assert values.pop("inner_steps") == 0
    assert all(torch.equal(values[k], wanted[k]) for k in wanted)
    assert equal([*mine.model.parameters()], [*other.model.parameters()])


def test_it_needs_batches_and_whole_numbers() -> None:
    strategy = aggressive()
    strategy.batches = []
    with pytest.raises(VaelibError, match="draws other batches"):
        strategy.step(X, 1.0, seeded())
    with pytest.raises(VaelibError, match="1 or more"):
        aggressive(inner_window=0)


@pytest.mark.parametrize(
    ("values", "growing"),
    [([], True), ([0.1, 0.1, 0.3], True), ([0.1, 0.3, 0.2, 0.9], False), ([-0.01], False)],
)
def test_the_first_loss_of_information_ends_it_for_good(values: list, growing: bool) -> None:
    assert still_growing(values) == growing


def test_on_images_five_epochs_without_a_new_best_end_it() -> None:
    """A.21: counted in all, whatever lies between them."""
    assert still_growing([1.0, 2.0, 1.0, 2.0, 1.5, 3.0, 2.5], patience=5)
    assert not still_growing([1.0, 2.0, 1.0, 2.0, 1.5, 3.0, 2.5, 3.0], patience=5)
    assert PATIENCE == {"images": 5}


# ---- The loop -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Corpus:
    return load_data(config_of())


def test_other_strategies_keep_their_loop() -> None:
    assert training_of(resolve("vae", data="grammar", profile="smoke")) is Training
    assert training_of(config_of()) is AggressiveTraining


def test_the_information_is_the_in_batch_one_of_the_validation_sentences(small: Corpus) -> None:
    training = AggressiveTraining(config_of(init_range=0.9), small)
    value = training.information()
    model, noise, total = training.built.model.eval(), make_generator(0, "valid_mi/0"), 0.0
    for x in training.valid:
        with torch.no_grad():
            q = model.encode(x)
            pairs = q.log_prob(rsample(q, (), noise).unsqueeze(1))  # [z of i, posterior of j]
        total += float((-q.entropy() - pairs.logsumexp(1)).sum()) + len(x) * math.log(len(x))
    assert value == pytest.approx(total / 16, abs=1e-5)
    assert value != 0
    assert isinstance(training.strategy, Aggressive)
    assert (training.strategy.most, training.strategy.window) == (4, 2)


def test_a_run_that_is_killed_and_stops_its_aggression_resumes_to_the_same_bits(
    small: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Information grows, falls, grows: two epochs are aggressive, the third is not."""
    script = {0: 0.3, 1: 0.2, 2: 0.5}

    def information(self: AggressiveTraining) -> float:
        return script[self.progress.epoch]

    monkeypatch.setattr(AggressiveTraining, "information", information)
    monkeypatch.setattr(vaelib.train, "SAVE_SECONDS", 0.0)  # a checkpoint after every step
    config = config_of(patience=0, decay_from_epoch=1)
    whole = fit(config, small, tmp_path / "whole")
    steps = len(whole.batches)

    def deadly(at: int) -> Any:
        def watch(phase: str, done: int, total: int, values: dict[str, float]) -> None:
            if done == at:
                raise KeyboardInterrupt

        return watch

    for at in (steps // 2, steps + 2, 2 * steps + 2):
        with pytest.raises(KeyboardInterrupt):
            fit(config, small, tmp_path, deadly(at))
    resumed = fit(config, small, tmp_path)
    same(whole, resumed)
    inner = whole.history_columns()["inner_steps"].reshape(3, steps)
    assert (inner[:2] >= 2).all()
    assert (inner[2] == 0).all()
    assert [e[INFORMATION] for e in whole.progress.epochs] == [0.3, 0.2, 0.5]


def same(one: Training, other: Training) -> None:
    assert all(torch.equal(v, other.best[k]) for k, v in one.best.items())
    assert (one.history == other.history).all()
    pairs = zip(one.progress.epochs, other.progress.epochs, strict=True)
    assert all({**a, "seconds": 0} == {**b, "seconds": 0} for a, b in pairs)


# ---- Two stages ---------------------------------------------------------------------------------


def staged(name: str = "prefb", **changes: Any) -> Config:
    small = {"train_size": 60, "valid_size": 16, "test_size": 8, "lr": 0.01, "epochs": 2}
    return resolve(name, data="grammar", profile="smoke", **(small | changes))


@pytest.mark.parametrize("name", ["prefb", "pre"])
def test_the_encoder_comes_from_the_autoencoder_and_the_decoder_starts_afresh(
    name: str, small: Corpus, tmp_path: Path
) -> None:
    config = staged(name)
    first = fit(first_stage(config), small, tmp_path / "first").built.model
    training, fresh = PretrainedTraining(config, small), build(config, len(small.vocabulary)).model
    training.prepare(tmp_path / "run")
    model = training.built.model
    known = first.posterior.state_dict()
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, first.encoder.state_dict()[key])
    mine = model.posterior.state_dict()
    assert known.keys() <= mine.keys()
    assert all(torch.equal(mine[key], value) for key, value in known.items())
    for key, value in model.decoder.state_dict().items():
        assert torch.equal(value, fresh.decoder.state_dict()[key])
    if name == "prefb":  # a point has no scale, so that head is fresh
        assert torch.equal(mine["log_scale.weight"], fresh.posterior.log_scale.weight)


def test_the_first_stage_has_no_regulariser() -> None:
    first = first_stage(staged("pre"))
    assert (first.regulariser, first.strategy, first.options["beta"]) == ("kl", "joint", 0.0)
    assert first_stage(staged(pretrain_epochs=1)).epochs == 1
    assert first_stage(staged()).posterior == "point"


def test_a_pretrained_run_killed_in_either_stage_resumes_to_the_same_bits(
    small: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vaelib.train, "SAVE_SECONDS", 0.0)
    config = staged()
    whole = fit(config, small, tmp_path / "whole")
    for steps in (3, 2 * len(whole.batches)):  # in the first stage, and from there in the second
        left = iter(range(steps))

        def watch(*_: object, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(config, small, tmp_path / "run", watch)
    same(whole, fit(config, small, tmp_path / "run"))
    assert not (tmp_path / "run" / STAGE).exists()
