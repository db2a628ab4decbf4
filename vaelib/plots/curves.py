"""Curves over a method's hyper-parameter: likelihood, trade-off, interpolation, aggregation."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from vaelib.errors import VaelibError
from vaelib.plots import style
from vaelib.plots.style import Look, Picture, styled
from vaelib.studies import grid

GAUSSIAN = ("BN", "FB", "beta", "DG")
AGGREGATION = ("kl", "mi_global", "au", "cu_pq", "prior_ll", "post_ll")
LAMBDAS = np.linspace(0, 1, 11)
ROUGE = [f"rouge_l_{i:02}" for i in range(11)]
_PRINTED = " (printed)"
WHOLE = "all"  # |b| of DG-VAE (default): the whole batch


def points(results: pd.DataFrame, family: str) -> pd.DataFrame:
    """A family's runs in the order of its hyper-parameter.

    Args:
        results: A results table.
        family: "BN", "FB", "beta" (from beta = 1, the VAE, down), "DG" (the whole batch last), ...

    Returns:
        The rows with the columns `point`, the number in words, and `place`, from 0.
    """
    rows = style.rows_of(results, [family]).assign(value=lambda t: pd.to_numeric(t["value"]))
    if family == "beta":
        rows = pd.concat([style.rows_of(results, ["VAE"]).assign(value=1.0), rows])
    values = sorted(rows["value"].dropna().unique(), reverse=family == "beta")
    texts = [f"{value:g}" for value in values] + [WHOLE]
    named = rows.assign(point=[WHOLE if pd.isna(v) else f"{v:g}" for v in rows["value"]])
    placed = named.assign(place=[texts.index(point) for point in named["point"]])
    return placed.sort_values("place", kind="stable")


def _hyperparameter(axes: Axes, rows: pd.DataFrame, family: str) -> None:
    ticks = rows.drop_duplicates("place")
    axes.set_xticks(ticks["place"], ticks["point"])
    axes.set_xlabel(style.symbol_of(family))


@styled
def likelihood_curves(
    results: pd.DataFrame,
    families: Sequence[str | tuple[str, ...]] = GAUSSIAN,
    printed: pd.DataFrame | None = None,
) -> Picture:
    """priorLL (filled, solid) and postLL (open, dashed) over the hyper-parameter (Figures 2, 3).

    Args:
        results: A results table; a column of panels for each of its data sets, or, when there is
            only one, a row of panels.
        families: A panel for each; a tuple shares one panel. The VAE is the end of the beta curve.
        printed: The printed rows as a results table (`published_results()` of the claims): a last
            column of panels, in grey.
    """
    if results.empty:
        return style.blank()
    groups = [(f,) if isinstance(f, str) else tuple(f) for f in families]
    tables = {str(data): rows for data, rows in results.groupby("data", sort=False)}
    kinds = f"filled, solid: priorLL; open, dashed: postLL; {style.seeds_text(results)}"
    if printed is not None:
        theirs, size = printed[["data", "latent_dim"]].iloc[0]
        kinds += f"\ngrey: as printed ({theirs}, D = {size}); on other data compare directions only"
        tables[f"{theirs}{_PRINTED}"] = _in_grid(printed)
    wide = len(tables) == 1
    shape = (1, len(groups)) if wide else (len(groups), len(tables))
    figure = style.picture(2.9 if wide else 1.9 * shape[0] + 0.6)
    panels = figure.subplots(*shape, squeeze=False, sharey="row" if wide else "col")
    panels = panels if wide else panels.T
    gap = "\n" if len(tables) > 2 else " "
    for (data, mine), row in zip(tables.items(), panels, strict=True):
        for group, axes in zip(groups, row, strict=True):
            _likelihoods(axes, mine, group, style.INK if data.endswith(_PRINTED) else None)
            names = " and ".join(style.name_of(f) for f in group)
            axes.set_title(names if wide else f"{names},{gap}{data}")
    for axes in panels[:, 0] if wide else panels[0]:
        axes.set_ylabel("log-likelihood (nats)")
    style.footnote(figure, f"{next(iter(tables))}: {kinds}" if wide else kinds)
    return figure


def _likelihoods(
    axes: Axes, results: pd.DataFrame, families: tuple[str, ...], color: str | None
) -> None:
    empty = True
    for place, family in enumerate(families):
        rows, look = points(results, family), style.look_of(family, place)
        if rows.empty:
            continue
        empty = False
        look = replace(look, color=color or look.color)
        for metric, line, face in (("prior_ll", "-", look.color), ("post_ll", "--", "none")):
            stats = style.over_seeds(rows, "place", metric)
            more = {"linestyle": line, "markerfacecolor": face}
            name = style.name_of(family) if line == "-" else None
            style.curve(axes, list(stats.index), stats, look, label=name, **more)
        _hyperparameter(axes, rows, family)
    if empty:
        style.nothing_to_show(axes)
    elif len(families) > 1:
        axes.legend()


@styled
def tradeoff(results: pd.DataFrame, families: Iterable[str] = GAUSSIAN) -> Picture:
    """priorLL against postLL, a curve for each family, a panel for each data set.

    Up and to the right is better. On the dotted line both are equal, as in a collapsed VAE. The
    last value of the hyper-parameter, the least regularised one, has the larger marker.

    Args:
        results: A results table.
        families: The curves; the VAE is marked by itself.
    """
    if results.empty:
        return style.blank()
    datasets = list(dict.fromkeys(results["data"]))
    names = {family: _from_to(results, family) for family in [*families, "VAE"]}
    figure = style.picture(4.6 if len(datasets) == 1 else 3.6)
    panels = figure.subplots(1, len(datasets), squeeze=False)[0]
    for data, axes in zip(datasets, panels, strict=True):
        mine = results[results["data"] == data]
        for place, family in enumerate(names):
            _plane(axes, mine, family, names[family], style.look_of(family, place))
        _diagonal(axes)
        axes.set(title=data, xlabel="postLL (nats)")
    panels[0].set_ylabel("priorLL (nats)")
    handles = {n: h for a in panels for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=3)
    style.footnote(
        figure, f"dotted: priorLL = postLL; large: the last value; {style.seeds_text(results)}"
    )
    return figure


def _from_to(results: pd.DataFrame, family: str) -> str:
    """A family's name with the first and the last value of its hyper-parameter."""
    found = list(points(results, family)["point"])
    name = style.name_of(family)
    if len(set(found)) < 2:
        return name
    return f"{name}, {style.symbol_of(family)} from {found[0]} to {found[-1]}"


