"""Weight schedules: how heavy the regulariser is at each training step."""

from dataclasses import dataclass
from typing import Protocol

from vaelib.errors import VaelibError
from vaelib.registry import Registry


@dataclass(frozen=True)
class Clock:
    """Where training stands.

    Attributes:
        epoch: Current epoch, from 0.
        step: Batches used so far, this one included (1 at the first).
        step_in_epoch: The same within the epoch.
        epochs: Epochs of the run.
        batches: N / batch size, the unit in which the published code counts warm-up epochs.
    """

    epoch: int
    step: int
    step_in_epoch: int
    epochs: int
    batches: float


class Schedule(Protocol):
    """A callable from the clock to a weight >= 0; `final` is its weight once warmed up."""

    final: float

    def __call__(self, clock: Clock) -> float:
        """The weight of the regulariser at this step."""


SCHEDULES: Registry[type] = Registry("schedule")


@SCHEDULES.register("linear")
class Linear:
    """Linear annealing from `start` to 1 over the first epochs, times `beta` (Bowman et al. 2016).

    Args:
        warmup_epochs: Length of the ramp in epochs of N / batch size steps; 0 for none.
        start: Weight before the first step.
        beta: Final weight of the regulariser; 1 is the ELBO, 0 leaves the autoencoder.

    Raises:
        VaelibError: A negative value.
    """

    def __init__(
        self, *, warmup_epochs: float = 10.0, start: float = 0.0, beta: float = 1.0
    ) -> None:
        if min(warmup_epochs, start, beta) < 0:
            raise VaelibError(
                f"warmup_epochs={warmup_epochs}, start={start}, beta={beta}: none may be negative."
            )
        self.warmup_epochs, self.start, self.final = warmup_epochs, start, beta

    def __call__(self, clock: Clock) -> float:
        """The weight at this step."""
        return self.final * ramp(clock.step, self.warmup_epochs * clock.batches, self.start)


@SCHEDULES.register("cyclic")
class Cyclic:
    """Linear annealing restarted at the beginning of every cycle (Fu et al. 2019).

    Args:
        cycles: Cycles in the run, equally long, none shorter than an epoch; the paper's 100 epochs
            hold 5 of 20 epochs.
        ramp_fraction: Part of a cycle spent on the ramp; the rest has weight `beta`.
        beta: Weight after a ramp.
        start: Weight at the beginning of a cycle; 0.1 in the script of Fu et al.
        late_restart: Restart one epoch late, as the released code does (T8): the first ramp lasts
            one epoch.

    Raises:
        VaelibError: No cycle, a ramp longer than a cycle, or a negative weight.
    """

    def __init__(
        self,
        *,
        cycles: int = 5,
        ramp_fraction: float = 0.5,
        beta: float = 1.0,
        start: float = 0.0,
        late_restart: bool = False,
    ) -> None:
        if cycles < 1 or not 0 <= ramp_fraction <= 1 or min(beta, start) < 0:
            raise VaelibError(
                f"cycles={cycles}, ramp_fraction={ramp_fraction}, beta={beta}, start={start}: give "
                "at least one cycle, a fraction between 0 and 1, and weights of at least 0."
            )
        self.cycles, self.ramp_fraction, self.final = cycles, ramp_fraction, beta
        self.start, self.late_restart = start, late_restart

    def __call__(self, clock: Clock) -> float:
        """The weight at this step."""
        length = max(1.0, clock.epochs / self.cycles)  # in epochs, not always a whole number
        late = int(self.late_restart and clock.epoch > 0)
        per_epoch = (clock.step - clock.step_in_epoch) / max(1, clock.epoch)  # 0 in the first
        before = (clock.epoch - late) * per_epoch + clock.step_in_epoch - 1
        done = 1 + (before % (length * per_epoch) if per_epoch else before)
        return self.final * ramp(done, self.ramp_fraction * length * clock.batches, self.start)


@SCHEDULES.register("delayed")
class Delayed:
    """Nothing for some steps, then a line towards 1, as Coupled-VAE anneals (its Appendix C).

    Args:
        anneal_wait: Steps with weight 0.
        anneal_steps: Steps from 0 to 1; the slope stays whatever the highest weight is (T37).
        beta: The highest weight.
        anneal_cycles: M, cycles within `anneal_steps` (Fu et al. 2019); 1 for the plain line.
        anneal_share: R, the share of a cycle in which the weight rises; the rest stays at 1.

    Raises:
        VaelibError: A value is out of range.
    """

    def __init__(
        self,
        *,
        anneal_wait: int = 2_000,
        anneal_steps: int = 40_000,
        beta: float = 1.0,
        anneal_cycles: int = 1,
        anneal_share: float = 1.0,
    ) -> None:
        if min(anneal_wait, beta) < 0 or min(anneal_steps, anneal_cycles) < 1:
            raise VaelibError(
                f"anneal_wait={anneal_wait}, beta={beta}, anneal_steps="
                f"{anneal_steps}, anneal_cycles={anneal_cycles}: the first two must not be "
                "negative, the others be 1 or more."
            )
        if not 0 < anneal_share <= 1:
            raise VaelibError(f"anneal_share={anneal_share}: give more than 0 and at most 1.")
        self.wait, self.steps, self.final = anneal_wait, anneal_steps, beta
        self.cycles, self.share = anneal_cycles, anneal_share

    def __call__(self, clock: Clock) -> float:
        """The weight of this step."""
        passed, length = max(0, clock.step - self.wait), self.steps / self.cycles
        if self.cycles > 1:
            passed = self.steps if passed >= self.steps else passed % length
        return min(self.final, passed / (length * self.share))


def ramp(step: float, length: float, start: float) -> float:
    """A line from `start` at step 0 to 1 at step `length`, and 1 from there on."""
    return 1.0 if step >= length else start + (1 - start) * step / length
