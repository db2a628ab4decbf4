"""From a config to its parts: the options they take, the model and objective built of them."""

import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

# Imported for what they register.
from vaelib import posteriors_du, posteriors_flow, strategies_inner, strategies_warmup  # noqa: F401
from vaelib.config import FIELDS, Config, check_config, check_value, profile_values
from vaelib.data import Corpus, load
from vaelib.data.datasets import data_name
from vaelib.decoders import DECODERS
from vaelib.encoders import ENCODERS
from vaelib.errors import VaelibError, check_name
from vaelib.layers import Shape, make_generator, uniform_init_
from vaelib.model import VAE
from vaelib.objectives import METHODS, TERMS, Objective
from vaelib.posteriors import POSTERIORS
from vaelib.priors import PRIORS
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
            best there is.

    Raises:
        VaelibError: An unknown name, a wrong type, a value out of range, parts that do not fit.
    """
    entry, data = METHODS[method], data_name(data)
    base = {name: f.default for name, f in FIELDS.items() if name not in ("method", "data")}
    base["options"] = {}
    from_profile = profile_values(profile, data)
    fields = base | {k: v for k, v in from_profile.items() if k in FIELDS} | entry.changes
    fields |= {k: v for k, v in overrides.items() if k in FIELDS}
    fields |= {"method": METHODS.canonical(method), "data": data, "profile": profile, "seed": seed}
    fields["extra_terms"] = check_value("extra_terms", fields["extra_terms"], ("bag_of_words",))
    known = _known_options(fields)
    if "options" in overrides:
        raise VaelibError("give the options of parts by their own names, not as options=...")
    for name in overrides:
        check_name(name, [*FIELDS, *known], f"option of {method!r}")
    wanted = from_profile | entry.options | overrides
    fields["options"] = {k: check_value(k, wanted.get(k, v), v) for k, v in known.items()}
    for name, default in base.items():
        fields[name] = check_value(name, fields[name], default)
    fields["device"] = best_device(fields["device"])
    config = check_config(Config(**fields))
    mine: dict[str, Any] = {name: fields[name] for name in (*PARTS, "extra_terms", "options")}
    mine |= {"latent_dim": min(config.latent_dim, 2), "embedding_dim": 2, "hidden_dim": 3}
    mine["min_batch"] = min(config.min_batch, 2)
    if config.hidden_dim == 2 * config.latent_dim:  # what the split posterior asks for
        mine["hidden_dim"] = 2 * mine["latent_dim"]
    tiny = Config(config.method, "toy" if data == "toy" else "text", **mine)
    _try(json.dumps(tiny.to_dict(), sort_keys=True), *parts(config))
    return config


def _known_options(fields: dict[str, Any]) -> dict[str, Any]:
    for name, registry in PARTS.items():
        check_name(fields[name], registry, registry.what)
    known: dict[str, Any] = {}
    for part in parts(fields):
        known |= options_of(part)
    return known


@cache
def _try(config: str, *_: type) -> None:
    """Let the parts meet two tiny examples, so that what cannot work is refused before any work.

    Args:
        config: A config as JSON, of tiny sizes.
        _: The classes of its parts, so that each is tried.

    Raises:
        VaelibError: A part refuses its options, or the parts do not fit together.
    """
    tiny, why = Config.from_dict(json.loads(config)), ""
    x = torch.tensor([[1, 3, 2], [1, 4, 2]])
    noise = torch.Generator().manual_seed(0)
    try:
        built = build(tiny, 5)
        alone = tiny.min_batch < 2 and built.objective.accepts(1)
        for batch in (x, x[:1]) if alone else (x,):
            outputs = built.model(batch[:, 1] if tiny.data == "toy" else batch, noise)
            loss, _values = built.objective(outputs, built.schedule.final, noise)
            why = why or ("" if loss.isfinite() else "the loss is not finite")
    except VaelibError:
        raise
    except Exception as error:  # whatever torch says where shapes or families do not fit
        why = " ".join(str(error).split())
    if why:
        raise VaelibError(
            f"{tiny.method!r} cannot be trained with {_changed(tiny)} ({why}); take parts that fit "
            "together, as `vaelib methods` lists them, and less extreme values."
        )


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

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(make_generator(config.seed, "construction").initial_seed() % 2**63)
        encoder = make(ENCODERS, config.encoder)
        posterior = make(POSTERIORS, config.posterior, encoder.output_dim)
        model = VAE(encoder, posterior, make(PRIORS, config.prior), make(DECODERS, config.decoder))
        extras = {name: make(TERMS, name) for name in config.extra_terms}
        objective = Objective(make(TERMS, config.regulariser), extras)
    if config.init_range:
        init = make_generator(config.seed, "init")
        for module in (model, objective):
            uniform_init_(module, config.init_range, config.embedding_range, init)
    schedule = SCHEDULES[config.schedule]
    weights = schedule(**{k: config.options[k] for k in options_of(schedule)})
    return Built(model.to(config.device), objective.to(config.device), weights)


def load_data(config: Config) -> Corpus:
    """The corpus of a run: its slices and vocabulary, on the config's device."""
    return load(
        config.data,
        train_size=config.train_size,
        valid_size=config.valid_size,
        test_size=config.test_size,
        min_count=config.min_count,
    )
