"""From a config to its parts: the options they take, the model and objective built of them."""

import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

# Imported for what they register.
from vaelib import (  # noqa: F401
    conditional,
    decoders_cnn,
    decoders_gru,
    decoders_image,
    decoders_transformer,
    encoders_gru,
    encoders_image,
    posteriors_coupled,
    posteriors_du,
    posteriors_flow,
    strategies_inner,
    strategies_pretrained,
    strategies_warmup,
    twins,
)
from vaelib.backbones import BACKBONES, Backbone
from vaelib.config import (
    CHOICES,
    FIELDS,
    METRIC_SETS,
    Config,
    check_config,
    check_value,
    profile_values,
)
from vaelib.data import Corpus, load
from vaelib.data.datasets import DATASETS, data_name, holds
from vaelib.decoders import DECODERS
from vaelib.encoders import ENCODERS
from vaelib.errors import VaelibError, check_name
from vaelib.fits import Misfit, backbone_of, check_fit, check_given, rehearse
from vaelib.layers import Completed, OwnStart, Shape, make_generator, uniform_init_
from vaelib.model import VAE
from vaelib.objectives import TERMS, Objective, Recipe, Term
from vaelib.objectives.base import METHODS
from vaelib.posteriors import POSTERIORS
from vaelib.priors import PRIORS
from vaelib.products import fastest_product, runs_bfloat16
from vaelib.schedules import SCHEDULES, Schedule
from vaelib.strategies import STRATEGIES

PARTS = {
    "encoder": ENCODERS,
    "posterior": POSTERIORS,
    "prior": PRIORS,
    "decoder": DECODERS,
    "regulariser": TERMS,
    "schedule": SCHEDULES,
    "strategy": STRATEGIES,
}


def parts(values: Any) -> list[type]:
    """The part classes a config (or a mapping of its fields) chooses."""
    get = values.get if isinstance(values, dict) else lambda name: getattr(values, name)
    chosen = [registry[get(name)] for name, registry in PARTS.items()]
    return chosen + [TERMS[name] for name in get("extra_terms")]


def options_of(part: Callable[..., Any]) -> dict[str, Any]:
    """A part's options and their defaults: its keyword-only arguments."""
    arguments = inspect.signature(part).parameters.values()
    return {a.name: a.default for a in arguments if a.kind is inspect.Parameter.KEYWORD_ONLY}


def resolve(
    method: str,
    *,
    data: str | os.PathLike[str],
    profile: str = "laptop",
    seed: int = 0,
    **overrides: Any,
) -> Config:
    """The full configuration of a run.

    Args:
        method: A registered method or an alias.
        data: A data-set id or the path of an own corpus, kept as the whole path.
        profile: "smoke", "laptop" or "paper".
        seed: The run's seed.
        overrides: Any field of `Config`, any option of the parts in use; `device="auto"` takes the
            best there is, `matmul_precision="auto"` the fastest that keeps single precision.

    Raises:
        VaelibError: An unknown name, a wrong type, a value out of range, parts that do not fit.
    """
    config = settle(method, data=data, profile=profile, seed=seed, overrides=overrides)
    try_out(config)
    return config


def settle(
    method: str, *, data: str | os.PathLike[str], profile: str, seed: int, overrides: dict[str, Any]
) -> Config:
    """`resolve` without the rehearsal on two tiny examples, for what a study declares.

    A test rehearses every declared run, so that hundreds of them are listed in a second.
    """
    entry, data = METHODS[method], data_name(data)
    base = {name: f.default for name, f in FIELDS.items() if name not in ("method", "data")}
    base["options"] = {}
    named = (entry.changes | overrides).get("backbone", "")
    own = entry.name if entry.changes.get("backbone") == named != "" else ""
    backbone = backbone_of(data, check_value("backbone", named, ""), own)
    mine = backbone.fields | backbone.options
    from_profile = profile_values(profile, data, backbone.name, mine, METHODS.canonical(method))
    fields = base | {k: v for k, v in from_profile.items() if k in FIELDS} | entry.changes
    fields |= {k: v for k, v in overrides.items() if k in FIELDS}
    fields |= {"method": METHODS.canonical(method), "data": data, "profile": profile, "seed": seed}
    fields["backbone"] = backbone.name
    fields["extra_terms"] = check_value("extra_terms", fields["extra_terms"], ("bag_of_words",))
    fields["metrics"] = _metrics(fields["metrics"])
    known = _known_options(fields)
    if "options" in overrides:
        raise VaelibError("give the options of parts by their own names, not as options=...")
    likely = [k for part in parts(fields) if part not in parts(base) for k in options_of(part)]
    for name in overrides:
        check_name(name, [*FIELDS, *known], f"option of {method!r}", first=likely)
    for name in entry.options:
        if name not in known:
            raise VaelibError(
                f"{method!r} sets {name}, which none of its parts has with {_changed_parts(fields)}"
                "; leave those parts as they are, or take another method."
            )
    wanted = from_profile | entry.options | overrides
    fields["options"] = {k: check_value(k, wanted.get(k, v), v) for k, v in known.items()}
    for name, default in base.items():
        fields[name] = check_value(name, fields[name], default)
    terms = [part for part in parts(fields) if issubclass(part, Term)]
    check_fit(entry, backbone, fields, terms)
    check_given(entry.changes | overrides, backbone, data)
    if data != "toy" and not _fits(backbone, entry):
        raise VaelibError(
            f"{entry.name!r} on the backbone {backbone.name!r} would not be that method; take "
            f"backbone={' or '.join(backbones_of(method))}, or another method."
        )
    fields["device"] = best_device(fields["device"])
    if fields["precision"] == "bf16" and not runs_bfloat16(fields["device"].split(":")[0]):
        raise VaelibError(
            f"precision=bf16: {fields['device']!r} here has no recurrent layers in bfloat16; leave "
            "precision=fp32, or take another machine."
        )
    offered = ["auto", *CHOICES["matmul_precision"]]
    if check_name(fields["matmul_precision"], offered, "matmul_precision") == "auto":
        fields["matmul_precision"] = fastest_product(fields["device"])
    return check_config(Config(**fields))


