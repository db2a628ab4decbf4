"""The plain versions that the fast paths are timed against: one loop per definition.

They use the layers of our models, and nothing else of the package: torch's distributions, full
tables of word scores, dictionaries and lists.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from vaelib.model import VAE

BATCH = 32  # sentences that come at a time
CHUNK = 100  # codes decoded at a time, as published
Sentences = Sequence[Sequence[str]]

# ---------------------------------------------------------------- posteriors


def normal(mu: Tensor, logvar: Tensor) -> Independent:
    return Independent(Normal(mu, torch.exp(0.5 * logvar)), 1)


def rate(mu: Tensor, logvar: Tensor) -> float:
    """Batch after batch, as an evaluation loop meets them."""
    total = 0.0
    for m, v in zip(mu.split(BATCH), logvar.split(BATCH), strict=True):
        prior = normal(torch.zeros_like(m), torch.zeros_like(v))
        total += kl_divergence(normal(m, v), prior).sum().item()
    return total / len(mu)


def log_mixture(mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """log (1/N) sum_n q_n(z) of every z, a batch of them against all posteriors at a time."""
    q = normal(mu, logvar)
    parts = [torch.logsumexp(q.log_prob(some[:, None]), 1) for some in z.split(BATCH)]
    return torch.cat(parts) - math.log(len(mu))


def global_information(mu: Tensor, logvar: Tensor, z: Tensor) -> float:
    """For the first len(z) posteriors, one sample each."""
    entropy = normal(mu, logvar).entropy()[: len(z)]
    return float((-entropy - log_mixture(mu, logvar, z)).mean())


def information_gap(mu: Tensor, logvar: Tensor, z: Tensor) -> float:
    """The mean KL less that of the aggregated posterior, for the first len(z) posteriors."""
    m, v = mu[: len(z)], logvar[: len(z)]
    prior = normal(torch.zeros_like(m), torch.zeros_like(v))
    divergence = kl_divergence(normal(m, v), prior)
    return float((divergence - log_mixture(mu, logvar, z) + prior.log_prob(z)).mean())


def batch_information(mu: Tensor, logvar: Tensor, z: Tensor) -> float:
    """The same as the global one within each batch."""
    groups = zip(mu.split(BATCH), logvar.split(BATCH), z.split(BATCH), strict=True)
    return sum(len(s) * global_information(m, v, s) for m, v, s in groups) / len(mu)


def skip_self(mu: Tensor, logvar: Tensor, z: Tensor, size: int) -> float:
    """Every sample against the others of its batch, itself taken out by hand."""
    total = 0.0
    for m, v, points in zip(mu.split(size), logvar.split(size), z.split(size), strict=True):
        q = normal(m, v)
        for i, point in enumerate(points):
            each = q.log_prob(point)
            others = torch.cat([each[:i], each[i + 1 :]])
            total += float(each[i] - torch.logsumexp(others, 0) + math.log(len(others)))
    return total / len(z)


def active_units(mu: Tensor) -> int:
    """Two passes over the batches: the mean, then the variance around it."""
    mean = sum(batch.sum(0) for batch in mu.split(BATCH)) / len(mu)
    squares = sum((batch - mean).square().sum(0) for batch in mu.split(BATCH))
    return int((squares / (len(mu) - 1) >= 0.01).sum())


def divergences(mu: Tensor, logvar: Tensor, draws: int, reverse: bool = False) -> Tensor:
    """KL(p || q) of each dimension from prior draws, or KL(q || p) from posterior draws."""
    source, total = torch.Generator().manual_seed(0), torch.zeros(mu.shape[1])
    scale, prior = torch.exp(0.5 * logvar), Normal(0.0, 1.0)
    q = Normal(mu, scale)
    for _ in range(draws):
        z = torch.randn(mu.shape[1], generator=source)
        if reverse:
            i = int(torch.randint(len(mu), (), generator=source))
            z = mu[i] + scale[i] * z
        log_q = torch.logsumexp(q.log_prob(z), 0) - math.log(len(mu))
        total += log_q - prior.log_prob(z) if reverse else prior.log_prob(z) - log_q
    return total / draws


def diversity(mu: Tensor, logvar: Tensor, rows: int) -> float:
    """Mean KL of the first `rows` posteriors to all of them."""
    every = normal(mu, logvar)
    return (
        sum(
            float(kl_divergence(normal(m, v).expand([len(mu)]), every).mean())
            for m, v in zip(mu[:rows], logvar[:rows], strict=True)
        )
        / rows
    )


def uncertainty(logvar: Tensor) -> float:
    """Mean entropy, batch after batch."""
    parts = [normal(torch.zeros_like(v), v).entropy().sum() for v in logvar.split(BATCH)]
    return float(torch.stack(parts).sum()) / len(logvar)


def neighbours(mu: Tensor, queries: Tensor, count: int) -> Tensor:
    """One query, and one example, at a time."""
    found = []
    for query in queries.tolist():
        near = [(float(F.cosine_similarity(mu[query], m, 0)), i) for i, m in enumerate(mu)]
        best = sorted((pair for pair in near if pair[1] != query), reverse=True)[:count]
        found.append([i for _, i in best])
    return torch.tensor(found)


# ---------------------------------------------------------------- decoders


def lstm_log_likelihood(decoder: Any, x: Tensor, z: Tensor) -> Tensor:
    """log p(x|z) [B] of sentences [B, T] under codes [B, D], with a whole table of scores."""
    dropped = decoder.shape
    words = F.dropout(decoder.embedding(x[:, :-1]), dropped.dropout_in, decoder.training)
    inputs = torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1)
    cell = decoder.to_cell(z)[None]
    output, _ = decoder.lstm(inputs, (torch.tanh(cell), cell))
    scores = decoder.project(F.dropout(output, dropped.dropout_out, decoder.training))
    return -F.cross_entropy(scores.transpose(1, 2), x[:, 1:], reduction="none").sum(1)


def greedy(decoder: Any, z: Tensor, longest: int) -> list[list[int]]:
    """The likeliest words for one code after another, until the end marker."""
    written = []
    for code in z:
        cell = decoder.to_cell(code)[None, None]
        state, sentence = (torch.tanh(cell), cell), [1]
        while sentence[-1] != 2 and len(sentence) <= longest:
            word = decoder.embedding(torch.tensor([[sentence[-1]]]))
            output, state = decoder.lstm(torch.cat([word, code[None, None]], -1), state)
            sentence.append(int(decoder.project(output).argmax()))
        written.append(sentence[1:])
    return written


def importance_nll(model: Any, batch: Tensor, z: Tensor) -> Tensor:
    """One sentence at a time, its codes `z [K, B, D]` in chunks of 100, as published."""
    values = []
    for x, codes in zip(batch.split(1), z.unbind(1), strict=True):
        q, weights = model.encode(x), []
        for some in codes.split(CHUNK):
            copies = x.expand(len(some), -1)
            ratio = model.prior().log_prob(some) - q.log_prob(some)
            weights.append(lstm_log_likelihood(model.decoder, copies, some) + ratio)
        values.append(math.log(len(codes)) - torch.cat(weights).logsumexp(0))
    return torch.stack(values)


def prior_post(model: Any, batch: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Both likelihoods from pooled codes `z [S, B, D]`, one sentence at a time."""
    pairs = []
    for x, codes in zip(batch.split(1), z.unbind(1), strict=True):
        log_p, log_q = model.prior().log_prob(codes), model.encode(x).log_prob(codes)
        log_px = lstm_log_likelihood(model.decoder, x.expand(len(codes), -1), codes)
        weights = log_px - torch.logaddexp(log_p, log_q) + math.log(2)
        both = (torch.logsumexp(weights + w, 0) - math.log(len(codes)) for w in (log_p, log_q))
        pairs.append(torch.stack([*both]))
    prior_ll, post_ll = torch.stack(pairs, 1)
    return prior_ll, post_ll


