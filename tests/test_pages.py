"""The ledger as a page shows it: a table that fits, its notes below, and its map."""

import itertools
import re

import pandas as pd
import pytest
from plot_helpers import check_fits, letters, words

from vaelib import pages, tables
from vaelib.plots import Picture, verdict_map

NAMES = ["grammar", "short_yelp_standin", "ptb", "snli_standin", "digits", "omniglot_standin"]


def ledger(count: int = 3, data: tuple[str, ...] = ("grammar", "ptb")) -> pd.DataFrame:
    rows = [
        {
            "id": f"dg_vae.{number}",
            "statement": "KL < 1 & no more.",
            "data": name,
            "verdict": "reproduced",
            "published": 0.1,
            "obtained": 0.2,
            "interval": "[0, 1]",
            "tolerance": "≤ 0.3",
            "note": "" if number == 2 else f"a <b>{'long ' * 60}</b> note of {number} on {name}",
        }
        for number in range(1, count + 1)
        for name in data
    ]
    return pd.DataFrame(rows)


def test_the_ledger_of_a_page_has_its_notes_below_the_table() -> None:
    claims = ledger()
    before = claims.copy()
    shown = tables.show(pages.ledger(pd.concat([claims, claims.assign(id="du_vae.1")])))
    pd.testing.assert_frame_equal(claims, before)
    first = ["id", "statement", "data", "verdict"]
    assert list(shown.table) == [*first, "obtained", "tolerance", "interval", "published"]
    page = shown._repr_html_()
    table, below = page.split("</table>")
    assert "note" not in table
    assert "<th>index</th>" not in table  # row numbers of ledgers put together say nothing
    assert below.count("<details>") == below.count("</details>") == 3  # none for dg_vae.2
    assert "<summary>dg_vae.1: KL &lt; 1 &amp; no more.</summary>" in below
    assert "<p>ptb: reproduced; a &lt;b&gt;long long" in below
    assert "note of 3 on grammar</p><p>ptb: " in below
    assert "<b>" not in page
    assert "dg_vae.1: KL < 1 & no more." in repr(shown).splitlines()
    assert re.search(r"^  ptb: reproduced; a <b>long .* note of 1 on ptb$", repr(shown), re.M)


def test_a_ledger_without_notes_has_nothing_below() -> None:
    shown = tables.show(pages.ledger(ledger().assign(note="")))
    assert "<details>" not in shown._repr_html_()
    assert shown.notes == ()


def names_of(figure: Picture) -> list[str]:
    return [word for word in words(figure) if word in NAMES]


@pytest.mark.parametrize("count", [3, 60])
def test_names_above_and_below_the_map_of_verdicts_do_not_overlap(count: int) -> None:
    figure = verdict_map(ledger(count, tuple(NAMES)))
    check_fits(figure)
    assert sorted(names_of(figure)) == sorted(NAMES * (1 if count == 3 else 2))
    found = [text for text in letters(figure) if text.get_text() in NAMES]
    assert {text.get_rotation() for text in found} == {40}
    title = figure.axes[0].title.get_window_extent()
    assert all(not title.overlaps(text.get_window_extent()) for text in found)


def test_names_with_room_stand_upright() -> None:
    figure = verdict_map(ledger(3, ("grammar", "short_yelp_standin", "ptb")))
    check_fits(figure)
    found = [text for text in letters(figure) if text.get_text() in NAMES]
    boxes = [text.get_window_extent() for text in found]
    assert {text.get_rotation() for text in found} == {0}
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
