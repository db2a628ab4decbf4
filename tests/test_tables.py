"""Tables of fabricated comparisons: pivoted, rounded as in print, escaped, with their notes."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vaelib import _listings, pages, tables
from vaelib._formats import tex
from vaelib.claims.dg_vae import CLAIMS
from vaelib.errors import VaelibError
from vaelib.run import key_of
from vaelib.store import Key, Store, write_json
from vaelib.studies import Planned, Study, declaration

NAN = float("nan")


def row(label: str, column: str, mean: float, **more: Any) -> dict[str, Any]:
    names = {"priorLL": "prior_ll", "AU": "au", "Rouge": "rouge_l_05", "KL": "kl"}
    about = {"data": "ptb", "label": label, "family": "BN", "value": NAN, "column": column}
    numbers = {"metric": names[column], "mean": mean, "sd": 0.25, "seeds": 3, "stale": False}
    return about | numbers | {"published": NAN, "difference": NAN, "note": ""} | more


@pytest.fixture
def compared() -> pd.DataFrame:
    return pd.DataFrame(
        [
            row("VAE (default)", "priorLL", -330.66, published=-330.7),
            row("VAE (default)", "AU", 0.0, sd=0.0, published=0.0),
            row("BN-VAE(0.6)", "priorLL", -327.04, published=-327.6),
            row("BN-VAE(0.6)", "AU", 31.6667, sd=0.5774, published=32.0),
        ]
    )


def test_rows_are_labels_and_columns_metrics_as_in_print(compared: pd.DataFrame) -> None:
    table = tables.comparison(compared)
    assert table.index.to_list() == ["VAE (default)", "BN-VAE(0.6)"]
    assert table.columns.to_list() == ["priorLL", "AU"]
    assert table.loc["VAE (default)", "priorLL"] == "−330.7 | −330.7 ± 0.2"
    assert table.loc["BN-VAE(0.6)", "AU"] == "32 | 31.7 ± 0.6"
    assert table.loc["VAE (default)", "AU"] == "0 | 0.0 ± 0.0"


def test_the_input_is_left_as_it_was(compared: pd.DataFrame) -> None:
    before = compared.copy()
    tables.comparison(compared)
    pd.testing.assert_frame_equal(compared, before)


def test_other_data_give_a_direction_only(compared: pd.DataFrame) -> None:
    notes = " ".join(tables.comparison(compared).attrs["notes"])
    assert "compare directions only" in notes
    assert "Seeds: 3." in notes


def test_a_difference_is_shown_for_the_same_data(compared: pd.DataFrame) -> None:
    compared["difference"] = compared["mean"] - compared["published"]
    table = tables.comparison(compared)
    assert table.loc["BN-VAE(0.6)", "priorLL"] == "−327.6 | −327.0 ± 0.2 (+0.6)"
    assert table.loc["BN-VAE(0.6)", "AU"] == "32 | 31.7 ± 0.6 (−0.3)"
    assert "directions only" not in " ".join(table.attrs["notes"])


def test_one_seed_has_no_spread(compared: pd.DataFrame) -> None:
    table = tables.comparison(compared.assign(sd=NAN, seeds=1))
    assert table.loc["BN-VAE(0.6)", "priorLL"] == "−327.6 | −327.0"
    assert "Seeds: 1." in table.attrs["notes"]


def test_what_was_not_printed_is_a_dash() -> None:
    rows = [row("A", "AU", 3.0, published=2.0), row("B", "AU", 4.0)]
    assert tables.comparison(pd.DataFrame(rows))["AU"].to_list() == ["2 | 3 ± 0", "– | 4 ± 0"]


def test_nothing_printed_at_all_leaves_the_obtained_alone() -> None:
    table = tables.comparison(pd.DataFrame([row("A", "KL", 3.25)]))
    assert table.loc["A", "KL"] == "3.25 ± 0.25"
    assert "published" not in " ".join(table.attrs["notes"]).lower()


def test_a_table_without_printed_columns_will_do() -> None:
    bare = pd.DataFrame([row("A", "KL", 3.25)]).drop(columns=["published", "difference", "note"])
    assert tables.comparison(bare).loc["A", "KL"] == "3.25 ± 0.25"


def test_a_metric_that_one_model_lacks_is_a_dash() -> None:
    rows = [row("A", "KL", 3.0), row("A", "AU", 1.0), row("B", "KL", 2.0)]
    assert tables.comparison(pd.DataFrame(rows)).loc["B", "AU"] == "–"


def test_stale_rows_carry_a_dagger_and_a_note(compared: pd.DataFrame) -> None:
    compared.loc[3, "stale"] = True
    table = tables.comparison(compared)
    assert table.index.to_list() == ["VAE (default)", "BN-VAE(0.6) †"]
    assert any(note.startswith("†") for note in table.attrs["notes"])


def test_several_data_sets_get_a_level_of_their_own(compared: pd.DataFrame) -> None:
    both = pd.concat([compared, compared.assign(data="grammar", stale=True)], ignore_index=True)
    table = tables.comparison(both)
    assert table.index.names == ["data", "label"]
    assert table.index.to_list()[::2] == [("ptb", "VAE (default)"), ("grammar", "VAE (default) †")]


def test_no_runs_make_an_empty_table() -> None:
    table = tables.comparison(pd.DataFrame())
    assert table.empty
    assert "No runs yet." in repr(tables.show(table, "Table 2"))


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("kl", [0.0, 9.2], 2),
        ("kl", [0.0, 51.3], 1),
        ("prior_ll", [-330.0, NAN], 1),
        ("au", [16.0, 3.0], 0),
        ("cu_pq", [15.667], 1),
        ("rouge_l_05", [0.2], 3),
        ("rouge_l", [0.2], 3),
    ],
)
def test_decimals_are_those_of_the_unit(metric: str, values: list[float], expected: int) -> None:
    assert tables.decimals(metric, pd.Series(values)) == expected


def test_zero_has_no_sign() -> None:
    table = tables.comparison(pd.DataFrame([row("A", "KL", -0.0004, sd=0.0)]))
    assert table.loc["A", "KL"] == "0.00 ± 0.00"


# ---- Formats --------------------------------------------------------------------------------


def test_markdown_escapes_the_bar(compared: pd.DataFrame) -> None:
    compared["label"] = compared["label"].replace("BN-VAE(0.6)", "DG-VAE(|b|=4)")
    lines = tables.to_markdown(tables.comparison(compared)).splitlines()
    assert lines[0] == "| label | priorLL | AU |"
    assert lines[1] == "| --- | --- | --- |"
    assert lines[3].startswith(r"| DG-VAE(\|b\|=4) | −327.6 \| −327.0 ± 0.2 |")
    assert all(line.replace("\\|", "").count("|") == 4 for line in lines[:4])


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50 % & more", r"50 \% \& more"),
        ("cu_pq #1 $x$", r"cu\_pq \#1 \$x\$"),
        ("a\\b{c}^~", r"a\textbackslash{}b\{c\}\textasciicircum{}\textasciitilde{}"),
        ("|b| ± 2 †", r"$|$b$|$ $\pm$ 2 $^\dagger$"),
        ("−3 – β", r"$-$3 -- $\beta$"),
        (3, "3"),
    ],
)
def test_latex_is_escaped(text: object, escaped: str) -> None:
    assert tex(text) == escaped


def test_latex_is_a_booktabs_table(compared: pd.DataFrame) -> None:
    text = tables.to_latex(tables.comparison(compared), "Table 2, 100 %", "tab:two")
    assert r"\begin{tabular}{lrr}" in text
    assert r"\caption{Table 2, 100 \%}" in text
    assert r"\label{tab:two}" in text
    order = [text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert order == sorted(order)
    assert text.count(r" \\") == 3
    assert text.isascii()


def test_csv_reads_back(compared: pd.DataFrame) -> None:
    table = tables.comparison(compared)
    back = pd.read_csv(io.StringIO(tables.to_csv(table)), index_col="label")
    assert back.to_numpy().tolist() == table.to_numpy().tolist()


class Balanced(HTMLParser):
    """Collects tags and checks that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_scrolls_in_its_box_and_has_no_colours(compared: pd.DataFrame) -> None:
    shown = tables.show(tables.comparison(compared), "Table <2>", "Profile laptop & more")
    page = Balanced()
    page.feed(shown._repr_html_())
    assert page.open == []
    assert page.seen[0] == ("div", {"class": "vaelib-table tex2jax_ignore mathjax_ignore"})
    assert page.seen[1] == ("div", {"style": "overflow-x: auto"})
    assert page.seen[2][1]["class"] == "dataframe"
    assert page.seen[3][0] == "caption"
    assert "Table &lt;2&gt;" in shown._repr_html_()
    assert "Profile laptop &amp; more" in shown._repr_html_()
    assert "color" not in shown._repr_html_()


