"""Time the metrics' fast paths beside their plain versions, in alternation, on one thread.

A plain version that would take minutes is timed on a stated fraction of its work and scaled.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _plain import monte_carlo_divergences, nll_one_at_a_time, pairwise_mi
from torch import Tensor
from torch.distributions import Distribution

from vaelib.decoders import LSTMDecoder
from vaelib.distributions import diagonal_normal, rsample
from vaelib.layers import Shape
from vaelib.metrics import importance_weighted_nll, mutual_information, unit_divergences

EXAMPLES, DIM, DRAWS = 10_000, 32, 128_000
REPEATS = 3


class Decoder:
    """Just enough of a model at the laptop recipe's size: random posteriors, an LSTM decoder."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        shape = Shape(vocab_size=3038, embedding_dim=64, hidden_dim=128, latent_dim=16)
        self.decoder = LSTMDecoder(shape).eval()

    def encode(self, x: Tensor) -> Distribution:
        """Posteriors that differ a little from sentence to sentence."""
        mu = torch.sin(x[:, :1] + torch.arange(16.0))
        return diagonal_normal(mu, torch.full_like(mu, -1.0))

    def prior(self) -> Distribution:
        """N(0, I)."""
        return diagonal_normal(torch.zeros(16), torch.zeros(16))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """As `vaelib.model.VAE` does it."""
        return self.decoder(x, z.reshape(-1, z.shape[-1])).view(z.shape[:-1])


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(
    name: str, fast: Callable[[], Any], plain: Callable[[], Any], fraction: float = 1.0
) -> None:
    """Print median seconds of both and their ratio; `fraction` of the plain work was timed."""
    fast()
    pairs = [(timed(fast), timed(plain) / fraction) for _ in range(REPEATS)]
    quick, slow = (statistics.median(column) for column in zip(*pairs, strict=True))
    note = "" if fraction == 1 else f"  (plain timed on 1/{round(1 / fraction)})"
    print(f"{name:34s} fast {quick:8.3f} s   plain {slow:9.2f} s   x{slow / quick:<7.1f}{note}")


@torch.no_grad()
def main() -> None:
    """Run all comparisons."""
    torch.set_num_threads(1)
    source = torch.Generator().manual_seed(0)
    mu = torch.randn(EXAMPLES, DIM, generator=source) * 0.9
    logvar = torch.randn(EXAMPLES, DIM, generator=source) * 0.3 - 2
    z = rsample(diagonal_normal(mu, logvar))
    compare(
        f"mi_global, N={EXAMPLES}, D={DIM}",
        lambda: mutual_information(mu, logvar),
        lambda: pairwise_mi(mu, logvar, z[: EXAMPLES // 50]),
        1 / 50,
    )
    compare(
        f"cu_pq, N={EXAMPLES}, D={DIM}",
        lambda: unit_divergences(mu, logvar),
        lambda: monte_carlo_divergences(mu, logvar, DRAWS // 640),
        1 / 640,
    )
    model, batch = Decoder(), torch.randint(4, 3038, (32, 11), generator=source)
    compare(
        "nll_iw500, 32 sentences, T=11",
        lambda: importance_weighted_nll(model, batch),
        lambda: nll_one_at_a_time(model, batch, 500),
    )


if __name__ == "__main__":
    main()
