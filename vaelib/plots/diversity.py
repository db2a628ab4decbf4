"""Diversity and uncertainty of posteriors: the two parameters of DU-VAE and what they do."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, NullFormatter

from vaelib.plots import style
from vaelib.plots.posteriors import Panel, density_grid, ranking
from vaelib.plots.style import Look, Picture, styled

Setting = tuple[float, float]  # gamma and p
PROBES = {100: "probe_100", 500: "probe_500", 1_000: "probe_1000"} | {
    2_000: "probe_2000",
    10_000: "probe_10000",
}
TRACKED = {
    "mpd": "diversity MPD (nats)",
    "ce": "uncertainty CE (nats)",
    "mi_in_batch": "MI in batches (nats)",
    "au": "AU (dimensions)",
}
WINDOW, CELLS = 3.0, 240
COMPONENTS = (style.BLUE, style.ORANGE, style.GREEN, style.PINK, style.GOLD)
_NAMES = {"nll_iw500": "NLL (nats)", **style.NAMES}
_LABEL = re.compile(r"(?:BN|DU)-VAE\(([\d.]+)(?:, ([\d.]+))?\)(?:, 2-D)?")


def setting_of(label: str) -> Setting | None:
    """gamma and p of a run's label; BN-VAE is p = 1 (T24a), other methods have none."""
    found = _LABEL.fullmatch(label)
    return None if found is None else (float(found[1]), float(found[2] or 1))


