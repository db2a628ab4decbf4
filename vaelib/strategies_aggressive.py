"""The training loop around aggressive encoder training (He et al. 2019).

The strategy needs to know the other batches, and once an epoch whether the mutual information still
grows. Each epoch's value is kept with the epoch, so a resumed run finds out from there.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch

from vaelib.build import options_of
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.layers import make_generator
from vaelib.metrics.information import mutual_information_from
from vaelib.store import STATE
from vaelib.strategies_inner import Aggressive
from vaelib.train import Training, Watch, fit, run_epoch

INFORMATION = "valid_mi_in_batch"
Fit = Callable[..., Training]  # with the arguments of `vaelib.train.fit`


class AggressiveTraining(Training):
    """Training that gives the aggressive strategy its batches, and ends its aggression.

    Args:
        config: A resolved config with the strategy "aggressive".
        corpus: Its data, on the config's device.
    """

    def _new_optimizer(self) -> None:
        super()._new_optimizer()
        cfg, built = self.config, self.built
        options = {name: cfg.options[name] for name in options_of(Aggressive)}
        strategy = Aggressive(
            built.model, built.objective, self.optimizer, cfg.clip, cfg.precision, **options
        )
        strategy.batches = self.batches
        strategy.aggressive = still_growing([e[INFORMATION] for e in self.progress.epochs])
        self.strategy = strategy

    def judge(self, value: float) -> None:
        """Note the validation information of the epoch, then judge as ever."""
        epochs = self.progress.epochs
        epochs[-1][INFORMATION] = self.information()
        self.strategy.aggressive = still_growing([e[INFORMATION] for e in epochs])
        super().judge(value)

    @torch.no_grad()
    def information(self) -> float:
        """In-batch mutual information of the validation sentences in nats; mean over sentences."""
        cfg, model = self.config, self.built.model.eval()
        generator = make_generator(cfg.seed, f"valid_mi/{self.progress.epoch}", cfg.device)
        total = 0.0
        for x in self.valid:
            value = mutual_information_from(
                model.encode(x), estimator="in_batch", batch_size=len(x), generator=generator
            )
            total += len(x) * value
        return total / sum(len(x) for x in self.valid)


def still_growing(information: Sequence[float]) -> bool:
    """Whether no epoch had less information than the one before; the first is compared with 0."""
    return all(later >= earlier for earlier, later in pairwise([0.0, *information]))


TRAININGS: dict[str, type[Training]] = {"aggressive": AggressiveTraining}


def fit_with_memory(
    config: Config, corpus: Corpus, folder: Path, watch: Watch | None = None
) -> Training:
    """`vaelib.train.fit` for a strategy with a training of its own; the same in all else."""
    training = TRAININGS[config.strategy](config, corpus)
    if (folder / STATE).is_file():
        training.load(folder / STATE)
    while training.progress.epoch < config.epochs and not training.progress.stopped:
        run_epoch(training, folder / STATE, watch)
        training.save(folder / STATE)
    training.use_best()
    return training


def fit_of(config: Config) -> Fit:
    """The function that trains this config."""
    return fit_with_memory if config.strategy in TRAININGS else fit
