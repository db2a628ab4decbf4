"""`run(...)`: ask for a run by what it is; it is loaded if it is a fact already, else trained."""

import contextlib
import hashlib
import importlib.metadata
import math
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vaelib import store as files
from vaelib import writing
from vaelib.build import Built, build, load_data, parts, resolve
from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.data.datasets import check_data, code_of, own_folder
from vaelib.digest import code_digest
from vaelib.errors import VaelibError
from vaelib.evaluate import MEASURES, Pass, evaluate
from vaelib.model import VAE
from vaelib.progress import Sitting, processor, sitting, values
from vaelib.store import Entry, Key, Store, default_store
from vaelib.track import TRACKED
from vaelib.train import Training, fit, machine, training_of
from vaelib.trainings import STAGE  # and registers them
from vaelib.weights import load_weights, save_weights

_FRESH = "make the run (again) with fresh=True, or `vaelib train --fresh`"


def key_of(config: Config) -> Key:
    """The name of the fact this config makes with today's code."""
    roots = [fit, training_of(config), build, load_data, *code_of(config.data), *parts(config)]
    roots += [*training_of(config).uses(config), *(TRACKED[name] for name in config.track)]
    training = code_digest(roots, _own_texts(config.data))
    measures = [MEASURES[name] for name in config.metrics]
    return Key(
        f"{config.hash}-{training}", code_digest([evaluate, Pass, *measures], config.evaluation)
    )


def _own_texts(data: str) -> str:
    """The content of an own corpus as a checksum; data sets with an id are pinned already."""
    folder = own_folder(data)
    if folder is None or not folder.is_dir():
        return ""
    texts = [path.read_bytes() for path in sorted(folder.glob("*.txt"))]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        entry: Where it is recorded.
        store: The store it was asked of.
    """

    entry: Entry
    store: Store

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return self.entry.config

    @property
    def metrics(self) -> dict[str, float]:
        """Metric name -> value; not-a-number where a metric is not defined."""
        return {k: math.nan if v is None else v for k, v in self.entry.record["metrics"].items()}

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, device, threads, precision, time taken, data checksums."""
        return self.entry.record["provenance"]

    @property
    def texts(self) -> dict[str, Any]:
        """A few prior samples and interpolations, as word lists."""
        return self.entry.record["texts"]

    @cached_property
    def stale(self) -> bool:
        """Whether the code that determines these numbers has changed since."""
        return self.entry.key != key_of(self.config)

    @property
    def history(self) -> pd.DataFrame:
        """One row a logged step; a committed record holds block means of at most 200 rows.

        Raises:
            VaelibError: The committed record came without them, as those of later seeds do.
        """
        folder = self.entry.folder
        if folder is not None and (folder / files.HISTORY).is_file():
            return pd.DataFrame(files.read_arrays(folder / files.HISTORY))
        if "history" not in self.entry.record:
            raise VaelibError(
                f"the run {self.entry.key} is here as a record without its single steps; {_FRESH}."
            )
        return pd.DataFrame(self.entry.record["history"])

    @property
    def epochs(self) -> pd.DataFrame:
        """Training means and validation values in nats, one row an epoch."""
        return pd.DataFrame(self.entry.record["epochs"])

    @cached_property
    def posterior(self) -> dict[str, np.ndarray]:
        """`mu`, `logvar` [N, D] of the test set (`mu` alone for vMF), in the test file's order.

        Raises:
            VaelibError: The committed record came without arrays.
        """
        if self.entry.arrays_path is None:
            raise VaelibError(
                f"the run {self.entry.key} is here as a record without its posterior arrays; "
                f"{_FRESH}."
            )
        arrays = files.read_arrays(self.entry.arrays_path, "mu", "order")
        place = np.argsort(arrays.pop("order"))
        return {name: value[place].astype(np.float32) for name, value in arrays.items()}

    @cached_property
    def corpus(self) -> Corpus:
        """The data the run was trained on, loaded again."""
        return load_data(self.config)

    def model(self) -> VAE:
        """The trained model in evaluation mode, on the CPU.

        Raises:
            VaelibError: Only the record is here, not the weights.
        """
        return self.built().model.eval()

    def built(self) -> Built:
        """The trained model with its objective and schedule, on the CPU.

        Raises:
            VaelibError: Only the record is here, not the weights.
        """
        path = self.entry.folder / files.WEIGHTS if self.entry.folder else None
        if path is None or not path.is_file():
            raise VaelibError(
                f"the run {self.entry.key} is here as a record without weights; {_FRESH}."
            )
        made = build(replace(self.config, device="cpu"), len(self.corpus.vocabulary))
        return load_weights(made, path, _FRESH)

    def example(self, number: int) -> str:
        """A test example as a text: a sentence, `post<TAB>response`, or pixels 0 and 1.

        Raises:
            VaelibError: The test split has no example of that number.
        """
        return writing.text_of(self.corpus, number)

    def generate(
        self,
        n: int | None = None,
        seed: int = 0,
        *,
        posts: Sequence[str] | None = None,
        sample_words: bool | None = None,
        beam: int | None = None,
    ) -> list[str]:
        """Texts written for codes of the prior; an image is its P pixels 0 and 1, line by line.

        Args:
            n: How many. Of pairs, responses to the first n test posts.
            seed: Of the codes, and of the words where they are drawn.
            posts: Of pairs, posts of your own in place of n; each gets a response.
            sample_words: Draw every word or pixel instead of taking the likeliest; None does so
                only for a language model, which has no codes to make its sentences differ.
            beam: Of text, search for likelier sentences among so many at each step.

        Raises:
            VaelibError: n or the posts do not fit the data, or only the record is here.
        """
        return writing.generate(
            self.model(), self.corpus, n, posts, seed=seed, sample_words=sample_words, beam=beam
        )

    def interpolate(
        self, a: str | int, b: str | int, steps: int = 6, sample_seed: int | None = None
    ) -> list[str]:
        """`steps` texts, likeliest words, on the way from one example to another (T12).

        Args:
            a, b: Texts of your own as `example` writes them, or numbers of test examples. Of
                pairs, all responses answer the post of a.
            steps: Points from a (first) to b (last).
            sample_seed: Walk between samples of the posteriors, drawn with this seed, not means.

        Raises:
            VaelibError: An end is no such text or number, or the model has no codes.
        """
        return writing.interpolate(self.model(), self.corpus, (a, b), steps, sample_seed)


