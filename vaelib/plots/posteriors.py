"""The latent space in pictures: aggregated posteriors, their centres, activity per dimension."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from vaelib.errors import VaelibError
from vaelib.metrics import kl_normal, unit_divergences
from vaelib.metrics.units import ACTIVE, CONSISTENT
from vaelib.plots import style
from vaelib.plots.style import Picture, styled
from vaelib.toy import METHODS, Snapshot

Panel = tuple[str, Any, Any]  # label, mu [N, D], logvar [N, D]
EXTENT, SIZE, BRIGHTEST = 5.0, 500, 0.25
PAIRS = ((0, 1), (6, 7), (12, 13), (18, 19), (24, 25), (30, 31))
_CIRCLES = "dotted circles: one, two and three standard deviations of the prior N(0, I)"
_TITLES = {"vae": "VAE", "ae": "AE", "aae": "AAE", "wae": "WAE", "dg": "DG-VAE"}


def ranking(mu: Any) -> np.ndarray:
    """Dimensions `[D]` by falling variance of the posterior mean, the most active first."""
    return np.argsort(-style.as_array(mu).var(axis=0), kind="stable")


@torch.no_grad()
def density_grid(
    mu: Any,
    logvar: Any,
    dims: tuple[int, int] = (0, 1),
    size: int = SIZE,
    extent: float = EXTENT,
) -> np.ndarray:
    """Density of the aggregated posterior of two dimensions on a square grid (DG-VAE, Figure 1).

    The mean over examples of the product of two one-dimensional densities, as one matrix product.
    A cell holds its mean density, not that of its centre, so that posteriors narrower than a cell
    keep their mass.

    Args:
        mu, logvar: Posteriors [N, D].
        dims: Which two dimensions: the horizontal and the vertical one.
        size: Cells a side.
        extent: The grid is [-extent, extent]^2.

    Returns:
        Density per unit area, [size, size]; row i is the i-th cell of the vertical axis from below.
    """
    edges = torch.linspace(-extent, extent, size + 1)
    columns = []
    for dim in dims:
        m, v = (torch.from_numpy(style.as_array(t)[:, dim].copy()) for t in (mu, logvar))
        below = torch.special.ndtr((edges[:, None] - m) * torch.exp(-0.5 * v))
        columns.append(below.diff(dim=0) * (size / (2 * extent)))
    return (columns[1] @ columns[0].T / len(m)).numpy()


def _reference(axes: Axes, color: str) -> None:
    for radius in (1, 2, 3):
        axes.add_patch(
            Circle((0, 0), radius, fill=False, color=color, ls=":", linewidth=0.9, zorder=3)
        )


def _frame(axes: Axes) -> None:
    axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=(-4, 0, 4), yticks=(-4, 0, 4))
    axes.set_aspect("equal")
    axes.grid(False)
    axes.spines[:].set_visible(True)


def _density(axes: Axes, mu: np.ndarray, logvar: np.ndarray) -> AxesImage:
    """The aggregated posterior of the first two columns as a heat map, 0 to 0.25."""
    _frame(axes)
    box = (-EXTENT, EXTENT, -EXTENT, EXTENT)
    image = axes.imshow(
        density_grid(mu, logvar), "hot", vmin=0, vmax=BRIGHTEST, origin="lower", extent=box
    )
    _reference(axes, "#8fd0ff")
    return image


def _centres(axes: Axes, mu: np.ndarray) -> None:
    """The posterior means of the first two columns, rasterised."""
    _frame(axes)
    _reference(axes, style.INK)
    size, alpha = (2.5, 0.45) if len(mu) > 500 else (7, 0.9)
    axes.scatter(
        mu[:, 0], mu[:, 1], size, style.BLUE, linewidths=0, alpha=alpha, rasterized=True, zorder=2
    )


def _two(panel: Panel, ranks: tuple[int, int]) -> tuple[str, np.ndarray, np.ndarray]:
    """A panel's label and its posteriors in the dimensions of two ranks."""
    label, mu, logvar = panel
    dims = ranking(mu)[list(ranks)]
    return label, style.as_array(mu)[:, dims], style.as_array(logvar)[:, dims]


