"""Studies: the grid, what the store holds of it, printed beside obtained."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vaelib import store as files
from vaelib.build import try_out
from vaelib.errors import VaelibError
from vaelib.published import published
from vaelib.run import key_of
from vaelib.store import Store
from vaelib.studies import Planned, Study, declaration, grid, papers

LABELS = ["VAE (default)", "DG-VAE(default)", "DG-VAE(|b|=4)", "FB-VAE(4)"]
METRICS = {"prior_ll": -9.0, "post_ll": -8.0, "kl": 1.5, "mi_global": 1.0, "au": 2.0, "cu_pq": 3.0}


def record(plan: Planned, store: Store, code: str = "", started: str = "2030", **more: Any) -> None:
    """Put a fact about a plan into a store, as today's code or as older code made it."""
    key = key_of(plan.config)
    key = files.Key(key.trained + code, key.evaluated)
    value = {
        "key": str(key),
        "question": plan.config.question,
        "config": plan.config.to_dict(),
        "metrics": METRICS | more,
        "epochs": [],
        "history": {},
        "texts": {},
        "provenance": {
            "started": started,
            "test_size": 10,
            "train_seconds": 60.0,
            "evaluate_seconds": 6.0,
            "device": "a processor",
            "data": {},
            "versions": {},
        },
    }
    files.write_json(store.record_path(key), value)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def study(profile: str = "smoke", **settings: Any) -> Study:
    return Study("dg_vae", profile, **settings)


def test_the_grid_is_that_of_the_paper() -> None:
    rows = grid("dg_vae")
    labels = [row["label"] for row in rows]
    assert len(labels) == len(set(labels)) == 39
    counts = pd.Series([row["family"] for row in rows]).value_counts().to_dict()
    assert counts == {
        "VAE": 1,
        "cyclic": 1,
        "skip": 1,
        "bow": 1,
        "delta": 1,
        "BN": 6,
        "FB": 6,
        "beta": 5,
        "DG": 7,
        "vMF": 5,
        "DG-vMF": 5,
    }
    assert {"BN-VAE(0.6)", "FB-VAE(49)", "beta-VAE(0.0)", "DG-VAE(|b|=32)", "vMF-VAE(13)"} <= set(
        labels
    )
    swept = {row["label"]: row["value"] for row in rows}
    assert swept["BN-VAE(1.2)"] == 1.2
    assert swept["DG-VAE(|b|=16)"] == 16
    assert swept["VAE (default)"] is None


def option(
    label: str, name: str, profile: str = "laptop", data: str = "grammar", **more: Any
) -> Any:
    plan = study(profile, labels=[label], data=[data], seeds=[0], **more).planned()[0]
    return plan.config.options[name]


def test_totals_scale_with_the_latent_size() -> None:
    assert option("FB-VAE(4)", "target") == 2.0  # 4 nats over 32 dimensions, D = 16
    assert option("FB-VAE(49)", "target") == 24.5
    assert option("FB-VAE(4)", "target", "paper", "yahoo") == 4.0
    assert option("FB-VAE(36)", "target", "smoke") == 4.5  # D = 4
    assert option("FB-VAE(4)", "target", latent_dim=8) == 1.0
    assert option("delta-VAE(0.15)", "delta") == 0.15  # per dimension: not scaled
    assert option("BN-VAE(0.6)", "gamma") == 0.6


def test_the_authors_own_forms_are_run() -> None:
    assert option("bow-VAE", "bow_reduction") == "mean_tokens"  # T2
    assert option("bow-VAE", "bow_gradient_only") is True
    assert option("bow-VAE", "bow_width") == 0
    assert option("FB-VAE(9)", "variant") == "dim_sample_mask"  # T3
    assert option("DG-VAE(|b|=32)", "indivisible") == "skip"  # T5
    assert option("DG-VAE(|b|=32)", "aggregation_size") == 32
    assert option("DG-VAE(default)", "aggregation_size") == 0
    assert option("DG-VAE(default)", "samples") == 32
    assert option("DG-VAE(default)", "form") == "marginal"
    assert option("DG-vMF-VAE(50)", "form") == "joint"
    assert option("vMF-VAE(13)", "kappa") == 13.0
    assert option("cyclic-VAE", "cycles") == 5


