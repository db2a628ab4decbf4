"""Training in pictures: what is logged at every step."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from vaelib.plots import style
from vaelib.plots.style import Picture, styled

BLOCKS = 200
_PANELS = {
    "reconstruction (nats)": {"distortion": style.BLUE},
    "latent variable (nats)": {"rate": style.ORANGE, "regulariser": style.GREEN},
    "weight of the regulariser": {"weight": style.BLUE},
    "gradient norm before clipping": {
        "grad_encoder": style.ORANGE,
        "grad_decoder": style.BLUE,
        "grad_norm": style.INK,
    },
}
_LINES = {
    "regulariser": style.LINES[1],
    "grad_decoder": style.LINES[1],
    "grad_norm": style.LINES[3],
}
_NAMES = {"grad_encoder": "encoder", "grad_decoder": "decoder", "grad_norm": "all"}
_NAMES |= {"bag_of_words": "bag of words"}
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
    figure = style.picture(4.8)
    grid = figure.subplots(2, 2, sharex=True)
    table = _thinned(history)
    extra = {name: style.PINK for name in table.columns if name not in _KNOWN}
    for axes, (title, lines) in zip(grid.flat, _PANELS.items(), strict=True):
        axes.set_title(title)
        _lines(axes, table, lines | (extra if "rate" in lines else {}))
    if epochs is not None and len(epochs):
        ends = history.groupby("epoch")["step"].max().to_numpy()
        _validation(grid[0, 0], ends, epochs, "valid_distortion", style.BLUE)
        _validation(grid[0, 1], ends, epochs, "valid_rate", style.ORANGE)
    grid[1, 1].set_yscale("log")
    for which in (grid[1, 1].yaxis.set_major_formatter, grid[1, 1].yaxis.set_minor_formatter):
        which(LogFormatter(minor_thresholds=(1.5, 0.6)))
    for axes in grid.flat:
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend()
    for axes in grid[1]:
        axes.set_xlabel("step")
    style.footnote(figure, f"training: means over {len(history) // max(len(table), 1)} logged rows")
    return figure


def _lines(axes: Axes, table: pd.DataFrame, names: dict[str, str]) -> None:
    shown = {name: color for name, color in names.items() if name in table}
    for name, color in shown.items():
        drawn = axes.plot(table["step"], table[name], label=_NAMES.get(name, name))[0]
        drawn.set(color=color, linestyle=_LINES.get(name, "-"), linewidth=1.3)
    if not shown:
        style.nothing_to_show(axes, "not logged")


def _validation(
    axes: Axes, steps: np.ndarray, epochs: pd.DataFrame, column: str, color: str
) -> None:
    values, label = epochs[column].to_numpy(), column.replace("valid_", "validation ")
    size = min(len(steps), len(values))
    axes.plot(steps[:size], values[:size], "o", color=color, fillstyle="none", label=label)