def run(
    method: str,
    *,
    data: str | os.PathLike[str],
    profile: str = "laptop",
    seed: int = 0,
    fresh: bool = False,
    progress: bool = True,
    store: Store | None = None,
    **overrides: Any,
) -> Run:
    """A finished run: loaded when it is a fact already, else trained, evaluated and recorded.

    Args:
        method: A registered method or an alias ("dg", "DG-VAE").
        data: A data-set id or the folder of an own corpus.
        profile: "smoke", "laptop" or "paper".
        seed: The run's seed.
        fresh: Insist on a run in the own store, with weights and posteriors: make it (again)
            where the record alone is there.
        progress: Show a bar on stderr.
        store: Another store than `VAELIB_STORE`.
        overrides: Any field of `vaelib.config.Config`, any option of the method's parts.

    Raises:
        VaelibError: An unknown name, a value out of range, missing data, diverged training.

    Example:
        >>> import tempfile
        >>> from vaelib.store import Store
        >>> here = Store(Path(tempfile.mkdtemp()))
        >>> r = run("dg", data="grammar", profile="smoke", store=here, progress=False)
        >>> sorted(r.metrics)[:3]
        ['au', 'cu_pq', 'cu_qp']
    """
    config = resolve(method, data=check_data(data), profile=profile, seed=seed, **overrides)
    return run_config(config, store=store or default_store(), fresh=fresh, progress=progress)


