"""Pictures: every figure of the book, readable on light and on dark pages (extra `[plots]`).

Functions take result tables or arrays and return a `Picture`, a matplotlib figure that notebooks
show as SVG. Nothing goes through pyplot, so no global state is touched.
"""

from vaelib.plots.against import against
from vaelib.plots.bounds import (
    alpha_curves,
    bound_over_slope,
    critic_estimates,
    critic_traces,
    gradient_bias,
    perplexity_planes,
)
from vaelib.plots.coupled import gradient_dynamics, twin_dots, two_paths, weight_curves
from vaelib.plots.curves import (
    aggregation_curve,
    interpolation_curves,
    likelihood_curves,
    tradeoff,
)
from vaelib.plots.diversity import (
    component_panels,
    probe_curves,
    proposition_curves,
    setting_maps,
    training_curves,
)
from vaelib.plots.images import image_grid
from vaelib.plots.methods import ESTIMATORS, estimator_panels, method_dots, rate_distortion
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
    "ESTIMATORS",
    "Picture",
    "activity",
    "against",
    "aggregation_curve",
    "alpha_curves",
    "bound_over_slope",
    "component_panels",
    "critic_estimates",
    "critic_traces",
    "density_grid",
    "dimension_panels",
    "estimator_panels",
    "gradient_bias",
    "gradient_dynamics",
    "history",
    "image_grid",
    "interpolation_curves",
    "likelihood_curves",
    "method_dots",
    "perplexity_planes",
    "posterior_panels",
    "probe_curves",
    "proposition_curves",
    "rate_distortion",
    "setting_maps",
    "toy_snapshots",
    "tradeoff",
    "training_curves",
    "twin_dots",
    "two_paths",
    "verdict_map",
    "weight_curves",
]