class _Sheet:
    """Square panels of equal size on a page as wide as the book: where each one goes, in inches."""

    right, gap, title, foot = 0.06, 0.08, 0.27, 1.35

    def __init__(self, blocks: int, columns: int, titles_on_top_only: bool) -> None:
        self.blocks = blocks
        self.left = 0.72 if titles_on_top_only else 0.56  # names take a second line
        room = style.WIDTH - self.left - self.right - self.gap * (columns - 1)
        self.side = min(room / columns, 2.3)
        self.top_only = titles_on_top_only
        self.figure = Picture(figsize=(style.WIDTH, self._depth(2 * self.blocks) + self.foot))

    def _depth(self, row: int) -> float:
        """From the top edge down to the top of a row of panels."""
        block = row // 2
        titles = 1 if self.top_only else block + (row % 2 or block < self.blocks)
        return titles * self.title + row * (self.side + self.gap)

    def axes(self, row: int, column: int) -> Axes:
        """New axes at a place."""
        width, height = self.figure.get_size_inches()
        x = self.left + column * (self.side + self.gap)
        y = height - self._depth(row) - self.side
        box = (x / width, y / height, self.side / width, self.side / height)
        axes = self.figure.add_axes(box)
        axes.tick_params(labelleft=column == 0, labelbottom=False)
        return axes

    def colour_bar(self, image: AxesImage) -> None:
        """The one scale of all densities, below the panels."""
        width, height = self.figure.get_size_inches()
        box = (0.5 - 1.75 / width, 0.92 / height, 3.5 / width, 0.1 / height)
        axes = self.figure.add_axes(box)
        bar = self.figure.colorbar(image, cax=axes, orientation="horizontal", extend="max")
        bar.set_label("density of the aggregated posterior, per unit area", labelpad=2)
        bar.outline.set_edgecolor(style.INK)

    def note(self, text: str) -> None:
        """Two lines at the foot."""
        height = self.figure.get_size_inches()[1]
        self.figure.text(0.5, 0.05 / height, text, ha="center", va="bottom", fontsize=9)


def _panels(rows: list[list[Panel]], note: str, names: Sequence[str] = ()) -> Picture:
    """Blocks of two rows, densities above, centres below.

    Args:
        rows: The panels of each block: label and posteriors in two dimensions.
        note: Text at the foot.
        names: A name for each block; labels are then shown at the top only.
    """
    sheet = _Sheet(len(rows), max(map(len, rows)), bool(names))
    for block, panels in enumerate(rows):
        taken_below = len(rows[block + 1]) if block + 1 < len(rows) else 0
        for column, (label, mu, logvar) in enumerate(panels):
            above, below = (sheet.axes(2 * block + row, column) for row in (0, 1))
            image = _density(above, mu, logvar)
            _centres(below, mu)
            if block == 0 or not names:
                above.set_title(style.pretty(label), fontsize=9, pad=4)
            if column == 0:
                start = f"{names[block]}\n" if names else ""
                above.set_ylabel(f"{start}density", labelpad=1)
                below.set_ylabel(f"{start}centres", labelpad=1)
            below.tick_params(labelbottom=column >= taken_below)
    sheet.colour_bar(image)
    sheet.note(note)
    return sheet.figure


@styled
def posterior_panels(
    panels: Iterable[Panel], columns: int = 6, families: Sequence[str] = ()
) -> Picture:
    """Aggregated posteriors and their centres in the two most active dimensions (Figures 1, 4).

    Args:
        panels: (label, mu [N, D], logvar [N, D]) for each model; D >= 2.
        columns: Models a row at most.
        families: A row for each of these instead, in the order of `panels`; the VAE is of the
            family "beta", and a family without a model has no row.

    Raises:
        VaelibError: Fewer than two dimensions.
    """
    shown = [p for p in panels if not families or _row_of(p[0]) in families]
    if not shown:
        return style.blank()
    if any(style.as_array(mu).shape[1] < 2 for _, mu, _ in shown):
        raise VaelibError("posterior panels need models with two latent dimensions or more.")
    note = f"axes: the two dimensions whose posterior means vary most\n{_CIRCLES}"
    rows = _wrapped(shown, columns)
    if families:
        rows = [[panel for panel in shown if _row_of(panel[0]) == name] for name in families]
    return _panels([[_two(panel, (0, 1)) for panel in row] for row in rows if row], note)


def _wrapped(panels: list[Panel], columns: int = 6) -> list[list[Panel]]:
    return [panels[i : i + columns] for i in range(0, len(panels), columns)]


def _row_of(label: str) -> str:
    """The family in whose row a model stands: the VAE is beta = 1."""
    return family_of(label) if family_of(label) != "VAE" else "beta"


