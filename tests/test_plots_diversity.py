"""Pictures of DU-VAE's two parameters, of fabricated results: right cells, lines, frames, words."""

import math
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from plot_helpers import check_fits, check_ink, words

from vaelib import plots
from vaelib.claims.analytic_du import proposition
from vaelib.claims.clusters import selected
from vaelib.claims.du_vae import printed
from vaelib.data.synthetic import MEANS
from vaelib.plots.diversity import PROBES, over_settings, setting_of
from vaelib.plots.style import Picture
from vaelib.studies import grid

TRUTH = ("truth", np.array(MEANS), np.zeros((5, 2)))
BEST = (0.6, 0.8)


def fabricate(data: str = "grammar", seeds: int = 3, flat: bool = False) -> pd.DataFrame:
    """The study's grid, or that of Figure 1; the lowest NLL at gamma = 0.6, p = 0.8."""
    rows = []
    for run in grid("du_vae"):
        if run["label"].endswith("2-D") != flat:
            continue
        gamma, keep = setting_of(run["label"]) or (0.5, 1.0)
        for seed in range(seeds):
            nll = 30 + (gamma - BEST[0]) ** 2 + (keep - BEST[1]) ** 2 + 0.01 * seed
            values = {"nll_iw500": nll, "kl": 10 * gamma, "mi_global": 2 * gamma}
            values |= {column: math.log10(n) / 5 for n, column in PROBES.items()}
            about = {"label": run["label"], "family": run["family"], "data": data, "seed": seed}
            rows.append(about | values | {"majority": 0.5})
    return pd.DataFrame(rows)


def followed(warm_up: int = 5, epochs: int = 12) -> pd.DataFrame:
    steps = np.arange(1, epochs + 1)
    table = {
        "share": steps / epochs,
        "weight": np.minimum(1.0, steps / warm_up),
        "mpd": steps * 1.0,
    }
    return pd.DataFrame(table | {"ce": 20.0 - steps, "mi_in_batch": steps / 6, "au": 16.0})


def panels(d: int = 2) -> list[Any]:
    rng = np.random.default_rng(0)
    scales = np.arange(1, d + 1) / d
    return [(name, rng.normal(size=(200, d)) * scales, np.full((200, d), -1.0)) for name in "ab"]


POINTS = np.random.default_rng(1).normal(size=(200, 2))
LABELS = np.arange(200) % 5
PICTURES: dict[str, Callable[[], Picture]] = {
    "maps": lambda: plots.setting_maps(
        pd.concat([fabricate(), fabricate("digits")]), solid={"digits": [BEST]}, note="framed"
    ),
    "grid": lambda: plots.setting_maps(fabricate("synthetic", 1, flat=True), ("nll_iw500",)),
    "proposition": lambda: plots.proposition_curves(proposition((0.4, 0.7))),
    "training": lambda: plots.training_curves({"VAE": followed(), "BN-VAE(0.5)": followed()}),
    "probes": lambda: plots.probe_curves(fabricate(), ["VAE", "AE"], printed("table2")),
    "components": lambda: plots.component_panels(TRUTH, POINTS, panels(), LABELS),
}


# ---- Every picture ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_fits_the_book(name: str, pictures: dict[str, Picture]) -> None:
    check_fits(pictures[name])


@pytest.mark.parametrize("name", [n for n in PICTURES if n not in ("maps", "grid")])
def test_all_ink_outside_of_cells_is_grey(name: str, pictures: dict[str, Picture]) -> None:
    check_ink(pictures[name])


@pytest.mark.parametrize(
    "make",
    [
        lambda: plots.setting_maps(pd.DataFrame()),
        lambda: plots.setting_maps(fabricate().query("family == 'VAE'")),
        lambda: plots.probe_curves(pd.DataFrame(), ["VAE"]),
        lambda: plots.training_curves({}),
        lambda: plots.training_curves({"VAE": pd.DataFrame()}),
    ],
)
def test_nothing_to_show_is_said(make: Callable[[], Picture]) -> None:
    assert words(make()) in (["no runs yet"], ["no run tracked these numbers"])


