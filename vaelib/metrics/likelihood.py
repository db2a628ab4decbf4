"""Metrics that ask the decoder: importance-weighted NLL, prior and posterior likelihood, PPL.

Every function here takes the model as it is: call `model.eval()` first. A model offers
`encode(x)`, `prior()` and `log_likelihood(x, z)`.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaelib.distributions import fresh_generator, rsample
from vaelib.errors import VaelibError

# Pairs of a sentence and a code held at a time by the importance-weighted NLL.
_PAIRS = 2**18
# Predicted tokens decoded at a time (their word scores come in smaller blocks), and the rows below
# which a recurrent layer slows down.
_CPU_TOKENS, _DEVICE_TOKENS, _LEAST_ROWS = 8_192, 16_384, 32


class Model(Protocol):
    """What the likelihood metrics need of a model."""

    def encode(self, x: Tensor) -> Distribution:
        """q(z|x): batch shape `[B]`, event shape `[D]`."""
        ...

    def prior(self) -> Distribution:
        """p(z): event shape `[D]`."""
        ...

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z) in nats, `[S, B]` for `z [S, B, D]`."""
        ...


def _batched_log_likelihood(model: Model, x: Tensor, z: Tensor, rows: int | None) -> Tensor:
    """Log p(x|z) `[S, B]` of `z [S, B, D]`, at most `rows` sentence-sample pairs at a time."""
    if rows is None:
        tokens = _CPU_TOKENS if x.device.type == "cpu" else _DEVICE_TOKENS
        rows = max(_LEAST_ROWS, tokens // max(1, x[0].numel() - 1))
    if rows < 1:
        raise VaelibError(f"rows={rows}: at least one decoder row is needed; raise rows.")
    sentences, draws = min(rows, len(x)), max(1, rows // len(x))
    columns = [
        torch.cat([model.log_likelihood(part, some) for some in codes.split(draws)])
        for part, codes in zip(x.split(sentences), z.split(sentences, 1), strict=True)
    ]
    return torch.cat(columns, 1)


def _draw(q: Distribution, samples: int, generator: torch.Generator | None) -> Tensor:
    """`[S, ...]` samples of `q`."""
    if samples < 1:
        raise VaelibError(f"samples={samples}: at least one is needed; raise samples.")
    return rsample(q, (samples,), generator)


def _log_mean_exp(values: Tensor) -> Tensor:
    """`log mean exp` over the first axis, in float64 where the device has it."""
    if values.device.type != "mps":
        values = values.double()
    return values.logsumexp(0) - math.log(len(values))


@torch.no_grad()
def importance_weighted_nll(
    model: Model,
    batch: Tensor,
    samples: int = 500,
    generator: torch.Generator | None = None,
    rows: int | None = None,
) -> Tensor:
    """`-log (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x)`, z_k from q(z|x).

    An upper bound of the NLL in expectation, tight as K grows; K = 1 is the negative ELBO. All
    sentences and samples go through the decoder together, `rows` pairs at a time. The codes of at
    most 262,144 pairs (or of one sentence) are held at once, so memory does not grow with `B`.

    Args:
        model: In evaluation mode.
        batch: Sentences of one length `[B, T]`.
        samples: The number K of codes for each sentence.
        generator: Source of the samples; None is a fresh one with a fixed seed.
        rows: Decoder rows (sentence-sample pairs) at a time: the bound of what the decoder takes
            of the memory, without influence on the result. None decodes about 8,192 tokens at a
            time on a CPU, 16,384 elsewhere, and no fewer than 32 rows.

    Returns:
        Nats `[B]`, summed over tokens.

    Raises:
        VaelibError: `samples` or `rows` is below 1, or the batch is empty.
    """
    if not len(batch):
        raise VaelibError("the NLL of no sentences: the batch is empty; give at least one.")
    source, sentences = fresh_generator(generator), max(1, _PAIRS // max(1, samples))
    blocks = batch.split(sentences)
    return torch.cat([_weighted_nll(model, block, samples, source, rows) for block in blocks])


def _weighted_nll(
    model: Model, x: Tensor, samples: int, source: torch.Generator, rows: int | None
) -> Tensor:
    """The NLL `[B]` of sentences whose codes `[K, B, D]` are held whole."""
    q = model.encode(x)
    z = _draw(q, samples, source)
    weights = _batched_log_likelihood(model, x, z, rows)
    weights = weights + model.prior().log_prob(z) - q.log_prob(z)
    return -_log_mean_exp(weights).to(z.dtype)


@torch.no_grad()
def prior_post_ll(
    model: Model,
    x: Tensor,
    samples: int = 8,
    generator: torch.Generator | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Prior and posterior likelihood of DG-VAE by a balance-heuristic mixture (T9).

    `samples` codes from the posterior and as many from the prior are pooled and weighted against
    Q = (p + q) / 2: priorLL = log mean p(x|z) p(z) / Q(z), postLL = log mean p(x|z) q(z|x) / Q(z).
    With 8 + 8 samples these are not comparable with a 500-sample NLL. Spherical posteriors work
    the same way.

    Args:
        model: In evaluation mode.
        x: Sentences of one length `[B, T]`.
        samples: Codes from each of the two distributions.
        generator: Source of the codes; None is a fresh one with a fixed seed.
        rows: Decoder rows at a time, as in `importance_weighted_nll`.

    Returns:
        priorLL `[B]` and postLL `[B]` in nats.

    Raises:
        VaelibError: `samples` or `rows` is below 1.
    """
    source, q, p = fresh_generator(generator), model.encode(x), model.prior()
    own = _draw(q, samples, source)
    z = torch.cat([own, rsample(p, own.shape[:-1], source).to(own)])
    log_p, log_q = p.log_prob(z), q.log_prob(z)
    weights = _batched_log_likelihood(model, x, z, rows)
    weights = weights - torch.logaddexp(log_p, log_q) + math.log(2)
    prior_ll, post_ll = _log_mean_exp(weights + log_p), _log_mean_exp(weights + log_q)
    return prior_ll.to(z.dtype), post_ll.to(z.dtype)


@torch.no_grad()
def distortion(
    model: Model,
    x: Tensor,
    samples: int = 1,
    generator: torch.Generator | None = None,
    rows: int | None = None,
) -> Tensor:
    """`-E_q log p(x|z)` by sampling; with `rate` it makes the negative ELBO.

    Args:
        model: In evaluation mode.
        x: Sentences of one length `[B, T]`.
        samples: Codes per sentence.
        generator: Source of the codes; None is a fresh one with a fixed seed.
        rows: Decoder rows at a time, as in `importance_weighted_nll`.

    Returns:
        Nats `[B]`, summed over tokens.

    Raises:
        VaelibError: `samples` or `rows` is below 1.
    """
    z = _draw(model.encode(x), samples, generator)
    return -_batched_log_likelihood(model, x, z, rows).mean(0)


@torch.no_grad()
def rate(model: Model, x: Tensor) -> Tensor:
    """KL(q(z|x) || p(z)) in closed form.

    Args:
        model: In evaluation mode.
        x: Sentences of one length `[B, T]`.

    Returns:
        Nats `[B]`.
    """
    return kl_divergence(model.encode(x), model.prior())


def perplexity(total_nll: float, total_tokens: float) -> float:
    """`exp(NLL / tokens)` over a whole data set.

    Args:
        total_nll: Nats, summed over sentences.
        total_tokens: Predicted tokens: words plus one end marker a sentence, no start marker.

    Returns:
        Perplexity; infinite where it overflows.

    Raises:
        VaelibError: There are no tokens.

    Example:
        >>> round(perplexity(100 * math.log(50), 100), 6)
        50.0
    """
    if total_tokens <= 0:
        raise VaelibError(f"perplexity over {total_tokens} tokens is undefined; give sentences.")
    per_token = total_nll / total_tokens
    return math.exp(per_token) if per_token < 709 else math.inf
