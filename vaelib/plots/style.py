"""One look for all pictures: transparent, mid-grey ink, colour-blind-safe colours with shapes."""

import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaelib.claims import interval

INK = "#7a7a7a"  # contrast 4.3 : 1 on white and on the dark page alike
WIDTH = 7.5  # inches, the book's column
DPI = 160

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.titlesize": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "image.interpolation": "antialiased",
    "svg.hashsalt": "vaelib",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}


@dataclass(frozen=True)
class Look:
    """How one family is drawn: colour, marker and line, any two of which tell it apart."""

    color: str
    marker: str
    line: Any = "-"

    def keywords(self) -> dict[str, Any]:
        """As arguments of `Axes.plot`."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line}


COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B58900", "#4A9CCB")
BLUE, ORANGE, GREEN, PINK, GOLD, SKY = COLORS
LOOKS = {
    "VAE": Look(INK, "X", (0, (1, 1.5))),
    "BN": Look(BLUE, "o"),
    "FB": Look(PINK, "s", (0, (5, 1.5))),
    "beta": Look(ORANGE, "^", (0, (4, 1.5, 1, 1.5))),
    "DG": Look(GREEN, "D"),
    "vMF": Look(BLUE, "v", (0, (5, 1.5))),
    "DG-vMF": Look(GREEN, "P"),
    "cyclic": Look(GOLD, "<", (0, (3, 1))),
    "skip": Look(SKY, ">", (0, (3, 1))),
    "bow": Look(PINK, "h", (0, (3, 1))),
    "delta": Look(GOLD, "d", (0, (1, 1))),
}
MARKERS = "osD^vPX<>dhp"
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (1, 1.5)))
SYMBOLS = {"BN": "γ", "FB": "λ", "beta": "β", "DG": "|b|", "vMF": "κ", "DG-vMF": "κ", "delta": "δ"}
NAMES = {
    "kl": "KL (nats)",
    "mi_global": "MI (nats)",
    "au": "AU (dimensions)",
    "cu_pq": "CU (dimensions)",
    "prior_ll": "priorLL (nats)",
    "post_ll": "postLL (nats)",
}


def look_of(name: str, place: int = 0) -> Look:
    """The look of a family, or for any other name the one at its place in a cycle."""
    cycle = Look(COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)], LINES[place % 4])
    return LOOKS.get(name, cycle)


def pretty(label: str) -> str:
    """A label with Greek letters for "beta" and "delta"."""
    return label.replace("beta-", "β-").replace("delta-", "δ-")


def name_of(family: str) -> str:
    """A family as titles and legends write it: "β-VAE" of "beta"."""
    return family if family == "VAE" else pretty(f"{family}-VAE")


def symbol_of(family: str) -> str:
    """The symbol of a family's hyper-parameter, or the family's own name."""
    return SYMBOLS.get(family, family)


class Picture(Figure):
    """A matplotlib figure that notebooks show as SVG with a transparent background."""

    def svg(self) -> str:
        """The picture as SVG text, the same bytes each time; dense parts are rasterised."""
        buffer = io.StringIO()
        with mpl.rc_context(STYLE):
            self.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return buffer.getvalue()

    def _repr_svg_(self) -> str:
        return self.svg()


P = ParamSpec("P")


def plain(value: Any) -> Any:
    """What a picture is given, with the dollar signs of its texts escaped: data are no formulas."""
    if isinstance(value, str):
        return value.replace("$", r"\$") if "$" in value else value
    if isinstance(value, pd.DataFrame):
        texts = value.select_dtypes(exclude=["number", "bool"])
        return value.assign(**{name: texts[name].map(plain) for name in texts})
    if isinstance(value, Mapping):
        return {plain(key): plain(one) for key, one in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


def styled(make: Callable[P, Picture]) -> Callable[P, Picture]:
    """Decorator: draw `plain` data with the common look, without changing matplotlib's settings."""

    @functools.wraps(make)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Picture:
        with mpl.rc_context(STYLE):
            drawn = make(*plain(args), **plain(kwargs))
            drawn.draw_without_rendering()  # ticks take their look when they are first drawn
        return drawn

    return wrapper


def picture(height: float, width: float = WIDTH) -> Picture:
    """An empty picture, sizes in inches, laid out when it is drawn."""
    return Picture(figsize=(width, height), layout="constrained")


def half_width(values: pd.Series) -> float:
    """Half the 95 % interval of the mean over seeds (Student's t); 0 for one seed."""
    found = interval([float(v) for v in values.dropna()])
    return 0.0 if found is None else (found[1] - found[0]) / 2


def over_seeds(rows: pd.DataFrame, by: str, metric: str) -> pd.DataFrame:
    """Mean and half 95 % interval of a metric for each value of `by`, in order of appearance."""
    groups = rows.groupby(by, sort=False)[metric]
    return pd.DataFrame({"mean": groups.mean(), "half": groups.apply(half_width)})


def seeds_text(rows: pd.DataFrame) -> str:
    """What the bars are, in words, for the number of seeds at hand."""
    counts = rows.groupby([c for c in ("data", "label") if c in rows])["seed"].nunique()
    if counts.empty or counts.max() < 2:
        return "one seed, no interval"
    few, most = counts.min(), counts.max()
    number = f"{most}" if few == most else f"{few} to {most}"
    return f"mean and 95 % interval over {number} seeds"


def curve(axes: Axes, x: Sequence[float], stats: pd.DataFrame, look: Look, **more: Any) -> None:
    """A line through means with bars of half an interval to either side."""
    bars = stats["half"].to_numpy()
    style: dict[str, Any] = {"capsize": 2.5, "elinewidth": 1, "markeredgecolor": look.color}
    style |= look.keywords() | more
    axes.errorbar(x, stats["mean"], yerr=bars if bars.any() else None, **style)


def footnote(figure: Picture, text: str) -> None:
    """One centred line below all panels."""
    figure.supxlabel(text, fontsize=9, color=INK)


def blank(text: str = "no runs yet") -> Picture:
    """A picture that says why it is empty."""
    figure = picture(1.2)
    nothing_to_show(figure.subplots(), text)
    return figure


def nothing_to_show(axes: Axes, text: str = "no runs yet") -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.grid(False)
    if len(axes.get_shared_y_axes().get_siblings(axes)) == 1:
        axes.tick_params(labelleft=False)


def as_array(values: Any) -> np.ndarray:
    """A tensor or array as a float32 array on the CPU."""
    return torch.as_tensor(values).detach().to("cpu", torch.float32).numpy()


def rows_of(results: pd.DataFrame, families: Iterable[str]) -> pd.DataFrame:
    """The rows of some families, in the order of the table."""
    return results[results["family"].isin(list(families))]
