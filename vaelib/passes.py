"""The shared work of one evaluation, and the registry of what it computes."""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaelib.config import Config
from vaelib.data import Corpus
from vaelib.distributions import is_gaussian, mean_logvar, rsample
from vaelib.layers import make_generator
from vaelib.metrics import importance_weighted_nll, prior_post_ll
from vaelib.model import VAE
from vaelib.noise import has_density
from vaelib.objectives import Objective
from vaelib.registry import Registry

Values = dict[str, float]
MOST_NATS = 700  # a token; e to the power of more is infinite


class Pass:
    """Shared work of one evaluation; each metric draws from a generator of its own.

    Args:
        config: The run's config.
        model: In evaluation mode.
        corpus: Its data, on the config's device.
        objective: What it was trained with, where that is known.
    """

    def __init__(
        self, config: Config, model: VAE, corpus: Corpus, objective: Objective | None = None
    ) -> None:
        self.config, self.model, self.corpus, self.objective = config, model, corpus, objective
        self.buckets = corpus.test.buckets(config.batch_size)
        self.batches = [corpus.test.gather(i) for i in self.buckets]
        self.tokens = corpus.test.predicted

    def generator(self, purpose: str) -> torch.Generator:
        """A fresh generator for one metric."""
        return make_generator(self.config.seed, f"evaluate/{purpose}", self.config.device)

    @cached_property
    def posteriors(self) -> list[Distribution]:
        """q(z|x) of every test batch."""
        return [self.model.encode(x) for x in self.batches]

    @property
    def gaussian(self) -> bool:
        """Whether AU, CU and MI are defined (T10)."""
        return is_gaussian(self.posteriors[0])

    @property
    def dense(self) -> bool:
        """Whether q(z|x) has a density, which weights of samples need; a point has none."""
        return has_density(self.posteriors[0])

    @cached_property
    def rows(self) -> list[Tensor]:
        """Where each batch's sentences stand in `statistics`."""
        sizes = [len(x) for x in self.batches]
        return list(torch.arange(sum(sizes)).split(sizes))

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """mu, logvar [N, D] of the test set, in the order of its batches."""
        pairs = [mean_logvar(q) for q in self.posteriors]
        return torch.cat([m for m, _ in pairs]), torch.cat([v for _, v in pairs])

    @cached_property
    def rate(self) -> float:
        """Mean KL(q(z|x) || p(z)) in nats; not a number where q(z|x) has no density."""
        if not self.dense:
            return math.nan
        p = self.model.prior()
        return float(torch.cat([kl_divergence(q, p) for q in self.posteriors]).mean())

    @cached_property
    def distortion(self) -> float:
        """Mean -log p(x|z) in nats, one z each."""
        generator = self.generator("distortion")
        pairs = zip(self.batches, self.posteriors, strict=True)
        each = [self.model.log_likelihood(x, rsample(q, (), generator)) for x, q in pairs]
        return -float(torch.cat(each).mean())

    @cached_property
    def mixture(self) -> tuple[float, float]:
        """prior_ll and post_ll in nats (T9)."""
        if not self.dense:
            return math.nan, math.nan
        generator, samples = self.generator("prior_ll"), self.config.mixture_samples
        pairs = [prior_post_ll(self.model, x, samples, generator) for x in self.batches]
        prior, post = (torch.cat([pair[i] for pair in pairs]).mean() for i in (0, 1))
        return float(prior), float(post)

    @cached_property
    def iw(self) -> tuple[float, float]:
        """Importance-weighted NLL and perplexity on the first `nll_size` examples.

        An image has no words, and so no perplexity.
        """
        if not self.dense:
            return math.nan, math.nan
        wanted = min(self.config.nll_size or len(self.tokens), len(self.tokens))
        generator = self.generator("nll_iw500")
        total = tokens = 0.0
        for indices in self.corpus.test.buckets(self.config.batch_size):
            chosen = indices[indices < wanted]
            if len(chosen):
                x = self.corpus.test.gather(chosen)
                nll = importance_weighted_nll(self.model, x, self.config.iw_samples, generator)
                total += float(nll.sum())
                tokens += float(self.tokens[chosen].sum())
        if self.corpus.holds == "images":
            return total / wanted, math.nan
        each = total / tokens
        return total / wanted, math.exp(each) if each < MOST_NATS else math.inf


Measure = Callable[[Pass], float | Values]
MEASURES: Registry[Measure] = Registry("metric")