def over_settings(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Means over seeds of a metric: a row a gamma, rising; a column a p, falling from 1."""
    settings = results["label"].map(setting_of)
    mine = results[settings.notna()]
    pairs = pd.DataFrame(list(settings.dropna()), columns=["gamma", "p"], index=mine.index)
    wide = mine.join(pairs).pivot_table(metric, "gamma", "p", aggfunc="mean")
    return wide.sort_index(ascending=True).sort_index(axis=1, ascending=False)


@styled
def setting_maps(
    results: pd.DataFrame,
    metrics: Sequence[str] = ("nll_iw500", "kl", "mi_global"),
    solid: Mapping[str, Collection[Setting]] | None = None,
    dashed: Mapping[str, Collection[Setting]] | None = None,
    hatched: Collection[Setting] = (),
    note: str = "",
) -> Picture:
    """Metrics over gamma and p as heat maps, a row of panels a data set (Figure 2).

    Args:
        results: A results table; runs other than BN-VAE and DU-VAE are left out.
        metrics: A panel each.
        solid, dashed: Data set -> settings to frame, in panels that have them.
        hatched: Settings to strike through.
        note: What the frames are, for the foot.
    """
    known = results[results["label"].map(setting_of).notna()] if len(results) else results
    if known.empty:
        return style.blank()
    tables = {str(data): rows for data, rows in known.groupby("data", sort=False)}
    heights = [len(over_settings(rows, metrics[0])) + 1.6 for rows in tables.values()]
    figure = style.picture(0.42 * sum(heights) + 0.5)
    options = {"squeeze": False, "height_ratios": heights}
    panels = figure.subplots(len(tables), len(metrics), **options)
    for (data, rows), row in zip(tables.items(), panels, strict=True):
        frames = [(at, "-") for at in (solid or {}).get(data, ())]
        frames += [(at, "--") for at in (dashed or {}).get(data, ())]
        for metric, axes in zip(metrics, row, strict=True):
            wide = over_settings(rows, metric)
            _heat(axes, wide, f"{data}: {_NAMES.get(metric, metric)}")
            _mark(axes, wide, frames, hatched)
            if axes is not row[0]:
                axes.set_ylabel("")
    seeds = known["seed"].nunique()
    means = "one seed" if seeds == 1 else f"means over {seeds} seeds"
    style.footnote(figure, f"{note}; {means}" if note else means)
    return figure


def _heat(axes: Axes, wide: pd.DataFrame, title: str) -> None:
    """Dark is low; numbers in the cells, the smallest gamma at the foot."""
    import seaborn as sns  # a second that most pages save

    places = 1 if wide.abs().max().max() >= 100 else 2
    sns.heatmap(
        wide,
        ax=axes,
        annot=True,
        fmt=f".{places}f",
        cmap="cividis",
        cbar=False,
        linewidths=1,
        linecolor="#00000000",
        annot_kws={"fontsize": 9},
    )
    axes.invert_yaxis()
    axes.set(title=title, xlabel="p, a variance is kept", ylabel="γ")
    axes.set_xticklabels([f"{p:g}" for p in wide.columns])
    axes.set_yticklabels([f"{gamma:g}" for gamma in wide.index], rotation=0)
    axes.tick_params(length=0)
    axes.grid(False)


def _mark(
    axes: Axes,
    wide: pd.DataFrame,
    frames: Iterable[tuple[Setting, str]],
    hatched: Collection[Setting],
) -> None:
    places = {
        (gamma, keep): (x, y)
        for y, gamma in enumerate(wide.index)
        for x, keep in enumerate(wide.columns)
    }
    for at in (places[one] for one in hatched if one in places):
        axes.add_patch(Rectangle(at, 1, 1, fill=False, hatch="//", edgecolor=style.INK, lw=0))
    taken: set[Setting] = set()
    for one, line in frames:
        if one in places:
            inset = 0.12 if one in taken else 0.04  # a second frame goes inside the first
            corner = [place + inset for place in places[one]]
            size = 1 - 2 * inset
            box = Rectangle(corner, size, size, fill=False, edgecolor=style.ORANGE, lw=2, ls=line)
            axes.add_patch(box)
            taken.add(one)


# ---- Proposition 1, and training --------------------------------------------------------------


@styled
def proposition_curves(table: pd.DataFrame) -> Picture:
    """MPD and CE against p, a line a gamma: closed form as lines, samples as markers.

    Args:
        table: As of `vaelib.claims.analytic_du.proposition`.
    """
    figure = style.picture(3.3)
    left, right = figure.subplots(1, 2)
    for place, (gamma, rows) in enumerate(table.groupby("gamma", sort=True)):
        look = style.look_of("", place)
        left.plot(rows["keep"], rows["mpd"], color=look.color, label=f"γ = {gamma:g}")
        left.plot(rows["keep"], rows["mpd_sampled"], look.marker, color=look.color)
        left.plot(rows["keep"], rows["bound"], ":", color=look.color, linewidth=1.2)
    rows = table[table["gamma"] == table["gamma"].min()]
    right.plot(rows["keep"], rows["ce"], color=style.INK, label="every γ")
    right.plot(rows["keep"], rows["ce_sampled"], "X", color=style.INK)
    right.set_ylim(0, 1.1 * rows["ce"].max())
    for axes, metric in ((left, "mpd"), (right, "ce")):
        axes.set(title=TRACKED[metric], xlabel="p, the probability to keep a variance")
        axes.invert_xaxis()
        axes.legend()
    style.footnote(figure, "lines: closed form; markers: dropout sampled; dotted: Eq. 8")
    return figure


def _look(label: str, place: int) -> Look:
    """The VAE as everywhere, the others by their place."""
    return style.look_of(label if label == "VAE" else "", place)


@styled
def training_curves(followed: Mapping[str, pd.DataFrame], about: str = "") -> Picture:
    """What runs tracked on validation data, epoch by epoch: MPD, CE, MI, active units.

    Args:
        followed: Label -> as of `vaelib.claims.dynamics.tracked`. A table without rows takes a
            colour and is not drawn; numbers a posterior does not have are left out.
        about: What stands above, such as the data set.
    """
    full = [int((t["weight"] >= 1).idxmax()) + 1 for t in followed.values() if len(t)]
    if not full:
        return style.blank("no run tracked these numbers")
    figure = style.picture(5.0)
    figure.suptitle(about, fontsize=9)
    grid = figure.subplots(2, 2, sharex=True)
    for axes, (name, title) in zip(grid.flat, TRACKED.items(), strict=True):
        axes.set_title(title)
        for place, (label, table) in enumerate(followed.items()):
            if name in table and table[name].notna().any():
                keys = _look(label, place).keywords() | {"markersize": 3.5}
                values = table[name].clip(lower=1e-2) if name == "mpd" else table[name]
                axes.plot(np.arange(1, len(table) + 1), values, label=style.pretty(label), **keys)
    grid[0, 0].set_yscale("log")
    grid[0, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = grid[0, 0].get_ylim()
    if high > 15 * low:
        grid[0, 0].yaxis.set_minor_formatter(NullFormatter())
    else:
        grid[0, 0].yaxis.set_minor_formatter(LogFormatter())
    grid[0, 1].axhline(0, color=style.INK, linestyle=":", linewidth=1.2)
    grid[1, 1].set_ylim(bottom=-0.5)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    for axes in grid.flat:
        axes.axvline(np.median(full), color=style.INK, linestyle=":", linewidth=1.2)
    handles = {n: h for a in grid.flat for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure


# ---- Probes -----------------------------------------------------------------------------------


@styled
def probe_curves(
    results: pd.DataFrame, labels: Sequence[str], printed: pd.DataFrame | None = None
) -> Picture:
    """Accuracy of a probe against its number of labels, a line a method.

    Args:
        results: A results table of one data set; `majority`, where it is there, is a dotted line.
        labels: The methods, in the order of the legend.
        printed: Printed accuracies as results, indexed by label: a second panel.
    """
    parts = [(f"{', '.join(dict.fromkeys(results['data']))}", results)] if len(results) else []
    if printed is not None:
        parts.append(("as printed: other data", printed.rename_axis("label").reset_index()))
    if not parts:
        return style.blank()
    figure = style.picture(4.3)
    panels = figure.subplots(1, len(parts), sharey=False, squeeze=False)[0]
    for axes, (title, table) in zip(panels, parts, strict=True):
        axes.set(title=title, xscale="log", xlabel="labelled examples")
        for place, label in enumerate(labels):
            _accuracies(axes, table[table["label"] == label], label, _look(label, place))
        for level in set(table["majority"].dropna().round(6)) if "majority" in table else ():
            axes.axhline(level, color=style.INK, linestyle=":", linewidth=1.2)
        known = [n for n, column in PROBES.items() if column in table and table[column].any()]
        axes.set_xticks(known, [f"{n:,}" for n in known], rotation=30)
        axes.minorticks_off()
    panels[0].set_ylabel("accuracy")
    handles = {n: h for a in panels for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    order = [name for name in map(style.pretty, labels) if name in handles]
    figure.legend([handles[name] for name in order], order, loc="outside lower center", ncols=4)
    if len(results):
        note = f"{style.seeds_text(results)}; dotted: always the most frequent label"
        figure.suptitle(note, fontsize=9, color=style.INK)
    return figure


def _accuracies(axes: Axes, rows: pd.DataFrame, label: str, look: Look) -> None:
    known = {n: column for n, column in PROBES.items() if column in rows}
    stats = {n: style.over_seeds(rows, "label", column) for n, column in known.items()}
    table = pd.concat([s.assign(n=n) for n, s in stats.items()]) if len(rows) else pd.DataFrame()
    if len(table) and len(table := table.dropna(subset=["mean"])):
        more = {"markersize": 4, "capsize": 0, "elinewidth": 0.8}
        style.curve(axes, list(table["n"]), table, look, label=style.pretty(label), **more)


# ---- Synthetic text ----------------------------------------------------------------------------


@styled
def component_panels(
    truth: Panel, points: Any, panels: Iterable[Panel], labels: Any = None
) -> Picture:
    """Densities above, points below coloured by their component, on [-3, 3]^2 (Figure 1).

    Args:
        truth: What the data were made from: its name, means [K, 2] and log variances [K, 2] of
            the components.
        points: The true codes [N, 2].
        panels: (label, mu [N, D], logvar [N, D]) of each model, on the same examples; of more
            dimensions than two those with the largest variance of the means are shown.
        labels: The component of each point [N]; the first, the centre, is drawn last.
    """
    shown = [(*truth, style.as_array(points)), *map(_in_plane, panels)]
    figure = style.picture(4.1)
    grid = figure.subplots(2, len(shown), sharex=True, sharey=True, squeeze=False)
    for (name, mu, logvar, dots), above, below in zip(shown, *grid, strict=True):
        density = density_grid(mu, logvar, size=CELLS, extent=WINDOW)
        box = {"origin": "lower", "extent": (-WINDOW, WINDOW, -WINDOW, WINDOW)}
        image = above.imshow(density / density.max(), "hot", vmin=0, vmax=1, **box)
        above.contour(density, levels=6, colors=style.SKY, linewidths=0.6, **box)
        above.set_title(style.pretty(name).removesuffix(", 2-D"), fontsize=9)
        _coloured(below, dots, labels)
        for axes in (above, below):
            axes.set(xlim=(-WINDOW, WINDOW), ylim=(-WINDOW, WINDOW), aspect="equal")
            axes.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
            axes.grid(False)
            axes.spines[:].set_visible(True)
    grid[0, 0].set_ylabel("density")
    grid[1, 0].set_ylabel("points")
    bar = figure.colorbar(image, ax=grid, orientation="horizontal", shrink=0.5, aspect=40)
    bar.set_label("density, as a share of the highest of the panel")
    bar.outline.set_edgecolor(style.INK)
    return figure


def _in_plane(panel: Panel) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """A model's label and posteriors in two dimensions, and its means once more as points."""
    name, mu, logvar = panel
    dims = slice(None) if mu.shape[1] == 2 else ranking(mu)[:2]
    flat = style.as_array(mu)[:, dims]
    return name, flat, style.as_array(logvar)[:, dims], flat


def _coloured(axes: Axes, points: np.ndarray, labels: Any) -> None:
    of = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    for component in sorted(set(of.tolist()), reverse=True):
        mine, color = points[of == component], COMPONENTS[component % len(COMPONENTS)]
        axes.scatter(mine[:, 0], mine[:, 1], 3, color, linewidths=0, alpha=0.6, rasterized=True)
