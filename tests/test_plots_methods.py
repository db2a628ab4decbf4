"""Pictures and tables of many methods side by side."""

import math
from inspect import isfunction, signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plot_helpers import check_fits, check_ink

from vaelib import pages_across as pages
from vaelib import plots, tables
from vaelib.plots import ESTIMATORS, Picture, estimator_panels, method_dots, rate_distortion
from vaelib.run import run_config
from vaelib.store import Store
from vaelib.studies import Study

DRAWN = [rate_distortion, method_dots, lambda table: estimator_panels(table, 10)]
LABELS = ("VAE", "BN-VAE(0.6)", "DG-VAE(default)", "DAE")


@pytest.fixture
def results() -> pd.DataFrame:
    rows = [
        {
            "label": label,
            "family": f"family {place // 2}",
            "data": "grammar",
            "seed": seed,
            "kl": math.nan if label == "DAE" else 2.0 * place + 0.1 * seed,
            "distortion": 30.0 - place,
            "nll_iw500": 31.0 - place + 0.1 * seed,
            "mi_global": 1.0 * place,
            "au": 4.0 * place,
            "cu_pq": 16.0,
            **dict.fromkeys(ESTIMATORS, 1.0 * place),
        }
        for seed in range(3)
        for place, label in enumerate(LABELS)
    ]
    return pd.DataFrame(rows)


def inside(picture: Picture) -> list[str]:
    return [text.get_text() for axes in picture.axes for text in axes.texts]


def test_every_method_with_a_rate_has_its_number_once(results: pd.DataFrame) -> None:
    found = inside(rate_distortion(results))
    assert found == ["1", "2", "3", "1  VAE", "2  BN-VAE(0.6)", "3  DG-VAE(default)"]


def test_methods_that_crowd_share_a_text(results: pd.DataFrame) -> None:
    results.loc[results["label"] == "BN-VAE(0.6)", ["kl", "distortion"]] = [0.15, 29.99]
    assert inside(rate_distortion(results))[:2] == ["1, 2", "3"]


def test_rows_are_ordered_by_the_first_panel_and_missing_numbers_come_last(
    results: pd.DataFrame,
) -> None:
    results.loc[results["label"] == "DAE", "nll_iw500"] = math.nan
    axes = method_dots(results).axes
    assert [t.get_text() for t in axes[0].get_yticklabels()] == [*LABELS[2::-1], "DAE"]
    assert [a.get_title() for a in axes] == ["NLL", "KL", "MI", "AU", "CU"]
    by = method_dots(results, by="kl").axes[0]
    assert by.get_yticklabels()[0].get_text() == "VAE"
    bars = axes[0].containers
    assert len(bars) == 3  # none for the missing number


def test_each_estimator_has_its_own_ceiling(results: pd.DataFrame) -> None:
    panels = {axes.get_title(): axes for axes in estimator_panels(results, 1000).axes}
    level = {
        name: [float(np.ravel(line.get_ydata())[0]) for line in axes.lines[1:]]
        for name, axes in panels.items()
    }
    assert level["mi_global"] == level["mi_aggregate_kl"] == [math.log(1000)]
    assert level["mi_in_batch"] == [math.log(32)]
    assert level["mi_skip_self"] == []


@pytest.mark.parametrize("draw", DRAWN)
def test_a_picture_fits_the_book(draw, results: pd.DataFrame) -> None:  # noqa: ANN001
    check_fits(draw(results))
    check_ink(draw(results))


@pytest.mark.parametrize("draw", DRAWN)
def test_without_runs_there_is_a_sentence(draw, results: pd.DataFrame) -> None:  # noqa: ANN001
    assert "no runs yet" in inside(draw(results.iloc[:0]))


def test_ranks_are_taken_seed_by_seed(results: pd.DataFrame) -> None:
    results.loc[(results["label"] == "VAE") & (results["seed"] == 1), "nll_iw500"] = 0.0
    found = pages.ranks(results, "nll_iw500").set_index("label")
    assert (found.loc["VAE", "best"], found.loc["VAE", "worst"]) == (1, 4)
    assert (found.loc["DAE", "best"], found.loc["DAE", "worst"]) == (1, 2)
    assert found["seeds"].eq(3).all()
    assert pages.ranks(results.iloc[:0], "nll_iw500").empty


def test_rank_correlations_are_those_of_the_order(results: pd.DataFrame) -> None:
    rising = results.assign(twice=results["kl"] ** 3, fall=-results["kl"])
    found = pages.rank_correlations(rising, ["kl", "twice", "fall"]).set_index("column")
    assert found.loc["kl", "twice"] == 1.0
    assert found.loc["kl", "fall"] == -1.0
    assert pages.rank_correlations(results.iloc[:0], ["kl", "nothing"]).empty


def test_costs_are_multiples_of_one_label_and_a_study_needs_no_claims(tmp_path: Path) -> None:
    store = Store(tmp_path)
    chosen = Study("across", "smoke", labels=["VAE", "BN-VAE(0.6)"], store=store)
    for plan in chosen.planned():
        run_config(plan.config, store=store)
    costs = pages.costs(chosen, "grammar", "VAE").set_index("label")
    assert costs.loc["VAE", "train ratio"] == 1.0
    expected = costs["train s"] / costs.loc["VAE", "train s"]
    assert costs.loc["BN-VAE(0.6)", "train ratio"] == pytest.approx(
        expected["BN-VAE(0.6)"], abs=0.3
    )
    shown = tables.present(chosen, "methods", "grammar")
    assert set(LABELS[:2]) <= {
        *shown.table.astype(str).to_numpy().ravel(),
        *map(str, shown.table.index),
    }
    assert not any("Verdicts" in note for note in shown.notes)


OF_RESULTS = [
    name
    for name, function in vars(plots).items()
    if name in plots.__all__
    and isfunction(function)
    and "results" in signature(function).parameters
]


@pytest.mark.parametrize("name", OF_RESULTS)
def test_a_study_without_a_run_is_drawn_as_such(name: str) -> None:
    nothing = pd.DataFrame(columns=["label", "family", "data", "seed"])  # as of `Study.results`
    more = {
        "estimator_panels": {"test_size": 10},
        "perplexity_planes": {"printed": {}},
        "probe_curves": {"labels": ["VAE"]},
    }
    (axes,) = getattr(plots, name)(nothing, **more.get(name, {})).axes
    assert [text.get_text() for text in axes.texts] == ["no runs yet"]
