"""Coupled-VAE in pictures: the two paths, twins, gradients while training, curves over a weight."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from vaelib.pages_coupled import twin_differences
from vaelib.plots import style
from vaelib.plots.style import Look, Picture, styled

NAMES = {
    "nll_iw500": "NLL (nats)",
    "ppl_iw500": "perplexity",
    "kl": "KL (nats)",
    "mi_skip_self": "MI (nats)",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "distinct_1": "Dist-1 (%)",
    "distinct_2": "Dist-2 (%)",
}
Place = tuple[float, float]
Tables = Mapping[str, pd.DataFrame]

# ---- The two paths ----------------------------------------------------------------------------

_BOX = (0.98, 0.66)  # in units of the drawing, 1.25 from box to box
_COLUMNS = ("posterior", "code", "mlp", "signal", "decoder", "loss")
_PATHS = {
    "": (
        style.BLUE,
        r"posterior: $\mu, \sigma$ > code: $z \sim q(z|x)$ > MLP > signal: $h$ > decoder"
        r" > $L_{rec}$",
    ),
    "c": (
        style.ORANGE,
        r"posterior$^c$: $\mu^c$ > code: $z^c = \mu^c$ > MLP$^c$ > signal: $h^c$ > decoder$^c$"
        r" > $L^c_{rec}$",
    ),
}


@styled
def two_paths(post: bool = False) -> Picture:
    """The stochastic and the deterministic path of Coupled-VAE (its Figures 1, 3 and 4).

    Args:
        post: Draw the conditional model, where a post reaches posteriors, prior and signals.
    """
    figure = style.picture(4.2 if post else 2.7)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-0.6, 9.4), ylim=(-2.25 if post else -0.6, 3.0))
    heights = {"": 0.0, "c": 2.5}
    at: dict[str, Place] = {"x": (0.0, 1.25), "e": (1.25, 1.25)}
    _box(axes, at["x"], "response\n$x$" if post else "text\n$x$", style.INK)
    _box(axes, at["e"], "encoder\n$e$", style.GREEN)
    _arrow(axes, at["x"], at["e"], style.INK)
    for end, (color, words) in _PATHS.items():
        names = [name + end for name in _COLUMNS]
        at |= {name: (1.25 * (i + 2), heights[end]) for i, name in enumerate(names)}
        for name, text in zip(names, words.split(" > "), strict=True):
            _box(axes, at[name], text.replace(": ", "\n"), color)
        for a, b in pairwise(["e", *names]):
            _arrow(axes, at[a], at[b], color)
    _arrow(axes, at["signalc"], at["signal"], style.PINK, "--")
    axes.text(
        at["signal"][0] + 0.12,
        1.25,
        "$L_{match}$:\n$h$ follows $h^c$",
        va="center",
        color=style.INK,
    )
    if post:
        _add_post(axes, at)
    else:
        axes.text(at["code"][0], -0.55, "$L_{reg}$", ha="center", color=style.INK)
    return figure


def _add_post(axes: Axes, at: dict[str, Place]) -> None:
    """The post: read by both posteriors and the prior, and a part of both signals."""
    at |= {"y": (0.0, -1.5), "ey": (1.25, -1.5), "prior": (3.75, -1.15), "r": (6.25, -1.85)}
    words = {"y": "post\n$y$", "ey": "encoder\nof posts", "prior": "prior\n$p(z|y)$", "r": "$r(y)$"}
    for name, text in words.items():
        _box(axes, at[name], text, style.INK)
    for a, b in (("y", "ey"), ("ey", "posterior"), ("ey", "prior"), ("ey", "r")):
        _arrow(axes, at[a], at[b], style.INK)
    for a, b in (("prior", "code"), ("r", "signal")):
        _arrow(axes, at[a], at[b], style.INK)


def _box(axes: Axes, at: Place, text: str, color: str) -> None:
    corner = (at[0] - _BOX[0] / 2, at[1] - _BOX[1] / 2)
    rounded = "round,pad=0,rounding_size=0.12"
    shape = FancyBboxPatch(corner, *_BOX, boxstyle=rounded, facecolor="none", edgecolor=color)
    axes.add_patch(shape)
    shape.set_linewidth(1.4)
    axes.text(*at, text, ha="center", va="center", fontsize=9, color=style.INK)


def _arrow(axes: Axes, start: Place, end: Place, color: str, line: str = "-") -> None:
    """From edge to edge of two boxes, up or down where one stands above the other."""
    (x0, y0), (x1, y1) = start, end
    if abs(x1 - x0) < 0.1:
        half = _BOX[1] / 2 if y1 > y0 else -_BOX[1] / 2
        ends = (x0, y0 + half), (x1, y1 - half)
    else:
        ends = (x0 + _BOX[0] / 2, y0), (x1 - _BOX[0] / 2, y1)
    look = {"color": color, "linestyle": line, "linewidth": 1.2, "mutation_scale": 9}
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", shrinkA=0, shrinkB=0, **look))


# ---- Methods beside their twins ---------------------------------------------------------------


@styled
def twin_dots(
    tables: Tables, metrics: Sequence[str] = ("nll_iw500", "kl", "mi_skip_self", "bleu_1")
) -> Picture:
    """What a coupled path changes: coupled less alone, a dot a method, a panel a metric.

    Args:
        tables: Results by what to call them, a row of panels each; a name that ends in "(printed)"
            is drawn in grey. A table without a pair is left out.
        metrics: Columns of the results.
    """
    found = {n: [twin_differences(t, m) for m in metrics] for n, t in tables.items() if len(t)}
    bases = {
        n: list(dict.fromkeys(b for d in each for b in d["base"])) for n, each in found.items()
    }
    shown = [name for name in found if bases[name]]
    if not shown:
        return style.blank()
    heights = [0.25 * len(bases[name]) + 0.65 for name in shown]
    figure = style.picture(sum(heights) + 0.3)
    grid = figure.subplots(len(shown), len(metrics), squeeze=False, height_ratios=heights)
    for name, row in zip(shown, grid, strict=True):
        color = style.INK if name.endswith("(printed)") else style.BLUE
        for axes, metric, changes in zip(row, metrics, found[name], strict=True):
            _dots(axes, changes, bases[name], color)
            axes.set_title(NAMES.get(metric, metric))
            axes.tick_params(labelleft=axes is row[0])
        row[0].set_ylabel(name)
    style.footnote(figure, f"coupled less alone; {_spread({n: tables[n] for n in shown})}")
    return figure


def _spread(tables: Tables) -> str:
    """What the bars of the obtained results are."""
    ours = [table for name, table in tables.items() if not name.endswith("(printed)")]
    return style.seeds_text(pd.concat(ours)) if ours else "as printed"


def _dots(axes: Axes, changes: pd.DataFrame, bases: list[str], color: str) -> None:
    stats = style.over_seeds(changes, "base", "difference").reindex(bases)
    places = np.arange(len(bases))
    bars = stats["half"].to_numpy() if stats["half"].fillna(0).any() else None
    axes.errorbar(stats["mean"], places, xerr=bars, fmt="o", color=color, elinewidth=1)
    axes.axvline(0, color=style.INK, linewidth=0.9)
    axes.set_yticks(places, [base.replace("beta", "β") for base in bases])
    axes.set_ylim(len(bases) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=3)


# ---- Gradients while training -----------------------------------------------------------------

_GRADIENTS = {
    "reconstruction": {
        "DAE": "grad_rec",
        "VAE": "grad_rec",
        "Coupled-VAE(lambda_m=10)": "grad_total",
    },
    "KL": {"VAE": "grad_kl", "Coupled-VAE(lambda_m=10)": "grad_kl"},
    "decoding signal": dict.fromkeys(("DAE", "VAE", "Coupled-VAE(lambda_m=10)"), "grad_signal"),
}
_LOOKS = {
    "DAE": Look(style.BLUE, "o", (0, (5, 1.5))),
    "VAE": style.LOOKS["VAE"],
    "Coupled-VAE(lambda_m=10)": Look(style.GREEN, "D"),
}
_SHORT = {"Coupled-VAE(lambda_m=10)": "Coupled-VAE, $\\lambda_m$ = 10"}


@styled
def gradient_dynamics(followed: pd.DataFrame) -> Picture:
    """Squared gradient norms at the encoder's vector while training (Figures 2 and 5).

    A row of panels a data set, a column a quantity. Lines are means over seeds, bands reach from
    the lowest seed to the highest, and the upright line is where the regulariser reaches its full
    weight. Of the coupled model the first column has both reconstructions together.

    Args:
        followed: As of `vaelib.pages_coupled.followed`.
    """
    if followed.empty:
        return style.blank("no run tracked its gradients")
    groups = list(followed.groupby("data", sort=False))
    figure = style.picture(2.1 * len(groups) + 0.9)
    grid = figure.subplots(len(groups), len(_GRADIENTS), squeeze=False, sharex=True)
    for (data, rows), panels in zip(groups, grid, strict=True):
        full = rows.loc[rows["weight"] >= rows["weight"].max(), "share"].min()
        for (title, lines), axes in zip(_GRADIENTS.items(), panels, strict=True):
            for label, name in lines.items():
                _course(axes, rows[rows["label"] == label], name, label)
            axes.axvline(full, color=style.INK, linewidth=0.9, linestyle=":")
            axes.set_title(f"{title}, {data}")
            if title != "decoding signal":
                axes.set_yscale("log")
    for axes in grid[-1]:
        axes.set(xlabel="share of the training", xlim=(0, 1.04), xticks=np.linspace(0, 1, 5))
        axes.set_xticklabels(["0", "¼", "½", "¾", "1"])
    handles = {n: h for a in grid.flat for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=3)
    return figure


def _course(axes: Axes, rows: pd.DataFrame, name: str, label: str) -> None:
    if name not in rows or rows[name].isna().all():
        return
    look, stats = _LOOKS[label], rows.groupby("share")[name].agg(["mean", "min", "max"])
    axes.plot(stats.index, stats["mean"], label=_SHORT.get(label, label), **look.keywords())
    axes.fill_between(stats.index, stats["min"], stats["max"], color=look.color, alpha=0.18, lw=0)


# ---- Curves over a weight ---------------------------------------------------------------------

Line = Sequence[tuple[str, str]]


@styled
def weight_curves(
    tables: Tables, lines: Mapping[str, Line], metrics: Sequence[str], symbol: str, level: str
) -> Picture:
    r"""Metrics over a weight, a row of panels a table, a column a metric.

    Args:
        tables: Results by what to call them; a name that ends in "(printed)" has no seeds.
        lines: Name -> the points of a line in their order, (the weight in words, label of the run).
        metrics: Columns of the results; distinct n-grams are shown as percentages.
        symbol: Of the weight, in TeX, such as r"\lambda_m".
        level: The label of a run drawn as a horizontal line.
    """
    ticks = list(dict.fromkeys(word for line in lines.values() for word, _ in line))
    labels = {label for line in lines.values() for _, label in line}
    shown = {n: t for n, t in tables.items() if len(t) and t["label"].isin(labels).any()}
    if not shown:
        return style.blank()
    figure = style.picture(1.9 * len(shown) + 0.9)
    grid = figure.subplots(len(shown), len(metrics), squeeze=False, sharex=True)
    for (name, table), row in zip(shown.items(), grid, strict=True):
        for metric, axes in zip(metrics, row, strict=True):
            scale = 100.0 if metric.startswith("distinct") else 1.0
            values = table.reindex(columns=["label", "seed", metric])
            values = values.assign(**{metric: values[metric] * scale})
            for place, (what, line) in enumerate(lines.items()):
                _line(axes, values, metric, [(ticks.index(w), x) for w, x in line], what, place)
            for height in values[values["label"] == level].groupby("label")[metric].mean():
                axes.axhline(height, color=style.INK, linestyle=":", linewidth=1.2, label=level)
            axes.set_title(NAMES.get(metric, metric))
            axes.set_xticks(range(len(ticks)), ticks)
        row[0].set_ylabel(name)
    for axes in grid[-1]:
        axes.set_xlabel(f"${symbol}$")
    handles = {n: h for a in grid.flat for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=4)
    style.footnote(figure, _spread(shown))
    return figure


def _line(
    axes: Axes,
    table: pd.DataFrame,
    metric: str,
    points: list[tuple[int, str]],
    name: str,
    place: int,
) -> None:
    rows = table.assign(place=table["label"].map({label: at for at, label in points}))
    rows = rows.dropna(subset=["place", metric]).sort_values("place", kind="stable")
    if len(rows):
        stats = style.over_seeds(rows, "place", metric)
        style.curve(axes, list(stats.index), stats, style.look_of("", place), label=name)
