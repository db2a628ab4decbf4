"""What determines a run's numbers: a frozen, flat `Config`, resolved from profile, method and user.

Order of precedence, lowest first: the defaults below, the profile (`profiles.toml`), the profile's
table for the data set, the method's differences, the user's overrides, this machine.
Defaults must never change once a record exists: a run's hash covers only what differs from them.
"""

import dataclasses
import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from vaelib.errors import VaelibError, check_name

MACHINE_FIELDS = ("device", "precision", "threads", "matmul_precision")
EVALUATION_FIELDS = ("nll_size", "iw_samples", "mixture_samples", "metrics")
LAPTOP_METRICS = (
    "kl",
    "distortion",
    "nll_elbo",
    "mi_global",
    "mi_in_batch",
    "au",
    "cu_pq",
    "cu_qp",
    "prior_ll",
    "post_ll",
    "nll_iw500",
    "ppl_iw500",
    "rouge_l",
)
METRIC_SETS = {  # metrics="whole" in place of a list; a set never changes once a record exists
    "usual": LAPTOP_METRICS,
    "whole": (
        *LAPTOP_METRICS,
        "mi_skip_self",
        "mi_aggregate_kl",
        "mpd",
        "ce",
        "ppl_elbo",
        "probe",
        "gradients",
        "bleu",
        "distinct",
        "self_bleu",
        "path_distinct",
        "forward_ppl",
        "reverse_ppl",
    ),
}
# Of OMNIGLOT alone: characters in place of alphabets, whose probe is in no paper and takes minutes.
METRIC_SETS["characters"] = tuple(
    "character_probe" if name == "probe" else name for name in METRIC_SETS["whole"]
)


