"""Claims of DU-VAE that need no training: its Proposition 1, and the entropy that flows take away.

Everything is measured on the package's own parts, and held against the closed forms.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor

from vaelib.layers import Shape, make_generator
from vaelib.metrics import conditional_entropy, mutual_posterior_divergence
from vaelib.posteriors_du import ALPHA, VarianceDropout
from vaelib.posteriors_flow import IAFPosterior

SEEDS, SENTENCES, LATENT = 8, 128, 4
DRAWS = 16  # masks of each posterior
KEEPS = (0.9, 0.8, 0.7, 0.6)
ENTROPY = math.log(2 * math.pi * math.e)  # twice that of N(0, 1)


@dataclass(frozen=True)
class Posteriors:
    """Posteriors of which the variance is known in two parts.

    Attributes:
        mu: Means `[N, D]`.
        excess: Log of what the variance has above its floor alpha `[N, D]`.
    """

    mu: Tensor
    excess: Tensor

    @property
    def variance(self) -> Tensor:
        """Variances `[N, D]`, above alpha."""
        return self.excess.exp() + ALPHA


def random_posteriors(
    seed: int, gamma: float = 0.5, sentences: int = SENTENCES, latent: int = LATENT
) -> Posteriors:
    """Means of variance gamma^2 in every dimension, as batch norm leaves them, and any variances.

    Args:
        seed: Of the draws.
        gamma: Standard deviation of the means.
        sentences, latent: N and D.
    """
    generator = make_generator(seed, "posteriors")
    mu, noise = torch.randn(2, sentences, latent, generator=generator, dtype=torch.float64)
    standard = (mu - mu.mean(0)) / mu.std(0, correction=0)
    return Posteriors(gamma * standard, 0.5 * noise - 0.7)


def drop(excess: Tensor, keep: float, seed: int) -> Tensor:
    """Log variances after the package's variance dropout, as a training step has them.

    Args:
        excess: As of `Posteriors`, `[N, D]`.
        keep: p, the probability to keep a variance.
        seed: Of the masks.
    """
    shape = Shape(vocab_size=4, embedding_dim=1, hidden_dim=1, latent_dim=excess.shape[1])
    dropout = VarianceDropout(shape, gamma=0.5, keep_probability=keep, norm_eps=1e-8).train()
    dropout.begin_step(True, make_generator(seed, "masks"))
    return dropout.floored(excess)


def sampled(q: Posteriors, keep: float, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """MPD and CE in nats of dropped posteriors, every posterior with `draws` masks."""
    logvar = drop(q.excess.repeat(draws, 1), keep, seed)
    return mutual_posterior_divergence(q.mu.repeat(draws, 1), logvar), conditional_entropy(logvar)


def closed_form(q: Posteriors, keep: float) -> tuple[float, float]:
    """The same in expectation over the masks, by Eq. S14 of the paper.

    The expectation of the variance is what it was; those of its inverse and of its logarithm are
    sums over the two outcomes, kept and dropped.
    """
    kept = q.excess.exp() / keep + ALPHA
    inverse = keep / kept + (1 - keep) / ALPHA
    logarithm = keep * kept.log() + (1 - keep) * math.log(ALPHA)
    centred = q.mu - q.mu.mean(0)
    apart = centred.square().mean(0)[None] + centred.square()  # mean over the other sentence
    mpd = (apart * inverse).mean(0) + q.variance.mean(0) * inverse.mean(0) - 1
    ce = logarithm.mean(0) + ENTROPY
    return 0.5 * float(mpd.sum()), 0.5 * float(ce.sum())


def bound(q: Posteriors, keep: float) -> float:
    """What MPD exceeds whatever the variances are: (1 - p)/alpha times the variances of the means.

    Eq. 8 of the paper, nats.
    """
    return (1 - keep) / ALPHA * float(q.mu.var(0, correction=0).sum())


def proposition(
    gammas: Sequence[float],
    keeps: Sequence[float] = (1.0, *KEEPS),
    latent: int = LATENT,
    seed: int = 0,
) -> pd.DataFrame:
    """Proposition 1 in numbers, on random posteriors whose variances are the same at each gamma.

    Args:
        gammas: Standard deviations of the means.
        keeps: Probabilities to keep a variance.
        latent: D.
        seed: Of posteriors and masks.

    Returns:
        A row a gamma and p: `gamma`, `keep`, `mpd`, `ce` (closed form), `mpd_sampled`,
        `ce_sampled` and `bound`, nats.
    """
    rows = []
    for gamma in gammas:
        q = random_posteriors(seed, gamma, latent=latent)
        for keep in keeps:
            (mpd, ce), drawn = closed_form(q, keep), sampled(q, keep, seed)
            row = {"gamma": gamma, "keep": keep, "mpd": mpd, "ce": ce, "bound": bound(q, keep)}
            rows.append(row | {"mpd_sampled": drawn[0], "ce_sampled": drawn[1]})
    return pd.DataFrame(rows)


def variance_scores(keep: float) -> dict[int, float]:
    """How far dropped variances lie from their expectation, in standard errors.

    Returns:
        Seed -> (mean over masks, sentences and dimensions of dropped less whole variance) / its
        standard error, about normal with variance 1 where the expectation is kept.
    """
    return {seed: _score(random_posteriors(seed), keep, seed) for seed in range(SEEDS)}


def _score(q: Posteriors, keep: float, seed: int) -> float:
    dropped = drop(q.excess.repeat(DRAWS, 1), keep, seed).exp()
    change = (dropped - q.variance.repeat(DRAWS, 1)).flatten()
    return float(change.mean() / (change.std() / len(change) ** 0.5))


def changes(keeps: Iterable[float] = KEEPS) -> dict[str, dict[int, float]]:
    """What dropping does to diversity and uncertainty, step by step as p falls from 1.

    Args:
        keeps: Probabilities to keep a variance, falling.

    Returns:
        For "mpd", "ce" and "entropy", seed -> nats: the least rise of MPD from one p to the next,
        the largest change of CE, and the least entropy of any posterior in any dimension.
    """
    found: dict[str, dict[int, float]] = {"mpd": {}, "ce": {}, "entropy": {}}
    for seed in range(SEEDS):
        q = random_posteriors(seed)
        steps = [sampled(q, keep, seed) for keep in (1.0, *keeps)]
        found["mpd"][seed] = min(b[0] - a[0] for a, b in pairwise(steps))
        found["ce"][seed] = max(b[1] - a[1] for a, b in pairwise(steps))
        lowest = min(float(drop(q.excess, keep, seed).min()) for keep in keeps)
        found["entropy"][seed] = 0.5 * (lowest + ENTROPY)
    return found


@torch.no_grad()
def entropy_falls(scale: float = 3.0) -> dict[int, float]:
    """How often an autoregressive flow takes entropy away.

    Args:
        scale: Weights of the flows are drawn from a range as wide as this, far from their start.

    Returns:
        Seed of a random network -> share of sentences, a sample each, with |dz_T/dz_0| < 1. Where
        that is all of them, H(z_T|x) < H(z_0|x), whatever the sentences (Eq. S23).
    """
    found = {}
    for seed in range(SEEDS):
        generator = make_generator(seed, "flows")
        shape = Shape(vocab_size=4, embedding_dim=1, hidden_dim=8, latent_dim=LATENT)
        posterior = IAFPosterior(8, shape, flow_width=8)
        for weight in posterior.parameters():
            weight.copy_(scale * torch.rand(weight.shape, generator=generator) - 0.5 * scale)
        h, start = (torch.randn(SENTENCES, n, generator=generator) for n in (8, LATENT))
        context = posterior.linear(h).chunk(2, dim=-1)[1]
        _, log_det = posterior.flow(start, context)
        found[seed] = float((log_det.sum(-1) < 0).float().mean())
    return found