def test_text_has_caption_table_and_notes(compared: pd.DataFrame) -> None:
    lines = repr(tables.show(tables.comparison(compared), "Table 2", "Profile laptop.")).split("\n")
    assert lines[0] == "Table 2"
    assert "priorLL" in lines[1]
    assert lines[-1] == "Profile laptop."


def test_long_tables_are_cut_and_say_so() -> None:
    shown = tables.show(pd.DataFrame({"n": range(50)}), rows=4)
    assert len(shown.table) == 4
    assert shown.notes == ("The first 4 of 50 rows.",)
    assert tables.show(pd.DataFrame({"n": range(4)}), rows=4).notes == ()


def test_any_table_can_be_shown() -> None:
    table = pd.DataFrame(
        {"x": [1.23456789, NAN], "y": ["a", None], "z": [np.int64(3), 4], "w": [pd.NA, [1, 2]]}
    )
    lines = repr(tables.show(table)).splitlines()
    assert lines[1].split() == ["1.235", "a", "3", "–"]
    assert lines[2].split() == ["–", "–", "4", "[1,", "2]"]


# ---- Provenance -----------------------------------------------------------------------------


def test_provenance_of_nothing_says_so(tmp_path: Path) -> None:
    study = Study("dg_vae", "smoke", store=Store(tmp_path))
    assert tables.provenance(study) == "Profile smoke: no runs yet."


