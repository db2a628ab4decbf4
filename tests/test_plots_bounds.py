"""Pictures of bounds and perplexities: the right numbers at the right places, legible."""

import math
from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib.text import Text
from plot_helpers import check_fits, check_ink

from vaelib import plots
from vaelib.claims.vae_mine import MINE, published_results
from vaelib.errors import VaelibError
from vaelib.plots.style import Picture
from vaelib.studies import grid

METRICS = ("nll_elbo", "distortion", "kl", "au", "mi_aggregate_kl", "mi_global", "mi_in_batch")
METRICS += ("mi_skip_self", "forward_ppl", "reverse_ppl")
GREEDY = {"forward_ppl_greedy": 0.1, "reverse_ppl_greedy": 10.0}
XI = ("optimal", "published")


def results(data: str = "grammar", seeds: int = 3) -> pd.DataFrame:
    """The grid with numbers that say where they came from: 10 x column + row + seed / 10."""
    rows = []
    for number, run in enumerate(grid("vae_mine"), 1):
        about = {k: run[k] for k in ("label", "family", "value")} | {"data": data}
        for seed in range(seeds):
            values = {m: 10.0 * i + number + seed / 10 for i, m in enumerate(METRICS, 1)}
            values |= {m: f * values[m.removesuffix("_greedy")] for m, f in GREEDY.items()}
            rows.append(about | {"seed": seed, "test_size": 1000} | values)
    return pd.DataFrame(rows)


def slopes() -> pd.DataFrame:
    """f = 0 at xi = 1 and, for the energy "b", a best slope of 1/2."""
    rows = []
    for energy, best in (("a", 1.0), ("b", 0.5)):
        points = {"curve": (0.1, 1.0, 3.0), "best": (best,), "printed": (1 / best,)}
        for place, values in points.items():
            for xi in values:
                bound = 1 + math.log(xi / best) - xi / best
                rows.append({"energy": energy, "place": place, "xi": xi, "bound": bound})
    return pd.DataFrame(rows)


def estimates() -> pd.DataFrame:
    where = [(xi, b, k, s) for xi in XI for b in (32, 256) for k in (0.0, 1.0, 2.0) for s in (0, 1)]
    table = pd.DataFrame(where, columns=["label", "batch", "known", "seed"])
    return table.assign(estimate=0.9 * table["known"] + 0.1 * table["seed"])


def traces() -> pd.DataFrame:
    where = [(xi, step, s) for xi in XI for step in (10, 20, 30) for s in (0, 1)]
    table = pd.DataFrame(where, columns=["label", "step", "seed"])
    return table.assign(bound=table["step"] / 30 + table["seed"], log_mean=-table["step"] / 10)


def biases() -> pd.DataFrame:
    table = pd.DataFrame([(xi, b) for xi in XI for b in (2, 8, 32)], columns=["label", "batch"])
    return table.assign(bias=1 / table["batch"], error=0.1, spread=3 / table["batch"])


