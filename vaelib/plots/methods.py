"""Many methods side by side: the plane of rate and distortion, rankings, costs, estimators."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vaelib.plots import style
from vaelib.plots.style import Look, Picture, styled

SHOWN = {
    "nll_iw500": "NLL",
    "kl": "KL",
    "mi_global": "MI",
    "au": "AU",
    "cu_pq": "CU",
}
ESTIMATORS = {
    "mi_global": "mi_global",
    "mi_aggregate_kl": "mi_aggregate_kl",
    "mi_in_batch": "mi_in_batch",
    "mi_skip_self": "mi_skip_self",
}
_ROW = 0.2  # inches of a method
_CROWD = 0.04  # points nearer than this part of the plane share a text
_KEY_COLUMNS = 3
_LINEAR = 5.0  # nats up to which an axis of rates is linear; logarithmic beyond
_FAR = 3.0  # interquartile ranges above the upper quartile that a panel shows


def _looks(families: Sequence[str]) -> dict[str, Look]:
    return {f: style.look_of("", place) for place, f in enumerate(dict.fromkeys(families))}


def _numbered(results: pd.DataFrame) -> dict[str, int]:
    """The number of each method, from 1, in the order of the table."""
    return {label: place for place, label in enumerate(dict.fromkeys(results["label"]), 1)}


@styled
def rate_distortion(results: pd.DataFrame) -> Picture:
    """Distortion against rate, a number a method; on a dotted line the ELBO is the same.

    Rates are linear up to 5 nats and logarithmic beyond, where the autoencoders are.

    Args:
        results: A results table of one data set; methods without a rate are left out.
    """
    rows = results.dropna(subset=["kl", "distortion"]) if len(results) else results
    if rows.empty:
        return style.blank()
    numbers, looks = _numbered(rows), _looks(list(rows["family"]))
    lines = math.ceil(len(numbers) / _KEY_COLUMNS)
    figure = style.picture(5.2 + 0.19 * lines)
    axes, key = figure.subplots(2, height_ratios=[5.2, 0.19 * lines])
    for family, mine in rows.groupby("family", sort=False):
        means = mine.groupby("label", sort=False)[["kl", "distortion"]].mean()
        look = looks[str(family)]
        more = {"color": look.color, "marker": look.marker, "label": str(family)}
        axes.scatter(means["kl"], means["distortion"], s=26, **more)
    _rates(axes)
    _number(axes, rows.groupby("label", sort=False)[["kl", "distortion"]].mean(), numbers)
    _isolines(axes)
    axes.set_xlabel("rate KL (nats)")
    axes.set_ylabel("distortion (nats); dotted: equal ELBO")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    _key(key, numbers)
    return figure


def _rates(axes: Axes) -> None:
    """Make the horizontal axis one of rates."""
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=3.0)
    ticks = [0, 1, 2, 3, 4, 5, 10, 30, 100, 300, 1000]
    right = axes.dataLim.x1
    shown = [tick for tick in ticks if tick <= max(right, 1.0) * 1.1]
    axes.set_xticks(shown, [str(tick) for tick in shown])
    axes.minorticks_off()


def _number(axes: Axes, means: pd.DataFrame, numbers: dict[str, int]) -> None:
    """Write the number of each method beside its point, one text where points crowd."""
    seen = axes.transLimits.transform(axes.transScale.transform(means.to_numpy()))
    places, left = pd.DataFrame(seen, index=means.index), list(means.index)
    while left:
        near = (np.abs(places.loc[left] - places.loc[left[0]]) <= _CROWD).all(axis=1)
        group = [label for label in left if near[label]]
        left = [label for label in left if not near[label]]
        place = tuple(means.loc[group].max())
        text = ", ".join(str(numbers[label]) for label in group)
        more: dict[str, Any] = {"textcoords": "offset points", "xytext": (5, 2), "fontsize": 9}
        axes.annotate(text, place, **more)


def _key(axes: Axes, numbers: dict[str, int]) -> None:
    """What the numbers stand for, in columns."""
    axes.axis("off")
    lines = math.ceil(len(numbers) / _KEY_COLUMNS)
    for place, (label, number) in enumerate(numbers.items()):
        at = place // lines / _KEY_COLUMNS, 1 - place % lines / lines
        text = f"{number}  {style.pretty(label)}"
        axes.text(*at, text, fontsize=9, va="top", transform=axes.transAxes)


def _isolines(axes: Axes) -> None:
    """Lines of equal rate + distortion through the panel as it is."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    rates = np.concatenate([np.linspace(left, _LINEAR, 50), np.geomspace(_LINEAR, right + 10, 50)])
    for total in np.arange(np.floor(low), high + _LINEAR, 1.0):
        axes.plot(rates, total - rates, color=style.INK, lw=0.6, ls=":")
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