def try_out(config: Config) -> None:
    """Let the parts of a config meet two tiny examples, once a process.

    Raises:
        VaelibError: A part refuses its options, or the parts do not fit together.
    """
    _try(_tiny(config), *parts(config))


def _metrics(named: Any) -> Any:
    """The metrics of a set, given its name; else what is given."""
    return METRIC_SETS.get(named, named) if isinstance(named, str) else named


def backbones_of(method: str) -> list[str]:
    """The backbones a method can be trained on: those with every option that it sets.

    Raises:
        VaelibError: The method is unknown.
    """
    return [b.name for b in BACKBONES.values() if _fits(b, METHODS[method])]


def _fits(backbone: Backbone, entry: Recipe) -> bool:
    if fixed := entry.changes.get("backbone"):
        return backbone.name == fixed
    if entry.changes.keys() & {"encoder", "decoder"}:
        return backbone.name == FIELDS["backbone"].default
    if entry.changes.keys() & set(backbone.keeps):
        return False
    fields = {name: FIELDS[name].default for name in (*PARTS, "extra_terms")}
    fields["extra_terms"] = ()
    fields |= backbone.fields | entry.changes
    terms = [TERMS[fields["regulariser"]], *(TERMS[name] for name in fields["extra_terms"])]
    readable = all(backbone.reads in term.reads for term in terms)
    return readable and entry.options.keys() <= _known_options(fields).keys()


def _tiny(config: Config) -> str:
    """The same parts at tiny sizes, as JSON."""
    same = (*PARTS, "extra_terms", "options", "backbone", "batching", "select")
    mine: dict[str, Any] = {name: getattr(config, name) for name in same}
    mine |= {"latent_dim": min(config.latent_dim, 2), "embedding_dim": 4, "hidden_dim": 8}
    mine["min_batch"] = min(config.min_batch, 2)
    if config.options.get("svi_steps", 0) > 1:  # each takes as long as all else together
        mine["options"] = config.options | {"svi_steps": 1}
    if config.hidden_dim == 2 * config.latent_dim:  # what the split posterior asks for
        mine["hidden_dim"] = 2 * mine["latent_dim"]
    known = config.data in DATASETS or config.data == "toy"
    stands_for = config.data if known else holds(config.data)
    tiny = Config(config.method, stands_for, **mine)
    return json.dumps(tiny.to_dict(), sort_keys=True)


def _known_options(fields: dict[str, Any]) -> dict[str, Any]:
    for name, registry in PARTS.items():
        check_name(fields[name], registry, registry.what)
    known: dict[str, Any] = {}
    for part in parts(fields):
        known |= options_of(part)
    return known


@cache
def _try(config: str, *chosen: type) -> None:
    """Let the parts meet two tiny examples, so that what cannot work is refused before any work.

    Args:
        config: A config as JSON, of tiny sizes.
        chosen: The classes of its parts, so that each is tried.

    Raises:
        VaelibError: A part refuses its options, or the parts do not fit together.
    """
    tiny = Config.from_dict(json.loads(config))
    try:
        with torch.enable_grad():  # whoever asks
            rehearse(tiny, build)
    except Misfit as misfit:
        own = any(part.__module__.split(".")[0] != __package__ for part in chosen)
        why = f"{misfit}: {misfit.__cause__}" if own and misfit.__cause__ else misfit
        raise VaelibError(
            f"{tiny.method!r} cannot be trained with {_changed(tiny)} ({why}); take parts that "
            "fit together, as `vaelib methods` lists them, and less extreme values."
        ) from misfit


