"""From a config to its parts: the options they take, the model and objective built of them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vaelib.config import FIELDS, Config, check_config, check_value, profile_values
from vaelib.data import Corpus, load
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
    method: str, *, data: str, profile: str = "laptop", seed: int = 0, **overrides: Any
) -> Config:
    """The full configuration of a run.

    Args:
        method: A registered method or an alias.
        data: A data-set id or the path of an own corpus.
        profile: "smoke", "laptop" or "paper".
        seed: The run's seed.
        overrides: Any field of `Config`, any option of the parts in use; `device="auto"` takes the
            best there is.

    Raises:
        VaelibError: An unknown name, a wrong type, a value out of range.
    """
    entry = METHODS[method]
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
    with torch.random.fork_rng(devices=[]):
        for part in parts(config):
            _check_options(part, config)
    return config


def _known_options(fields: dict[str, Any]) -> dict[str, Any]:
    for name, registry in PARTS.items():
        check_name(fields[name], registry, registry.what)
    known: dict[str, Any] = {}
    for part in parts(fields):
        known |= options_of(part)
    return known


def _check_options(part: type, config: Config) -> None:
    """Build the part once at size 2, so that a value out of range is refused before any work."""
    if part in STRATEGIES.values():
        return
    mine = {k: config.options[k] for k in options_of(part)}
    given = {"in_features": 4, "shape": Shape(5, 2, 2, 2)}
    arguments = inspect.signature(part).parameters
    part(**{k: v for k, v in given.items() if k in arguments}, **mine)


def best_device(device: str) -> str:
    """The device itself, or for "auto" cuda, then mps, then cpu.

    Raises:
        VaelibError: The device does not exist on this machine.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind = check_name(device.split(":")[0], [*there, "auto"], "device")
    if not there[kind]:
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
