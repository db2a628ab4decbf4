"""What is timed: each fast path of the package beside its plain version, on the same numbers.

At `FULL` size the slow side does a stated share of its work. At `TINY` both do all of it, and
tests/test_bench.py checks that they agree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from bench import _plain as plain
from vaelib.decoders import LSTMDecoder, greedy
from vaelib.distributions import diagonal_normal, rsample
from vaelib.layers import Shape
from vaelib.metrics import (
    active_units,
    bleu,
    conditional_entropy,
    distinct,
    distortion,
    forward_perplexity,
    importance_weighted_nll,
    kl_normal,
    mutual_information,
    mutual_posterior_divergence,
    nearest_neighbours,
    prior_post_ll,
    rouge_l,
    self_bleu,
    unit_divergences,
)
from vaelib.metrics.gradients import signal_gradients
from vaelib.objectives import density_gap
from vaelib.products import _other_product_is_faster, runs_bfloat16

Call = Callable[[], Any]
MANY_WORDS = 5_000
LONGEST = 20  # words that are written
SLACK = 0.9  # no path may be slower than its plain version; a tenth is noise
NARROW = 1e-3  # nats that bfloat16 may move a mean
AMD = _other_product_is_faster()
AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"


@dataclass(frozen=True)
class Size:
    """How much work.

    Attributes:
        examples, dim: Posteriors N and D.
        draws: Of the Monte-Carlo CU.
        share: Divides the work of the slow sides that say so.
        model: Word, state and code sizes, vocabulary.
        sentences, length: Of a batch for the decoder, markers included.
        codes: K.
        texts: Generated sentences.
    """

    examples: int
    dim: int
    draws: int
    share: int
    model: tuple[int, int, int, int]
    sentences: int
    length: int
    codes: int
    texts: int


FULL = Size(10_000, 32, 128_000, 50, (64, 128, 16, 3_038), 32, 11, 500, 2_000)
HE = Size(0, 0, 0, 1, (128, 512, 32, 8_411), 32, 11, 500, 0)  # Short-Yelp in the He family
COUPLED = Size(0, 0, 0, 1, (200, 128, 32, 10_002), 32, 23, 500, 0)  # PTB in Coupled-VAE
WIDE = Size(0, 0, 0, 1, (256, 256, 32, 10_002), 4, 23, 500, 0)  # PTB in the He family
TINY = Size(60, 3, 4_000, 1, (6, 8, 4, 40), 4, 6, 100, 25)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: What is computed.
        fast, plain: Both sides; their values agree where `share` is 1.
        share: Of the plain side's work that is done.
        least: The ratio below which something has been lost.
        asked: The ratio aimed at, where it is more; the table says which are short of it.
        close: Relative and absolute tolerance of the values.
    """

    name: str
    fast: Call
    plain: Call
    share: float = 1.0
    least: float = SLACK
    asked: float = 0.0
    close: tuple[float, float] = (1e-4, 1e-6)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def metric_cases(size: Size) -> list[Case]:
    """Every metric."""
    made = (posterior_cases, nll_cases, decoder_cases, text_cases)
    return [case for cases in made for case in cases(size)]


# ---------------------------------------------------------------- posteriors