@styled
def dimension_panels(
    mu: Any, logvar: Any, pairs: Sequence[tuple[int, int]] = PAIRS, about: str = ""
) -> Picture:
    """The same for pairs of less and less active dimensions of one model (Appendix G).

    Args:
        mu, logvar: Posteriors [N, D].
        pairs: Ranks by variance of the mean, from 0; pairs beyond D are left out.
        about: What stands first in the note, such as the model.

    Raises:
        VaelibError: No pair is left.
    """
    shown = [(a, b) for a, b in pairs if max(a, b) < style.as_array(mu).shape[1]]
    if not shown:
        raise VaelibError(f"none of the ranks {list(pairs)} exists; give pairs below D.")
    panels = [_two((f"ranks {a + 1}, {b + 1}", mu, logvar), (a, b)) for a, b in shown]
    axes = "axes: dimensions ranked by the variance of their posterior means"
    return _panels(_wrapped(panels), "\n".join(filter(None, [about, axes, _CIRCLES])))


@styled
def toy_snapshots(snapshots: Iterable[Snapshot]) -> Picture:
    """Density and centres of the toy as training goes on, two rows a method (Appendix A).

    Args:
        snapshots: As of `vaelib.toy.Toy.of_seed`: one seed, every method at the same steps.

    Raises:
        VaelibError: No snapshot, or snapshots of several seeds.
    """
    given = list(snapshots)
    if len({s.seed for s in given}) != 1:
        raise VaelibError("the toy's picture shows one seed; give toy().of_seed(0).")
    shown = {(s.method, s.step): s for s in given}
    methods = [m for m in METHODS if any(m == method for method, _ in shown)]
    steps = sorted({step for _, step in shown})
    rows = [[_moment(shown[method, step]) for step in steps] for method in methods]
    note = f"axes: the two latent dimensions\n{_CIRCLES}"
    return _panels(rows, note, [_TITLES[method] for method in methods])


def _moment(snapshot: Snapshot) -> Panel:
    return f"step {snapshot.step}", style.as_array(snapshot.mu), style.as_array(snapshot.logvar)


def family_of(label: str) -> str:
    """The family that a label belongs to: "BN" of "BN-VAE(0.6)", "VAE" of "VAE (default)"."""
    return label.split(" ")[0].split("(")[0].removesuffix("-VAE")


@styled
def activity(panels: Iterable[Panel]) -> Picture:
    """Each dimension's variance of the mean, KL, and divergence from the prior, of some models.

    Dimensions are ranked by the variance of their means in all three panels; dotted lines are the
    thresholds of active (0.01) and consistent units (0.03 nats).

    Args:
        panels: (label, mu [N, D], logvar [N, D]) for each model.
    """
    shown = list(panels)
    families = [family_of(label) for label, _, _ in shown]
    distinct = len(set(families)) == len(families)
    if not shown:
        return style.blank()
    figure = style.picture(3.1)
    grid = figure.subplots(1, 3)
    for place, (label, mu, logvar) in enumerate(shown):
        look = style.look_of(families[place] if distinct else "", place)
        for axes, values in zip(grid, _per_dimension(mu, logvar), strict=True):
            ranks = np.arange(1, len(values) + 1)
            axes.plot(ranks, values, label=style.pretty(label), markersize=4, **look.keywords())
    titles = (
        f"variance of the mean\n(active from {ACTIVE} up)",
        "KL(q(z|x) ‖ p), mean over\nthe data (nats)",
        f"KL(p ‖ q(z)) (nats)\n(consistent below {CONSISTENT})",
    )
    for axes, title, threshold in zip(grid, titles, (ACTIVE, None, CONSISTENT), strict=True):
        axes.set(title=title, xlabel="dimension, by rank")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if threshold:
            axes.set_yscale("log")
            axes.axhline(threshold, color=style.INK, linestyle=":", linewidth=1.4)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _per_dimension(mu: Any, logvar: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = ranking(mu)
    m, v = (torch.from_numpy(style.as_array(t)[:, order]) for t in (mu, logvar))
    kl = kl_normal(m, v).mean(dim=0)
    # A floor keeps exact zeros on the logarithmic axes.
    return (
        m.var(dim=0).clamp_min(1e-6).numpy(),
        kl.numpy(),
        unit_divergences(m, v, direction="p||q").clamp_min(1e-6).numpy(),
    )
