"""The verdict rule: one interval against one tolerance gives one of five words.

Of a quantity measured once a seed, let m be the mean over the seeds and [a, b] its 95 % interval by
Student's t (`interval`). A check states a tolerance [low, high], and may state what no effect would
look like (a number e) and on which side of it the claim lies (direction +1 above, -1 below). Read
for direction +1; for -1 mirror the axis. Then exactly one of these holds:

- *not run*: there is nothing to judge: runs are missing, or none can be compared;
- *reproduced*: low <= a and b <= high;
- *direction only*: not the above, and a > e: no effect is excluded, on the claimed side;
- *inconclusive*: none of the above, and either the interval is undefined (one seed), or b > e (it
  covers no effect and the claimed side), or [a, b] meets [low, high] (it covers both outcomes);
- *not reproduced*: none of the above: [a, b] misses the tolerance and does not pass e.

A check without e has no "direction only", and only the tolerance decides. A claim made of several
checks gets its worst one (`worst`).
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum

# Student's t, 97.5 % quantile at 1 ... 10 degrees of freedom.
_T = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582),
    *(2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
)
_NORMAL = 1.959963985


class Verdict(StrEnum):
    """What a check or a claim came to, from worst to best; `NOT_RUN` stands aside."""

    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"
    DIRECTION_ONLY = "direction only"
    REPRODUCED = "reproduced"
    NOT_RUN = "not run"


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


def student_t(freedom: int) -> float:
    """The two-sided 95 % point of Student's t, to five digits.

    Args:
        freedom: Degrees of freedom, one or more.

    Returns:
        The quantile; beyond ten degrees by its expansion in 1/freedom around the normal one
        (Abramowitz and Stegun 26.7.5).
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    x = _NORMAL
    first = (x**3 + x) / 4
    second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    fourth = (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160
    return x + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4


def interval(values: Sequence[float], exact: bool = False) -> tuple[float, float] | None:
    """The 95 % interval of the mean over seeds.

    Args:
        values: One finite number a seed.
        exact: The quantity does not depend on the seed, so a single one is an interval.

    Returns:
        [mean - t s/sqrt(n), mean + t s/sqrt(n)]; a point where all values agree; None for one
        value (unless `exact`) and for none.
    """
    if not values or (len(values) == 1 and not exact):
        return None
    if min(values) == max(values):
        return values[0], values[0]
    count, mean = len(values), math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / (count - 1)
    half = student_t(count - 1) * math.sqrt(variance / count)
    return mean - half, mean + half


def judge_interval(
    bounds: tuple[float, float] | None,
    low: float,
    high: float,
    no_effect: float | None = None,
    direction: int = 0,
) -> Verdict:
    """Judge an interval by the rule at the top of this module.

    Args:
        bounds: The interval [a, b], None where it is undefined.
        low, high: The tolerance; either may be infinite.
        no_effect: The value e that no effect would give, None where there is no such value.
        direction: The side of e on which the claim lies: +1 above, -1 below, 0 neither.

    Returns:
        Any verdict but `NOT_RUN`.
    """
    if bounds is None:
        return Verdict.INCONCLUSIVE
    a, b = bounds
    if low <= a and b <= high:
        return Verdict.REPRODUCED
    if no_effect is not None and direction:
        ends = sorted((direction * (a - no_effect), direction * (b - no_effect)))
        if ends[0] > 0:
            return Verdict.DIRECTION_ONLY
        if ends[1] > 0:
            return Verdict.INCONCLUSIVE
    return Verdict.NOT_REPRODUCED if b < low or a > high else Verdict.INCONCLUSIVE


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a claim from those of its checks.

    A check that fails settles it; else one that was not run leaves the claim not run; else the
    lowest counts (not reproduced < inconclusive < direction only < reproduced).
    """
    found = set(verdicts)
    if Verdict.NOT_REPRODUCED in found:
        return Verdict.NOT_REPRODUCED
    if not found or Verdict.NOT_RUN in found:
        return Verdict.NOT_RUN
    return min(found, key=_RANK.__getitem__)