def test_profiles_plan_what_the_design_allows() -> None:
    counts = {}
    for profile in ("smoke", "laptop", "paper"):
        for plan in study(profile).planned():
            assert plan.config.profile == profile
            counts.setdefault((profile, plan.data), set()).add(plan.label)
    sizes = {key: len(labels) for key, labels in counts.items()}
    assert sizes["laptop", "grammar"] == 39
    assert sizes["laptop", "short_yelp_standin"] <= 14
    assert sizes["laptop", "ptb"] <= 6
    assert study("laptop").seeds == [0, 1, 2]
    assert all(n == 39 for (profile, _), n in sizes.items() if profile == "paper")
    assert study("paper").seeds == [783435]


def test_a_study_can_be_restricted_by_label_family_and_item() -> None:
    def labels(*names: str) -> set[str]:
        return {p.label for p in study("laptop", data=["grammar"], labels=names).planned()}

    assert labels("VAE (default)") == {"VAE (default)"}
    assert len(labels("BN", "FB")) == 12
    assert labels("figure1") == {
        "VAE (default)",
        "BN-VAE(1.2)",
        "beta-VAE(0.4)",
        "FB-VAE(36)",
        "DG-VAE(default)",
    }
    assert len(study("laptop", data=["grammar"], labels=["VAE"], seeds=[0, 5]).planned()) == 2


@pytest.mark.parametrize("item", [item["id"] for item in declaration("dg_vae")["item"]])
def test_every_item_names_runs_of_the_grid(item: str) -> None:
    known, about = {row["label"] for row in grid("dg_vae")}, study().item(item)
    assert set(study().labels_of(item)) <= known
    for label in about.get("runs", []):
        assert label in known
    families = {row["family"] for row in grid("dg_vae")}
    assert set(about.get("families", [])) <= families


def test_unknown_names_are_refused_with_the_nearest_one() -> None:
    assert papers() == ["across", "coupled_vae", "dg_vae", "du_vae", "vae_mine"]
    with pytest.raises(VaelibError, match="did you mean 'dg_vae'"):
        Study("dg-vae")
    with pytest.raises(VaelibError, match="did you mean 'laptop'"):
        study("labtop")
    with pytest.raises(VaelibError, match=r"did you mean 'BN-VAE\(0.6\)'"):
        study(labels=["BN-VAE(0.66)"])
    with pytest.raises(VaelibError, match="did you mean 'table2'"):
        study().table("tabel2")
    with pytest.raises(VaelibError, match="did you mean 'epochs'"):
        study(epoch=3).planned()[0].config  # noqa: B018


def test_one_data_set_and_one_seed_need_no_list(tmp_path: Path) -> None:
    one = study(data="grammar", seeds=0, labels="VAE (default)")
    assert (one.data, one.seeds) == (["grammar"], [0])
    assert one.planned() == study(data=["grammar"], seeds=[0], labels=["VAE (default)"]).planned()
    own = study(data=tmp_path)
    assert own.data == [str(tmp_path.resolve())]
    assert own.planned()[0].config.data == own.data[0]
    assert study(data=["grammar", "grammar"]).data == ["grammar"]


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(VaelibError, match="'grammarr': did you mean 'grammar'.* ptb"):
        study(data="grammarr")


def test_some_runs_belong_to_some_data_and_some_to_one_seed(tmp_path: Path) -> None:
    du = Study("du_vae", "paper", seeds=[0, 1, 2], store=Store(tmp_path))
    du.settings = du.settings | {"once": {"synthetic": ["BN-VAE(1.2), 2-D"]}}
    seeds: dict[tuple[str, str], list[int]] = {}
    for plan in du.planned():
        seeds.setdefault((plan.data, plan.label), []).append(plan.seed)
    assert seeds["synthetic", "BN-VAE(1.0), 2-D"] == [0, 1, 2]
    assert seeds["synthetic", "BN-VAE(1.2), 2-D"] == [0]  # of the grid, not the chosen one
    assert not any(label.endswith("2-D") for data, label in seeds if data != "synthetic")
    paper = Study("coupled_vae", "paper", store=Store(tmp_path)).planned()
    assert {p.family for p in paper if p.data == "switchboard"} == {"dialogue"}
    assert "dialogue" not in {p.family for p in paper if p.data != "switchboard"}


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("name", papers())
def test_every_planned_run_resolves_and_no_two_are_the_same(
    name: str, profile: str, tmp_path: Path
) -> None:
    planned = Study(name, profile, store=Store(tmp_path)).planned()
    places: dict[str, str] = {}
    for plan in planned:
        here = f"{plan.label} on {plan.data}"
        assert places.setdefault(plan.config.question, here) == here
        try_out(plan.config)
    listed = Study(name, profile, store=Store(tmp_path)).settings.get("labels", {})
    known = {row["label"] for row in grid(name)}
    assert [
        x for labels in listed.values() if labels != "all" for x in labels if x not in known
    ] == []