def posterior_cases(size: Size) -> list[Case]:
    """The metrics of posteriors alone."""
    n, share = size.examples, 1 / size.share
    mu = 0.9 * torch.randn(n, size.dim, generator=seeded(1))
    logvar = 0.3 * torch.randn(n, size.dim, generator=seeded(2)) - 2
    z = rsample(diagonal_normal(mu, logvar), (), seeded())
    some = z[: n // size.share]
    draws = size.draws if size.share == 1 else size.draws // 640
    batch = min(513, n)
    queries = torch.arange(max(1, 20 // size.share))

    def information(name: str, **options: Any) -> Call:
        return lambda: mutual_information(mu, logvar, estimator=name, generator=seeded(), **options)

    def units(direction: Any) -> Call:
        return lambda: unit_divergences(mu, logvar, direction)

    return [
        Case(
            "kl",
            lambda: float(kl_normal(mu, logvar).sum(1).mean()),
            lambda: plain.rate(mu, logvar),
        ),
        Case(
            "mi_global + au",
            lambda: (information("global")(), active_units(mu)),
            lambda: (plain.global_information(mu, logvar, some), plain.active_units(mu)),
            share,
            least=15.0,
            asked=50.0,
        ),
        Case(
            "mi_aggregate_kl",
            information("aggregate_kl"),
            lambda: plain.information_gap(mu, logvar, some),
            share,
        ),
        Case(
            "mi_in_batch",
            information("in_batch"),
            lambda: plain.batch_information(mu, logvar, z),
        ),
        Case(
            f"mi_skip_self, batches of {batch}",
            information("skip_self"),
            lambda: plain.skip_self(mu[:batch], logvar[:batch], z[:batch], batch),
            batch / n,
        ),
        Case("au", lambda: active_units(mu), lambda: plain.active_units(mu)),
        Case(
            "cu_pq",
            units("p||q"),
            lambda: plain.divergences(mu, logvar, draws),
            draws / size.draws,
            200.0,
            500.0,
            (0.0, 0.1),
        ),
        Case(
            "cu_qp",
            units("q||p"),
            lambda: plain.divergences(mu, logvar, draws, reverse=True),
            draws / size.draws,
            200.0,
            500.0,
            (0.0, 0.1),
        ),
        Case(
            "mpd",
            lambda: mutual_posterior_divergence(mu, logvar),
            lambda: plain.diversity(mu, logvar, n // size.share),
            share,
        ),
        Case("ce", lambda: conditional_entropy(logvar), lambda: plain.uncertainty(logvar)),
        Case(
            "nearest neighbours",
            lambda: nearest_neighbours(mu, queries, 3)[0],
            lambda: plain.neighbours(mu, queries, 3),
        ),
        _gap_case(),
    ]


def _gap_case() -> Case:
    """The density gap of a batch of 32 with 32 samples each, and its gradient."""
    mu = torch.randn(32, 32, generator=seeded(4)).requires_grad_()
    logvar = (0.3 * torch.randn(32, 32, generator=seeded(5)) - 1).requires_grad_()

    def fast() -> Tensor:
        gap = density_gap(mu, logvar, samples=32, generator=seeded())
        return torch.cat([gap[None], *(g.flatten() for g in _gradients(gap))])

    def slow() -> Tensor:
        z = rsample(diagonal_normal(mu, logvar), (32,), seeded())
        gap = plain.density_gap(mu, logvar, z)
        return torch.cat([gap[None], *(g.flatten() for g in _gradients(gap))])

    def _gradients(gap: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(gap, (mu, logvar))

    return Case("density gap and its gradient", fast, slow, close=(1e-3, 1e-5))


# ---------------------------------------------------------------- decoders


class Decoder:
    """Just enough of a model: posteriors that differ from sentence to sentence, a decoder."""

    def __init__(self, size: Size) -> None:
        words, state, code, vocabulary = size.model
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.decoder = LSTMDecoder(Shape(vocabulary, words, state, code)).eval()
        self.dim = code

    def encode(self, x: Tensor) -> Distribution:
        mu = torch.sin(x[:, 1:2] + torch.arange(float(self.dim)))
        return diagonal_normal(mu, torch.full_like(mu, -1.0))

    def prior(self) -> Distribution:
        return diagonal_normal(torch.zeros(self.dim), torch.zeros(self.dim))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.decoder(x, z.reshape(-1, z.shape[-1])).view(z.shape[:-1])


def batch_of(size: Size, count: int | None = None) -> Tensor:
    """Random sentences [count, length] with both markers."""
    shape = (count or size.sentences, size.length)
    x = torch.randint(4, size.model[3], shape, generator=seeded(3))
    x[:, 0], x[:, -1] = 1, 2
    return x


def nll_cases(size: Size) -> list[Case]:
    """The importance-weighted NLL of one batch, and in bfloat16 where the processor has it.

    Over a large vocabulary plain's own matrix products run at two thirds of the peak of an Intel
    Xeon, so that not even twice can be had there.
    """
    model, x = Decoder(size), batch_of(size)
    z = rsample(model.encode(x), (size.codes,), seeded())
    _, state, _, vocabulary = size.model
    name = f"V = {vocabulary:,}, state {state}, {size.length - 1} tokens"
    least = 1.7 if vocabulary > MANY_WORDS and not AMD else 2.0
    if not AVX512:  # the bounds were set on processors that have it
        least = SLACK

    def fast() -> Tensor:
        return importance_weighted_nll(model, x, size.codes, seeded())

    def narrow() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return fast().mean()

    slow = no_grad(lambda: plain.importance_nll(model, x, z))
    single = Case(f"nll_iw500, {name}", no_grad(fast), slow, least=least, asked=2.5)
    if not runs_bfloat16("cpu"):
        return [single]
    return [
        single,
        Case(
            f"nll_iw500 in bfloat16, {name}",
            no_grad(narrow),
            lambda: slow().mean(),
            least=3.0 if AMD else SLACK,
            asked=3.5,
            close=(0.0, NARROW),
        ),
    ]


def decoder_cases(size: Size) -> list[Case]:
    """The other metrics of a decoder."""
    model, x = Decoder(size), batch_of(size)
    own = rsample(model.encode(x), (8,), source := seeded())
    pooled = torch.cat([own, rsample(model.prior(), own.shape[:-1], source)])
    z = rsample(model.encode(x), (1,), seeded())[0]
    codes = torch.randn(size.texts // 2, size.model[2], generator=seeded(12))
    few = codes[: len(codes) // size.share]
    e = torch.randn(size.sentences, 256, generator=seeded(6)).requires_grad_()
    signal = torch.tanh(e @ torch.randn(256, 200, generator=seeded(7)) / 16)
    return [
        Case(
            "prior_ll and post_ll",
            no_grad(lambda: prior_post_ll(model, x, 8, seeded())),
            no_grad(lambda: plain.prior_post(model, x, pooled)),
        ),
        Case(
            f"greedy generation of {len(codes):,} sentences",
            lambda: model.decoder.decode(codes, greedy, LONGEST).sum(),
            no_grad(lambda: sum(map(sum, plain.greedy(model.decoder, few, LONGEST)))),
            len(few) / len(codes),
        ),
        Case(
            "distortion",
            no_grad(lambda: distortion(model, x, 1, seeded())),
            no_grad(lambda: plain.distortion(model, x, z)),
        ),
        Case(
            "grad_signal, 200 components",
            lambda: signal_gradients(signal, e),
            lambda: plain.signal_gradients(signal, e),
        ),
    ]


def no_grad(work: Call) -> Call:
    return torch.no_grad()(work)


# ---------------------------------------------------------------- text


def text_cases(size: Size) -> list[Case]:
    """The metrics of generated sentences."""
    real, written = (texts(size.texts, seed) for seed in (8, 9))
    rows = size.texts if size.share == 1 else size.texts // 500
    pairs = list(zip(real, written, strict=True))
    return [
        Case(
            "rouge_l",
            lambda: sum(rouge_l(a, b) for a, b in pairs),
            lambda: sum(plain.rouge(a, b) for a, b in pairs),
        ),
        Case(
            "bleu_2",
            lambda: bleu(written, real, 2),
            lambda: plain.bleu(written, real, 2),
        ),
        Case(
            "self_bleu",
            lambda: self_bleu(written),
            lambda: plain.self_bleu(written, rows),
            rows / size.texts,
        ),
        Case("distinct_2", lambda: distinct(written, 2), lambda: plain.distinct(written, 2)),
        Case(
            "forward_ppl and reverse_ppl",
            lambda: forward_perplexity(real, written),
            lambda: plain.ngram_perplexity(real, written, 5),
        ),
    ]


def texts(count: int, seed: int) -> list[list[str]]:
    """Sentences of 5 to 14 words, the common ones often."""
    lengths = torch.randint(5, 15, (count,), generator=seeded(seed)).tolist()
    draws = torch.rand(sum(lengths), generator=seeded(seed + 10)).pow(3).mul(400).long().tolist()
    words = iter(f"w{i}" for i in draws)
    return [[next(words) for _ in range(n)] for n in lengths]
