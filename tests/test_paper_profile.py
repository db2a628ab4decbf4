"""The `paper` profile: what the papers print about training, and real steps at true size.

Batches are random, of the published batch size and vocabulary; their sentences are short, since no
parameter depends on the length.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaelib import METHODS
from vaelib.backbones import BACKBONES
from vaelib.build import Built, backbones_of, build, load_data, options_of, resolve
from vaelib.config import Config
from vaelib.data.corpus import padded
from vaelib.data.datasets import DATASETS
from vaelib.strategies import STRATEGIES, Strategy
from vaelib.testing import sentences
from vaelib.train import OPTIMIZERS, fit, machine
from vaelib.trainings import AggressiveTraining

SYNTHETIC = 1_004
DATA = {  # of the paper that a backbone is of
    "lstm": "yahoo",
    "gru": "ptb",
    "cnn": "ptb",
    "transformer": "ptb",
    "conv": "digits",
    "resnet": "omniglot",
    "conditional": "switchboard",
}
COUPLED = {
    "embedding_dim": 200,
    "latent_dim": 32,
    "dropout_in": 0.2,
    "dropout_out": 0.2,
    "init_range": 0.0,
    "optimizer": "adam",
    "lr": 1e-3,
    "lr_factor": 0.5,
    "lr_schedule": "steps",
    "lr_from": 30_000,
    "lr_every": 2_000,
    "clip": 30.0,
    "batch_size": 32,
    "batching": "mixed",
    "select": "nll",
    "select_samples": 10,
    "iw_samples": 100,
    "schedule": "delayed",
    "anneal_steps": 40_000,
    "anneal_cycles": 1,
    "encoder_dropout": 0.2,
}
HE = {
    "latent_dim": 32,
    "dropout_in": 0.5,
    "dropout_out": 0.5,
    "init_range": 0.01,
    "embedding_range": 0.1,
    "optimizer": "sgd",
    "clip": 5.0,
    "batch_size": 32,
    "batching": "buckets",
    "lr_schedule": "plateau",
    "lr_factor": 0.5,
    "patience": 5,
    "decay_from_epoch": 15,
    "max_decays": 5,
    "schedule": "linear",
    "warmup_epochs": 10.0,
    "start": 0.0,
}
PROTOCOL: dict[tuple[str, str], dict[str, Any]] = {  # A.0.1 to A.0.5, A.26 and A.29
    ("lstm", "yahoo"): HE | {"embedding_dim": 512, "hidden_dim": 1024, "epochs": 100},
    ("lstm", "yelp"): HE | {"embedding_dim": 512, "hidden_dim": 1024, "epochs": 100},
    ("lstm", "short_yelp"): HE | {"embedding_dim": 128, "hidden_dim": 512, "epochs": 100},
    ("lstm", "snli"): HE | {"embedding_dim": 128, "hidden_dim": 512, "epochs": 100},
    ("lstm", "ptb"): HE | {"embedding_dim": 256, "hidden_dim": 256, "epochs": 100},
    ("lstm", "synthetic"): HE
    | {"embedding_dim": 50, "hidden_dim": 50, "latent_dim": 2, "epochs": 50},
    ("gru", "ptb"): COUPLED | {"hidden_dim": 128, "epochs": 46, "anneal_wait": 2_000},
    ("gru", "yelp13"): COUPLED | {"hidden_dim": 256, "epochs": 31, "anneal_wait": 1_000},
    ("gru", "yahoo"): COUPLED | {"hidden_dim": 256, "epochs": 20, "anneal_wait": 1_000},
    ("cnn", "ptb"): COUPLED
    | {"hidden_dim": 128, "cnn_channels": 256, "cnn_rounds": 1, "anneal_wait": 2_000},
    ("cnn", "yelp13"): COUPLED
    | {"hidden_dim": 256, "cnn_channels": 128, "cnn_rounds": 2, "anneal_wait": 2_000},
    ("cnn", "yahoo"): COUPLED
    | {"hidden_dim": 256, "cnn_channels": 256, "cnn_rounds": 2, "anneal_wait": 2_000},
    ("conditional", "switchboard"): COUPLED
    | {"hidden_dim": 128, "min_count": 5, "epochs": 10, "anneal_wait": 2_000},
    ("resnet", "omniglot"): {
        "latent_dim": 32,
        "optimizer": "adam",
        "lr": 1e-3,
        "clip": 5.0,
        "batch_size": 50,
        "batching": "mixed",
        "binarisation": "dynamic",
        "epochs": 500,
        "patience": 20,
        "decay_from_epoch": 0,
        "lr_factor": 0.5,
        "max_decays": 5,
        "select": "elbo",
        "iw_samples": 500,
        "init_range": 0.0,
        "warmup_epochs": 10.0,
        "resnet_channels": 64,
        "resnet_features": 512,
        "pixelcnn_channels": 64,
        "pixelcnn_depth": 13,
        "second_head": "log_variance",
    },
}


def paper(method: str, backbone: str, data: str, **changes: Any) -> Config:
    return resolve(method, data=data, profile="paper", backbone=backbone, **changes)


def differences(config: Config, wanted: dict[str, Any]) -> dict[str, Any]:
    """What a config has in place of the wanted values."""
    found = config.to_dict() | config.options
    return {name: found[name] for name, value in wanted.items() if found[name] != value}


# ---- What is printed -----------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "data"), PROTOCOL)
def test_a_backbone_has_the_published_protocol(backbone: str, data: str) -> None:
    config = paper("vae", backbone, data)
    assert differences(config, PROTOCOL[backbone, data]) == {}
    assert (config.train_size, config.nll_size) == (None, None)


@pytest.mark.parametrize("data", ["ptb", "yelp13", "yahoo", "switchboard"])
def test_coupled_runs_end_with_the_first_epoch_beyond_60_000_steps(data: str) -> None:
    """42K, 63K, 100K and 203K examples; the learning rate is halved 15 or, on Yahoo, 16 times."""
    batches = math.ceil(DATASETS[data].published["n_train"] / 32)
    for backbone in ("conditional",) if data == "switchboard" else ("gru", "cnn"):
        config = paper("vae", backbone, data)
        steps = config.epochs * batches
        assert steps - batches < 60_000 <= steps
        halvings = steps // config.lr_every - config.lr_from // config.lr_every
        assert halvings == {"yahoo": 16, "switchboard": 16}.get(data, 15)


@pytest.mark.parametrize(
    ("method", "waits"),
    [
        ("vae", (2_000, 1_000, 1_000)),
        ("coupled", (2_000, 1_000, 1_000)),
        ("beta", (2_000, 1_000, 1_000)),
        ("prefb", (2_000, 1_000, 1_000)),
        ("coupled_prefb", (2_000, 1_000, 1_000)),
        ("wae_multiscale", (2_000, 2_000, 2_000)),
        ("coupled_wae", (2_000, 2_000, 2_000)),
        ("nf", (2_000, 2_000, 2_000)),
        ("coupled_nf", (2_000, 2_000, 2_000)),
        ("wae_nf", (2_000, 2_000, 2_000)),
        ("coupled_wae_nf", (2_000, 2_000, 2_000)),
        ("vmf_learned", (2_000, 2_000, 2_000)),
        ("coupled_vmf_learned", (2_000, 2_000, 2_000)),
    ],
)
def test_the_wait_of_the_weight_is_that_of_the_released_code(method: str, waits: tuple) -> None:
    """T37."""
    configs = [paper(method, "gru", data) for data in ("ptb", "yelp13", "yahoo")]
    assert tuple(config.options["anneal_wait"] for config in configs) == waits


@pytest.mark.slow
@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_every_method_of_a_backbone_resolves(backbone: str) -> None:
    methods = [name for name in METHODS if backbone in backbones_of(name)]
    assert methods
    for name in methods:
        assert paper(name, backbone, DATA[backbone]).profile == "paper"


@pytest.mark.parametrize(
    ("backbone", "data", "method"),
    [
        ("gru", "grammar", "dae"),  # whose importance-weighted NLL is infinite
        ("gru", "grammar", "coupled_prefb"),
        ("gru", "grammar", "coupled_wae_nf"),
        ("gru", "grammar", "coupled_lagging"),
        ("cnn", "grammar", "coupled_cnn"),
        ("conditional", "pairs", "coupled_cvae"),
        ("conditional", "pairs", "seq2seq"),
    ],
)
def test_the_protocol_of_coupled_vae_trains(
    backbone: str, data: str, method: str, tmp_path: Any
) -> None:
    """Mixed batches, a delayed weight, halving and selection at once, on small networks."""
    small: dict[str, Any] = {"train_size": 66, "valid_size": 20, "test_size": 8, "epochs": 2}
    small |= {"embedding_dim": 8, "hidden_dim": 6, "latent_dim": 4, "lr_from": 3, "lr_every": 2}
    config = paper(method, backbone, data, **small)
    quick = {"anneal_wait": 2, "anneal_steps": 2, "inner_steps": 3, "cnn_channels": 8}
    chosen = {k: v for k, v in quick.items() if k in config.options}
    config = replace(config, options=config.options | chosen)
    with machine(config):
        training = fit(config, load_data(config), tmp_path)
    steps = training.progress.step
    assert steps == 6 - 2 * (config.min_batch > 66 % 32)
    assert training.progress.lr == pytest.approx(1e-3 * 0.5 ** len(range(4, steps + 1, 2)))
    criterion = {"dae": "valid_distortion"}.get(method, "valid_nll")
    assert training.progress.best == min(e[criterion] for e in training.progress.epochs)
    assert math.isfinite(training.progress.best)
    assert isinstance(training, AggressiveTraining) == (method == "coupled_lagging")


# ---- Real steps at true size ---------------------------------------------------------------------

DU = {"lr": 1.0, "min_batch": 16, "select": "elbo"}
MINE = {"lr": 1.0, "embedding_dim": 128, "hidden_dim": 512, "latent_dim": 64, "select": "elbo"}
TRUE_SIZE: list[tuple[str, str, str, dict[str, Any], float]] = [
    # method, backbone, data, changes, published parameters in millions (F.1), 0 where none
    ("du", "lstm", "yahoo", DU, 53.8),
    ("du_iaf", "lstm", "yahoo", DU, 0),
    ("iaf_fb", "lstm", "short_yelp", DU, 0),
    ("iaf_bn", "lstm", "short_yelp", DU, 0),
    ("lagging", "lstm", "short_yelp", DU | {"inner_steps": 2, "inner_window": 1}, 9.2),
    ("mae", "lstm", "short_yelp", DU, 9.2),
    ("bn_shift", "lstm", "short_yelp", DU, 9.2),
    ("delta", "lstm", "snli", DU, 10.4),
    ("vae", "lstm", "ptb", {}, 8.8),
    ("du", "lstm", "synthetic", DU | {"gamma": 1.0, "keep_probability": 0.5}, 0.19),
    ("mine", "lstm", "ptb", MINE, 11.1),
    ("mine", "lstm", "yahoo", MINE, 18.8),
    ("bow_annealed", "lstm", "ptb", MINE, 0),
    ("word_dropout", "lstm", "ptb", MINE, 0),
    ("info", "lstm", "ptb", MINE, 0),
    ("cyclic_four", "lstm", "ptb", MINE, 0),
    ("lm", "lstm", "ptb", MINE, 0),
    ("vae", "gru", "ptb", {}, 5.2),
    ("vae", "gru", "yelp13", {}, 8.8),
    ("vae", "gru", "yahoo", {}, 11.0),
    ("coupled", "gru", "ptb", {}, 7.8),
    ("coupled", "gru", "yelp13", {"coupled_distance": "euclidean"}, 13.4),
    ("coupled", "gru", "yahoo", {"coupled_match": 10.0}, 16.6),
    ("coupled_vmf_learned", "gru", "yelp13", {"coupled_match": 7.0}, 0),
    ("coupled_nf", "gru", "ptb", {}, 0),
    ("coupled_wae_nf", "gru", "ptb", {}, 0),
    ("coupled_prefb", "gru", "ptb", {}, 0),
    ("dae", "gru", "ptb", {}, 0),
    ("gru_lm", "gru", "ptb", {}, 0),
    ("coupled_cnn", "cnn", "ptb", {}, 0),
    ("coupled_cnn", "cnn", "yelp13", {"coupled_match": 0.1}, 0),
    ("cnn", "cnn", "yahoo", {}, 0),
    ("cvae", "conditional", "switchboard", {}, 0),
    ("coupled_cvae", "conditional", "switchboard", {"coupled_match": 2.0}, 0),
    ("seq2seq", "conditional", "switchboard", {}, 0),
    ("vae", "resnet", "omniglot", {}, 0.75 + 0.89),
    ("du_iaf", "resnet", "omniglot", {"gamma": 0.5, "keep_probability": 0.85}, 8.8 + 0.89),
    ("du", "conv", "digits", {}, 0),
    ("coupled", "transformer", "ptb", {}, 0),
]


def batch_of(config: Config, words: int) -> Tensor:
    """A random batch of the config's size, as its data and batching make them."""
    size = config.batch_size
    holds = DATASETS[config.data].holds
    if holds == "images":
        return torch.rand(size, words, generator=torch.Generator().manual_seed(1)).round()
    if holds == "pairs":
        return torch.cat([padded_to(9, size, words), padded_to(7, size, words)], dim=1)
    return padded_to(9, size, words) if config.batching == "mixed" else sentences(size, 9, words)


