"""Bounds of an information: over their slope, as a critic trains, over alpha; two perplexities."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from vaelib.errors import VaelibError
from vaelib.plots import style
from vaelib.plots.style import Look, Picture, styled

# A panel each: title, and metric -> name of a curve.
OVER_ALPHA = {
    "nats a sentence": {"nll_elbo": "negative ELBO", "distortion": "distortion"},
    "KL (nats)": {"kl": "KL"},
    "mutual information, four estimates (nats)": {
        "mi_aggregate_kl": "aggregate_kl (theirs)",
        "mi_global": "global",
        "mi_in_batch": "in_batch",
        "mi_skip_self": "skip_self",
    },
    "active units": {"au": "AU"},
}
BATCH = 32  # sentences
WITHOUT_CODE = "LSTM-LM"


# ---- On Gaussians of known information -----------------------------------------------------------


@styled
def bound_over_slope(table: pd.DataFrame, known: float) -> Picture:
    """The bound C against its slope xi, a curve for each energy.

    A circle marks xi = 1 / E e^f, where the curve meets the Donsker-Varadhan value; a cross marks
    xi = E e^f, as printed.

    Args:
        table: The columns energy, place ("curve", "best" or "printed"), xi, bound (nats).
        known: The information, in nats.
    """
    figure = style.picture(3.2)
    axes = figure.subplots()
    for place, (energy, rows) in enumerate(table.groupby("energy", sort=False)):
        look = style.look_of("", place)
        line = rows[rows["place"] == "curve"].sort_values("xi")
        axes.plot(line["xi"], line["bound"], color=look.color, linestyle=look.line, label=energy)
        for kind, marker, size in (("best", "o", 7), ("printed", "X", 8)):
            mine = rows[rows["place"] == kind]
            axes.plot(mine["xi"], mine["bound"], marker, color=look.color, markersize=size)
    axes.axhline(known, color=style.INK, linestyle=":", label="known information")
    axes.set(xscale="log", xlabel="slope ξ", ylabel="bound C (nats)")
    _plain_ticks(axes.xaxis)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    style.footnote(figure, "circle: ξ = 1 / E exp f, the best; cross: ξ = E exp f, as printed")
    return figure


@styled
def critic_traces(table: pd.DataFrame, known: float) -> Picture:
    """Critics as they train: the bound of each mini-batch, and the mean of exp f on fresh pairs.

    Args:
        table: The columns label (which xi), step, bound (nats), log_mean (log E e^f, nats); lines
            are means over the rows of a step.
        known: The information, in nats.
    """
    figure = style.picture(3.1)
    panels = figure.subplots(1, 2)
    for place, (label, rows) in enumerate(table.groupby("label", sort=False)):
        look = style.look_of("", place)
        means = rows.groupby("step")[["bound", "log_mean"]].mean()
        for axes, column in zip(panels, means, strict=True):
            axes.plot(
                means.index, means[column], color=look.color, linestyle=look.line, label=label
            )
    panels[0].axhline(known, color=style.INK, linestyle=":", label="known information")
    panels[0].set(title="bound on mini-batches (nats)", xlabel="step")
    panels[1].axhline(0.0, color=style.INK, linestyle=":")
    panels[1].set(title="log E exp f on fresh pairs (nats)", xlabel="step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


@styled
def critic_estimates(table: pd.DataFrame) -> Picture:
    """What trained critics say of an information that is known; on the dotted line they are right.

    Args:
        table: The columns label (which xi), batch (examples in a training batch), known, estimate
            (nats) and seed; a panel for each batch size.
    """
    batches = list(dict.fromkeys(table["batch"]))
    figure = style.picture(3.3)
    panels = figure.subplots(1, len(batches), squeeze=False, sharey=True)[0]
    for batch, axes in zip(batches, panels, strict=True):
        mine = table[table["batch"] == batch]
        for place, (label, rows) in enumerate(mine.groupby("label", sort=False)):
            stats = style.over_seeds(rows, "known", "estimate")
            style.curve(axes, list(stats.index), stats, style.look_of("", place), label=label)
        axes.axline((0, 0), slope=1, color=style.INK, linestyle=":")
        axes.set(title=f"batches of {batch}", xlabel="known information (nats)")
    panels[0].set_ylabel("estimate (nats)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    style.footnote(figure, f"on fresh pairs; {style.seeds_text(table)}")
    return figure


@styled
def gradient_bias(table: pd.DataFrame) -> Picture:
    """Bias and noise of mini-batch gradients over the size of the batch.

    Args:
        table: The columns label (which xi), batch, bias, error (standard error of the bias) and
            spread (standard deviation of a gradient), as fractions of the true gradient.
    """
    figure = style.picture(3.2)
    left, right = figure.subplots(1, 2)
    for place, (label, rows) in enumerate(table.groupby("label", sort=False)):
        look = style.look_of("", place)
        bars = pd.DataFrame({"mean": rows["bias"], "half": 2 * rows["error"]})
        places = list(rows["batch"] * 1.06**place)  # side by side, not one over the other
        style.curve(left, places, bars, look, label=label)
        right.plot(places, rows["spread"], **look.keywords())
    left.axhline(0.0, color=style.INK, linestyle=":")
    left.set_title("bias of the mean gradient")
    right.set(title="standard deviation of one gradient", yscale="log")
    sizes = sorted(set(table["batch"]))
    for axes in (left, right):
        axes.set(xscale="log", xlabel="pairs in a mini-batch")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
    _plain_ticks(right.yaxis)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    style.footnote(figure, "fractions of the true gradient; bars: two standard errors")
    return figure


def _plain_ticks(axis: Axis) -> None:
    """1, 2 and 5 of every decade, written out."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# ---- Of trained models ---------------------------------------------------------------------------


