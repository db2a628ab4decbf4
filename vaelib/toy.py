"""The toy of DG-VAE's Appendix A: 128 points, a table for an encoder, five regularisers.

There is nothing to read off a point but its number, so the encoder is a table of free means and
variances, and the decoder has to name the point that z came from. What a regulariser does to the
posteriors can then be watched in two dimensions, in seconds.
"""

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vaelib.build import Built, build, resolve
from vaelib.config import Config, listed
from vaelib.decoders import CategoricalDecoder
from vaelib.digest import code_digest
from vaelib.distributions import diagonal_normal, mean_logvar, rsample
from vaelib.errors import VaelibError, check_name
from vaelib.layers import make_generator
from vaelib.metrics import kl_normal, mutual_information, unit_divergences
from vaelib.store import Store, default_store, read_arrays, write_arrays
from vaelib.strategies import Joint
from vaelib.train import machine

METHODS = ("vae", "ae", "aae", "wae", "dg")
POINTS, BATCH, STEPS, EVERY, LR = 128, 8, 500, 100, 0.1
SEEDS = (0, 1, 2, 3, 4)
SAMPLES = 512  # of each posterior, in the final numbers alone

_PARTS: dict[str, Any] = {
    "encoder": "table",
    "posterior": "split",
    "decoder": "categorical",
    "latent_dim": 2,
}
_PLAIN = {"init_range": 0.0, "warmup_epochs": 0.0}  # PyTorch's own initialisation; no annealing
_OPTIONS: dict[str, dict[str, Any]] = {
    "aae": {"critic_samples": 8, "critic_width": 8},
    "wae": {"mmd_samples": 8},
    "dg": {"samples": 8, "aggregation_size": 8, "form": "marginal"},
}


@dataclass(frozen=True)
class Snapshot:
    """All posteriors at one moment of training.

    Attributes:
        method, seed, step: Whose, and after how many updates.
        mu, logvar: Posteriors [128, 2].
    """

    method: str
    seed: int
    step: int
    mu: Tensor
    logvar: Tensor


@dataclass(frozen=True)
class Toy:
    """What the toy gave.

    Attributes:
        results: One row a method and seed, nats: `marginal_kl`, the sum over both dimensions of
            KL(q(z_i) || p(z_i)) by quadrature, q(z_i) aggregated over all 128 points; `mean_kl`,
            the rate; `mi_global`, at most ln 128 = 4.85; `distortion`; and `accuracy`, the chance
            that the likeliest point under z ~ q(z|n) is n (1/128 where z says nothing).
        snapshots: In the order of methods, seeds, steps.
    """

    results: pd.DataFrame
    snapshots: list[Snapshot]

    def of_seed(self, seed: int) -> list[Snapshot]:
        """The snapshots of one seed, as the figure shows them."""
        return [s for s in self.snapshots if s.seed == seed]


def toy(
    methods: str | Iterable[str] = METHODS,
    seeds: int | Iterable[int] = SEEDS,
    steps: int = STEPS,
    every: int = EVERY,
) -> Toy:
    """Train every method with every seed; the original takes about half a minute on one core.

    Args:
        methods: One or some of `METHODS`.
        seeds: One seed or several.
        steps: Updates; 500 in the paper.
        every: Updates from one snapshot to the next; 100 in the paper.

    Raises:
        VaelibError: An unknown method, no step, or `every` does not divide `steps`.

    Example:
        >>> toy(["dg"], seeds=[0], steps=2, every=1).results.columns.to_list()[:3]
        ['method', 'seed', 'marginal_kl']
    """
    if steps < 1 or every < 1 or steps % every:
        raise VaelibError(f"steps={steps}, every={every}: give steps that `every` divides.")
    rows, snapshots = [], []
    methods, seeds = listed(methods), listed(seeds)
    for method in methods:
        for seed in seeds:
            config = toy_config(method, seed)
            with machine(config):
                built = build(config, POINTS)
                snapshots += train(built, config, steps, every)
                rows.append({"method": method, "seed": seed, **measure(built, config)})
    return Toy(pd.DataFrame(rows), snapshots)