@styled
def method_dots(
    results: pd.DataFrame, metrics: Mapping[str, str] | None = None, by: str | None = None
) -> Picture:
    """A row a method and a panel a metric: means over seeds with their 95 % intervals.

    A value far beyond the others stands at the panel's edge as a number.

    Args:
        results: A results table of one data set.
        metrics: Column -> title of its panel; NLL, KL, MI, AU and CU by default.
        by: The metric that orders the rows, lowest first; the first by default.
    """
    if results.empty:
        return style.blank()
    metrics = metrics or SHOWN
    order = results.groupby("label", sort=False)[by or next(iter(metrics))].mean()
    labels = list(order.sort_values(kind="stable", na_position="last").index)
    families, looks = results.groupby("label")["family"].first(), _looks(list(results["family"]))
    figure = style.picture(_ROW * len(labels) + 1.4)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for (metric, title), axes in zip(metrics.items(), panels, strict=True):
        stats = style.over_seeds(results, "label", metric)
        most = _far(stats.iloc[:, 0])
        for place, label in enumerate(labels):
            mean, half = stats.loc[label]
            look = looks[families[label]]
            more: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4}
            if mean > most:
                text: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 9}
                axes.text(1.0, place, f"{mean:.0f}", transform=axes.get_yaxis_transform(), **text)
            elif pd.notna(mean):
                axes.errorbar(mean, place, xerr=half or None, elinewidth=1, **more)
        axes.set_title(title)
    panels[0].set_yticks(range(len(labels)), [style.pretty(label) for label in labels])
    panels[0].invert_yaxis()
    handles = [
        panels[0].plot([], [], ls="", marker=look.marker, color=look.color, label=family)[0]
        for family, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(f"nats, or dimensions; {style.seeds_text(results)}", fontsize=9)
    return figure


def _far(values: pd.Series) -> float:
    """Above which a value would squeeze all others (infinite where none does)."""
    low, high = values.quantile([0.25, 0.75])
    return float(high + _FAR * (high - low)) if high > low else math.inf


@styled
def estimator_panels(results: pd.DataFrame, test_size: int, batch_size: int = 32) -> Picture:
    """Four estimates of mutual information against the rate, each with its own ceiling.

    Args:
        results: A results table of one data set.
        test_size: N, of whose logarithm the estimates over the whole test set cannot pass.
        batch_size: The same for the estimate within a batch.
    """
    rows = results.reindex(columns=["family", "kl", *ESTIMATORS]).dropna(subset=["kl", "mi_global"])
    if rows.empty:
        return style.blank()
    ceilings = dict.fromkeys(ESTIMATORS, float(np.log(test_size)))
    ceilings |= {"mi_in_batch": float(np.log(batch_size))}
    ceilings |= {"mi_skip_self": float(np.log(min(512, test_size - 1)))}
    figure, looks = style.picture(5.2), _looks(list(results["family"]))
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    top = max(ceilings.values()) * 1.15
    rates = np.linspace(0, top, 100)
    for (metric, title), axes in zip(ESTIMATORS.items(), panels, strict=True):
        for family, mine in rows.groupby("family", sort=False):
            look = looks[str(family)]
            more = {"color": look.color, "marker": look.marker, "s": 14, "alpha": 0.8}
            axes.scatter(mine["kl"], mine[metric], label=str(family), **more)
        axes.plot(rates, rates, color=style.INK, lw=0.8, ls=":")
        if metric != "mi_skip_self":  # which can pass it: nobody is compared with himself
            axes.axhline(ceilings[metric], color=style.INK, lw=0.8, ls="--")
        axes.set_title(title)
        axes.set_ylim(-0.4, top)
        _rates(axes)
    for axes in panels[2:]:
        axes.set_xlabel("KL (nats)")
    for axes in panels[::2]:
        axes.set_ylabel("MI (nats)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure
