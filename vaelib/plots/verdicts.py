"""The ledger at a glance."""

import pandas as pd
import seaborn as sns
from matplotlib.colors import ListedColormap

from vaelib.plots.style import BLUE, INK, ORANGE, SKY, Picture, picture, styled

SHADES = {
    "reproduced": (BLUE, "R"),
    "direction only": (SKY, "D"),
    "inconclusive": ("#9a9a9a", "?"),
    "not reproduced": (ORANGE, "N"),
    "not run": ("#00000000", "·"),
}


@styled
def verdict_map(claims: pd.DataFrame) -> Picture:
    """A row a claim, a column a data set, a colour and a letter for each verdict.

    Args:
        claims: A ledger as of `Study.claims`.
    """
    order = list(SHADES)
    table = claims.assign(place=claims["verdict"].astype(str).map(order.index))
    wide = table.pivot_table(index="id", columns="data", values="place", sort=False)
    wide = wide.reindex(columns=list(dict.fromkeys(claims["data"])))
    letters = wide.map(lambda v: "" if pd.isna(v) else SHADES[order[int(v)]][1])
    figure = picture(0.27 * len(wide) + 1.1)
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
    axes.tick_params(length=0, labelrotation=0)
    axes.grid(False)
    return figure
