"""Whether data, a backbone and parts go together: rules, and a rehearsal on two tiny examples."""

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaelib.backbones import BACKBONES, USUAL, Backbone
from vaelib.config import FIELDS, Config
from vaelib.data.datasets import DATASETS, holds, own_folder
from vaelib.decoders import DECODERS
from vaelib.distributions import rsample
from vaelib.encoders import ENCODERS
from vaelib.errors import VaelibError
from vaelib.metrics.information import mutual_information_from
from vaelib.model import Outputs
from vaelib.noise import has_density
from vaelib.objectives import Recipe, Term
from vaelib.objectives.base import METHODS
from vaelib.registry import Registry
from vaelib.strategies import STRATEGIES
from vaelib.strategies_pretrained import FIRST

READERS: dict[str, Registry[Any]] = {"encoder": ENCODERS, "decoder": DECODERS}
OF_POINTS = {"encoder": "table", "decoder": "categorical"}  # what the toy is made of
ONLY_FOR = {
    "binarisation": ("images",),
    "min_count": ("text", "pairs"),
    "max_vocabulary": ("text", "pairs"),
}
INFORMED = ("aggressive",)  # strategies that ask for the mutual information of q(z|x)


class Misfit(Exception):
    """Parts that do not go together; the text says which, in our words."""


def _said(data: str) -> str:
    if folder := own_folder(data):
        lines = "pairs" if holds(data) == "pairs" else "sentences"
        return f"the folder {folder} is read as {lines}"
    return f"{data} holds {holds(data)}"


def backbone_of(data: str, name: str = "", method: str = "") -> Backbone:
    """The backbone for a data set: the one asked for, or the usual one for what it holds.

    Args:
        data: A data set's id or a folder.
        name: The backbone asked for.
        method: The method that asks, where it goes with no other backbone.

    Raises:
        VaelibError: There is none of that name, or it reads something else.
    """
    held = "text" if data == "toy" else holds(data)  # the toy sets all its parts itself
    backbone = BACKBONES[name or USUAL[held]]
    if backbone.reads != held:
        fitting = " or ".join(b.name for b in BACKBONES.values() if b.reads == held)
        asked, other = (repr(method), "another method") if method else ("", fitting)
        raise VaelibError(
            f"{asked or f'the backbone {backbone.name!r}'} reads {backbone.reads}, and "
            f"{_said(data)}; take {other}, or other data."
        )
    return backbone


def reads_of(kind: str, part: type) -> str:
    """What an encoder or decoder reads: "text", "pairs", "images" or "points"; "" is anything.

    That is what it says itself as `reads`; else what all backbones and methods read that have it,
    or that have a part derived from the same class.
    """
    if own := getattr(part, "reads", ()):
        kinds = [own] if isinstance(own, str) else [*own]
        return kinds[0] if len(kinds) == 1 else ""
    for base in part.__mro__:
        known = [name for name, other in READERS[kind].items() if issubclass(other, base)]
        found = {what for name in known for what in _read_with(kind, name)}
        if len(found) == 1:
            return found.pop()
    return ""


def _read_with(kind: str, name: str) -> set[str]:
    usual = FIELDS["backbone"].default
    backbones = [b for b in BACKBONES.values() if b.fields.get(kind, FIELDS[kind].default) == name]
    backbones += [
        BACKBONES[entry.changes.get("backbone", usual)]
        for entry in METHODS.values()
        if entry.changes.get(kind) == name
    ]
    return {b.reads for b in backbones} | ({"points"} if OF_POINTS[kind] == name else set())


