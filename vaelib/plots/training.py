"""Training in pictures: what is logged at every step, and how long the sentences are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from vaelib.plots.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PINK,
    Picture,
    as_array,
    footnote,
    look_of,
    nothing_to_show,
    picture,
    styled,
)

BLOCKS = 200
_PANELS = {
    "reconstruction (nats)": {"distortion": BLUE},
    "latent variable (nats)": {"rate": ORANGE, "regulariser": GREEN},
    "weight of the regulariser": {"weight": BLUE},
    "gradient norm before clipping": {
        "grad_encoder": ORANGE,
        "grad_decoder": BLUE,
        "grad_norm": INK,
    },
}
_LINES = {
    "regulariser": (0, (5, 1.5)),
    "grad_decoder": (0, (5, 1.5)),
    "grad_norm": (0, (1, 1.5)),
}
_NAMES = {
    "grad_encoder": "encoder",
    "grad_decoder": "decoder",
    "grad_norm": "all",
    "bag_of_words": "bag of words",
}
_KNOWN = ("step", "epoch", "lr", "loss", *(name for p in _PANELS.values() for name in p))


def _thinned(history: pd.DataFrame) -> pd.DataFrame:
    """Means over at most `BLOCKS` equal blocks of steps."""
    block = np.arange(len(history)) * BLOCKS // max(len(history), BLOCKS)
    return history.groupby(block).mean()


@styled
def history(history: pd.DataFrame, epochs: pd.DataFrame | None = None) -> Picture:
    """Training dynamics: distortion, rate and regulariser, weight, gradient norms.

    Args:
        history: A run's `history`: one row a step, or a block mean.
        epochs: A run's `epochs`; adds the validation values as open circles.
    """
    figure = picture(4.8)
    grid = figure.subplots(2, 2, sharex=True)
    table = _thinned(history)
    extra = {name: PINK for name in table.columns if name not in _KNOWN}
    for axes, (title, lines) in zip(grid.flat, _PANELS.items(), strict=True):
        axes.set_title(title)
        _lines(axes, table, lines | (extra if "rate" in lines else {}))
    if epochs is not None and len(epochs):
        ends = history.groupby("epoch")["step"].max().to_numpy()
        _validation(grid[0, 0], ends, epochs, "valid_distortion", BLUE)
        _validation(grid[0, 1], ends, epochs, "valid_rate", ORANGE)
    grid[1, 1].set_yscale("log")
    for which in (grid[1, 1].yaxis.set_major_formatter, grid[1, 1].yaxis.set_minor_formatter):
        which(LogFormatter(minor_thresholds=(1.5, 0.6)))
    for axes in grid.flat:
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend()
    for axes in grid[1]:
        axes.set_xlabel("step")
    footnote(figure, f"training: means over {len(history) // max(len(table), 1)} logged rows")
    return figure


def _lines(axes: Axes, table: pd.DataFrame, names: dict[str, str]) -> None:
    shown = {name: color for name, color in names.items() if name in table}
    for name, color in shown.items():
        style: dict[str, Any] = {
            "color": color,
            "linestyle": _LINES.get(name, "-"),
            "linewidth": 1.3,
        }
        axes.plot(table["step"], table[name], label=_NAMES.get(name, name), **style)
    if not shown:
        nothing_to_show(axes, "not logged")


def _validation(
    axes: Axes, steps: np.ndarray, epochs: pd.DataFrame, column: str, color: str
) -> None:
    values = epochs[column].to_numpy()
    size = min(len(steps), len(values))
    style: dict[str, Any] = {
        "color": color,
        "markerfacecolor": "none",
        "linestyle": "none",
        "marker": "o",
    }
    label = column.replace("valid_", "validation ")
    axes.plot(steps[:size], values[:size], label=label, **style)


@styled
def length_histogram(lengths: Mapping[str, Any]) -> Picture:
    """Share of sentences of each length, an outline for each split or data set.

    Args:
        lengths: Name -> lengths [N] in tokens, both markers counted.
    """
    figure = picture(2.8)
    axes = figure.subplots()
    for place, (name, values) in enumerate(lengths.items()):
        found = as_array(values).astype(int)
        share = np.bincount(found) / len(found)
        look = look_of("", place)
        style = {"color": look.color, "linestyle": look.line}
        axes.stairs(share, np.arange(len(share) + 1) - 0.5, label=name, **style)
    axes.set_xlim(left=0.5)
    axes.set(xlabel="tokens a sentence, both markers counted", ylabel="share of sentences")
    axes.legend()
    return figure