def distortion(model: Any, batch: Tensor, z: Tensor) -> Tensor:
    """One sentence at a time under one code each."""
    pairs = zip(batch.split(1), z.split(1), strict=True)
    return -torch.cat([lstm_log_likelihood(model.decoder, x, code) for x, code in pairs])


def signal_gradients(signal: Tensor, e: Tensor) -> Tensor:
    """One backward pass for each component of the signal, as published."""
    total = torch.zeros(len(e))
    for component in signal.unbind(1):
        (gradient,) = torch.autograd.grad(component.sum(), e, retain_graph=True)
        total += gradient.square().sum(1)
    return total / signal.detach().square().sum(1)


# ---------------------------------------------------------------- training


def vae_loss(model: VAE, x: Tensor, noise: Tensor, weight: float) -> Tensor:
    """The annealed negative ELBO of the He-family VAE, mean over sentences."""
    mu, logvar, z = _codes(model, x, noise)
    kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(1)
    return (-lstm_log_likelihood(model.decoder, x, z) + weight * kl).mean()


def gap_loss(model: VAE, x: Tensor, noise: Tensor, more: Tensor, weight: float) -> Tensor:
    """The same with the density gap in place of the rate; `more [M, B, D]` is its noise."""
    mu, logvar, z = _codes(model, x, noise)
    gap = density_gap(mu, logvar, mu + torch.exp(0.5 * logvar) * more)
    return (-lstm_log_likelihood(model.decoder, x, z)).mean() + weight * gap