def check_fit(
    entry: Recipe, backbone: Backbone, fields: Mapping[str, Any], terms: Iterable[type[Term]]
) -> None:
    """Refuse what cannot go with a backbone and what it reads.

    Args:
        entry: The method.
        backbone: The backbone.
        fields: Of the config, options included.
        terms: Its terms.

    Raises:
        VaelibError: A part or a setting is for other data, or what the backbone's parts need is
            changed; the message says which.
    """
    data = fields["data"]
    for term in terms:
        if backbone.reads not in term.reads:
            raise VaelibError(
                f"the term {term.__name__} needs {' or '.join(term.reads)}, and {_said(data)}; "
                "take another method, or other data."
            )
    _check_kept(entry, backbone, fields)
    own = entry.changes.keys() & {*READERS}
    if own and "backbone" not in entry.changes and backbone.reads != "text":
        raise VaelibError(
            f"{entry.name!r} has {'a decoder' if 'decoder' in own else 'an encoder'} of text, and "
            f"{_said(data)}; take another method, or other data."
        )
    for kind, registry in READERS.items():
        name = fields[kind]
        if (read := reads_of(kind, registry[name])) not in ("", holds(data)):
            fitting = [n for n, other in registry.items() if reads_of(kind, other) == holds(data)]
            raise VaelibError(
                f"the {kind} {name!r} reads {read}, and {_said(data)}; take "
                f"{' or '.join(fitting)}, or other data."
            )
    codeless = [e.name for e in METHODS.values() if _codeless(e) == fields["decoder"]]
    if codeless and _codeless(entry) != fields["decoder"]:
        raise VaelibError(
            f"the decoder {fields['decoder']!r} reads no code; take another one, or the method "
            f"{' or '.join(map(repr, codeless))}."
        )


def _codeless(entry: Recipe) -> str:
    """The decoder of a method whose posterior is the prior, as nothing reads its codes."""
    return entry.changes.get("decoder", "") if entry.changes.get("posterior") == "prior" else ""


def check_given(given: Mapping[str, Any], backbone: Backbone, data: str) -> None:
    """Refuse settings that do nothing for what the data hold.

    Args:
        given: What the user has set.
        backbone: The backbone.
        data: A data set's id or a folder.

    Raises:
        VaelibError: Which setting, and what it is for.
    """
    for name, suits in ONLY_FOR.items():
        if name in given and given[name] != FIELDS[name].default and backbone.reads not in suits:
            raise VaelibError(
                f"{name}={given[name]!r} is for {' and '.join(suits)}, and {_said(data)}; leave it "
                "out."
            )


def _check_kept(entry: Recipe, backbone: Backbone, fields: Mapping[str, Any]) -> None:
    """Refuse a change of what a backbone keeps, and what one keeps where its other parts are not.

    Raises:
        VaelibError: By the method, by hand, or by the first stage of a training.
    """
    whole = "backbone" in entry.changes  # then the method says itself what its backbone has
    usual = {name: f.default for name, f in FIELDS.items()} | backbone.fields
    usual |= entry.changes if whole else {}
    staged = fields["options"].get("pretrain")
    first = FIRST.get(staged, {})
    for name in backbone.keeps:
        if {**fields, **first}[name] != usual[name]:
            who = f"{name}={fields[name]!r}" if whole or name not in entry.changes else ""
            who = f"pretrain={staged!r}" if name in first else who or repr(entry.name)
            raise VaelibError(
                f"{who} changes the {name}, which the backbone {backbone.name!r} needs as it is "
                f"for {fields['data']}; take another method, or other data."
            )
    for other in BACKBONES.values():
        for name in other.keeps:
            if fields[name] == other.fields.get(name) and other.reads != holds(fields["data"]):
                raise VaelibError(
                    f"the {name} {fields[name]!r} reads {other.reads}, and "
                    f"{_said(fields['data'])}; take another one, or other data."
                )


# ---------------------------------------------------------------- a rehearsal


def tiny_batch(data: str) -> Tensor:
    """Two examples of what a data set holds."""
    if holds(data) == "images":
        noise = torch.Generator().manual_seed(0)
        return torch.rand(2, DATASETS[data].pixels, generator=noise).round()
    x = torch.tensor([[1, 3, 2], [1, 4, 2]])
    if holds(data) == "pairs":
        return torch.cat([x, x], dim=1)
    return x[:, 1] if data == "toy" else x


