"""Trainings that are more than a step after another: aggressive, and in two stages.

The aggressive strategy needs to know the other batches, and once an epoch whether the mutual
information still grows. Each epoch's value is kept with the epoch, so a resumed run finds out from
there.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from vaelib.build import options_of, parts
from vaelib.config import Config
from vaelib.errors import check_name
from vaelib.layers import make_generator
from vaelib.metrics.information import mutual_information_from
from vaelib.store import STATE
from vaelib.strategies_pretrained import FIRST
from vaelib.train import TRAININGS, Training, Watch, fit

INFORMATION = "valid_mi_in_batch"
PATIENCE = {"images": 5}  # epochs in all without a new best; elsewhere the first fall ends it
STAGE = "pretrain"  # the first stage's folder inside the run's


@TRAININGS.register("aggressive")
class AggressiveTraining(Training):
    """Training that gives the aggressive strategy its batches, and ends its aggression.

    Args:
        config: A resolved config with the strategy "aggressive".
        corpus: Its data, on the config's device.
    """

    def _new_optimizer(self) -> None:
        super()._new_optimizer()
        self.strategy.batches = self.batches
        self.strategy.aggressive = self.growing()

    def judge(self, value: float) -> None:
        """Note the validation information of the epoch, then judge as ever."""
        epochs = self.progress.epochs
        epochs[-1][INFORMATION] = self.information()
        self.strategy.aggressive = self.growing()
        super().judge(value)

    def growing(self) -> bool:
        """Whether the epochs so far let the aggression go on."""
        values = [epoch[INFORMATION] for epoch in self.progress.epochs]
        return still_growing(values, PATIENCE.get(self.corpus.holds, 0))

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


def still_growing(information: Sequence[float], patience: int = 0) -> bool:
    """Whether the encoder is still behind, by the information of the epochs so far.

    Args:
        information: Nats, an epoch each; the first is compared with 0.
        patience: 0 ends it at the first epoch with less than the one before (text); otherwise as
            many epochs in all that do not beat the best do (images, He et al. 2019).
    """
    if not patience:
        return all(later >= earlier for earlier, later in pairwise([0.0, *information]))
    best, missed = 0.0, 0
    for value in information:
        best, missed = max(best, value), missed + (value <= best)
    return missed < patience


def first_stage(config: Config) -> Config:
    """The autoencoder that the first stage trains: no regulariser, no further terms."""
    plain: dict[str, Any] = {"regulariser": "kl", "extra_terms": (), "schedule": "linear"}
    plain |= {"strategy": "joint", "select": "objective", "track": ()}
    plain |= FIRST[check_name(config.options["pretrain"], FIRST, "pretrain")]
    plain["epochs"] = config.options["pretrain_epochs"] or config.epochs
    changed = replace(config, **plain)
    known = {k: v for part in parts(changed) for k, v in options_of(part).items()}
    options = {k: config.options.get(k, v) for k, v in known.items()} | {"beta": 0.0}
    return replace(changed, options=options)


@TRAININGS.register("pretrained")
class PretrainedTraining(Training):
    """Training that begins with the encoder of an autoencoder.

    Args:
        config: A resolved config with the strategy "pretrained".
        corpus: Its data, on the config's device.
    """

    def prepare(self, folder: Path, watch: Watch | None = None) -> None:
        """Train the autoencoder, and keep of it what reads: all the rest starts afresh."""
        first = fit(first_stage(self.config), self.corpus, folder / STAGE, watch)
        for name in ("encoder", "posterior"):
            part, trained = (built.model.parts[name] for built in (self.built, first.built))
            known = trained.state_dict()
            part.load_state_dict({k: known.get(k, v) for k, v in part.state_dict().items()})
        self.best = self._weights()
        self.save(folder / STATE)
        shutil.rmtree(folder / STAGE, ignore_errors=True)

    @staticmethod
    def uses(config: Config) -> list[Any]:
        """The parts of the first stage."""
        return parts(first_stage(config))
