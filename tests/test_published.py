"""The printed tables are package data, numeric, and complete."""

import pandas as pd
import pytest

from vaelib.errors import VaelibError
from vaelib.published import COLUMNS, PAPERS, pivot, published, side_by_side, tables
from vaelib.tables import show

ROWS = {
    ("dg_vae", "table1"): 4 * 6,
    ("dg_vae", "table2"): 18 * 6,
    ("dg_vae", "table2_extra_from_repo_comments"): 11 * 6,
    ("du_vae", "table1"): 150,
    ("vae_mine", "table2"): 138,
    ("coupled_vae", "table6_table9"): 12,
}


@pytest.mark.parametrize(("paper", "table"), ROWS)
def test_row_counts(paper: str, table: str) -> None:
    assert len(published(paper, table)) == ROWS[paper, table]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_table_is_tidy_and_numeric(paper: str) -> None:
    names = tables(paper)
    assert len(names) >= 2
    for name in names:
        frame = published(paper, name)
        assert tuple(frame.columns) == COLUMNS
        assert frame["value"].dtype == float
        assert frame["value"].notna().all()
        assert set(frame["paper"]) == {paper}
        assert not frame.duplicated(list(COLUMNS[:-1])).any()


def test_there_are_eighteen_files() -> None:
    assert sum(len(tables(paper)) for paper in PAPERS) == 18


def test_suffixes_are_numbers() -> None:
    frame = published("vae_mine", "table1").set_index(["dataset", "metric"])["value"]
    assert frame["PTB", "n_train"] == 42_000
    assert frame["SNLI", "n_train"] == 1_100_000


def test_pivot_keeps_print_order() -> None:
    wide = pivot("dg_vae", "table2", "Yahoo")
    assert list(wide.columns) == ["priorLL", "postLL", "KL", "MI", "AU", "CU"]
    assert (wide.index[0], wide.index[-1]) == ("VAE (default)", "DG-VAE(default)")
    assert wide.loc["DG-VAE(|b|=4)", "KL"] == 14.3
    statistics = pivot("dg_vae", "table1")
    assert isinstance(statistics.index, pd.MultiIndex)
    assert statistics.loc[("SNLI", "-"), "vocab_size"] == 9990


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: published("dg_vea", "table2"), "did you mean 'dg_vae'"),
        (lambda: published("dg_vae", "tabel2"), "did you mean 'table2'"),
        (lambda: pivot("dg_vae", "table2", "yahoo"), "did you mean 'Yahoo'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(call: object, hint: str) -> None:
    with pytest.raises(VaelibError, match=hint):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("paper", "table", "datasets"),
    [
        ("coupled_vae", "table1", ("PTB", "Yelp", "Yahoo")),
        ("coupled_vae", "table2", ("PTB", "Yelp", "Yahoo")),
        ("coupled_vae", "table3", ("PTB", "Yelp")),
        ("du_vae", "table1", ("Yahoo", "Yelp", "OMNIGLOT")),
    ],
)
def test_tables_side_by_side_have_every_printed_number(
    paper: str, table: str, datasets: tuple[str, ...]
) -> None:
    wide = side_by_side(paper, table, *datasets).set_index("model")
    printed = published(paper, table)
    assert wide.notna().sum().sum() == len(printed)
    for row in printed.to_dict("records"):
        cell = wide.loc[row["model"], f"{row['metric']}, {row['dataset']}"]
        assert float(cell) == row["value"]


def test_to_be_shown_every_printed_digit_is_kept() -> None:
    """Four digits, as tables show numbers, would make 100.93 and 100.91 one and the same."""
    shown = str(show(pivot("vae_mine", "table2", text=True).reset_index()))
    assert "100.93" in shown
    assert "100.91" in shown
    squares = pivot("coupled_vae", "table5", "PTB", text=True)
    assert squares.loc["Coupled-VAE", "gradnorm_dLrec_c_de"] == "2109.6"
    assert pivot("vae_mine", "table1", text=True).loc[("PTB", "-"), "n_train"] == "42K"


@pytest.mark.parametrize("paper", PAPERS)
def test_text_and_numbers_are_the_same_tables(paper: str) -> None:
    suffixes = {"K": "e3", "M": "e6"}
    for name in tables(paper):
        numbers, words = pivot(paper, name), pivot(paper, name, text=True)
        assert words.index.equals(numbers.index)
        read = words.map(lambda cell: float(str(cell).translate(str.maketrans(suffixes))))
        pd.testing.assert_frame_equal(read, numbers, check_exact=False, rtol=1e-12)
