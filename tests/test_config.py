"""Resolving a run: precedence, types, ranges; and the published sizes take real steps."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vaelib import METHODS
from vaelib.build import build, resolve
from vaelib.config import (
    CHOICES,
    EVALUATION_FIELDS,
    FIELDS,
    MACHINE_FIELDS,
    Config,
    check_value,
    listed,
    profiles,
)
from vaelib.errors import VaelibError
from vaelib.literals import parse_literal
from vaelib.published import published
from vaelib.strategies import STRATEGIES
from vaelib.studies import Study
from vaelib.testing import sentences, usual_data


def smoke(method: str = "vae", **changes: Any) -> Config:
    return resolve(method, data="grammar", profile="smoke", **changes)


@pytest.mark.parametrize("profile", list(profiles()))
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_resolves_at_every_profile(method: str, profile: str) -> None:
    data = usual_data(method)
    config = resolve(method, data="ptb" if data == "grammar" else data, profile=profile)
    assert (config.method, config.profile) == (method, profile)
    assert Config.from_dict(config.to_dict()) == config


def test_aliases_resolve_to_the_same_run() -> None:
    assert smoke("DG-VAE") == smoke("dg")
    assert smoke("DG-VAE").hash == smoke("dg").hash


def test_later_sources_win() -> None:
    assert resolve("vae", data="grammar", profile="laptop").train_size == 10_000
    assert resolve("vae", data="ptb", profile="laptop").train_size == 5_000
    assert resolve("vae", data="ptb", profile="laptop", train_size=7).train_size == 7
    assert smoke("ae").options["beta"] == 0.0
    assert smoke("ae", beta=0.5).options["beta"] == 0.5
    assert smoke("cyclic").early_stop is False
    assert smoke("cyclic", early_stop=True).early_stop is True


def test_the_laptop_recipe_is_the_documented_one() -> None:
    config = resolve("vae", data="grammar", profile="laptop")
    sizes = (config.train_size, config.valid_size, config.test_size, config.nll_size)
    assert sizes == (10_000, 1_000, 1_000, 300)
    assert (config.embedding_dim, config.hidden_dim, config.latent_dim) == (64, 128, 16)
    assert (config.optimizer, config.lr, config.batch_size) == ("adam", 1e-3, 32)
    assert config.min_count == 2
    assert 0 < config.options["warmup_epochs"] < config.epochs <= 20


@pytest.mark.parametrize(("data", "sizes"), [("yahoo", (512, 1024)), ("short_yelp", (128, 512))])
def test_the_paper_profile_is_the_published_protocol(data: str, sizes: tuple[int, int]) -> None:
    config = resolve("vae", data=data, profile="paper", seed=783435)
    assert (config.embedding_dim, config.hidden_dim, config.latent_dim) == (*sizes, 32)
    assert (config.optimizer, config.lr, config.clip, config.batch_size) == ("sgd", 0.5, 5.0, 32)
    assert (config.epochs, config.patience, config.decay_from_epoch) == (100, 5, 15)
    assert (config.lr_factor, config.max_decays, config.min_batch) == (0.5, 5, 2)
    assert (config.dropout_in, config.dropout_out) == (0.5, 0.5)
    assert (config.init_range, config.embedding_range) == (0.01, 0.1)
    assert (config.options["warmup_epochs"], config.options["start"]) == (10.0, 0.0)
    assert (config.select, config.decay_reference) == ("objective", "valid")
    assert resolve("bn", data=data, profile="paper").options["norm_eps"] == 1e-5
    assert (config.train_size, config.min_count) == (None, 1)


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"epoch": 3}, "epochs"),
        ({"gama": 0.5}, "gamma"),
        ({"latent": 3}, "latent_dim"),
        ({"posterior": "gausian"}, "gaussian"),
        ({"regulariser": "density_gab"}, "density_gap"),
        ({"schedule": "cyclical"}, "cyclic"),
        ({"optimizer": "adamm"}, "adam"),
        ({"select": "objectiv"}, "objective"),
        ({"device": "cudaa"}, "cuda"),
        ({"extra_terms": ("bag_of_word",)}, "bag_of_words"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(changes: dict, near: str) -> None:
    with pytest.raises(VaelibError, match=f"did you mean '{near}'"):
        smoke("bn", **changes)


def test_options_of_another_method_are_unknown() -> None:
    with pytest.raises(VaelibError, match="unknown option of 'vae' 'gamma'"):
        smoke("vae", gamma=0.6)
    with pytest.raises(VaelibError, match="own names"):
        smoke("bn", options={"gamma": 0.7})


def test_unknown_method_profile_and_data_are_refused() -> None:
    with pytest.raises(VaelibError, match="unknown method"):
        resolve("vea", data="grammar")
    with pytest.raises(VaelibError, match="unknown profile 'labtop': did you mean 'laptop'"):
        resolve("vae", data="grammar", profile="labtop")


@pytest.mark.parametrize(
    "changes",
    [
        {"early_stop": "false"},
        {"early_stop": 0},
        {"seed": "[0,1]"},
        {"seed": [0, 1]},
        {"seed": 1.0},
        {"seed": True},
        {"epochs": "5"},
        {"epochs": 2.5},
        {"lr": "fast"},
        {"lr": True},
        {"metrics": "kl"},
        {"beta": "0.4"},
        {"beta": False},
        {"train_size": 10.5},
        {"train_size": "all"},
        {"nll_size": "x"},
        {"metrics": [1]},
        {"metrics": [["kl"]]},
        {"lr": 10**400},
        {"device": None},
        {"device": 0},
    ],
)
def test_wrong_types_are_refused(changes: dict) -> None:
    with pytest.raises(VaelibError, match=next(iter(changes))):
        smoke("beta", **changes)


@pytest.mark.parametrize("name", [n for n in FIELDS if n not in ("method", "profile", "options")])
def test_none_is_allowed_only_where_it_means_all(name: str) -> None:
    if name in ("train_size", "valid_size", "test_size", "nll_size", "max_vocabulary"):
        assert getattr(smoke(**{name: None}), name) is None
        return
    given = {"method": "vae", "data": "grammar", "profile": "smoke", name: None}
    with pytest.raises(VaelibError, match="None"):
        resolve(**given)


@pytest.mark.parametrize(("method", "option"), [("dg", "aggregation_size"), ("vae", "beta")])
def test_none_is_no_value_of_an_option(method: str, option: str) -> None:
    with pytest.raises(VaelibError, match=f"{option}=None: give a"):
        smoke(method, **{option: None})


def test_a_text_is_no_list_of_terms() -> None:
    with pytest.raises(VaelibError, match="extra_terms"):
        smoke("vae", extra_terms="bag_of_words")


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"latent_dim": 0},
        {"seed": -1},
        {"threads": 0},
        {"lr": 0.0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"clip": -1.0},
        {"dropout_in": 1.0},
        {"dropout_out": -0.1},
        {"dropout_in": math.nan},
        {"embedding_range": -1.0},
        {"lr_factor": math.nan},
        {"max_decays": -2},
        {"nll_size": -3},
        {"beta": -0.1},
        {"beta": math.nan},
        {"warmup_epochs": -1.0},
        {"beta": math.inf},
        {"seed": 10**12},
        {"threads": 10**6},
        {"hidden_dim": 10**6},
        {"iw_samples": 10**9},
        {"device": "cpu:x"},
        {"device": "cuda:99"},
    ],
)
def test_values_out_of_range_are_refused(changes: dict) -> None:
    with pytest.raises(VaelibError, match=next(iter(changes))):
        smoke("beta", **changes)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("bn", {"gamma": 0.0}),
        ("bn", {"norm_eps": 0.0}),
        ("delta", {"delta": -0.1}),
        ("vmf", {"kappa": 0.0}),
        ("free_bits", {"target": -4.0}),
        ("free_bits", {"variant": "dim_batch_mask"}),
        ("dg", {"aggregation_size": -1}),
        ("dg", {"samples": 0}),
        ("dg", {"form": "marginals"}),
        ("dg", {"indivisible": "drop"}),
        ("bow", {"bow_reduction": "mean"}),
        ("bow", {"bow_width": -3}),
        ("cyclic", {"cycles": 0}),
        ("cyclic", {"ramp_fraction": 1.5}),
        ("cyclic", {"beta": -1.0}),
        ("vmf", {"latent_dim": 1}),
        ("wae", {"mmd_samples": 0}),
        ("wae", {"mmd_weight": -1.0}),
        ("aae", {"critic_samples": 0}),
        ("aae", {"critic_width": 0}),
        ("bn", {"gamma": 1e300}),
        ("delta", {"delta": 1e300}),
        ("vmf", {"kappa": 1e300}),
    ],
)
def test_options_out_of_range_are_refused_before_any_work(method: str, changes: dict) -> None:
    with pytest.raises(VaelibError):
        smoke(method, **changes)


@pytest.mark.parametrize(
    ("method", "changes", "told"),
    [
        ("vae", {"prior": "uniform_sphere"}, "cannot be trained with prior=uniform_sphere"),
        ("vmf", {"prior": "normal"}, "cannot be trained with posterior=vmf"),
        ("vae", {"decoder": "categorical"}, "the decoder 'categorical' reads points"),
        ("vae", {"encoder": "table"}, "the encoder 'table' reads points"),
        ("vae", {"posterior": "split"}, "2 latent_dim wide"),
        ("vmf", {"regulariser": "free_bits"}, "free bits needs a posterior that factorises"),
        ("vmf", {"extra_terms": ("free_bits",)}, "free bits needs a posterior that factorises"),
        ("dg_vmf", {"form": "marginal"}, "needs a Gaussian posterior"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_any_work(
    method: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(VaelibError, match=told) as caught:
        smoke(method, **changes)
    assert "\n" not in str(caught.value)


def test_parts_that_fit_are_taken() -> None:
    assert smoke(posterior="split", hidden_dim=8, latent_dim=4).posterior == "split"
    assert smoke("dg", aggregation_size=32, latent_dim=1).latent_dim == 1


def test_an_own_corpus_has_one_hash_and_ids_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corp").mkdir()
    monkeypatch.chdir(tmp_path)
    names = ["corp", "corp/", str(tmp_path / "corp"), Path("corp")]
    configs = [resolve("vae", data=name, profile="smoke") for name in names]
    assert {config.data for config in configs} == {str(tmp_path.resolve() / "corp")}
    assert len({config.hash for config in configs}) == 1
    assert smoke().hash == "1e77faa11ae0"  # as in the records of today


def test_one_value_is_a_list_of_one() -> None:
    assert listed("grammar") == ["grammar"]
    assert listed(0) == [0]
    assert listed(Path("corp")) == [Path("corp")]
    assert listed(range(2)) == listed((0, 1)) == [0, 1]
    assert listed([]) == []


def test_a_field_of_a_newer_version_is_named() -> None:
    values = smoke().to_dict() | {"epochss": 3}
    with pytest.raises(VaelibError, match="did you mean 'epochs'"):
        Config.from_dict(values)


def test_values_take_the_type_of_their_example() -> None:
    assert check_value("lr", 1, 0.5) == 1.0
    assert isinstance(check_value("lr", 1, 0.5), float)
    assert check_value("metrics", ["kl"], ("au",)) == ("kl",)
    assert check_value("train_size", None, None) is None


def test_the_hash_names_what_is_trained() -> None:
    base = smoke()
    for name in EVALUATION_FIELDS:
        value = ("kl",) if name == "metrics" else 3
        assert smoke(**{name: value}).hash == base.hash
        assert smoke(**{name: value}).question != base.question
    for change in ({"seed": 1}, {"lr": 0.01}, {"beta": 0.5}, {"train_size": 90}, {"threads": 2}):
        assert smoke(**change).hash != base.hash
    assert resolve("vae", data="grammar", profile="laptop").hash != base.hash


def test_the_question_leaves_the_machine_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelib.build.runs_bfloat16", lambda kind: True)
    values = {"threads": 2, "precision": "bf16", "matmul_precision": "high"}
    assert {"device", *values} == set(MACHINE_FIELDS)
    for name, value in values.items():
        assert smoke(**{name: value}).question == smoke().question
        assert smoke(**{name: value}).hash != smoke().hash


def test_bfloat16_is_refused_where_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelib.build.runs_bfloat16", lambda kind: False)
    with pytest.raises(VaelibError, match="precision=bf16: 'cpu' here has no recurrent layers"):
        smoke(precision="bf16")
    assert smoke().precision == "fp32"


def test_resolving_leaves_global_randomness_alone() -> None:
    before = torch.get_rng_state()
    config = smoke("aae")
    build(config, 20)
    assert torch.equal(before, torch.get_rng_state())


def test_choices_name_fields_and_cover_their_defaults() -> None:
    for name, allowed in CHOICES.items():
        assert getattr(smoke(), name) in allowed


def test_two_builds_of_a_config_are_equal_and_seeds_differ() -> None:
    one, two, other = (build(smoke("bow", seed=s), 30) for s in (0, 0, 1))
    for part in ("model", "objective"):
        pairs = zip(getattr(one, part).parameters(), getattr(two, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    first, second = next(one.model.parameters()), next(other.model.parameters())
    assert not torch.equal(first, second)


def paper_plans() -> list[Any]:
    """One run of each family and backbone size of the `paper` profile."""
    study = Study("dg_vae", "paper", data=["short_yelp", "yahoo"])
    chosen = {(plan.family, plan.data): plan for plan in study.planned()}
    return [pytest.param(plan, id=f"{f}-{data}") for (f, data), plan in chosen.items()]


def test_every_config_of_the_paper_profile_resolves() -> None:
    plans = Study("dg_vae", "paper").planned()
    assert len(plans) == 5 * 39
    assert len({plan.config.hash for plan in plans}) == len(plans)
    for plan in plans:
        assert plan.config.latent_dim == 32
        assert plan.config.epochs == 100


@pytest.mark.slow
@pytest.mark.parametrize("plan", paper_plans())
def test_paper_configs_take_three_steps_at_true_size(plan: Any) -> None:
    config = plan.config
    table = published("dg_vae", "table1")
    name = {"short_yelp": "Short-Yelp", "yahoo": "Yahoo"}[plan.data]
    row = table[(table["dataset"] == name) & (table["metric"] == "vocab_size")]
    vocab_size = int(row["value"].iloc[0])
    built = build(config, vocab_size)
    parameters = [*built.model.parameters(), *built.objective.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=config.lr)
    strategy = STRATEGIES[config.strategy](
        built.model.train(), built.objective.train(), optimizer, config.clip, config.precision
    )
    x = sentences(config.batch_size, 3, vocab_size)
    noise = torch.Generator().manual_seed(0)
    steps = [strategy.step(x, weight, noise) for weight in (0.0, 0.5, 1.0)]
    assert all(torch.isfinite(v) for values in steps for v in values.values())
    assert all(values["grad_norm"] > 0 for values in steps)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("3", 3),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("lstm", "lstm"),
        ("1.2.3", "1.2.3"),
        ("nan", "nan"),
        ("'3'", "3"),
        ('"a b"', "a b"),
        ("[]", []),
        ("[0, 1.5,x, 'true']", [0, 1.5, "x", "true"]),
        ("['a, b', \"it's\", x]", ["a, b", "it's", "x"]),
        ("1e400", math.inf),
        ("", ""),
    ],
)
def test_parse_literal(text: str, value: Any) -> None:
    parsed = parse_literal(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["[0, 1", "'a", '"'])
def test_parse_literal_refuses_an_open_end(text: str) -> None:
    with pytest.raises(VaelibError, match="cannot read the value"):
        parse_literal(text)


@pytest.mark.parametrize(
    ("method", "changes", "sentence"),
    [
        ("vmf", {"kappa": 1e9}, "at most 10,000"),
        ("vae", {"device": "mps"}, "no float64"),
        ("vae", {"metrics": ()}, "name at least one"),
    ],
)
def test_what_would_give_wrong_numbers_or_none_is_refused(
    method: str, changes: dict, sentence: str
) -> None:
    with pytest.raises(VaelibError, match=sentence):
        resolve(method, data="grammar", **changes)


@pytest.mark.parametrize("method", ["aae", "wae"])
def test_regularisers_by_samples_have_weight_one_throughout(method: str) -> None:
    assert resolve(method, data="grammar").options["warmup_epochs"] == 0


def test_what_one_sentence_cannot_do_is_refused_before_any_work() -> None:
    with pytest.raises(VaelibError, match="min_batch=2"):
        resolve("bn", data="grammar", min_batch=1)
    assert resolve("dg", data="grammar", min_batch=1).min_batch == 1


@pytest.mark.parametrize(
    ("method", "option", "meant"),
    [
        ("iwae", "samples", "iwae_samples"),
        ("iwae", "iw_sample", "iw_samples"),
        ("du", "p", "keep_probability"),
        ("mine", "decay", "mine_decay"),
        ("vae", "sample", "iw_samples"),
        ("dg", "batchsize", "batch_size"),
    ],
)
def test_a_wrong_option_finds_those_of_the_methods_own_parts_first(
    method: str, option: str, meant: str
) -> None:
    with pytest.raises(VaelibError, match=f"did you mean '{meant}'"):
        resolve(method, data="grammar", profile="smoke", **{option: 1})


def test_what_no_option_is_like_gets_no_hint_and_the_methods_own_options_first() -> None:
    with pytest.raises(VaelibError, match="'ema': Known: mine_alpha, mine_width"):
        resolve("mine", data="grammar", profile="smoke", ema=0.9)