PICTURES: dict[str, Callable[[], Picture]] = {
    "slopes": lambda: plots.bound_over_slope(slopes(), 0.5),
    "traces": lambda: plots.critic_traces(traces(), 0.5),
    "estimates": lambda: plots.critic_estimates(estimates()),
    "biases": lambda: plots.gradient_bias(biases()),
    "alpha": lambda: plots.alpha_curves(results()),
    "planes": lambda: plots.perplexity_planes(results(), {"print": published_results()}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_fits_the_book(name: str, pictures: dict[str, Picture]) -> None:
    check_fits(pictures[name])
    check_ink(pictures[name])


def test_best_and_printed_slopes_are_marked_on_the_curve(pictures: dict[str, Picture]) -> None:
    axes = pictures["slopes"].axes[0]
    marks = {line.get_marker(): line for line in axes.lines[3:6]}  # of the energy "b"
    assert [marks[m].get_xdata().tolist() for m in ("None", "o", "X")] == [
        [0.1, 1.0, 3.0],
        [0.5],
        [2.0],
    ]
    assert marks["o"].get_ydata()[0] == pytest.approx(0.0)
    assert marks["X"].get_ydata()[0] == pytest.approx(1 + math.log(4) - 4)
    assert axes.lines[-1].get_ydata()[0] == 0.5
    assert axes.get_xscale() == "log"


def test_traces_are_means_over_seeds(pictures: dict[str, Picture]) -> None:
    bound, log_mean = pictures["traces"].axes
    assert bound.lines[0].get_ydata().tolist() == pytest.approx([1 / 3 + 0.5, 2 / 3 + 0.5, 1.5])
    assert log_mean.lines[0].get_ydata().tolist() == [-1, -2, -3]


def test_estimates_stand_over_what_is_known(pictures: dict[str, Picture]) -> None:
    figure = pictures["estimates"]
    assert [axes.get_title() for axes in figure.axes] == ["batches of 32", "batches of 256"]
    line = figure.axes[1].containers[1].lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == pytest.approx([0.05, 0.95, 1.85])


def test_biases_have_bars_of_two_standard_errors(pictures: dict[str, Picture]) -> None:
    left, right = pictures["biases"].axes
    line, _, (bars,) = left.containers[0].lines
    assert line.get_ydata().tolist() == [1 / 2, 1 / 8, 1 / 32]
    ends = bars.get_segments()[0][:, 1]
    assert ends.tolist() == pytest.approx([0.3, 0.7])
    assert right.lines[0].get_ydata().tolist() == [3 / 2, 3 / 8, 3 / 32]


def test_alpha_has_a_curve_a_metric_and_an_open_marker_for_the_printed_slope(
    pictures: dict[str, Picture],
) -> None:
    axes = pictures["alpha"].axes
    assert [len(a.containers) for a in axes] == [4, 2, 8, 2]
    own, printed = (c.lines[0] for c in axes[1].containers)
    assert own.get_xdata().tolist() == [0, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    table = results().groupby("label", sort=False)["kl"].mean()
    assert own.get_ydata()[3] == pytest.approx(table[MINE])
    assert printed.get_ydata().tolist() == pytest.approx([table["VAE-MINE(3), xi as printed"]])
    assert printed.get_markerfacecolor() == "none"
    levels = sorted(line.get_ydata()[0] for line in axes[2].lines[-2:])
    assert levels == pytest.approx([math.log(32), math.log(1000)])


def test_alpha_of_one_point_or_none() -> None:
    table = results()
    one = plots.alpha_curves(table[table["label"] == MINE])
    assert one.axes[1].containers[0].lines[0].get_xdata().tolist() == [3]
    blank = plots.alpha_curves(table[table["family"] == "LM"])
    assert [t.get_text() for t in blank.findobj(Text) if t.get_text()] == ["no runs yet"]
    with pytest.raises(VaelibError, match="one data set a picture, not 2"):
        plots.alpha_curves(pd.concat([table, results("ptb")]))


def test_planes_join_drawn_and_greedy_words_of_a_model(pictures: dict[str, Picture]) -> None:
    ours, theirs = pictures["planes"].axes
    assert [a.get_title() for a in (ours, theirs)] == ["grammar", "print"]
    models = results()["label"].nunique()
    assert [len(a.lines) for a in (ours, theirs)] == [3 * models, 7]
    joint, greedy, drawn = ours.lines[:3]
    first = results().groupby("label", sort=False)[["forward_ppl", "reverse_ppl"]].mean().iloc[0]
    assert drawn.get_xdata()[0] == pytest.approx(first["forward_ppl"])
    assert greedy.get_xdata()[0] == pytest.approx(0.1 * first["forward_ppl"])
    assert greedy.get_ydata()[0] == pytest.approx(10 * first["reverse_ppl"])
    assert greedy.get_markerfacecolor() == "none"
    assert joint.get_xdata().tolist() == [drawn.get_xdata()[0], greedy.get_xdata()[0]]
    printed = {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in theirs.lines
    }
    assert printed[MINE] == (13.34, 400.21)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (4, 4), (5, 5), (6, 6)])
def test_planes_fill_rows(count: int, shown: int) -> None:
    tables = {str(i): published_results() for i in range(count)}
    figure = plots.perplexity_planes(results().iloc[:0], tables)
    assert sum(axes.get_visible() for axes in figure.axes) == shown
    assert len(figure.axes) - shown in (0, 1)


def test_no_plane_without_results() -> None:
    figure = plots.perplexity_planes(results().iloc[:0], {})
    assert [t.get_text() for t in figure.findobj(Text) if t.get_text()] == ["no runs yet"]