# ---- The plane of gamma and p ------------------------------------------------------------------


def test_settings_are_read_off_labels() -> None:
    assert setting_of("BN-VAE(0.6)") == (0.6, 1.0)
    assert setting_of("DU-VAE(0.5, 0.8)") == (0.5, 0.8)
    assert setting_of("DU-VAE(1.0, 0.1), 2-D") == (1.0, 0.1)
    assert setting_of("BN-VAE (shift 0.5)") is None
    assert setting_of("VAE") is None
    known = [row for row in grid("du_vae") if row["family"].startswith(("DU 0", "BN"))]
    swept = [row for row in known if row["family"] != "BN shift"]
    assert all(setting_of(row["label"])[0] == row["value"] for row in swept)  # type: ignore[index]


def test_a_cell_is_the_mean_over_seeds() -> None:
    wide = over_settings(fabricate(), "nll_iw500")
    assert list(wide.index) == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert list(wide.columns) == [1.0, 0.9, 0.8, 0.7, 0.6]
    assert wide.loc[0.6, 0.8] == pytest.approx(30.01)
    assert np.isnan(wide.loc[0.3, 0.9])
    assert wide.stack().idxmin() == BEST


def test_cells_say_their_numbers_and_the_frame_lies_on_its_cell() -> None:
    figure = plots.setting_maps(fabricate(), solid={"grammar": [BEST]}, dashed={"ptb": [BEST]})
    left, kl, mi = figure.axes
    assert [axes.get_title() for axes in (left, kl, mi)] == [
        "grammar: NLL (nats)",
        "grammar: KL (nats)",
        "grammar: MI (nats)",
    ]
    numbers = [t.get_text() for t in kl.texts]
    assert len(numbers) == 21
    assert {"3.00", "7.00"} < set(numbers)
    for axes in (left, kl, mi):
        (frame,) = [p for p in axes.patches if isinstance(p, Rectangle) and not p.get_hatch()]
        assert int(frame.get_x()) == 2, "the third p"
        assert int(frame.get_y()) == 3, "the fourth gamma"


def test_two_frames_on_one_cell_lie_inside_each_other_and_strikes_cover_cells() -> None:
    both = {"synthetic": [(1.0, 0.5)]}
    table = fabricate("synthetic", 1, flat=True)
    hatched = [(0.5, 0.1), (9.0, 9.0)]
    figure = plots.setting_maps(table, ("nll_iw500",), both, both, hatched)
    patches = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    struck, outer, inner = patches
    assert struck.get_hatch()
    assert (struck.get_x(), struck.get_y()) == (4, 0)
    assert outer.get_width() > inner.get_width()
    assert outer.get_linestyle() != inner.get_linestyle()


def test_the_rule_of_figure_1_wants_information_first() -> None:
    table = fabricate("synthetic", 1, flat=True)
    found = selected(table, {"BN 2-D": "BN-VAE", "DU 2-D": "DU-VAE"}).set_index("family")
    assert found.loc["BN-VAE", "label"] == "BN-VAE(0.7), 2-D"  # gamma = 0.5 has an MI of 1.0
    assert found.loc["DU-VAE", "label"] == "DU-VAE(0.7, 0.7), 2-D"
    assert found["runs"].to_dict() == {"BN-VAE": 4, "DU-VAE": 16}
    none = selected(table.assign(mi_global=0.1), {"BN 2-D": "BN-VAE"})
    assert none["label"].to_list() == ["–"]
    empty = selected(
        pd.DataFrame(columns=["label", "family", "data", "seed"]), {"BN 2-D": "BN-VAE"}
    )
    assert empty["runs"].to_list() == [0]


# ---- Curves ------------------------------------------------------------------------------------


