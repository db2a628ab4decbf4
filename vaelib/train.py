"""Training: one loop, resumable to the bit, with every step in the history."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from vaelib.build import Built, build, options_of
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.errors import VaelibError
from vaelib.layers import derived_seed, make_generator
from vaelib.products import matmul_precision
from vaelib.registry import Registry
from vaelib.schedules import Clock
from vaelib.store import STATE, atomic
from vaelib.strategies import STRATEGIES
from vaelib.validation import chosen_by, followed, validate

FLUSH_STEPS = 25
SAVE_SECONDS = 60.0
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
Watch = Callable[[str, int, int, dict[str, float]], None]


@dataclass
class Progress:
    """The scalars of a training run, as a checkpoint keeps them.

    Attributes:
        epoch, index, step: Epochs finished, batches done in the current one, updates in all.
        lr: Current learning rate.
        best, reference: Lowest validation value so far; what the decay rule compares with.
        bad, decays: Epochs without improvement; decays so far.
        last_loss: Loss of the last training batch (T6).
        stopped: Training is over.
        seconds: Time spent training, all sittings together.
        epochs: One row an epoch.
    """

    lr: float
    epoch: int = 0
    index: int = 0
    step: int = 0
    best: float = math.inf
    reference: float = math.inf
    bad: int = 0
    decays: int = 0
    last_loss: float = math.inf
    stopped: bool = False
    seconds: float = 0.0
    epochs: list[dict[str, float]] = field(default_factory=list)


class Batches(Sequence[Tensor]):
    """Training batches, with fresh noise each time one is taken where the data have it.

    Args:
        batches: As the split gives them.
        split: Whose `draw` is used.
        generator: Source of the noise.
    """

    def __init__(self, batches: list[Tensor], split: Any, generator: torch.Generator) -> None:
        self.batches, self.split, self.generator = batches, split, generator

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> Tensor:  # type: ignore[override]
        return self.split.draw(self.batches[place], self.generator)


class Training:
    """A training run in progress: the parts, where it stands, and how to save and load both.

    Args:
        config: A resolved config.
        corpus: Its data, on the config's device.
    """

    def __init__(self, config: Config, corpus: Corpus) -> None:
        self.config = config
        self.built: Built = build(config, len(corpus.vocabulary))
        self.corpus = corpus
        self.noise = make_generator(config.seed, "noise", config.device)
        self.batches = Batches(self._batches(0), corpus.train, self.noise)
        self.valid = [corpus.valid.gather(i) for i in corpus.valid.buckets(config.batch_size)]
        self.examples = len(corpus.train)
        self.progress = Progress(lr=config.lr)
        self.columns: list[str] = []
        self.rows: list[Tensor] = []
        self.history = np.zeros((0, 0), dtype=np.float32)
        self.best = self._weights()
        self._new_optimizer()

    def _batches(self, epoch: int) -> list[Tensor]:
        """The training batches of an epoch: always the same ones, or drawn anew and padded."""
        cfg, train = self.config, self.corpus.train
        if cfg.batching == "buckets":
            made = [train.gather(i) for i in train.buckets(cfg.batch_size)]
        else:
            draw = np.random.default_rng(derived_seed(cfg.seed, f"mixed/{epoch}"))
            order = torch.from_numpy(draw.permutation(len(train)))
            made = [train.mixed(i) for i in order.split(cfg.batch_size)]
        return self._usable(made)

    def begin_epoch(self) -> None:
        """Draw the epoch's batches, where they are not the same in all; the first are there."""
        if self.config.batching == "mixed" and self.progress.epoch:
            self.batches.batches = self._batches(self.progress.epoch)

    def _usable(self, batches: list[Tensor]) -> list[Tensor]:
        objective, least = self.built.objective, self.config.min_batch
        kept = [x for x in batches if len(x) >= least and objective.accepts(len(x))]
        if not kept:
            raise VaelibError(
                f"no training batch can be used: all {len(batches)} hold fewer than {least} "
                "examples of one length"
                + (
                    "; use more data or a smaller min_batch."
                    if objective.accepts(1)
                    else ", or a number that does not divide into the groups of a term; use more "
                    "data or a smaller aggregation_size."
                )
            )
        return kept

    def _new_optimizer(self) -> None:
        cfg, built = self.config, self.built
        every = (*built.model.parameters(), *built.objective.parameters())
        parameters = list(dict.fromkeys(every))  # shared ones once
        fused = cfg.device.split(":")[0] in ("cpu", "cuda")
        self.optimizer = OPTIMIZERS[cfg.optimizer](parameters, lr=self.progress.lr, fused=fused)
        strategy = STRATEGIES[cfg.strategy]
        options = {name: cfg.options[name] for name in options_of(strategy)}
        self.strategy = strategy(
            built.model, built.objective, self.optimizer, cfg.clip, cfg.precision, **options
        )

    def _weights(self) -> dict[str, Tensor]:
        named = {"model": self.built.model, "objective": self.built.objective}
        every = {f"{n}.{k}": v for n, m in named.items() for k, v in m.state_dict().items()}
        return {k: v.detach().clone() for k, v in every.items()}

    def _set_weights(self, weights: dict[str, Tensor]) -> None:
        for name, module in (("model", self.built.model), ("objective", self.built.objective)):
            prefix = f"{name}."
            mine = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            module.load_state_dict(mine)

    def record_step(self, values: dict[str, Tensor], weight: float) -> None:
        """Append one step to the history, without waiting for the device."""
        if not self.columns:
            self.columns = ["step", "epoch", "lr", "weight", *values]
        where = (self.progress.step, self.progress.epoch, self.progress.lr, weight)
        device = self.config.device
        head = torch.tensor(where, dtype=torch.float32, device=device)
        self.rows.append(torch.cat([head, torch.stack([v.float() for v in values.values()])]))
        if len(self.rows) >= FLUSH_STEPS:
            self.flush()

    def flush(self) -> None:
        """Move recorded steps to the CPU and stop when one of them is not finite.

        Raises:
            VaelibError: The loss or a gradient is not a finite number.
        """
        if not self.rows:
            return
        block = torch.stack(self.rows).cpu().numpy()
        self.rows = []
        self.history = np.vstack([self.history, block]) if len(self.history) else block
        self.progress.last_loss = float(block[-1, self.columns.index("loss")])
        wrong = np.argwhere(~np.isfinite(block))
        if len(wrong):
            row, column = wrong[0]
            raise VaelibError(
                f"training diverged: {self.columns[column]} is {block[row, column]} at step "
                f"{int(block[row, 0])} (epoch {int(block[row, 1])}); lower lr or clip, "
                f"or lengthen the warm-up. Nothing of this run is recorded."
            )

    def save(self, path: Path) -> None:
        """Write the whole state to one file, atomically."""
        self.flush()
        state = self.optimizer.state_dict()["state"]
        tensors = {f"now.{k}": v for k, v in self._weights().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"optim.{i}.{k}": v for i, s in state.items() for k, v in s.items()}
        tensors["noise"] = self.noise.get_state()
        tensors["history"] = torch.from_numpy(self.history.copy())
        tensors = {k: v.contiguous().clone().cpu() for k, v in tensors.items()}
        about = {"progress": json.dumps(asdict(self.progress)), "columns": json.dumps(self.columns)}
        with atomic(path) as file:
            file.write(safetensors.torch.save(tensors, about))

    def load(self, path: Path) -> None:
        """Continue from a file written by `save`.

        Raises:
            VaelibError: The file is damaged or belongs to another config.
        """
        try:
            with safe_open(path, "pt", device="cpu") as file:
                about = file.metadata()
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            self.progress = Progress(**json.loads(about["progress"]))
            self._restore(tensors, json.loads(about["columns"]))
        except Exception as error:
            raise VaelibError(
                f"cannot resume from {path}: {error}; delete it and the run starts again."
            ) from error

    def _restore(self, tensors: dict[str, Tensor], columns: list[str]) -> None:
        def named(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self._set_weights(named("now."))
        self.best = {k: v.to(self.config.device) for k, v in named("best.").items()}
        self._new_optimizer()
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in named("optim.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
        self.noise.set_state(tensors["noise"])
        self.history, self.columns = tensors["history"].numpy(), columns

    def prepare(self, folder: Path, watch: Watch | None = None) -> None:
        """What comes before the first step of a new run; here, nothing."""

    @staticmethod
    def uses(config: Config) -> list[Any]:
        """Parts that are trained before the first step and are not the config's own."""
        return []

    def decay(self, value: float) -> None:
        """Halve the learning rate and go back to the best weights (He et al. 2019)."""
        p, cfg = self.progress, self.config
        self._set_weights(self.best)
        p.lr *= cfg.lr_factor
        p.bad, p.decays = 0, p.decays + 1
        p.reference = p.last_loss if cfg.decay_reference == "last_batch" else value
        self._new_optimizer()

    def end_step(self) -> None:
        """Halve the learning rate where a fixed plan says so (Wu et al. 2020)."""
        p, cfg = self.progress, self.config
        if cfg.lr_schedule == "steps" and p.step > cfg.lr_from and p.step % cfg.lr_every == 0:
            p.lr *= cfg.lr_factor
            for group in self.optimizer.param_groups:
                group["lr"] = p.lr

    def judge(self, value: float) -> None:
        """Keep the best weights and apply the decay and stop rule to a validation value."""
        p, cfg = self.progress, self.config
        bar = p.reference if cfg.decay_reference == "last_batch" else p.best
        if value <= bar or cfg.select == "last":
            p.best, self.best = value, self._weights()
        if value <= p.reference:
            p.reference, p.bad = value, 0
            return
        p.bad += 1
        if cfg.lr_schedule == "steps":
            return
        if p.bad >= cfg.patience and p.epoch >= cfg.decay_from_epoch:
            self.decay(value)
            p.stopped = cfg.early_stop and p.decays >= cfg.max_decays

    def use_best(self) -> None:
        """Put the kept weights into the model."""
        self._set_weights(self.best)

    def history_columns(self) -> dict[str, np.ndarray]:
        """The history, one array a column, one entry a step."""
        return {name: self.history[:, i] for i, name in enumerate(self.columns)}


TRAININGS: Registry[type[Training]] = Registry("training")
TRAININGS.add("joint", Training)


def training_of(config: Config) -> type[Training]:
    """The kind of training a config's strategy asks for."""
    return TRAININGS[config.strategy if config.strategy in TRAININGS else "joint"]


def fit(config: Config, corpus: Corpus, folder: Path, watch: Watch | None = None) -> Training:
    """Train a run to its end, continuing from its last checkpoint if there is one.

    Args:
        config: A resolved config.
        corpus: Its data, on the config's device.
        folder: Where the checkpoint lies.
        watch: Called after every step with (phase, done, total, latest values).

    Returns:
        The finished training with its best weights in the model.

    Raises:
        VaelibError: Training diverged, or the checkpoint is damaged.
    """
    training = training_of(config)(config, corpus)
    path = folder / STATE
    if path.is_file():
        training.load(path)
    else:
        training.prepare(folder, watch)
    while training.progress.epoch < config.epochs and not training.progress.stopped:
        run_epoch(training, path, watch)
        training.save(path)
    training.use_best()
    return training


def run_epoch(training: Training, path: Path, watch: Watch | None = None) -> None:
    """One epoch from wherever it stands: train, validate, judge."""
    cfg, p = training.config, training.progress
    begun, saved = time.perf_counter() - p.seconds, time.perf_counter()
    training.begin_epoch()
    order = np.random.default_rng(derived_seed(cfg.seed, f"order/{p.epoch}"))
    places = order.permutation(len(training.batches))
    training.built.model.train()
    training.built.objective.train()
    total = cfg.epochs * len(places)
    for place in places[p.index :]:
        p.step, p.index = p.step + 1, p.index + 1
        clock = Clock(p.epoch, p.step, p.index, cfg.epochs, training.examples / cfg.batch_size)
        weight = training.built.schedule(clock)
        values = training.strategy.step(training.batches[place], weight, training.noise)
        training.record_step(values, weight)
        training.end_step()
        p.seconds = time.perf_counter() - begun
        if watch:
            watch("train", p.step, total, {"epoch": p.epoch, "lr": p.lr})
        if time.perf_counter() - saved > SAVE_SECONDS:
            training.save(path)
            saved = time.perf_counter()
    training.flush()
    finish_epoch(training)
    p.seconds = time.perf_counter() - begun


def finish_epoch(training: Training) -> None:
    """Validate, log the epoch, keep or decay, and move on to the next one."""
    cfg, p = training.config, training.progress
    generator = make_generator(cfg.seed, f"valid/{p.epoch}", cfg.device)
    values = validate(training.built, training.valid, generator, cfg.precision)
    values |= followed(cfg, training.built, training.valid, p.epoch)
    seen = training.history[training.history[:, 1] == p.epoch]
    means = dict(zip(training.columns, seen.mean(axis=0).tolist(), strict=True))
    row = {f"train_{k}": v for k, v in means.items() if k not in ("step", "epoch", "lr", "weight")}
    row |= {"epoch": p.epoch, "lr": p.lr, "weight": float(seen[-1, 3]), "seconds": p.seconds}
    p.epochs.append(row | {f"valid_{k}": v for k, v in values.items()})
    chosen = chosen_by(cfg, values)
    if not math.isfinite(chosen):
        raise VaelibError(
            f"training diverged: the validation loss is {chosen} after epoch {p.epoch}; lower lr, "
            "or lengthen the warm-up. Nothing of this run is recorded."
        )
    training.judge(chosen)
    p.epoch, p.index = p.epoch + 1, 0


@contextlib.contextmanager
def machine(config: Config) -> Iterator[None]:
    """Threads and matrix-product precision of a run, put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with matmul_precision(config.matmul_precision):
            yield
    finally:
        torch.set_num_threads(threads)