def _plane(axes: Axes, results: pd.DataFrame, family: str, name: str, look: Look) -> None:
    rows = points(results, family)
    if rows.empty:
        return
    prior, post = (style.over_seeds(rows, "place", metric) for metric in ("prior_ll", "post_ll"))
    bars = {"xerr": post["half"], "yerr": prior["half"], "elinewidth": 0.8}
    axes.errorbar(post["mean"], prior["mean"], label=name, **bars, **look.keywords())
    end = (post["mean"].iloc[-1], prior["mean"].iloc[-1])
    axes.plot(*end, color=look.color, marker=look.marker, markersize=9)


def _diagonal(axes: Axes) -> None:
    if axes.has_data():
        axes.margins(x=0.1)
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        axes.axline((0, 0), slope=1, color=style.INK, linestyle=":", linewidth=1)


@styled
def interpolation_curves(results: pd.DataFrame, families: Sequence[str] = GAUSSIAN) -> Picture:
    """Rouge-L F1 along interpolations (Figure 5), a panel for each family, the VAE in all.

    Args:
        results: A results table of one data set, with the columns rouge_l_00 ... rouge_l_10.
        families: The panels.

    Raises:
        VaelibError: The results are of several data sets.
    """
    if results.empty:
        return style.blank()
    datasets = list(dict.fromkeys(results["data"]))
    if len(datasets) > 1:
        raise VaelibError(f"one data set a picture, not {', '.join(datasets)}; select one.")
    figure = style.picture(3.7 * -(-len(families) // 2) + 0.3)
    panels = figure.subplots(-(-len(families) // 2), 2, squeeze=False, sharey=True)
    for axes in panels.flat[len(families) :]:
        axes.set_visible(False)
    for family, axes in zip(families, panels.flat, strict=False):
        _paths(axes, results, family)
        axes.set(title=style.name_of(family), xticks=np.linspace(0, 1, 6))
        axes.set_xlabel("share of the second sentence in z")
    for axes in panels[:, 0]:
        axes.set_ylabel("Rouge-L F1")
    style.footnote(figure, f"{datasets[0]}: {style.seeds_text(results)}")
    return figure


def _paths(axes: Axes, results: pd.DataFrame, family: str) -> None:
    """One line for each value of the hyper-parameter, told apart by colour, marker and line."""
    rows = points(style.rows_of(results, [family]), family)
    if rows.empty:
        style.nothing_to_show(axes)
        return
    _path(axes, style.rows_of(results, ["VAE"]), "VAE", style.LOOKS["VAE"])
    for place, (point, mine) in enumerate(rows.groupby("point", sort=False)):
        look = style.look_of("", place)
        _path(axes, mine, f"{style.symbol_of(family)} = {point}", look)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=3,
        columnspacing=0.9,
        handlelength=2.3,
        handletextpad=0.4,
    )


def _path(axes: Axes, rows: pd.DataFrame, label: str, look: Look) -> None:
    if rows.empty:
        return
    stats = pd.concat([style.over_seeds(rows, "label", column) for column in ROUGE])
    mean, half = stats["mean"].to_numpy(), stats["half"].to_numpy()
    axes.plot(LAMBDAS, mean, label=label, markersize=4, **look.keywords())
    if half.any():
        axes.fill_between(LAMBDAS, mean - half, mean + half, color=look.color, alpha=0.18, lw=0)


@styled
def aggregation_curve(results: pd.DataFrame, printed: pd.DataFrame | None = None) -> Picture:
    """Six metrics over the aggregation size |b| of DG-VAE, as small multiples.

    Args:
        results: A results table; a line for each data set, the VAE of the first as a grey line.
        printed: The printed rows as a results table (`published_results()` of the claims); they
            are other data and a larger D, so they get panels of their own.
    """
    if results.empty:
        return style.blank()
    parts = [(f"obtained; {style.seeds_text(results)}", results)]
    if printed is not None:
        title = "as printed (Yahoo, D = 32): other data, compare directions only"
        parts.append((title, _in_grid(printed)))
    figure = style.picture(4.2 * len(parts) + 0.2)
    halves = figure.subfigures(len(parts), 1, squeeze=False)[:, 0]
    for part, (title, table) in zip(halves, parts, strict=True):
        part.suptitle(title)
        _multiples(part, table, table is not results)
    return figure


def _in_grid(printed: pd.DataFrame) -> pd.DataFrame:
    """Printed rows with the family and the swept value that the study gives their labels."""
    rows = {row["label"]: row for row in grid("dg_vae")}
    known = printed[printed["label"].isin(list(rows))]
    named = {k: [rows[label][k] for label in known["label"]] for k in ("family", "value")}
    return known.assign(**named)


def _multiples(part: SubFigure, table: pd.DataFrame, printed: bool) -> None:
    panels = part.subplots(2, 3)
    rows = points(table, "DG")
    for metric, axes in zip(AGGREGATION, panels.flat, strict=True):
        axes.set_title(style.NAMES[metric])
        if rows.empty:
            style.nothing_to_show(axes)
            continue
        for place, (data, mine) in enumerate(rows.groupby("data", sort=False)):
            look = style.look_of("", place)
            more = {"markerfacecolor": "none", "linestyle": ":"} if printed else {}
            stats = style.over_seeds(mine, "place", metric)
            style.curve(axes, list(stats.index), stats, look, label=data, **more)
        first, vae = rows["data"].iloc[0], style.rows_of(table, ["VAE"])
        for level in vae[vae["data"] == first].groupby("data")[metric].mean():
            line = style.LOOKS["VAE"].line
            axes.axhline(level, color=style.INK, linestyle=line, label=f"VAE, {first}")
        _hyperparameter(axes, rows, "DG")
    part.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
