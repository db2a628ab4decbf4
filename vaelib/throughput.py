"""How fast a device trains the papers' text models, and what share of its speed that is."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from vaelib._workers import follow_parent, interrupts_held
from vaelib.build import resolve
from vaelib.config import Config
from vaelib.data.corpus import SPECIALS, Corpus, Split, Vocabulary
from vaelib.errors import VaelibError
from vaelib.strategies import autocast
from vaelib.testing import sentences
from vaelib.train import Training, machine

_LARGE = {"cpu": 1_024, "cuda": 8_192}  # rows of the matrices whose product is the device's best


@dataclass(frozen=True)
class Load:
    """A method on random sentences that are as long as those of a data set on average.

    Attributes:
        method, backbone, data: What is trained; `data` decides over the profile's exceptions.
        vocabulary: Words, markers included.
        words: Of a sentence.
    """

    method: str
    backbone: str
    data: str
    vocabulary: int
    words: int


LOADS = (
    Load("vae", "lstm", "short_yelp", 8_411, 11),
    Load("dg", "lstm", "short_yelp", 8_411, 11),
    Load("vae", "lstm", "yahoo", 20_001, 81),
    Load("vae", "gru", "ptb", 10_002, 21),
    Load("coupled", "gru", "ptb", 10_002, 21),
)


def throughput(
    device: str = "auto",
    precision: str = "fp32",
    *,
    together: int = 1,
    seconds: float = 5.0,
    loads: Sequence[Load] = LOADS,
    profile: str = "paper",
) -> pd.DataFrame:
    """Time training steps of several models on a device.

    The shares are of what the same device reaches here: the rate of one large matrix product in
    the same precision, and of a copy of a large tensor.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32" or "bf16".
        together: Processes that train at the same time, each on a model of its own.
        seconds: Of each measurement.
        loads: What is trained.
        profile: Whose sizes are taken.

    Returns:
        A row a load: tokens a second, milliseconds a step, TFLOP/s and GB/s with their shares of
        the device's, MB at the peak (CUDA only), and with `together` the tokens a second of all
        and their gain on one.

    Raises:
        VaelibError: A number is out of range, or a setting is refused.
    """
    if together < 1 or not seconds > 0:
        raise VaelibError(f"together={together}, seconds={seconds}: give 1 or more, and above 0.")
    options = {"profile": profile, "device": device, "precision": precision}
    configs = [resolve(x.method, data=x.data, backbone=x.backbone, **options) for x in loads]
    best = _best(configs[0], min(seconds, 1.0)) if configs else ()
    rows = []
    for load, config in zip(loads, configs, strict=True):
        alone = _timed(load, config, seconds)
        row = {"method": load.method, "backbone": load.backbone, "sentences like": load.data}
        row |= {"device": config.device, "precision": precision, **_shares(alone, *best)}
        if together > 1:
            every = _at_once(load, config, seconds, together)
            row |= {f"tokens/s, {together} at once": every, "gain": every / row["tokens/s"]}
        rows.append(row)
    return pd.DataFrame(rows)


def _training(load: Load, config: Config) -> Training:
    """A training on random sentences, all of one length, that lie on the device."""
    count = 4 * config.batch_size
    vocabulary = Vocabulary((*SPECIALS, *map(str, range(load.vocabulary - len(SPECIALS)))))
    ids = sentences(count, load.words + 2, load.vocabulary)
    split = Split(ids.flatten(), torch.arange(count + 1) * ids.shape[1])
    corpus = Corpus(load.data, load.data, split, split, split, vocabulary)
    return Training(config, corpus.to(config.device))


@dataclass(frozen=True)
class _Timed:
    """Steps a second, and what a step takes: tokens, operations, bytes; MB at the peak."""

    rate: float
    tokens: int
    flops: float
    traffic: float
    peak: float


def _timed(load: Load, config: Config, seconds: float, ready: Callable[[], Any] = int) -> _Timed:
    cuda = config.device.startswith("cuda")
    if cuda:  # else the peak would be that of what was measured before
        torch.cuda.reset_peak_memory_stats(config.device)
    with machine(config):
        training = _training(load, config)
        built, x = training.built, training.batches[0]
        flops = _counted(training, x)
        ready()
        rate = _rate(lambda: _step(training), config.device, seconds)
    whole = nn.ModuleList([built.model, built.objective])  # shared parts count once
    size = 4 * sum(p.numel() for p in whole.parameters())
    states = sum(1 for v in next(iter(training.optimizer.state.values()), {}).values() if v.dim())
    # Weights read twice and written, gradients written and read twice, states read and written;
    # the word scores written and read on both ways.
    scores = x[:, 1:].numel() * load.vocabulary * (2 if config.precision == "bf16" else 4)
    traffic = size * (6 + 2 * states) + 4 * scores
    peak = torch.cuda.max_memory_allocated(config.device) / 1e6 if cuda else float("nan")
    return _Timed(rate, int((x > 0).sum()), flops, traffic, peak)


def _step(training: Training) -> None:
    place = training.progress.step % len(training.batches)
    training.progress.step += 1
    training.strategy.step(training.batches[place], 0.5, training.noise)


def _counted(training: Training, x: Tensor) -> float:
    """Operations of a step: three times the forward products of linear and recurrent layers."""
    total = 0.0

    def seen(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        nonlocal total
        rows = inputs[0].numel() / inputs[0].shape[-1]
        total += 2 * rows * sum(p.numel() for p in module.parameters() if p.dim() > 1)

    whole = nn.ModuleList([training.built.model, training.built.objective])
    products = [m for m in whole.modules() if isinstance(m, nn.Linear | nn.LSTM | nn.GRU)]
    hooks = [module.register_forward_hook(seen) for module in products]
    training.strategy.step(x, 0.5, training.noise)
    for hook in hooks:
        hook.remove()
    return 3 * total


def _rate(work: Callable[[], Any], device: str, seconds: float) -> float:
    """How often a second `work` is done, the first three times not counted."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else int
    for _ in range(3):
        work()
    wait()
    done, begun = 0, time.perf_counter()
    while not done or time.perf_counter() - begun < seconds:
        work()
        done += 1
        if done % 10 == 0:
            wait()
    wait()
    return done / (time.perf_counter() - begun)


