"""Training steps beside plain PyTorch: on one batch, and on sentences of all lengths."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench import _plain as plain
from bench._cases import AMD, Case, Size, batch_of, seeded
from vaelib.build import Built, build, resolve
from vaelib.config import Config
from vaelib.products import fastest_product, matmul_precision
from vaelib.strategies import STRATEGIES

SENTENCES = 42_068  # of PTB
BACKBONES = {"vae": "lstm", "dg": "lstm", "coupled": "gru"}
Step = Callable[[Tensor], float]


def step_cases(size: Size, dropout: float, asked: float = 0.0) -> list[Case]:
    """One training step on a batch: forward, backward, clip, update; both sides on copies.

    Ours takes the product that `matmul_precision="auto"` does, plain's what torch does.

    Args:
        size: Of the model and the batch.
        dropout: Of words and outputs.
        asked: The ratio aimed at for the VAE on a processor of AMD.
    """
    x = batch_of(size, 32)
    cases = []
    for method, backbone in BACKBONES.items():
        ours, theirs = _pair(method, backbone, size, dropout)
        cases.append(
            Case(
                f"training step, {method}, V = {size.model[3]:,}, state {size.model[1]}",
                lambda ours=ours: ours(x),
                lambda theirs=theirs: theirs(x),
                asked=asked if method == "vae" and AMD else 0.0,
                close=(2e-4, 1e-4),
            )
        )
    return cases


def padded_cases(size: Size, batches: int) -> list[Case]:
    """Training on sentences as long as PTB's: buckets of one length beside padded batches.

    The published way draws 32 sentences of any length and pads them to the longest. Both sides take
    `batches` batches; a token that is no padding counts.
    """
    bucketed, mixed = made_batches(size.model[3], batches)
    share = real_tokens(mixed) / real_tokens(bucketed)
    cases = []
    for method in ("vae", "coupled"):
        ours, theirs = _pair(method, "gru", size, 0.5)
        cases.append(
            Case(
                f"training, {method} on gru, V = {size.model[3]:,}, beside padded batches",
                lambda ours=ours: [ours(x) for x in bucketed],
                lambda theirs=theirs: [theirs(x) for x in mixed],
                share,
                least=2.0,
                asked=3.0,
            )
        )
    return cases


def made_batches(vocabulary: int, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Batches of 32 of one length each, and of mixed lengths, padded: random words, both markers.

    Lengths have about the mean and spread of PTB's, 21 and 10 words.
    """
    source = seeded(11)
    gamma = torch.distributions.Gamma(4.4, 4.4 / 21.0)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        lengths = gamma.sample((SENTENCES,)).round().clamp(2, 82).long()
    places = torch.linspace(0, SENTENCES - 32, count).long()
    alike = lengths.sort().values[places, None].expand(-1, 32)
    bucketed, mixed = (
        [_sentences(row, vocabulary, source) for row in rows]
        for rows in (alike, lengths[: 32 * count].view(count, 32))
    )
    return bucketed, mixed


def _sentences(lengths: Tensor, vocabulary: int, source: torch.Generator) -> Tensor:
    shape = len(lengths), int(lengths.max()) + 2
    x = torch.randint(4, vocabulary, shape, generator=source)
    places = torch.arange(shape[1])
    x[:, 0] = 1
    x[places == lengths[:, None] + 1] = 2
    return x.masked_fill(places > lengths[:, None] + 1, 0)


def real_tokens(batches: list[Tensor]) -> int:
    return sum(int((x > 0).sum()) for x in batches)


def config_of(method: str, backbone: str, size: Size, dropout: float) -> Config:
    """The run whose model is trained."""
    words, state, code, _ = size.model
    options: dict[str, Any] = {"encoder_dropout": dropout} if backbone == "gru" else {}
    return resolve(
        method,
        data="grammar",
        backbone=backbone,
        embedding_dim=words,
        hidden_dim=state,
        latent_dim=code,
        dropout_in=dropout,
        dropout_out=dropout,
        optimizer="adam",
        lr=1e-3,
        **options,
    )


def _pair(method: str, backbone: str, size: Size, dropout: float) -> tuple[Step, Step]:
    """Our step and the plain one, each with a copy of the same model."""
    config = config_of(method, backbone, size, dropout)
    ours, theirs = (build(config, size.model[3]) for _ in range(2))
    optimizer = torch.optim.Adam(_trained(ours), lr=config.lr, fused=True)
    strategy = STRATEGIES["joint"](ours.model, ours.objective, optimizer, config.clip, "fp32")
    ours.model.train(), ours.objective.train(), theirs.model.train(), theirs.objective.train()

    def fast(x: Tensor) -> float:
        with matmul_precision(fastest_product("cpu")):
            return float(strategy.step(x, 0.5, seeded())["loss"])

    return fast, _plain_step(method, backbone, theirs, size.model[2])


def _trained(built: Built) -> list[torch.nn.Parameter]:
    every = [*built.model.parameters(), *built.objective.parameters()]
    return [p for p in dict.fromkeys(every) if p.requires_grad]


def _plain_step(method: str, backbone: str, built: Built, code: int) -> Step:
    parameters = _trained(built)
    optimizer = torch.optim.Adam(parameters, lr=1e-3)

    def loss(x: Tensor) -> Tensor:
        source = seeded()
        noise = torch.randn(len(x), code, generator=source)
        if method == "coupled":
            return plain.coupled_loss(built.model, built.objective.extras["coupled"], x, noise, 0.5)
        if method == "dg":
            more = torch.randn(32, len(x), code, generator=source)
            return plain.gap_loss(built.model, x, noise, more, 0.5)
        if backbone == "gru":
            return plain.gru_vae_loss(built.model, x, noise, 0.5)
        return plain.vae_loss(built.model, x, noise, 0.5)

    def step(x: Tensor) -> float:
        value = loss(x)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        return float(value.detach())

    return step