def padded_to(longest: int, size: int, words: int) -> Tensor:
    """Sentences of 3 to `longest` tokens, padded."""
    return padded([sentences(1, 3 + i % (longest - 2), words)[0] for i in range(size)])


def words_of(data: str) -> int:
    spec = DATASETS[data]
    return int(spec.pixels or spec.published["vocab_size"])


def strategy_of(config: Config, built: Built, x: Tensor) -> Strategy:
    modules = nn.ModuleList([built.model.train(), built.objective.train()])
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = OPTIMIZERS[config.optimizer](parameters, lr=config.lr)
    kind = STRATEGIES[config.strategy]
    options = {name: config.options[name] for name in options_of(kind)}
    made = kind(built.model, built.objective, optimizer, config.clip, "fp32", **options)
    if config.strategy == "aggressive":
        made.batches = [x]
    return made


def published_count(config: Config, built: Built, words: int) -> float:
    """Parameters in millions, a head that Coupled-VAE's code has and never uses counted too."""
    modules = nn.ModuleList([built.model, built.objective])
    unused = 33 * words if config.backbone == "gru" else 0
    return (sum(p.numel() for p in modules.parameters()) + unused) / 1e6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "backbone", "data", "changes", "millions"),
    [pytest.param(*case, id=f"{case[0]}-{case[1]}-{case[2]}") for case in TRUE_SIZE],
)
def test_three_steps_at_true_size(
    method: str, backbone: str, data: str, changes: dict[str, Any], millions: float
) -> None:
    config = paper(method, backbone, data, **changes)
    words = words_of(data)
    built = build(config, words)
    x = batch_of(config, words)
    strategy = strategy_of(config, built, x)
    before = [p.detach().clone() for p in built.model.decoder.parameters()]
    noise = torch.Generator().manual_seed(0)
    steps = [strategy.step(x, weight, noise) for weight in (0.0, 0.5, 1.0)]
    for values in steps:
        assert all(bool(torch.isfinite(v)) for v in values.values())
        assert values["grad_norm"] > 0
    after = [*built.model.decoder.parameters()]
    assert all(bool(torch.isfinite(p).all()) for p in after)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    if millions:  # two printed numbers, each rounded to its last digit
        error = 0.1 if millions > 2 else 0.01
        assert published_count(config, built, words) == pytest.approx(millions, abs=error)


def test_every_backbone_is_stepped_at_true_size() -> None:
    assert {case[1] for case in TRUE_SIZE} == set(BACKBONES)


def test_the_flows_have_1_920_hidden_units() -> None:
    """A.8: two hidden layers of 60 D in each of two blocks, 8.0 million parameters on images."""
    flow = build(paper("iaf", "resnet", "omniglot"), 784).model.posterior.flow
    assert len(flow) == 2
    for block in flow:
        shapes = [tuple(p.shape) for p in block.network.parameters() if p.dim() == 2]
        assert shapes == [(1920, 32 + 64), (1920, 1920), (64, 1920)]
    assert round(sum(p.numel() for p in flow.parameters()) / 1e6, 1) == 8.0
