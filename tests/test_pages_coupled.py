"""Tables of Coupled-VAE's pages on fabricated records."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vaelib import pages_coupled as pages
from vaelib import store as files
from vaelib import tables
from vaelib.claims.coupled_vae import COUPLED, COUPLED_10, published_results
from vaelib.pages import samples
from vaelib.run import Run, key_of
from vaelib.store import Store
from vaelib.studies import Planned, Study

METRICS = {"nll_iw500": 20.0, "ppl_iw500": 7.0, "kl": 1.0, "mi_skip_self": 0.5, "bleu_1": 30.0}
METRICS |= {"bleu_2": 5.0, "distinct_1": 0.001, "distinct_2": 0.02, "grad_rec": 2.0}
METRICS |= {"grad_kl": 1.0, "grad_signal": 0.25}


def record(plan: Planned, store: Store, **more: Any) -> None:
    key = key_of(plan.config)
    value = {
        "key": str(key),
        "question": plan.config.question,
        "config": plan.config.to_dict(),
        "metrics": METRICS | more,
        "epochs": [
            {"weight": 1.0, "valid_elbo": -9.0, "valid_grad_rec": float(i)} for i in range(4)
        ],
        "history": {},
        "texts": {"samples": [["a", plan.label], ["b", "c"]], "interpolations": []},
        "provenance": {
            "started": "2030",
            "test_size": 10,
            "train_seconds": 60.0,
            "evaluate_seconds": 6.0,
            "data": {"id": plan.data, "stand_in": False},
            "device": "a processor",
            "precision": "fp32",
            "versions": {"vaelib": "0", "torch": "0"},
        },
    }
    files.write_json(store.record_path(key), value)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def opened(store: Store, item: str, data: str = "grammar", **more: Any) -> Study:
    """A study of an item with a record of every run; coupled ones a nat better, by seed."""
    given = {"data": data, "seeds": [0, 1, 2], "labels": [item], "store": store} | more
    study = Study("coupled_vae", "laptop", **given)
    for plan in study.planned():
        gain = 1.0 + 0.1 * plan.seed if plan.label.startswith("Coupled") else 0.0
        extra = {"nll_iw500": 20.0 + plan.seed - gain}
        if plan.label == COUPLED:
            extra |= {"grad_coupled": 8.0, "grad_total": 10.0}
        record(plan, store, **extra)
    return study.refresh()


def test_an_item_is_planned_where_the_profile_has_a_run_of_it(store: Store) -> None:
    data = ["grammar", "pairs", "ptb"]
    study = Study("coupled_vae", "laptop", data=data, labels=["table1", "table8"], store=store)
    assert pages.planned(study, "table1") == ["grammar", "ptb"]
    assert pages.planned(study, "table8") == ["pairs"]


def test_printed_values_are_those_of_the_data_or_of_ptb(store: Store) -> None:
    study = Study("coupled_vae", "laptop", store=store)
    for data, name in (("grammar", "PTB"), ("yelp13", "Yelp"), ("switchboard", "PTB")):
        table, found = pages.printed_for(study, data)
        assert found == name
        pd.testing.assert_frame_equal(table, published_results(name))


def test_table_3_finds_its_printed_values_under_the_studys_labels(store: Store) -> None:
    table = opened(store, "table3").compare("table3")
    assert table["published"].notna().all()
    row = table.set_index(["label", "column"]).loc["Coupled-VAE[Eucl,lambda_m=5.0]", "MI"]
    assert (row["published"], row["mean"], row["seeds"]) == (98.02, 0.5, 3)
    assert table["difference"].isna().all()


def test_distinct_ngrams_are_percentages(store: Store) -> None:
    table = opened(store, "table6").compare("table6")
    row = table.set_index(["label", "column"]).loc[COUPLED_10, "Dist-2"]
    assert (row["published"], row["mean"]) == pytest.approx((24.46, 2.0))
    shown = tables.present(opened(store, "table6"), "table6", "grammar")
    assert list(shown.table.columns) == ["Dist-1 (%)", "Dist-2 (%)"]


def test_a_column_that_only_some_runs_have_is_empty_elsewhere(store: Store) -> None:
    study = opened(store, "table5")
    shown = tables.present(study, "table5", "grammar").table
    assert shown.loc["DAE", "coupled reconstruction"] == "– | –"
    assert shown.loc[COUPLED, "both reconstructions"].endswith("10.0 ± 0.0")
    record(study.planned()[0], store)


def test_a_difference_to_print_is_shown_for_the_papers_own_data_and_profile(store: Store) -> None:
    study = Study("coupled_vae", "paper", data="yelp13", labels=["VAE"], store=store)
    record(study.planned()[0], store, nll_iw500=194.0)
    table = study.refresh().compare("table1").set_index("column")
    assert table.loc["NLL", "difference"] == pytest.approx(194.0 - 193.7)


def test_no_runs_make_friendly_tables(store: Store) -> None:
    study = Study("coupled_vae", "laptop", data="grammar", labels=["table1"], store=store)
    assert ": no pair of runs yet." in repr(pages.twin_table(study, "table1", "NLL", "grammar"))
    assert samples(study, "table6", "grammar").empty
    assert pages.answers(study, "table8", "pairs").empty
    assert pages.followed(study, "figure5").empty


def test_differences_are_formed_seed_by_seed(store: Store) -> None:
    study = opened(store, "table1")
    found = pages.twin_differences(study.results(), "nll_iw500")
    assert len(found) == 33
    one = found[found["base"] == "WAE"].sort_values("seed")["difference"].tolist()
    assert one == pytest.approx([-1.0, -1.1, -1.2])
    assert pages.twin_differences(study.results(), "no_such").empty


def test_a_seed_that_one_of_the_two_lacks_is_left_out() -> None:
    rows = [("VAE", 0, 1.0), ("VAE", 1, 2.0), (COUPLED, 1, 5.0), ("WAE", 0, math.nan)]
    rows += [("Coupled-WAE", 0, 1.0)]
    table = pd.DataFrame(rows, columns=["label", "seed", "kl"]).assign(data="d")
    found = pages.twin_differences(table, "kl")
    assert found.to_dict("records") == [{"data": "d", "base": "VAE", "seed": 1, "difference": 3.0}]


def test_a_pair_stands_in_a_row_with_the_interval_of_its_difference(store: Store) -> None:
    table = pages.twin_table(opened(store, "table1"), "table1", "NLL", "grammar").table
    row = table.set_index("").loc["VAE"]
    assert row["alone"] == "103.6 | 21.0 ± 1.0"
    assert row["coupled"] == "103.1 | 19.9 ± 0.9"
    assert row["coupled − alone"] == "−0.50 | −1.10 [−1.35, −0.85]"


def test_one_seed_has_no_interval_and_stale_labels_are_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(store, "table1", seeds=0)
    monkeypatch.setattr(Run, "stale", True)
    row = pages.twin_table(study, "table1", "NLL", "grammar").table.set_index("").loc["VAE"]
    assert row["coupled − alone"] == "−0.50 | −1.00"


def test_a_difference_of_nothing_has_no_sign(store: Store) -> None:
    table = pages.twin_table(opened(store, "table1"), "table1", "KL", "grammar").table
    assert table.set_index("").loc["WAE", "coupled − alone"] == "+1.50 | 0.00 [0.00, 0.00]"


def test_results_come_with_the_printed_ones(store: Store) -> None:
    study = opened(store, "table4")
    assert list(pages.with_print(study, "table4")) == ["grammar", "PTB (printed)"]
    found = pages.with_print(study, "table8", "Switchboard")
    assert "CVAE" in set(found["Switchboard (printed)"]["label"])


def test_what_was_tracked_carries_its_run(store: Store) -> None:
    table = pages.followed(opened(store, "figure5", seeds=[0, 1]), "figure5")
    assert len(table) == 3 * 2 * 4
    assert set(table["label"]) == {"DAE", "VAE", COUPLED_10}
    assert table["grad_rec"].max() == 3.0


def test_samples_are_sentences_of_the_first_seed(store: Store) -> None:
    table = samples(opened(store, "table6"), "table6", "grammar", count=2)
    assert table.columns.to_list() == ["VAE", COUPLED_10]
    assert table["VAE"].to_list() == ["a VAE", "b c"]


def test_answers_stand_below_their_posts(store: Store) -> None:
    study = opened(store, "table8", data="pairs", seeds=0)
    table = pages.answers(study, "table8", "pairs", count=2)
    assert table.columns.to_list()[:3] == ["post", "response", "GRU Encoder-Decoder"]
    assert table["CVAE"].to_list() == ["a CVAE", "b c"]
    test = study.found[0][1].corpus.test
    assert len(table.loc[0, "post"].split()) == int(test.lengths[0, 0]) - 2
