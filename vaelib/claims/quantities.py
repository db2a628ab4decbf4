"""Quantities and checks that claims share."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

from vaelib.claims.evidence import Check, Evidence, Sample, combine, nothing

# The line between the two outcomes of a fraction: above it a method is more active (or consistent)
# than not. "No effect" of a check that wants nearly all, or all, is just half.
HALF = 0.5
NEARLY_ALL = 0.9


def units(e: Evidence, label: str, metric: str) -> Sample:
    """Active or consistent units of a run (`metric` "au", "cu_pq", ...) as a fraction of D."""
    return e(label, metric) / e(label, "latent_dim")


def information(e: Evidence, label: str) -> Sample:
    """mi_global of a run as a fraction of its bound ln N, N at most 10,000."""
    bound = combine(lambda n: math.log(min(n, 10_000)), e(label, "test_size"))
    return e(label, "mi_global") / bound


def nearly_all(name: str, sample: Sample) -> Check:
    """A fraction that must be at least `NEARLY_ALL`; above `HALF` its direction holds."""
    return Check(name, sample, low=NEARLY_ALL, no_effect=HALF, direction=1)


def share(
    name: str, samples: list[Sample], holds: Callable[[float], bool], low: float = 1.0
) -> Check:
    """The fraction of runs for which `holds`, a seed at a time, which must be at least `low`."""
    if not samples:
        return nothing(name, "a run with such a parameter")
    found = combine(lambda *row: sum(map(holds, row)) / len(row), *samples)
    return Check(name, found, low=low, no_effect=HALF, direction=1)


def monotone(
    e: Evidence, labels: Iterable[str], metric: str, rising: bool, forgive: float = 0.0
) -> Check:
    """Inversions of a metric along a curve, of which there must be none but the forgiven one.

    Args:
        e: The results.
        labels: The runs of the curve in order; those outside the profile's grid are left out.
        metric: A column of the results.
        rising: Whether the curve should never fall (or never rise).
        forgive: See `inversions`.

    Returns:
        A check whose value of no effect is (points - 1)/2, the inversions of a shuffled curve.
    """
    points = e.grid(labels)
    name = f"inversions of {metric}, {'rising' if rising else 'falling'}"
    if len(points) < 2:
        return nothing(name, "a second point of the curve")
    count = partial(_count, rising=rising, forgive=forgive)
    found = combine(count, *e.each(points, metric))
    return Check(name, found, high=0.0, no_effect=(len(points) - 1) / 2, direction=-1)


def rise(e: Evidence, labels: Iterable[str], metric: str, least: float) -> Check:
    """By how much a metric grows from the first run of a curve to its last, at least `least`."""
    points = e.grid(labels)
    name = f"rise of {metric}"
    if len(points) < 2:
        return nothing(name, "a second point of the curve")
    found = e(points[-1], metric) - e(points[0], metric)
    return Check(name, found, low=least, no_effect=0.0, direction=1)


def _count(*curve: float, rising: bool, forgive: float) -> int:
    return inversions(curve, rising, forgive)


def inversions(curve: Sequence[float], rising: bool = True, forgive: float = 0.0) -> int:
    """How often a curve goes the wrong way.

    Args:
        curve: The values in order.
        rising: Whether it should never fall (or never rise).
        forgive: One inversion, the only one forgiven, may be as large as this fraction of the
            largest absolute value of the curve, if it is also the largest inversion.

    Returns:
        The number of steps in the wrong direction, less the forgiven one.
    """
    steps = [b - a if rising else a - b for a, b in pairwise(curve)]
    wrong = [-step for step in steps if step < 0]
    forgiven = bool(wrong) and max(wrong) <= forgive * max(map(abs, curve))
    return len(wrong) - forgiven


def interpolate(x: float, curve: Iterable[tuple[float, float]], margin: float = 0.0) -> float:
    """Read y at x off a curve: straight lines from point to point, the highest where several pass.

    Args:
        x: Where to read.
        curve: Points (x, y) in the order of the curve's parameter; it may fold back in x.
        margin: How far x may lie outside the points; the nearest end's y is then taken.

    Returns:
        y, or NaN where x is further out.
    """
    points = list(curve)
    low, high = min(points)[0], max(points)[0]
    if not low - margin <= x <= high + margin:
        return math.nan
    at = min(max(x, low), high)
    found = [y for place, y in points if place == at]
    for start, end in pairwise(points):
        (x0, y0), (x1, y1) = sorted((start, end))
        if x0 < at < x1:
            found.append(y0 + (y1 - y0) * (at - x0) / (x1 - x0))
    return max(found)