def _best(config: Config, seconds: float) -> tuple[float, float]:
    """Operations and bytes a second of a large product and of a large copy."""
    size = _LARGE[config.device.split(":")[0]]
    a = torch.randn(size, size, device=config.device)
    with machine(config), torch.no_grad(), autocast(a.device, config.precision):
        products = _rate(lambda: a @ a, config.device, seconds)
        many = torch.zeros(2, 8, size, size, device=config.device)
        copies = _rate(lambda: many[0].copy_(many[1]), config.device, seconds)
    return products * 2 * size**3, copies * 4 * many.numel()  # one half read, the other written


def _shares(found: _Timed, flops: float, traffic: float) -> dict[str, float]:
    return {
        "tokens/s": found.rate * found.tokens,
        "ms a step": 1e3 / found.rate,
        "TFLOP/s": found.rate * found.flops / 1e12,
        "% of a product": 100 * found.rate * found.flops / flops,
        "GB/s at least": found.rate * found.traffic / 1e9,
        "% of a copy": 100 * found.rate * found.traffic / traffic,
        "peak MB": found.peak,
    }


_start: Any = None


def _begin(barrier: Any) -> None:
    global _start
    follow_parent()
    _start = barrier


def _one(load: Load, config: Config, seconds: float) -> float:
    try:
        found = _timed(load, config, seconds, _start.wait)
    except BaseException:
        _start.abort()  # no other waits for this one
        raise
    return found.rate * found.tokens


def _at_once(load: Load, config: Config, seconds: float, count: int) -> float:
    """Tokens a second of `count` processes that begin together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(count, context, _begin, (barrier,)) as pool:
        with interrupts_held():
            waiting = [pool.submit(_one, load, config, seconds) for _ in range(count)]
        return sum(each.result() for each in waiting)