def test_a_label_asked_for_by_name_is_run_on_every_data_set() -> None:
    rare = "BN-VAE(0.7)"
    for data in ("short_yelp_standin", "ptb"):
        assert rare not in {p.label for p in study("laptop", data=data).planned()}
        assert {p.label for p in study("laptop", data=data, labels=rare).planned()} == {rare}
    some = {p.label for p in study("laptop", data="ptb", labels=["table2", rare]).planned()}
    every = {p.label for p in study("laptop", data="ptb").planned()}
    assert some <= every | {rare}  # of a table, what the profile has there
    assert rare in some


def test_overrides_reach_every_run_and_make_other_questions() -> None:
    plain, changed = study().planned(), study(epochs=7).planned()
    assert {p.config.epochs for p in changed} == {7}
    assert not {p.config.question for p in plain} & {p.config.question for p in changed}


def test_an_empty_store_lacks_everything(store: Store) -> None:
    opened = study(store=store)
    assert opened.found == []
    assert len(opened.missing()) == len(opened.planned())
    assert opened.results().empty
    assert opened.table("table2").empty


def test_nothing_can_be_compared_with_print(store: Store) -> None:
    assert study(store=store).compare("table2").empty


@pytest.mark.parametrize("item", ["toy", "figure1", "table1"])
def test_items_without_a_table_of_runs_say_so(item: str, store: Store) -> None:
    with pytest.raises(VaelibError, match=f"{item} of dg_vae is no table of runs"):
        study(store=store).table(item)


def test_what_is_found_is_not_missing(store: Store) -> None:
    opened = study("laptop", data=["grammar"], labels=LABELS, seeds=[0, 1], store=store)
    plans = opened.planned()
    assert len(plans) == 8
    for plan in plans[:3]:
        record(plan, store)
    opened.refresh()
    assert [plan for plan, _ in opened.found] == plans[:3]
    assert opened.missing() == plans[3:]
    assert not any(run.stale for _, run in opened.found)


def test_older_code_counts_as_stale_and_newer_comes_first(store: Store) -> None:
    opened = study("laptop", data=["grammar"], labels=LABELS[:1], seeds=[0], store=store)
    (plan,) = opened.planned()
    record(plan, store, code="0", started="2031", kl=7.0)
    record(plan, store, code="1", started="2032", kl=8.0)
    ((_, run),) = opened.refresh().found
    assert run.stale
    assert run.metrics["kl"] == 8.0
    assert opened.missing() == []
    assert opened.missing(stale_too=True) == [plan]
    assert opened.table("table2")["stale"].all()
    record(plan, store, kl=1.0)
    ((_, run),) = opened.refresh().found
    assert not run.stale
    assert run.metrics["kl"] == 1.0
    assert opened.missing(stale_too=True) == []


def test_other_machines_answer_the_same_question(store: Store) -> None:
    settings = {"data": ["grammar"], "labels": LABELS[:1], "seeds": [0], "store": store}
    here, there = study("laptop", **settings), study("laptop", threads=2, **settings)
    record(there.planned()[0], store)
    assert len(here.refresh().found) == 1
    assert here.missing() == []


def test_means_and_deviations_are_over_seeds(store: Store) -> None:
    opened = study("laptop", data=["grammar"], labels=LABELS[:2], store=store)
    for plan in opened.planned():
        record(plan, store, kl=float(plan.seed))
    table = opened.refresh().table("table2").set_index(["label", "column"])
    row = table.loc["VAE (default)", "KL"]
    assert row["metric"] == "kl"
    assert (row["mean"], row["sd"], row["seeds"]) == (1.0, 1.0, 3)
    assert table.loc[("DG-VAE(default)", "priorLL"), "mean"] == -9.0
    results = opened.results()
    assert len(results) == 6
    assert set(results["label"]) == set(LABELS[:2])
    assert results["latent_dim"].eq(16).all()
    assert results["test_size"].eq(10).all()


