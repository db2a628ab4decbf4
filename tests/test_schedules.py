"""Weights of the regulariser, step by step."""

from itertools import pairwise
from typing import Any

import pytest

from vaelib.build import resolve
from vaelib.errors import VaelibError
from vaelib.schedules import SCHEDULES, Clock, Cyclic, Linear, ramp


def trace(schedule: Any, epochs: int, per_epoch: int, batches: float | None = None) -> list[float]:
    """The weight of every step of a run."""
    clocks = [
        Clock(epoch, epoch * per_epoch + i, i, epochs, batches or per_epoch)
        for epoch in range(epochs)
        for i in range(1, per_epoch + 1)
    ]
    return [schedule(clock) for clock in clocks]


def test_the_increment_of_the_he_family() -> None:
    weights = trace(Linear(), epochs=11, per_epoch=3_125)
    assert weights[0] == pytest.approx(3.2e-5)
    steps = [b - a for a, b in pairwise(weights[:31_250])]
    assert min(steps) == pytest.approx(3.2e-5, rel=1e-6)
    assert max(steps) == pytest.approx(3.2e-5, rel=1e-6)
    assert weights[31_248] < 1
    assert weights[31_249] == 1
    assert weights[-1] == 1


def test_partial_batches_end_the_ramp_early() -> None:
    weights = trace(Linear(warmup_epochs=10), epochs=10, per_epoch=330, batches=312.5)
    first = weights.index(1.0) + 1
    assert first == 3_125  # T44: before epoch 10 is over
    assert first / 330 == pytest.approx(9.47, abs=0.01)


def test_beta_multiplies_the_ramp() -> None:
    plain, halved = (trace(Linear(warmup_epochs=2, beta=beta), 4, 10) for beta in (1.0, 0.5))
    assert [w / 2 for w in plain] == pytest.approx(halved)
    assert Linear(beta=0.4).final == 0.4
    assert trace(Linear(beta=0.0), 2, 5) == [0.0] * 10


def test_a_start_above_zero_and_no_warm_up() -> None:
    weights = trace(Linear(warmup_epochs=1, start=0.1), 1, 9)
    assert weights[0] == pytest.approx(0.2)
    assert weights[-1] == 1
    assert trace(Linear(warmup_epochs=0), 1, 3) == [1.0] * 3


def test_cycles_restart_at_their_beginning() -> None:
    weights = trace(Cyclic(cycles=5), epochs=100, per_epoch=10)
    assert all(weights[i] == weights[i - 200] for i in range(200, 1_000))
    assert weights[:99] == pytest.approx([i / 100 for i in range(1, 100)])
    assert set(weights[99:200]) == {1.0}
    assert weights[200] == pytest.approx(0.01)


def test_the_late_restart_of_the_released_code() -> None:
    weights = trace(Cyclic(cycles=5, late_restart=True), epochs=100, per_epoch=10)
    falls = [i // 10 for i in range(1, 1_000) if weights[i] < weights[i - 1]]
    assert falls == [1, 21, 41, 61, 81]  # T8
    assert weights[9] == pytest.approx(0.1)
    assert weights[10] == pytest.approx(0.01)


@pytest.mark.parametrize("late", [False, True])
def test_the_weight_never_falls_inside_a_cycle(late: bool) -> None:
    schedule = Cyclic(cycles=5, late_restart=late)
    weights = trace(schedule, epochs=20, per_epoch=13, batches=10.0)
    falls = [i // 13 for i in range(1, len(weights)) if weights[i] < weights[i - 1]]
    assert falls == ([1, 5, 9, 13, 17] if late else [4, 8, 12, 16])


def test_the_slope_of_a_cycle_is_that_of_the_linear_ramp() -> None:
    cyclic = trace(Cyclic(cycles=1, ramp_fraction=0.5), epochs=8, per_epoch=13, batches=10.0)
    linear = trace(Linear(warmup_epochs=4), epochs=8, per_epoch=13, batches=10.0)
    assert cyclic == pytest.approx(linear)


def test_more_cycles_than_epochs_still_work() -> None:
    assert trace(Cyclic(cycles=5), epochs=2, per_epoch=4) == [0.5, 1.0, 1.0, 1.0] * 2


def test_beta_of_a_cycle() -> None:
    assert max(trace(Cyclic(cycles=2, beta=0.3), 4, 10)) == pytest.approx(0.3)
    assert Cyclic(beta=0.3).final == 0.3


def test_a_ramp_is_a_line() -> None:
    assert [ramp(i, 4, 0.0) for i in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("values", [{"beta": -1.0}, {"start": -0.1}, {"warmup_epochs": -1.0}])
def test_negative_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(VaelibError, match="none may be negative"):
        Linear(**values)


def test_impossible_cycles_are_refused() -> None:
    with pytest.raises(VaelibError, match="cycles=0"):
        Cyclic(cycles=0)
    with pytest.raises(VaelibError, match="ramp_fraction"):
        Cyclic(ramp_fraction=-0.5)


def test_cycles_are_as_many_as_asked_when_they_do_not_divide_the_epochs() -> None:
    weights = trace(Cyclic(cycles=5), epochs=12, per_epoch=10)
    starts = [step for step, w in enumerate(weights) if w < 0.1]
    assert starts == [0, 24, 48, 72, 96]  # 12 epochs of 10 steps hold 5 cycles of 24
    assert weights[12:24] == [1.0] * 12


def test_the_cyclic_method_runs_to_its_end() -> None:
    config = resolve("cyclic", data="short_yelp", profile="paper")
    assert config.schedule == "cyclic"
    assert not config.early_stop
    assert (config.options["cycles"], config.options["late_restart"]) == (5, False)
    assert set(SCHEDULES) == {"linear", "cyclic", "delayed"}


def test_cycles_may_begin_above_zero() -> None:
    weights = trace(Cyclic(cycles=4, start=0.1), epochs=8, per_epoch=10)
    assert weights[0] == pytest.approx(0.1 + 0.9 / 10)
    assert weights[20] == pytest.approx(0.1 + 0.9 / 10)
    assert min(weights) > 0.1