def run_config(config: Config, *, store: Store, fresh: bool = False, progress: bool = False) -> Run:
    """The same for a resolved config; see `run`."""
    key = key_of(config)
    entry = store.finished(key)
    if entry is not None and (entry.whole or not fresh):
        store.tidy(key, STAGE)
        return Run(entry, store)
    corpus = load_data(config)  # before anything is written, so that bad data leaves nothing
    if len(corpus.test) < 2:
        raise VaelibError(
            f"{config.data}: the test split holds one sentence; give more, or a larger test_size."
        )
    with _enough_memory():  # the same for settings that cannot be trained
        training_of(config)(config, corpus.to(config.device))
    with store.lock(key):
        entry = store.finished(key)
        if entry is None or not entry.whole:
            here = sitting(config, store.folder(key), progress)
            with machine(config), here as watch, _enough_memory():
                _make(config, corpus.to(config.device), key, store, watch)
    finished = store.finished(key)
    assert finished is not None
    return Run(finished, store)


@contextlib.contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        lacking = isinstance(error, MemoryError) or re.search("(of|allocate) memory", str(error))
        if not lacking:
            raise
        raise VaelibError(
            "there is not enough memory for this run; lower batch_size, the sizes of the model or "
            "the numbers of samples."
        ) from error


def _make(config: Config, corpus: Corpus, key: Key, store: Store, watch: Sitting) -> None:
    """Train unless that is done, evaluate, and write the record last: with it a run is finished."""
    folder, earlier = store.folder(key), store.trained(key)
    if earlier is None:
        files.write_json(folder / "config.json", config.to_dict())
        trained = _train(config, corpus, folder, watch)
        about = trained.pop("provenance")
        watch.log(f"trained: {about['steps']} steps in {about['train_seconds']} s")
    else:
        trained = {name: earlier.record[name] for name in ("epochs", "history")}
        about = earlier.record["provenance"]
    built = build(config, len(corpus.vocabulary))
    load_weights(built, folder / files.WEIGHTS, _FRESH)
    begun = time.perf_counter()
    result = evaluate(config, built.model, corpus, built.objective)
    about = about | {"evaluate_seconds": round(time.perf_counter() - begun, 2)}
    files.write_arrays(folder / files.ARRAYS, result.arrays)
    record = {
        "key": str(key),
        "question": config.question,
        "config": config.to_dict(),
        "metrics": {k: v if math.isfinite(v) else None for k, v in result.metrics.items()},
        "texts": result.texts,
        "provenance": about,
    }
    files.write_json(store.record_path(key), record | trained)
    watch.log(f"evaluated in {about['evaluate_seconds']} s: {values(result.metrics)}")
    store.tidy(key, STAGE)


def _train(config: Config, corpus: Corpus, folder: Path, watch: Sitting) -> dict[str, Any]:
    """Train to the end and keep weights and history; the record's part about training."""
    begun = time.time()
    for state in folder.rglob(files.STATE):
        files.check(state)
    training = fit(config, corpus, folder, watch)
    watch.epochs(training.progress.epochs)
    save_weights(training.built, folder / files.WEIGHTS)
    files.write_arrays(folder / files.HISTORY, training.history_columns())
    return {
        "epochs": [
            {k: files.short(v) if math.isfinite(v) else None for k, v in row.items()}
            for row in training.progress.epochs
        ],
        "history": files.thin(training.history_columns()),
        "provenance": provenance(config, corpus, begun, training),
    }


def provenance(config: Config, corpus: Corpus, begun: float, training: Training) -> dict[str, Any]:
    """Everything needed to judge or repeat a run, JSON-ready."""
    cuda = config.device.startswith("cuda")
    packages = ("vaelib", "torch", "numpy", "pandas")
    return {
        "versions": {name: _version(name) for name in packages}
        | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": config.threads,
        "precision": config.precision,
        "matmul_precision": config.matmul_precision,
        "seed": config.seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "train_seconds": round(training.progress.seconds, 2),
        "steps": training.progress.step,
        "parameters": sum(p.numel() for p in training.built.model.parameters()),
        "data": {"id": corpus.id, "stand_in": corpus.stand_in, "checksums": corpus.checksums},
        "vocabulary": len(corpus.vocabulary),
        "test_size": len(corpus.test),
    }


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "not installed"