def test_a_metric_that_no_run_has_is_not_a_number(store: Store) -> None:
    opened = study("laptop", data=["grammar"], labels=LABELS[:1], seeds=[0], store=store)
    record(opened.planned()[0], store)
    path = next(store.root.glob("*/record-*.json"))
    value = files.read_json(path)
    value["metrics"].pop("cu_pq")
    files.write_json(path, value)
    table = opened.refresh().table("table2").set_index("metric")
    assert math.isnan(table.loc["cu_pq", "mean"])
    assert table.loc["cu_pq", "seeds"] == 0
    assert table.loc["kl", "seeds"] == 1


@pytest.mark.parametrize(("profile", "data"), [("paper", "yahoo"), ("paper", "snli")])
def test_printed_values_stand_beside_obtained_ones(profile: str, data: str, store: Store) -> None:
    opened = study(profile, data=[data], labels=["table2"], store=store)
    for plan in opened.planned():
        record(plan, store)
    table = opened.refresh().compare("table2").set_index(["label", "column"])
    printed = {
        ("VAE (default)", "priorLL"): -330.7,
        ("VAE (default)", "CU"): 32.0,
        ("DG-VAE(default)", "KL"): 70.8,
        ("DG-VAE(|b|=32)", "KL"): 65.2,
    }
    for place, value in printed.items():
        assert table.loc[place, "published"] == value
        difference = table.loc[place, "difference"]
        if data == "yahoo":
            assert difference == pytest.approx(table.loc[place, "mean"] - value)
            assert table.loc[place, "note"] == ""
        else:
            assert math.isnan(difference)
            assert table.loc[place, "note"] == "other data: direction only"


def test_every_printed_row_finds_its_label(store: Store) -> None:
    opened = study("paper", data=["yahoo"], store=store)
    for plan in opened.planned():
        record(plan, store)
    opened.refresh()
    assert opened.compare("table2")["published"].notna().mean() > 0.9
    known = {row["label"] for row in grid("dg_vae")}
    printed = {label for label, _ in opened._printed(opened.item("table2"))["Yahoo"]}
    assert printed <= known, printed - known


def test_a_laptop_number_is_never_compared_with_print(store: Store) -> None:
    opened = study("laptop", data=["grammar"], labels=LABELS[:1], seeds=[0], store=store)
    record(opened.planned()[0], store)
    table = opened.refresh().compare("table2")
    assert table["difference"].isna().all()
    assert table["note"].eq("other data: direction only").all()
    assert table["published"].notna().all()


def test_claims_can_be_judged_on_whatever_there_is(store: Store) -> None:
    opened = study("laptop", store=store)
    assert len(opened.claims()) > 5
    of_runs = opened.claims().query("data == 'grammar'")
    assert of_runs["verdict"].eq("not run").all()


def test_an_item_has_other_printed_numbers_on_other_data(tmp_path: Path) -> None:
    """Figure 2 of DU-VAE stands on text and on images; its BN-VAE has another scale on each."""
    store = Store(tmp_path)
    opened = Study("du_vae", data=["grammar", "digits"], labels=["figure2"], seeds=[0], store=store)
    for plan in opened.planned():
        record(plan, store, nll_iw500=1.0)
    shown = opened.refresh().compare("figure2")
    printed = shown[shown["metric"] == "nll_iw500"].set_index(["data", "label"])["published"]
    there = published("du_vae", "table1")
    nll = there[there["metric"].str.startswith("NLL")].set_index(["dataset", "model"])["value"]
    assert printed["grammar", "DU-VAE(0.5, 0.9)"] == nll["Yahoo", "DU-VAE(0.5,0.9)"]
    assert printed["digits", "DU-VAE(0.5, 0.9)"] == nll["OMNIGLOT", "DU-VAE(0.5,0.9)"]
    assert printed["digits", "BN-VAE(0.5)"] == nll["OMNIGLOT", "BN-VAE(0.6/0.6/0.5)"]