def _changed_parts(fields: dict[str, Any]) -> str:
    """The chosen parts that are not the defaults, in words."""
    chosen = {name: fields[name] for name in PARTS if fields[name] != FIELDS[name].default}
    return ", ".join(f"{name}={value}" for name, value in chosen.items()) or "the default parts"


def _changed(config: Config) -> str:
    """The parts and options that differ from their defaults, in words."""
    defaults = {name: FIELDS[name].default for name in PARTS}
    values = {name: getattr(config, name) for name in PARTS} | config.options
    for part in parts(config):
        defaults |= options_of(part)
    return ", ".join(f"{k}={v}" for k, v in values.items() if v != defaults[k]) or "its defaults"


def best_device(device: str) -> str:
    """The device itself, or for "auto" cuda, then cpu.

    Raises:
        VaelibError: The device does not exist on this machine, or has no double precision.
    """
    there = {"cpu": 1, "cuda": torch.cuda.device_count()}
    if device == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if device.startswith("mps"):
        raise VaelibError("device='mps': it has no float64, which metrics need; use 'cpu'.")
    kind = check_name(device.split(":")[0], [*there, "auto"], "device")
    if device not in (kind, *(f"{kind}:{i}" for i in range(there[kind]))) or not there[kind]:
        raise VaelibError(
            f"device={device!r} is not available on this machine; use 'cpu' or 'auto'."
        )
    return device


@dataclass(frozen=True)
class Built:
    """A model, its objective and its schedule."""

    model: VAE
    objective: Objective
    schedule: Schedule


def shape_of(config: Config, vocab_size: int) -> Shape:
    """The sizes every part is built from."""
    return Shape(
        vocab_size,
        config.embedding_dim,
        config.hidden_dim,
        config.latent_dim,
        config.dropout_in,
        config.dropout_out,
    )


def build(config: Config, vocab_size: int) -> Built:
    """Build and initialise all parts on the CPU, then move them to the config's device.

    Args:
        config: A resolved config.
        vocab_size: V of the corpus (or the number of points of a toy).
    """
    shape = shape_of(config, vocab_size)

    def make(registry: Any, name: str, *args: Any) -> Any:
        part = registry[name]
        return part(*args, shape, **{k: config.options[k] for k in options_of(part)})

    def again(what: str) -> nn.Module:
        inputs = (encoder.output_dim,) if what == "posterior" else ()
        return make(PARTS[what], getattr(config, what), *inputs)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(make_generator(config.seed, "construction").initial_seed() % 2**63)
        encoder = make(ENCODERS, config.encoder)
        posterior = make(POSTERIORS, config.posterior, encoder.output_dim)
        model = VAE(encoder, posterior, make(PRIORS, config.prior), make(DECODERS, config.decoder))
        extras = {name: make(TERMS, name) for name in config.extra_terms}
        objective = Objective(make(TERMS, config.regulariser), extras)
        complete(model.parts, (objective.regulariser, *extras.values()), again)
    if config.batching == "mixed":
        check_padding(config, encoder, model.decoder)
    if config.init_range:
        init = make_generator(config.seed, "init")
        spared = [part for part in model.modules() if isinstance(part, OwnStart)]
        spared += [encoder, posterior] if config.encoder_start == "own" else []
        for module in (model, objective):
            uniform_init_(module, config.init_range, config.embedding_range, init, spared)
    schedule = SCHEDULES[config.schedule]
    weights = schedule(**{k: config.options[k] for k in options_of(schedule)})
    return Built(model.to(config.device), objective.to(config.device), weights)


def complete(
    parts: Mapping[str, nn.Module], terms: Iterable[nn.Module], again: Callable[[str], nn.Module]
) -> None:
    """Give every part and term that uses other parts what it shares with them.

    Args:
        parts: Of the model, by name.
        terms: Of the objective.
        again: Makes a fresh part of the same configuration.
    """
    for part in (*parts.values(), *terms):
        if isinstance(part, Completed):
            part.complete(parts, again)


def check_padding(config: Config, *readers: nn.Module) -> None:
    """Refuse padded batches for parts that would read the padding.

    Raises:
        VaelibError: One of them would.
    """
    for part in readers:
        if not getattr(part, "reads_padding", False):
            raise VaelibError(
                f"batching='mixed' pads, and {type(part).__name__} reads padding as text; take "
                f"batching='buckets', or another backbone than {config.backbone!r}."
            )


def load_data(config: Config) -> Corpus:
    """The corpus of a run: its slices and vocabulary, on the config's device."""
    return load(
        config.data,
        train_size=config.train_size,
        valid_size=config.valid_size,
        test_size=config.test_size,
        min_count=config.min_count,
        binarisation=config.binarisation,
        max_vocabulary=config.max_vocabulary,
    )