def test_proposition_draws_closed_form_samples_and_bound() -> None:
    table = proposition((0.4, 0.7))
    left, right = plots.proposition_curves(table).axes
    assert len(left.lines) == 6
    mine = table[table["gamma"] == 0.4]
    for line, column in zip(left.lines, ("mpd", "mpd_sampled", "bound"), strict=False):
        assert np.allclose(line.get_ydata(), mine[column])
    assert np.allclose(right.lines[0].get_ydata(), mine["ce"])
    assert left.xaxis_inverted()
    assert right.get_ylim()[1] > mine["ce"].max()


def test_training_curves_mark_the_end_of_the_warm_up_and_leave_out_what_is_no_number() -> None:
    table = {"VAE": followed(), "IAF": followed().assign(mpd=math.nan, ce=math.nan)}
    picture = plots.training_curves(table, "grammar")
    assert picture.get_suptitle() == "grammar", "pictures of several data sets are told apart"
    axes = picture.axes
    lines = [[line.get_label() for line in a.lines if line.get_label()[0] != "_"] for a in axes]
    assert lines == [["VAE"], ["VAE"], ["VAE", "IAF"], ["VAE", "IAF"]]
    for one in axes:
        assert one.lines[-1].get_xdata()[0] == 5
    assert axes[0].get_yscale() == "log"


def test_probe_curves_leave_out_what_was_not_measured() -> None:
    table = fabricate(seeds=1).assign(probe_10000=math.nan)
    (axes,) = plots.probe_curves(table, ["VAE", "no such"]).axes
    curve, majority = axes.lines
    assert list(curve.get_xdata()) == [100, 500, 1000, 2000]
    assert list(axes.get_xticks()) == [100, 500, 1000, 2000]
    assert majority.get_ydata()[0] == 0.5
    assert curve.get_ydata()[0] == pytest.approx(0.4)


def test_a_colour_belongs_to_a_place_whether_or_not_others_are_drawn() -> None:
    whole = plots.training_curves({"AE": followed(), "BN-VAE(0.5)": followed()})
    part = plots.training_curves({"AE": pd.DataFrame(), "BN-VAE(0.5)": followed()})
    assert part.axes[0].lines[0].get_color() == whole.axes[0].lines[1].get_color()
    names = ["AE", "VAE", "DU-IAF"]
    table = fabricate(seeds=1)
    legend = plots.probe_curves(table[table["label"] != "AE"], names, printed("table2")).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_print_stands_in_a_panel_of_its_own() -> None:
    mine, theirs = plots.probe_curves(fabricate(), ["VAE", "DU-IAF"], printed("table2")).axes
    assert mine.get_title() == "grammar"
    assert "printed" in theirs.get_title()
    assert theirs.lines[0].get_ydata()[0] == pytest.approx(0.711)


# ---- Synthetic text ----------------------------------------------------------------------------


def test_components_have_their_colours_and_models_their_means() -> None:
    figure = plots.component_panels(TRUTH, POINTS, panels(), LABELS)
    grid_axes = [axes for axes in figure.axes if axes.get_xlim() == (-3, 3)]
    assert [axes.get_title() for axes in grid_axes[:3]] == ["truth", "a", "b"]
    below = grid_axes[3:]
    for axes in below:
        assert len(axes.collections) == 5
        colours = {tuple(dots.get_facecolor()[0][:3]) for dots in axes.collections}
        assert len(colours) == 5
    last = below[0].collections[-1].get_offsets()
    assert np.allclose(last, POINTS[LABELS == 0])
    image = grid_axes[0].images[0].get_array()
    assert image.max() == 1.0
    assert image[120, 120] > image[120, 220], "the centre is a hill"


def test_of_more_dimensions_the_two_most_active_are_shown() -> None:
    figure = plots.component_panels(TRUTH, POINTS, panels(4), LABELS)
    shown = [a for a in figure.axes if a.get_xlim() == (-3, 3)][4]
    dots = np.concatenate([c.get_offsets() for c in shown.collections])
    assert dots.std(0)[0] > dots.std(0)[1] > 0.6


def test_settings_of_matplotlib_are_left_alone() -> None:
    before = dict(mpl.rcParams)
    PICTURES["maps"]()
    assert dict(mpl.rcParams) == before