def _codes(model: Any, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, (h, _) = model.encoder.lstm(model.encoder.embedding(x))
    mu, logvar = model.posterior.linear(h[-1]).chunk(2, -1)
    return mu, logvar, mu + torch.exp(0.5 * logvar) * noise


def density_gap(mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """Eq. 11 of DG-VAE for samples `z [M, n, D]`: every pair at once, gradient by autograd."""
    points = z.flatten(0, 1)[:, None]
    each = Normal(mu, torch.exp(0.5 * logvar)).log_prob(points)
    log_q = torch.logsumexp(each, 1) - math.log(len(mu))
    return (log_q - Normal(0.0, 1.0).log_prob(points[:, 0])).mean(0).sum()


def gru_log_likelihood(decoder: Any, x: Tensor, h: Tensor) -> Tensor:
    """log p(x|h) [B] of the GRU decoder told signals `h [B, S]`."""
    _, state = decoder.gru(torch.cat([h, h], -1)[:, None])
    words = decoder.embedding(x[:, :-1])
    inputs = torch.cat([words, h[:, None].expand(-1, words.shape[1], -1)], -1)
    dropped = decoder.shape
    output, _ = decoder.gru(F.dropout(inputs, dropped.dropout_in, decoder.training), state)
    output = F.dropout(output, dropped.dropout_out, decoder.training)
    scores = decoder.project(torch.tanh(decoder.combine(output)))
    loss = F.cross_entropy(scores.transpose(1, 2), x[:, 1:], ignore_index=0, reduction="none")
    return -loss.sum(1)


def gru_vae_loss(model: Any, x: Tensor, noise: Tensor, weight: float) -> Tensor:
    """The annealed negative ELBO with the backbone of Coupled-VAE."""
    _, kl, h = _gru_codes(model, x, noise)
    return (-gru_log_likelihood(model.decoder, x, h) + weight * kl).mean()


def _gru_codes(model: Any, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the encoder says [B, E], the KL divergence [B], the signal of a code [B, S]."""
    encoder = model.encoder
    words = F.dropout(encoder.embedding(x[:, 1:-1]), encoder.rate, encoder.training)
    lengths = (x > 0).sum(1) - 2
    if int(lengths.min()) < words.shape[1]:
        words = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
    _, last = encoder.gru(words)
    e = torch.cat([last[0], last[1]], -1)
    mu, log_sigma = model.posterior.mu(e), model.posterior.log_scale(e)
    kl = 0.5 * (mu.square() + torch.exp(2 * log_sigma) - 2 * log_sigma - 1).sum(1)
    return e, kl, model.decoder.to_signal(mu + log_sigma.exp() * noise)


def coupled_loss(model: Any, term: Any, x: Tensor, noise: Tensor, weight: float) -> Tensor:
    """Coupled-VAE, Eqs. 4 and 5, with the kernel distance."""
    decoder = model.decoder
    e, kl, h = _gru_codes(model, x, noise)
    guide = term.decoder.to_signal(term.posterior.mu(e))
    distance = (h - guide.detach()).square().sum(1)
    match = -sum(scale / (scale + distance) for scale in term.scales)
    both = gru_log_likelihood(decoder, x, h) + gru_log_likelihood(term.decoder, x, guide)
    return (-both + weight * kl + term.match_weight * match).mean()


# ---------------------------------------------------------------- text


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence by the usual table."""
    row = [0] * (len(b) + 1)
    for word in a:
        above, row = row, [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    return row[-1]


def rouge(a: Sequence[str], b: Sequence[str]) -> float:
    total = len(a) + len(b)
    return 2 * common_length(a, b) / total if total else 0.0


def grams(sentence: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(sentence[i : i + n]) for i in range(len(sentence) - n + 1)]


def bleu(hypotheses: Sentences, references: Sentences, order: int) -> float:
    """Clipped counts by counting again and again."""
    matched = total = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        mine, theirs = grams(hypothesis, order), grams(reference, order)
        matched += sum(min(mine.count(gram), theirs.count(gram)) for gram in set(mine))
        total += len(mine)
    lengths = [sum(map(len, text)) for text in (hypotheses, references)]
    penalty = math.exp(min(0.0, 1 - lengths[1] / lengths[0]))
    return 100 * penalty * matched / total


def self_bleu(sentences: Sentences, rows: int, order: int = 4) -> float:
    """The first `rows` sentences, each against all the others."""
    total = 0.0
    for i, sentence in enumerate(sentences[:rows]):
        others = [other for j, other in enumerate(sentences) if j != i]
        total += _sentence_bleu(sentence, others, order)
    return 100 * total / rows


def _sentence_bleu(sentence: Sequence[str], others: Sentences, order: int) -> float:
    logs = []
    for n in range(1, min(order, len(sentence)) + 1):
        mine, best = Counter(grams(sentence, n)), Counter[tuple[str, ...]]()
        for other in others:
            best |= Counter(grams(other, n))
        matched = sum(min(count, best[gram]) for gram, count in mine.items())
        if n == 1 and not matched:
            return 0.0
        logs.append(math.log((matched or 0.1) / sum(mine.values())))
    nearest = min((len(other) for other in others), key=lambda k: (abs(k - len(sentence)), k))
    penalty = math.exp(min(0.0, 1 - nearest / len(sentence)))
    return penalty * math.exp(sum(logs) / len(logs))


def distinct(sentences: Sentences, n: int) -> float:
    every = [gram for sentence in sentences for gram in grams(sentence, n)]
    return len(set(every)) / len(every)


def ngram_perplexity(train: Sentences, test: Sentences, order: int) -> float:
    """Interpolated modified Kneser-Ney by dictionaries and recursion."""
    model = _KneserNey(train, order)
    nats = tokens = 0.0
    for sentence in test:
        padded = ("<s>", *sentence, "</s>")
        for i in range(1, len(padded)):
            context = padded[max(0, i - order + 1) : i]
            nats -= math.log(model.probability(padded[i], context))
        tokens += len(sentence) + 1
    return math.exp(nats / tokens)


class _KneserNey:
    def __init__(self, train: Sentences, order: int) -> None:
        counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order + 1)]
        before: list[dict[tuple[str, ...], set[str]]] = [{} for _ in range(order + 1)]
        for sentence in train:
            padded = ["<s>", *sentence, "</s>"]
            for n in range(1, order + 1):
                for gram in grams(padded, n):
                    counts[n][gram] += 1
                    before[n - 1].setdefault(gram[1:], set()).add(gram[0])
        del counts[1]["<s>",]
        for n in range(1, order):
            for gram in counts[n]:
                if gram[0] != "<s>":
                    counts[n][gram] = len(before[n].get(gram, ()))
        self.counts = counts
        self.discounts = [_discounts(list(count.values())) for count in counts]
        self.following: dict[tuple[str, ...], tuple[int, float]] = {}
        for n in range(1, order + 1):
            for gram, count in counts[n].items():
                total, freed = self.following.get(gram[:-1], (0, 0.0))
                freed += self.discounts[n][min(count, 3)] if count else 0.0
                self.following[gram[:-1]] = (total + count, freed)

    def probability(self, word: str, context: tuple[str, ...]) -> float:
        lower = self.probability(word, context[1:]) if context else 1 / (len(self.counts[1]) + 1)
        total, freed = self.following.get(context, (0, 0.0))
        if not total:
            return lower
        count = self.counts[len(context) + 1].get((*context, word), 0)
        kept = (count - self.discounts[len(context) + 1][min(count, 3)]) / total if count else 0.0
        return kept + freed / total * lower


def _discounts(counts: list[int]) -> list[float]:
    n = [sum(count == j for count in counts) for j in range(5)]
    if not (n[1] and n[2] and n[3]):
        return [0.0, 0.5, 1.0, 1.5]
    y = n[1] / (n[1] + 2 * n[2])
    found = [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)]
    return [0.0, *found] if min(found) >= 0 else [0.0, 0.5, 1.0, 1.5]