def kept_toy(
    seeds: Sequence[int] = SEEDS, steps: int = STEPS, every: int = EVERY, store: Store | None = None
) -> Toy:
    """`toy` of all methods, made once by the same code: later it is read from the store.

    Args:
        seeds, steps, every: As of `toy`.
        store: Where it is kept, in a file beside the runs; by default that of this process.

    Raises:
        VaelibError: As of `toy`; or the file was damaged.
    """
    asked = f"{list(seeds)}, {steps} steps, {every}"
    path = (store or default_store()).root / f"toy-{code_digest([toy], asked)}.npz"
    if path.is_file():
        return _read(path)
    made = toy(METHODS, seeds, steps, every)
    with contextlib.suppress(VaelibError, OSError):  # what is not kept only takes its time again
        write_arrays(path, _arrays(made))
    return made


def _arrays(made: Toy) -> dict[str, np.ndarray]:
    """A row a snapshot; of all snapshots of a training the same results."""
    at = pd.DataFrame({"method": s.method, "seed": s.seed, "step": s.step} for s in made.snapshots)
    rows = at.merge(made.results, on=["method", "seed"])
    rows["method"] = rows["method"].map(METHODS.index)
    means, logs = (torch.stack([getattr(s, n) for s in made.snapshots]) for n in ("mu", "logvar"))
    columns = {str(name): rows[name].to_numpy() for name in rows}
    return columns | {"mu": means.numpy(), "logvar": logs.numpy()}


def _read(path: Path) -> Toy:
    arrays = read_arrays(path, "method", "seed", "step", "mu", "logvar")
    tensors = {name: torch.from_numpy(arrays.pop(name)) for name in ("mu", "logvar")}
    rows = pd.DataFrame(arrays)
    rows["method"] = [METHODS[int(place)] for place in rows["method"]]
    places = rows[["method", "seed", "step"]].itertuples(index=False)
    each = zip(places, tensors["mu"], tensors["logvar"], strict=True)
    results = rows.drop(columns="step").drop_duplicates(["method", "seed"], ignore_index=True)
    return Toy(results, [Snapshot(*place, mu, logvar) for place, mu, logvar in each])


def toy_config(method: str, seed: int = 0) -> Config:
    """The parts and settings of one method on the toy.

    Raises:
        VaelibError: The method is not one of `METHODS`.
    """
    check_name(method, METHODS, "method of the toy")
    given = _PARTS | _PLAIN | _OPTIONS.get(method, {})
    return resolve(method, data="toy", seed=seed, batch_size=BATCH, lr=LR, **given)


def train(built: Built, config: Config, steps: int = STEPS, every: int = EVERY) -> list[Snapshot]:
    """Train in place: 16 fixed batches of 8 consecutive points, in turn, beginning with batch 1.

    Args:
        built: Model and objective.
        config: Of which method, seed and learning rate count.
        steps, every: As in `toy`.

    Returns:
        A snapshot after every `every` updates.
    """
    model, objective = built.model, built.objective
    batches = torch.arange(POINTS).view(-1, BATCH)
    noise = make_generator(config.seed, "noise")
    # Adam moves all 128 points, those outside the batch by their momentum.
    adam = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=config.lr)
    joint = Joint(model, objective, adam, clip=math.inf, precision=config.precision)
    snapshots = []
    for step in range(1, steps + 1):
        joint.step(batches[step % len(batches)], built.schedule.final, noise)
        if step % every == 0:
            snapshots.append(Snapshot(config.method, config.seed, step, *_posteriors(built)))
    return snapshots


@torch.no_grad()
def _posteriors(built: Built) -> tuple[Tensor, Tensor]:
    mu, logvar = mean_logvar(built.model.encode(torch.arange(POINTS)))
    return mu.clone(), logvar.clone()


@torch.no_grad()
def measure(built: Built, config: Config) -> dict[str, float]:
    """The final numbers of a trained toy, as in `Toy.results`."""
    mu, logvar = _posteriors(built)
    points, noise = torch.arange(POINTS), make_generator(config.seed, "evaluate")
    z = rsample(diagonal_normal(mu, logvar), (SAMPLES,), noise)
    decoder = built.model.decoder
    assert isinstance(decoder, CategoricalDecoder)
    named = decoder.network(z).argmax(dim=-1)
    return {
        "marginal_kl": float(unit_divergences(mu, logvar, direction="q||p").sum()),
        "accuracy": float((named == points).double().mean()),
        "mean_kl": float(kl_normal(mu, logvar).sum(dim=1).mean()),
        "mi_global": mutual_information(mu, logvar, estimator="global", samples=SAMPLES),
        "distortion": -float(built.model.log_likelihood(points, z).mean()),
    }
