"""What a claim sees (numbers a seed, paired across runs) and what it returns (checks)."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from vaelib.claims.verdicts import Verdict, interval, judge_interval

INFINITY = math.inf


@dataclass(frozen=True)
class Sample:
    """One number a seed, the runs it was read from, and what was missing.

    Args:
        by_seed: Seed -> number. Empty where anything is missing.
        sources: Labels of the runs behind it.
        missing: What could not be read, in words a reader knows ("DG-VAE(|b|=2)").
    """

    by_seed: Mapping[int, float]
    sources: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    def __sub__(self, other: "Sample") -> "Sample":
        return combine(lambda a, b: a - b, self, other)

    def __truediv__(self, other: "Sample") -> "Sample":
        return combine(lambda a, b: a / b, self, other)


def combine(function: Callable[..., float], *samples: Sample, least: int = 1) -> Sample:
    """Apply `function` to the numbers of several runs, seed by seed.

    Args:
        function: Takes one number of each sample; may return NaN for "nothing to compare here".
        samples: The samples to pair; only seeds that all of them have are kept.
        least: How many of them `function` needs, where the grid decides how many there are.

    Returns:
        The results, without the NaN ones; empty and with `missing` set where there are too few
        samples, one lacks something, or no seed is common to all.
    """
    sources = frozenset().union(*(sample.sources for sample in samples))
    if len(samples) < least:
        return Sample({}, sources, ("runs to compare",))
    missing = tuple(dict.fromkeys(what for sample in samples for what in sample.missing))
    if missing:
        return Sample({}, sources, missing)
    seeds = sorted(set.intersection(*(set(sample.by_seed) for sample in samples)))
    if not seeds:
        return Sample({}, sources, ("a seed common to " + ", ".join(sorted(sources)),))
    found = {seed: function(*(sample.by_seed[seed] for sample in samples)) for seed in seeds}
    return Sample({s: float(v) for s, v in found.items() if not math.isnan(v)}, sources)


@dataclass(frozen=True)
class Check:
    """One quantity of a claim beside its tolerance.

    Args:
        name: What is measured, in words or symbols.
        sample: Its values, one a seed.
        low, high: The tolerance.
        no_effect: The value that no effect would give.
        direction: The side of `no_effect` on which the claim lies: +1, -1 or 0.
        published: What was printed, where the printed table does not give it.
        exact: The quantity does not depend on the seed: one value suffices.
        former: A tolerance that was changed after a result; both verdicts are then shown.
        reason: Why it was changed.
    """

    name: str
    sample: Sample
    low: float = -INFINITY
    high: float = INFINITY
    no_effect: float | None = None
    direction: int = 0
    published: float | str | None = None
    exact: bool = False
    former: tuple[float, float] | None = None
    reason: str = ""

    @property
    def values(self) -> list[float]:
        """One value a seed, in the order of the seeds."""
        return list(self.sample.by_seed.values())

    @property
    def mean(self) -> float | None:
        """The mean over seeds, None where nothing was measured."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean."""
        return interval(self.values, self.exact)

    @property
    def verdict(self) -> Verdict:
        """What the check came to."""
        return self._judge(self.low, self.high)

    @property
    def former_verdict(self) -> Verdict | None:
        """What it would have come to under the former tolerance, None where there was none."""
        return None if self.former is None else self._judge(*self.former)

    def _judge(self, low: float, high: float) -> Verdict:
        if not self.values:
            return Verdict.NOT_RUN
        return judge_interval(self.bounds, low, high, self.no_effect, self.direction)


@dataclass(frozen=True)
class Evidence:
    """The results of one data set at one profile, as claims read them.

    Args:
        table: The results table, one row a run, at most one run a label and seed.
        labels: The labels that count as this profile's grid. A sweep runs over those of its
            points that are in the grid; None takes every point as belonging to it.
    """

    table: pd.DataFrame
    labels: frozenset[str] | None = None
    _rows: dict[str, pd.DataFrame] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        groups = self.table.groupby("label", sort=False) if len(self.table) else ()
        object.__setattr__(self, "_rows", {str(label): rows for label, rows in groups})

    @property
    def data(self) -> str:
        """The id of the data set, empty where there are no results."""
        return str(self.table["data"].iloc[0]) if len(self.table) else ""

    def __call__(self, label: str, metric: str) -> Sample:
        """A metric of one run, by seed; a number that is not finite counts as missing."""
        rows = self._rows.get(label)
        if rows is None:
            return Sample({}, frozenset({label}), (label,))
        if metric not in rows:
            return Sample({}, frozenset({label}), (f"{metric} of {label}",))
        pairs = zip(rows["seed"], rows[metric], strict=True)
        found = {int(s): float(v) for s, v in pairs if pd.notna(v) and math.isfinite(v)}
        missing = () if len(found) == len(rows) else (f"{metric} of {label}",)
        return Sample({} if missing else dict(sorted(found.items())), frozenset({label}), missing)

    def grid(self, labels: Iterable[str]) -> list[str]:
        """Those of `labels` that belong to the profile's grid, in the given order."""
        return [label for label in labels if self.labels is None or label in self.labels]

    def each(self, labels: Iterable[str], metric: str) -> list[Sample]:
        """A metric of several runs."""
        return [self(label, metric) for label in labels]


@dataclass(frozen=True)
class Claim:
    """A statement of a paper and the function that checks it.

    Args:
        id: "dg_vae.4".
        paper: The paper's short name.
        statement: One sentence.
        source: Where the paper says or shows it.
        page: Stem of the book's page that discusses it.
        check: Evidence -> checks; the first is the headline.
        scope: "data" for a claim about each data set; "toy" for one about the toy's own table;
            "analytic" for one that needs no runs.
    """

    id: str
    paper: str
    statement: str
    source: str
    page: str
    check: Callable[[Evidence], list[Check]]
    scope: str = "data"


Test = Callable[[Evidence], list[Check]]


def numbered(
    claims: list[Claim], paper: str, statement: str, source: str, page: str, scope: str = "data"
) -> Callable[[Test], Test]:
    """Decorator: append a paper's claim to `claims`; its place in the list is its number.

    Args:
        claims: The paper's claims so far.
        paper, statement, source, scope: As in `Claim`.
        page: Stem of the page without the paper's name in front.

    Returns:
        A decorator that leaves the function as it is.
    """

    def add(check: Test) -> Test:
        name = f"{paper}.{len(claims) + 1}"
        claims.append(Claim(name, paper, statement, source, f"{paper}_{page}", check, scope))
        return check

    return add


def nothing(name: str, what: str) -> Check:
    """A check that cannot be made, and why."""
    return Check(name, Sample({}, missing=(what,)))