def rehearse(config: Config, make: Callable[[Config, int], Any]) -> None:
    """Let a model of tiny sizes meet two examples, and its strategy take one step.

    Args:
        config: Of tiny sizes.
        make: Builds it for a number of words or pixels, as `vaelib.build.build`.

    Raises:
        Misfit: Parts do not go together.
        VaelibError: A part says itself what is wrong.
    """
    x, noise = tiny_batch(config.data), torch.Generator().manual_seed(0)
    with _plainly("a part cannot be made with these settings"):
        built = make(config, x.shape[1] if x.is_floating_point() else 5)
    alone = config.min_batch < 2 and built.objective.accepts(1)
    for batch in (x, x[:1]) if alone else (x,):
        outputs = _forward(config, built.model, batch, noise)
        with _plainly("a term cannot be computed with them", config, outputs.q):
            loss, _ = built.objective(outputs, built.schedule.final, noise)
        if config.select == "nll" and not has_density(outputs.q):
            raise VaelibError(
                f"select='nll': the posterior {config.posterior!r} has no density, so its NLL is "
                "infinite; take select='distortion'."
            )
        if not loss.isfinite():
            raise Misfit("the loss is not finite")
    with _plainly(f"the strategy {config.strategy!r} cannot take a step", config, outputs.q):
        _step(config, built, x, noise)
    if config.strategy in INFORMED:
        _information(config, outputs.q)


def _forward(config: Config, model: Any, x: Tensor, noise: torch.Generator) -> Outputs:
    """`model(x, noise)`, one part after the other."""
    encoder, posterior, prior, decoder = (
        f"the {kind} {getattr(config, kind)!r}" for kind in model.parts
    )
    with _plainly(f"{encoder} cannot read {holds(config.data)}"):
        h = model.read(x, noise)
    with _plainly(f"{posterior} does not fit {encoder}"):
        q = model.posterior(h)
        z = rsample(q, generator=noise)
    with _plainly(f"there is no KL from {posterior} to {prior}", config, q):
        kl_divergence(q, model.prior())
    with _plainly(f"{decoder} does not fit {posterior}", config, q):
        return Outputs(x, h, q, model.prior(), z, model.decoder(x, z, noise))


def _step(config: Config, built: Any, x: Tensor, noise: torch.Generator) -> None:
    """One step of the strategy that changes nothing.

    Not even an optimiser is made: the first one of a process loads torch's compiler, for seconds.
    """
    part = STRATEGIES[config.strategy]
    known = {k: v for k, v in config.options.items() if k in inspect.signature(part).parameters}
    still: Any = SimpleNamespace(
        zero_grad=built.model.zero_grad, step=lambda: None, param_groups=[]
    )
    strategy = part(built.model, built.objective, still, config.clip, config.precision, **known)
    strategy.batches, strategy.aggressive = [x], False  # as the trainings give them that need them
    strategy.step(x, built.schedule.final, noise)


def _information(config: Config, q: Distribution) -> None:
    try:
        mutual_information_from(q, estimator="in_batch", batch_size=2)
    except VaelibError as error:
        raise VaelibError(
            f"the strategy {config.strategy!r} follows the mutual information, which is not known "
            f"of the posterior {config.posterior!r}; take another strategy or posterior."
        ) from error


@contextlib.contextmanager
def _plainly(what: str, config: Config | None = None, q: Any = None) -> Iterator[None]:
    """Say `what` in place of an error of torch; in our own give the posterior its name."""
    try:
        yield
    except VaelibError as error:
        if config is None:
            raise
        named = f"the posterior {config.posterior!r}"
        raise VaelibError(re.sub(rf"\b{type(q).__name__}\b", named, str(error))) from error
    except Exception as error:  # whatever torch says where shapes or families do not fit
        raise Misfit(what) from error
