"""What determines a run's numbers: a frozen, flat `Config`, resolved from profile, method and user.

Order of precedence, lowest first: the defaults below, the profile (`profiles.toml`), the profile's
table for the data set, the method's differences, the user's overrides, this machine.
Defaults must never change once a record exists: a run's hash covers only what differs from them.
"""

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
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


@dataclass(frozen=True)
class Config:
    """A fully resolved run. Every field and every option can be overridden by name.

    Attributes:
        method, data, profile, seed: What is run.
        train_size, valid_size, test_size: Sentences taken from each split; None takes all.
        min_count: Words seen less often in training become `<unk>`.
        nll_size: Test sentences given to the importance-weighted NLL; None takes all.
        encoder, posterior, prior, decoder, regulariser, extra_terms, schedule, strategy: The parts.
        embedding_dim, hidden_dim, latent_dim: Sizes of the backbone.
        dropout_in, dropout_out: Dropout on the decoder's word embeddings and LSTM outputs.
        init_range, embedding_range: Half-widths of the uniform initialisation (protocol A.0.1).
        optimizer, lr, clip: "sgd" or "adam", learning rate, bound of the joint gradient norm.
        batch_size, min_batch, epochs: Smaller training batches than `min_batch` are skipped.
        early_stop, patience, decay_from_epoch, lr_factor, max_decays: The decay and stop rule.
        select: The checkpoint kept: lowest validation "objective" at full weight, "elbo" or "last".
        decay_reference: "valid", or "last_batch" for the defect of the released code (T6).
        iw_samples, mixture_samples: K of the NLL; samples from each side for prior and post LL.
        metrics: What the evaluation computes.
        device, precision, threads, matmul_precision: The machine; part of the key, not of the
            question a study asks.
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
    nll_size: int | None = None
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
    optimizer: str = "sgd"
    lr: float = 0.5
    clip: float = 5.0
    batch_size: int = 32
    min_batch: int = 2
    epochs: int = 100
    early_stop: bool = True
    patience: int = 5
    decay_from_epoch: int = 15
    lr_factor: float = 0.5
    max_decays: int = 5
    select: str = "objective"
    decay_reference: str = "valid"
    iw_samples: int = 500
    mixture_samples: int = 8
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
            VaelibError: A key is unknown, as in a record of a newer version.
        """
        for name in values:
            check_name(name, FIELDS, "field of a run's configuration")
        fixed = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fixed)

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
    "select": ("objective", "elbo", "last"),
    "decay_reference": ("valid", "last_batch"),
    "precision": ("fp32", "bf16"),
    "matmul_precision": ("highest", "high", "medium"),
}
_AT_LEAST_ONE = ("embedding_dim", "hidden_dim", "latent_dim", "batch_size", "epochs", "iw_samples")
_AT_LEAST_ONE += (
    "mixture_samples",
    "threads",
    "min_count",
    "train_size",
    "valid_size",
    "test_size",
)
_AT_LEAST_ONE += ("nll_size",)
_AT_LEAST_ZERO = ("seed", "min_batch", "patience", "decay_from_epoch", "max_decays")
_FRACTIONS = ("dropout_in", "dropout_out", "init_range", "embedding_range", "lr_factor")


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """The profiles of `profiles.toml`: name -> {field or option: value, "data": {id: {...}}}."""
    return tomllib.loads(resources.files("vaelib").joinpath("profiles.toml").read_text("utf-8"))


def profile_values(profile: str, data: str) -> dict[str, Any]:
    """What a profile says about runs on a data set.

    Raises:
        VaelibError: The profile is unknown.
    """
    table = dict(profiles()[check_name(profile, profiles(), "profile")])
    per_data = table.pop("data", {})
    return table | per_data.get(data, {})


def check_value(name: str, value: Any, example: Any) -> Any:
    """Return `value` as the type of `example`, so that a wrong type never reaches a run.

    Raises:
        VaelibError: The types do not fit, e.g. the text "false" where a bool is asked.
    """
    if example is None or value is None:
        return value
    if isinstance(example, bool) or isinstance(value, bool):
        fits = isinstance(value, bool) and isinstance(example, bool)
    elif isinstance(example, float):
        fits = isinstance(value, (int, float))
        value = float(value) if fits else value
    elif isinstance(example, tuple):
        fits = isinstance(value, (tuple, list))
        value = tuple(value) if fits else value
    else:
        fits = isinstance(value, type(example))
    if isinstance(value, float) and value != value:
        raise VaelibError(f"{name} is not a number; give a {type(example).__name__}.")
    if not fits:
        raise VaelibError(
            f"{name}={value!r} is a {type(value).__name__}; give a {type(example).__name__}, "
            f"such as {example!r}."
        )
    return value


def check_config(config: Config) -> Config:
    """Check the ranges and choices of all common fields.

    Raises:
        VaelibError: A value is out of range; the message names it and what is allowed.
    """
    for name, allowed in CHOICES.items():
        check_name(getattr(config, name), allowed, f"value of {name}")
    for bound, names in ((1, _AT_LEAST_ONE), (0, _AT_LEAST_ZERO)):
        for name in names:
            value = getattr(config, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= bound):
                raise VaelibError(f"{name}={value!r}: give a whole number of at least {bound}.")
    for name in ("lr", "clip"):
        if not 0 < getattr(config, name) < float("inf"):
            raise VaelibError(f"{name}={getattr(config, name)!r} must be positive and finite.")
    for name in _FRACTIONS:
        if not 0 <= getattr(config, name) < 1:
            raise VaelibError(f"{name}={getattr(config, name)!r} must be at least 0 and below 1.")
    return config
