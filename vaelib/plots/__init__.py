"""Pictures: every figure of the book, readable on light and on dark pages (extra `[plots]`).

Functions take result tables or arrays and return a `Picture`, a matplotlib figure that notebooks
show as SVG. Nothing goes through pyplot, so no global state is touched.
"""

from vaelib.plots.curves import (
    aggregation_curve,
    interpolation_curves,
    likelihood_curves,
    tradeoff,
)
from vaelib.plots.images import image_grid
from vaelib.plots.posteriors import (
    activity,
    density_grid,
    dimension_panels,
    posterior_panels,
    toy_snapshots,
)
from vaelib.plots.style import Picture
from vaelib.plots.training import history
from vaelib.plots.verdicts import verdict_map

__all__ = [
    "Picture",
    "activity",
    "aggregation_curve",
    "density_grid",
    "dimension_panels",
    "history",
    "image_grid",
    "interpolation_curves",
    "likelihood_curves",
    "posterior_panels",
    "toy_snapshots",
    "tradeoff",
    "verdict_map",
]
