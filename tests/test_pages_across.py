"""What several papers print of one method, side by side; ranks and costs are in the plots' file."""

import pandas as pd
import pytest

from vaelib import pages_across
from vaelib.errors import VaelibError
from vaelib.published import pivot

DIFFERENCE = "largest difference"


def printed(quantity: str) -> pd.DataFrame:
    return pages_across.printed_by_several(quantity).set_index(["data", "method"])


@pytest.mark.parametrize("quantity", pages_across.QUANTITIES)
def test_every_cell_is_a_printed_number_of_the_row_it_names(quantity: str) -> None:
    table = printed(quantity)
    papers = pages_across.QUANTITIES[quantity]
    heads = dict(zip(papers, table.columns, strict=False))
    for paper, (name, metric, _) in papers.items():
        stored = pivot(paper, name, text=True)[metric]
        for (data, method), cell in table[heads[paper]].dropna().items():
            assert cell == stored[data, pages_across.SHARED[method][paper]]
    assert table[list(heads.values())].notna().sum(axis=1).min() >= 2
    assert table.index.is_unique


def test_every_shared_row_is_printed_and_shown() -> None:
    rows = pages_across.shared_rows().set_index("method")
    shown = {
        method for quantity in pages_across.QUANTITIES for _, method in printed(quantity).index
    }
    assert shown == set(rows.index)
    for paper, title in pages_across.NAMES.items():
        tables = {q[paper][0] for q in pages_across.QUANTITIES.values() if paper in q}
        known = {row for name in tables for _, row in pivot(paper, name).index}
        assert set(rows[title].dropna()) <= known


def test_differences_are_between_numbers_of_one_estimator_on_the_same_texts() -> None:
    nll, kl, mi = printed("NLL"), printed("KL"), printed("MI")
    assert nll.loc[("Yahoo", "VAE"), DIFFERENCE] == 16.0  # not the 14 and 2 to DG-VAE's mixture
    assert nll.loc[("Yahoo", "language model"), DIFFERENCE] == 1.05  # both exact
    assert pd.isna(nll.loc[("PTB", "lagging"), DIFFERENCE])  # a bound, an importance-weighted one
    assert kl.loc[("Yahoo", "cyclic"), DIFFERENCE] == 6.41  # of three papers, the widest pair
    assert mi.loc[("Yahoo", "VAE"), DIFFERENCE] == 0.0  # Coupled-VAE's is another estimator
    assert mi.loc[("Yahoo", "lagging"), DIFFERENCE] == 0.14  # within a batch, in two papers
    for table in (nll, kl, mi):
        assert table.loc["Yelp", DIFFERENCE].isna().all()
        assert len(table.loc["Yelp"]) >= 3


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(VaelibError, match="unknown quantity 'NLLL': did you mean 'NLL'"):
        pages_across.printed_by_several("NLLL")