def test_provenance_names_profile_data_device_and_seeds(tmp_path: Path) -> None:
    study = Study("dg_vae", "smoke", seeds=[0, 2], store=Store(tmp_path))
    about = {
        "data": {"id": "grammar", "stand_in": True},
        "device": "a processor",
        "precision": "fp32",
        "versions": {"vaelib": "0.1.0", "torch": "2.13"},
    }
    run = SimpleNamespace(provenance=about, stale=False)
    study.__dict__["found"] = [(plan, run) for plan in study.planned()]
    line = tables.provenance(study, "figure1")
    for part in ("Profile smoke", "grammar (a stand-in)", "seeds 0, 2", "a processor, fp32"):
        assert part in line
    mine = [p for p in study.planned() if p.label in study.labels_of("figure1")]
    assert 0 < len(mine) < len(study.planned())
    assert f" {len(mine)} runs;" in line


# ---- A study's tables -----------------------------------------------------------------------

LABELS = ["VAE (default)", "DG-VAE(default)"]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two models on a stand-in, seeds 0 and 1; one run of the VAE was made by older code."""
    store = Store(tmp_path / "runs")
    found = Study("dg_vae", "laptop", data=["snli_standin"], seeds=[0, 1], store=store)
    for plan in found.planned():
        if plan.label in LABELS:
            _record(plan, store, "0" * 12 if (plan.label, plan.seed) == (LABELS[0], 1) else "")
    return found


def _record(plan: Planned, store: Store, older: str) -> None:
    key = key_of(plan.config)
    key = Key(key.trained[:-12] + older if older else key.trained, key.evaluated)
    metrics = {"prior_ll": -9.0 - plan.seed, "post_ll": -8.0, "kl": 0.1 + plan.seed / 100}
    metrics |= {"mi_global": 0.1, "au": 0.0, "cu_pq": float(plan.config.latent_dim)}
    about = {"started": "2030", "test_size": 10, "train_seconds": 60.0, "evaluate_seconds": 6.0}
    about |= {"device": "a processor", "precision": "fp32"}
    about |= {"versions": {"vaelib": "0.1.0", "torch": "2.13"}}
    about |= {"data": {"id": plan.data, "stand_in": True}}
    texts: dict[str, Any] = {"epochs": [], "history": {}, "texts": {}}
    facts = {"key": str(key), "question": plan.config.question, "config": plan.config.to_dict()}
    write_json(store.record_path(key), facts | texts | {"metrics": metrics, "provenance": about})


def test_every_format_says_where_its_numbers_are_from(study: Study) -> None:
    for style in ("md", "latex"):
        text = tables.render(study, "table2", style).replace("\\_", "_")
        for part in (
            "Profile laptop; data: snli_standin (a stand-in); seeds 0, 1; 4 runs (1 stale);",
            "device: a processor, fp32; vaelib 0.1.0, torch 2.13.",
            "Language modelling (Zhang et al., NeurIPS 2022, Table 2)",
            "Verdicts on snli_standin, by number of the claim: reproduced: 1;",
        ):
            assert part in text, (style, part)


def test_json_has_an_object_of_provenance(study: Study) -> None:
    made = json.loads(tables.render(study, "table2", "json"))
    assert made["provenance"] == {
        "paper": "dg_vae",
        "item": "table2",
        "profile": "laptop",
        "data": ["snli_standin"],
        "stand_ins": ["snli_standin"],
        "seeds": [0, 1],
        "runs": 4,
        "stale": 1,
        "devices": ["a processor, fp32"],
        "versions": {"vaelib": ["0.1.0"], "torch": ["2.13"]},
    }
    first = made["rows"][0]
    assert (first["label"], first["column"], first["published"]) == (LABELS[0], "priorLL", -330.7)
    assert (first["mean"], first["difference"]) == (-9.5, None)
    assert [one["claim"] for one in made["claims"]] == [f"dg_vae.{i}" for i in range(1, 11)]
    assert made["claims"][0]["snli_standin"] == "reproduced"


def test_csv_has_the_provenance_in_its_first_columns(study: Study) -> None:
    table = pd.read_csv(io.StringIO(tables.render(study, "table2", "csv")), dtype={"seeds": str})
    about = ["paper", "item", "profile", "data", "stand_in", "label", "seeds", "stale"]
    assert table.columns[: len(about)].to_list() == about
    start = ["dg_vae", "table2", "laptop", "snli_standin", True]
    rows = table[about].to_numpy().tolist()
    assert rows == [[*start, LABELS[0], "0 1", 1], [*start, LABELS[1], "0 1", 0]]
    assert table["priorLL mean"].to_list() == [-9.5, -9.5]
    assert table["KL published"].to_list() == [0.0, 70.8]
    assert table["KL difference"].isna().all()


def test_a_saved_table_has_its_profile_in_its_path(study: Study, tmp_path: Path) -> None:
    made = tables.save(study, "table2", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in made] == [
        f"laptop/dg_vae_table2.{suffix}" for suffix in ("csv", "json", "md", "tex")
    ]
    assert made[2].read_text("utf-8") == tables.render(study, "table2", "md")


def test_verdicts_are_those_of_the_whole_grid_and_say_when_provisional(study: Study) -> None:
    whole = tables.verdicts(study, "table2")
    ledger = study.claims().set_index("id")["verdict"]
    for claim, verdict in zip(whole["claim"], whole["snli_standin"], strict=True):
        assert verdict.removesuffix(" (provisional)") == ledger[claim]
    failed = whole.set_index("claim").loc["dg_vae.2", "snli_standin"]
    assert failed == "not reproduced (provisional)"
    settings = {"data": study.data, "seeds": study.seeds, "store": study.store}
    part = Study("dg_vae", "laptop", labels=["VAE (default)"], **settings)
    assert tables.verdicts(part, "table2").equals(whole)


def test_claims_about_other_data_get_a_column_of_their_own(study: Study) -> None:
    judged = tables.verdicts(study, "ablation").set_index("claim")
    assert judged.loc["dg_vae.15", "random draws"] == "reproduced"
    assert judged.loc["dg_vae.15", "snli_standin"] == "–"
    shown = tables.present(study, "ablation", "snli_standin")
    assert "15" not in next(note for note in shown.notes if note.startswith("Verdicts"))
    assert shown.caption.endswith(", on snli_standin")


def test_a_table_names_the_rows_that_have_no_run(study: Study) -> None:
    """Rows of the item that nobody has run are no secret."""
    notes = tables.present(study, "table2", "snli_standin").notes
    told = next(note for note in notes if note.startswith("Without a run on snli_standin: "))
    named = set(told.removeprefix("Without a run on snli_standin: ").rstrip(".").split(", "))
    shown = set(study.compare("table2", "snli_standin")["label"])
    assert named == set(study.labels_of("table2")) - shown != set()


def test_an_item_without_claims_has_no_verdicts(study: Study) -> None:
    assert tables.verdicts(study, "figure1").empty


def test_a_table_of_a_study_without_runs_says_so(tmp_path: Path) -> None:
    nothing = Study("dg_vae", "smoke", store=Store(tmp_path))
    assert "No runs yet." in repr(tables.present(nothing, "table2", "grammar"))
    with pytest.raises(VaelibError, match="no table of runs"):
        tables.present(nothing, "figure1")


def test_every_item_declares_the_claims_that_cite_it() -> None:
    declared = {item["id"]: item for item in declaration("dg_vae")["item"]}
    for name, item in declared.items():
        for number in item.get("claims", []):
            claim = CLAIMS[number - 1]
            kind, digit = re.match(r"([a-z]+)(\d*)", name).groups()
            cited = re.search(rf"{kind.title()}s? (\d and )?{digit}", claim.source)
            assert (digit and cited) or claim.page == item["page"], (name, claim.id)
    listed = {number for item in declared.values() for number in item.get("claims", [])}
    assert listed == set(range(1, len(CLAIMS) + 1))


# ---- Pages ----------------------------------------------------------------------------------


def test_statistics_stand_as_published_and_obtained() -> None:
    row = {"id": "d", "published": {"vocab_size": 9990.0, "length_mean": 11.73}}
    row |= {"statistics": {"n_train": 100_000, "length_mean": 12.0}, "available": False}
    shown = pages.statistics([row]).iloc[0].to_dict()
    assert shown["at hand"] == "no"
    assert shown["train"] == "– | 100,000"
    assert shown["vocabulary"] == "9,990 | –"
    assert shown["mean length"] == "11.73 | 12"
    assert _listings.dataset_cells([row])[0] == {**shown, "train": "- | 100000"} | {
        **dict.fromkeys(("valid", "test", "sd length"), "- | -"),
        "vocabulary": "9990 | -",
    }


def test_sentences_in_a_table_are_not_squeezed() -> None:
    words = "a sentence of many words "
    page = tables.show(pd.DataFrame({"a": ["short"], "b": [words * 3], "c": [words * 9]}))
    html = page._repr_html_()
    assert (html.count('<td class="long">'), html.count('<td class="text">')) == (1, 1)
    assert "<td>short</td>" in html


def test_the_name_of_the_columns_is_no_column() -> None:
    table = pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="metric"))
    shown = tables.show(table)
    assert "metric" not in shown._repr_html_() + repr(shown)
    assert table.columns.name == "metric"