@dataclass(frozen=True)
class Config:
    """A fully resolved run. Every field and every option can be overridden by name.

    Attributes:
        method: A registered method, by its name.
        data: A data set's id, or the folder of an own corpus.
        profile: "smoke", "laptop" or "paper".
        seed: Of all random numbers, one generator a purpose.
        train_size: Training sentences; None takes all.
        valid_size: Validation sentences; None takes all.
        test_size: Test sentences; None takes all.
        min_count: Words seen less often in the training sentences become `<unk>`.
        max_vocabulary: Most words, specials included: the most frequent; None keeps all.
        nll_size: Test sentences given to the importance-weighted NLL; None takes all.
        binarisation: Of grey training images: "dynamic" draws them anew in every step, "fixed"
            once.
        backbone: Encoder, decoder and sizes that go together; the fields below refine it.
        encoder: The part that reads a sentence.
        posterior: The family of q(z|x).
        prior: p(z).
        decoder: The part that writes a sentence.
        regulariser: The term that the weight schedule weights.
        extra_terms: Terms added to the loss with weight 1.
        schedule: The regulariser's weight, step by step.
        strategy: What is updated in a step.
        embedding_dim: Size of a word's embedding.
        hidden_dim: Size of the LSTM's state, in encoder and decoder.
        latent_dim: D, the size of a code.
        dropout_in: Dropout on the decoder's word embeddings.
        dropout_out: Dropout on the decoder's LSTM outputs.
        init_range: All parameters but embeddings start from U(-r, r) with this r; 0 keeps
            PyTorch's own start.
        embedding_range: The same r for embeddings.
        encoder_start: "common" draws encoder and posterior like the rest; "own" keeps PyTorch's
            start for them, as the code of DU-VAE does for BN-VAE and DU-VAE (T16).
        optimizer: "sgd", without momentum, or "adam".
        lr: Learning rate at the start.
        clip: Bound of the joint gradient norm.
        batch_size: Most sentences in a batch.
        batching: "buckets" makes batches of one length once and for all (T4); "mixed" draws them
            anew in every epoch and pads.
        min_batch: Smaller training batches than this are skipped.
        epochs: Passes over the training sentences, at most.
        early_stop: Stop after the last decay; `cyclic` goes on to the last epoch.
        patience: Epochs without a better validation objective before a decay.
        decay_from_epoch: No decay before this epoch.
        lr_factor: A decay multiplies the learning rate by this and goes back to the best weights.
        max_decays: Decays after which training stops.
        lr_schedule: "plateau" is the rule above; "steps" halves at fixed steps instead.
        lr_from: With "steps", no halving before or at this step.
        lr_every: With "steps", halve at every multiple of this many steps.
        select: The checkpoint kept: lowest validation "objective" at full weight, "elbo", "nll"
            (importance-weighted), "distortion", or "last" (T7).
        select_samples: K of the importance-weighted validation NLL.
        decay_reference: What a later epoch must beat after a decay: "valid", or "last_batch" for
            the defect of the released code (T6).
        iw_samples: K of the importance-weighted NLL.
        mixture_samples: Samples from each side for `prior_ll` and `post_ll` (T9).
        track: What is computed on the validation sentences after every epoch, as
            `vaelib.track.TRACKED` names it.
        metrics: What the evaluation computes: names, or a set: "usual", "whole", "characters".
        device: "cpu", "cuda" or "cuda:N"; the machine is part of the key, not of the
            question a study asks.
        precision: "fp32", or "bf16" for autocast.
        threads: Of PyTorch; recorded, so that a resumed run keeps its bits.
        matmul_precision: "highest", "high" or "medium"; recorded for the same reason. Asked for as
            "auto", it is "medium" where that is faster and keeps single precision, else "highest".
        options: The parts' own options, resolved.
    """

    method: str
    data: str
    profile: str = "laptop"
    seed: int = 0
    train_size: int | None = None
    valid_size: int | None = None
    test_size: int | None = None
    min_count: int = 1
    max_vocabulary: int | None = None
    nll_size: int | None = None
    binarisation: str = "dynamic"
    backbone: str = "lstm"
    encoder: str = "lstm"
    posterior: str = "gaussian"
    prior: str = "normal"
    decoder: str = "lstm"
    regulariser: str = "kl"
    extra_terms: tuple[str, ...] = ()
    schedule: str = "linear"
    strategy: str = "joint"
    embedding_dim: int = 128
    hidden_dim: int = 512
    latent_dim: int = 32
    dropout_in: float = 0.5
    dropout_out: float = 0.5
    init_range: float = 0.01
    embedding_range: float = 0.1
    encoder_start: str = "common"
    optimizer: str = "sgd"
    lr: float = 0.5
    clip: float = 5.0
    batch_size: int = 32
    batching: str = "buckets"
    min_batch: int = 2
    epochs: int = 100
    early_stop: bool = True
    patience: int = 5
    decay_from_epoch: int = 15
    lr_factor: float = 0.5
    max_decays: int = 5
    lr_schedule: str = "plateau"
    lr_from: int = 30_000
    lr_every: int = 2_000
    select: str = "objective"
    select_samples: int = 10
    decay_reference: str = "valid"
    iw_samples: int = 500
    mixture_samples: int = 8
    track: tuple[str, ...] = ()
    metrics: tuple[str, ...] = LAPTOP_METRICS
    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 1
    matmul_precision: str = "highest"
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """Rebuild a config from `to_dict`.

        Raises:
            VaelibError: A key is unknown, as in a record of a newer version, or a value is of
                another kind.
        """
        for name in values:
            check_name(name, FIELDS, "field of a run's configuration")
        usual = {**vars(cls("", "")), **dict.fromkeys(_NULLABLE, 1)}
        return cls(**{name: check_value(name, v, usual[name]) for name, v in values.items()})

    def _identity(self, leave_out: tuple[str, ...]) -> str:
        default = Config(method=self.method, data=self.data).to_dict()
        mine = self.to_dict()
        kept = {k: v for k, v in mine.items() if k not in leave_out and v != default[k]}
        kept |= {"method": self.method, "data": self.data}
        text = json.dumps(kept, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def hash(self) -> str:
        """Twelve hex digits that name what is trained, machine included, evaluation left out."""
        return self._identity(EVALUATION_FIELDS)

    @property
    def question(self) -> str:
        """Twelve hex digits that name what is asked, whatever the machine that answers."""
        return self._identity(MACHINE_FIELDS)

    @property
    def evaluation(self) -> str:
        """The evaluation fields as text; the rest of what a record depends on."""
        mine = self.to_dict()
        return json.dumps({name: mine[name] for name in EVALUATION_FIELDS})


FIELDS = {f.name: f for f in dataclasses.fields(Config)}
CHOICES = {
    "optimizer": ("sgd", "adam"),
    "encoder_start": ("common", "own"),
    "binarisation": ("dynamic", "fixed"),
    "batching": ("buckets", "mixed"),
    "lr_schedule": ("plateau", "steps"),
    "select": ("objective", "elbo", "nll", "distortion", "last"),
    "decay_reference": ("valid", "last_batch"),
    "precision": ("fp32", "bf16"),
    "matmul_precision": ("highest", "high", "medium"),
}
_NULLABLE = tuple(name for name, f in FIELDS.items() if f.default is None)
_MOST = 2**31 - 1
_WHOLE = {  # whole numbers: the least and the most
    **dict.fromkeys(
        ("seed", "min_batch", "patience", "decay_from_epoch", "max_decays", "lr_from"), (0, _MOST)
    ),
    **dict.fromkeys(("batch_size", "epochs", "min_count", "lr_every", *_NULLABLE), (1, _MOST)),
    **dict.fromkeys(("embedding_dim", "hidden_dim", "latent_dim"), (1, 2**14)),
    **dict.fromkeys(("iw_samples", "mixture_samples", "select_samples"), (1, 10**5)),
    "threads": (1, 1024),
    "max_vocabulary": (5, _MOST),
}
_WANTED = {bool: "true or false", int: "a whole number", float: "a finite number"}
_WANTED |= {str: "a text", tuple: "a list of names"}
_FRACTIONS = ("dropout_in", "dropout_out", "init_range", "embedding_range", "lr_factor")


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """The profiles of `profiles.toml`: name -> {field or option: value, "data": {id: {...}}}.

    Likewise "backbone": {name: {...}}, which may hold "data" once more, and "method".
    """
    return read_toml(resources.files("vaelib") / "profiles.toml")


def read_toml(path: Traversable) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        VaelibError: It is none; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise VaelibError(f"{path.name} is no TOML: {error}; mend it there.") from error


def profile_values(
    profile: str,
    data: str,
    backbone: str = "lstm",
    own: Mapping[str, Any] | None = None,
    method: str = "vae",
) -> dict[str, Any]:
    """What a profile says about runs of a method on a data set with a backbone.

    From the weakest to the strongest: the profile, its table for the data set, the backbone's own
    settings, the profile's table for the backbone, within it that for the data set, and the
    profile's table for the method.

    Args:
        profile: "smoke", "laptop" or "paper".
        data: A data set.
        backbone: A backbone.
        own: The backbone's own settings.
        method: A registered method.

    Raises:
        VaelibError: The profile is unknown.
    """
    table = dict(profiles()[check_name(profile, profiles(), "profile")])
    per_data, per_backbone = table.pop("data", {}), table.pop("backbone", {})
    per_method = table.pop("method", {})
    mine = dict(per_backbone.get(backbone, {}))
    finest = mine.pop("data", {})
    return (
        table
        | per_data.get(data, {})
        | dict(own or {})
        | mine
        | finest.get(data, {})
        | per_method.get(method, {})
    )


def check_value(name: str, value: Any, example: Any) -> Any:
    """Return `value` as the type of `example`, so that a wrong type never reaches a run.

    Raises:
        VaelibError: The types do not fit, e.g. the text "false" where a bool is asked, None where
            it means nothing, or a number that is not finite.
    """
    if example is None or (value is None and name in _NULLABLE):
        return value
    if isinstance(example, bool) or isinstance(value, bool):
        fits = isinstance(value, bool) and isinstance(example, bool)
    elif isinstance(example, float):
        fits = isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
        value = float(value) if fits else value
    elif isinstance(example, tuple):
        fits = isinstance(value, (tuple, list)) and all(isinstance(v, str) for v in value)
        value = tuple(value) if fits else value
    else:
        fits = isinstance(value, type(example))
    if not fits:
        wanted = _WANTED.get(type(example), f"a {type(example).__name__}")
        raise VaelibError(f"{name}={value!r}: give {wanted}, such as {example!r}.")
    return value


def check_whole(name: str, value: Any, least: int, most: int = _MOST) -> int:
    """Return `value` when it is a whole number in range.

    Raises:
        VaelibError: It is not.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and least <= value <= most):
        raise VaelibError(f"{name}={value!r}: give a whole number from {least} to {most}.")
    return value


def check_config(config: Config) -> Config:
    """Check the ranges and choices of all common fields.

    Raises:
        VaelibError: A value is out of range; the message names it and what is allowed.
    """
    if not config.metrics:
        raise VaelibError("metrics is empty: name at least one, as `vaelib metrics` lists them.")
    for name in ("metrics", "extra_terms", "track"):
        if len(set(named := getattr(config, name))) < len(named):
            raise VaelibError(f"{name}={list(named)!r} names something twice; name each once.")
    for name, allowed in CHOICES.items():
        check_name(getattr(config, name), allowed, f"value of {name}")
    for name, (least, most) in _WHOLE.items():
        if getattr(config, name) is not None:
            check_whole(name, getattr(config, name), least, most)
    if config.batch_size < config.min_batch:
        raise VaelibError(
            f"batch_size={config.batch_size} is below min_batch={config.min_batch}, so that every "
            "training batch would be skipped; give more examples a batch, or a smaller min_batch "
            "where the method can learn from so few at a time."
        )
    for name in ("lr", "clip"):
        if not 0 < getattr(config, name) < float("inf"):
            raise VaelibError(f"{name}={getattr(config, name)!r} must be positive and finite.")
    for name in _FRACTIONS:
        if not 0 <= getattr(config, name) < 1:
            raise VaelibError(f"{name}={getattr(config, name)!r} must be at least 0 and below 1.")
    return config


def listed(value: Any) -> list[Any]:
    """One value or several, as a list: a text, a path or a number is one value."""
    one = isinstance(value, str | os.PathLike) or not isinstance(value, Iterable)
    return [value] if one else list(value)
