"""A run beside the published one: every number of both, a panel a metric."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from vaelib.plots import style
from vaelib.plots.style import Look, Picture, styled

_COLUMNS = 4  # of panels, at most


@styled
def against(compared: pd.DataFrame) -> Picture:
    """Published value across, that of this run upwards; on the line they are the same.

    Args:
        compared: As of `vaelib.against.compare`.
    """
    if compared.empty:
        return style.blank("nothing to compare")
    heads = list(dict.fromkeys(compared["column"]))
    rows = math.ceil(len(heads) / _COLUMNS)
    figure = style.picture(2.1 * rows + 0.7)
    grid = figure.subplots(rows, math.ceil(len(heads) / rows), squeeze=False)
    looks = {data: style.look_of("", n) for n, data in enumerate(compared["data"].unique())}
    for axes, head in zip(grid.flat, heads, strict=False):
        mine = compared[compared["column"] == head]
        for data, points in mine.groupby("data", sort=False):
            _dots(axes, points, str(data), looks[str(data)])
        _same(axes, mine)
        axes.set_title(head)
    for axes in grid.flat[len(heads) :]:
        axes.axis("off")
    for row in grid:
        row[0].set_ylabel("this run")
    handles = {n: h for a in grid.flat for h, n in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=3)
    note = "across: published, with its tolerance; hollow: outside it; on the line: the same"
    style.footnote(figure, note)
    return figure


def _dots(axes: Axes, points: pd.DataFrame, data: str, look: Look) -> None:
    for filled, rows in points.groupby(points["within"].ne(False), sort=False):
        bars = rows["tolerance"].fillna(0).to_numpy()
        more: dict[str, Any] = {
            "markerfacecolor": look.color if filled else "none",
            "elinewidth": 0.7,
        }
        places = rows["published"], rows["here"]
        lines = axes.errorbar(*places, xerr=bars, fmt=look.marker, color=look.color, **more)
        lines.set_label(data if filled or points["within"].eq(False).all() else "_")


def _same(axes: Axes, rows: pd.DataFrame) -> None:
    """The line on which both agree, corner to corner: both axes show the same values."""
    both = pd.concat([rows["published"], rows["here"]])
    room = 0.08 * (both.max() - both.min()) or 0.5
    ends = both.min() - room, both.max() + room
    axes.plot(ends, ends, color=style.INK, linewidth=0.9, linestyle=":")
    axes.set(xlim=ends, ylim=ends)
    axes.locator_params(nbins=4)
