"""The ledger at a glance."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from vaelib.plots.style import BLUE, INK, ORANGE, SKY, WIDTH, Picture, picture, styled

SHADES = {
    "reproduced": (BLUE, "R"),
    "direction only": (SKY, "D"),
    "inconclusive": ("#9a9a9a", "?"),
    "not reproduced": (ORANGE, "N"),
    "not run": ("#00000000", "·"),
}
TALL = 20  # rows beyond which the names of the columns stand above them too
LETTER = 0.075  # inches, about the width of one in the names of the columns


@styled
def verdict_map(claims: pd.DataFrame) -> Picture:
    """A row a claim, a column a data set, a colour and a letter for each verdict.

    The names of the data sets slope where they would else overlap.

    Args:
        claims: A ledger as of `Study.claims`.
    """
    import seaborn as sns  # a second that most pages save

    order = list(SHADES)
    table = claims.assign(place=claims["verdict"].astype(str).map(order.index))
    wide = table.pivot_table(index="id", columns="data", values="place", sort=False)
    wide = wide.reindex(columns=list(dict.fromkeys(claims["data"])))
    letters = wide.map(lambda v: "" if pd.isna(v) else SHADES[order[int(v)]][1])
    longest = LETTER * max((len(name) for name in wide.columns), default=0)
    sloping, tall = longest > (WIDTH - 1.2) / max(1, wide.shape[1]), len(wide) > TALL
    figure = picture(0.27 * len(wide) + 1.1 + (1 + tall) * sloping * 0.65 * longest)
    axes = figure.subplots()
    sns.heatmap(
        wide,
        ax=axes,
        annot=letters,
        fmt="",
        cmap=ListedColormap([color for color, _ in SHADES.values()]),
        vmin=-0.5,
        vmax=len(order) - 0.5,
        cbar=False,
        linewidths=1,
        linecolor="#00000000",
        annot_kws={"color": INK, "weight": "bold"},
    )
    for text in axes.texts:
        dark = text.get_text() in ("R", "N")
        text.set_color("white" if dark else "black" if text.get_text() in ("D", "?") else INK)
    key = "   ".join(f"{letter} {name}" for name, (_, letter) in SHADES.items())
    axes.set(title=key, xlabel="", ylabel="")
    axes.tick_params(length=0, labelrotation=0, labeltop=tall)
    if sloping:
        _slope(axes)
    axes.grid(False)
    return figure


def _slope(axes: Axes) -> None:
    """Turn the names of the columns, each with its near end at its column."""
    for tick in axes.xaxis.get_major_ticks():
        tick.label1.set(rotation=40, ha="right", va="center", rotation_mode="anchor")
        tick.label2.set(rotation=40, ha="left", va="center", rotation_mode="anchor")