@styled
def alpha_curves(results: pd.DataFrame) -> Picture:
    """Bound, KL, information by four estimators, and active units over alpha, on one data set.

    Open markers are runs with the slope as printed.

    Args:
        results: A results table; rows of the families "VAE-MINE" and "xi as printed" are drawn.

    Raises:
        VaelibError: The results are of several data sets.
    """
    rows = style.rows_of(results, ["VAE-MINE", "xi as printed"])
    if rows.empty:
        return style.blank()
    if (count := rows["data"].nunique()) > 1:
        raise VaelibError(f"one data set a picture, not {count}; select one.")
    figure = style.picture(5.6)
    rows = rows.assign(value=pd.to_numeric(rows["value"])).sort_values("value", kind="stable")
    own, printed = (style.rows_of(rows, [f]) for f in ("VAE-MINE", "xi as printed"))
    grid = figure.subplots(2, 2)
    for axes, (title, curves) in zip(grid.flat, OVER_ALPHA.items(), strict=True):
        for place, (metric, name) in enumerate(curves.items()):
            _over_alpha(axes, own, printed, metric, style.look_of("", place), name)
        axes.set(title=title, xlabel="α")
    _ceilings(grid[1, 0], rows)
    grid[1, 1].yaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0, 0].legend()
    figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    about = f"{rows['data'].iloc[0]}: {style.seeds_text(rows)}; open: ξ as printed"
    figure.suptitle(about, fontsize=9)
    return figure


def _over_alpha(
    axes: Axes, own: pd.DataFrame, printed: pd.DataFrame, metric: str, look: Look, label: str
) -> None:
    stats = style.over_seeds(own, "value", metric)
    style.curve(axes, list(stats.index), stats, look, label=label)
    if len(printed):
        stats = style.over_seeds(printed, "value", metric)
        places = [value + 0.12 for value in stats.index]  # beside the other one, not over it
        bare = replace(look, line="none")
        style.curve(axes, places, stats, bare, markerfacecolor="none", markersize=8)


def _ceilings(axes: Axes, rows: pd.DataFrame) -> None:
    """The logarithms of the batch and of the test set, which two of the estimates cannot exceed."""
    for size, name, line in (
        (BATCH, f"ln {BATCH}", (0, (1, 1.5))),
        (rows["test_size"].max(), "ln N", (0, (5, 1.5))),
    ):
        axes.axhline(math.log(size), color=style.INK, linestyle=line, linewidth=1, label=name)


@styled
def perplexity_planes(results: pd.DataFrame, printed: dict[str, pd.DataFrame]) -> Picture:
    """Forward against reverse perplexity: drawn words (filled), greedy ones (open), and print.

    Args:
        results: A results table; a panel for each data set.
        printed: Title -> printed rows as a results table; a grey panel for each.
    """
    tables = {str(d): rows for d, rows in results.groupby("data", sort=False)} | printed
    if not tables:
        return style.blank()
    looks = _looks(list(tables.values()))
    columns = 2 if len(tables) in (2, 4) else min(3, len(tables))
    wide = -(-len(tables) // columns)
    figure = style.picture(2.5 * wide + 0.9)
    panels = figure.subplots(wide, columns, squeeze=False)
    for (title, rows), axes in zip(tables.items(), panels.flat, strict=False):
        for label, mine in rows.groupby("label", sort=False):
            _pair_of_choices(axes, mine, str(label), looks[str(label)])
        axes.set(title=title, xscale="log", yscale="log", xlabel="forward PPL")
        for axis in (axes.xaxis, axes.yaxis):
            _plain_ticks(axis)
    for axes in panels.flat[len(tables) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("reverse PPL")
    found = [a.get_legend_handles_labels() for a in panels.flat]
    handles = {n: h for drawn, names in found for h, n in zip(drawn, names, strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=4)
    style.footnote(figure, "filled: words drawn, or print; open: greedy words; means over seeds")
    return figure


def _looks(tables: list[pd.DataFrame]) -> dict[str, Look]:
    """A look for each model; the one without a code is grey."""
    labels = dict.fromkeys(str(label) for rows in tables for label in rows["label"])
    coded = [label for label in labels if label != WITHOUT_CODE]
    looks = {label: style.look_of("", place) for place, label in enumerate(coded)}
    return looks | {WITHOUT_CODE: Look(style.INK, "*")}


def _pair_of_choices(axes: Axes, rows: pd.DataFrame, label: str, look: Look) -> None:
    """One model: its two points, joined by a thin line."""
    ends = [(f"forward_ppl{e}", f"reverse_ppl{e}") for e in ("", "_greedy")]
    there = [tuple(rows[c].mean() for c in pair) for pair in ends if set(pair) <= set(rows)]
    points = np.array([p for p in there if np.isfinite(p).all()])
    if len(points) == 0:
        return
    if len(points) > 1:
        axes.plot(*points.T, color=look.color, linewidth=0.8, alpha=0.6)
        axes.plot(*points[1], look.marker, color=look.color, markerfacecolor="none", markersize=7)
    axes.plot(*points[0], look.marker, color=look.color, markersize=7, label=label)
