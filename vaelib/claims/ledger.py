"""The ledger: every claim of a paper against the results there are, one row a data set."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vaelib.claims.evidence import Check, Claim, Evidence
from vaelib.claims.failures import PAPERS, attempts, causes, claims
from vaelib.claims.verdicts import Verdict, worst
from vaelib.errors import check_name

COLUMNS = (
    *("id", "paper", "statement", "source", "profile", "data", "published", "obtained"),
    *("interval", "tolerance", "verdict", "note", "page"),
)
CHECK_COLUMNS = (
    *("id", "check", "profile", "data", "published", "obtained", "interval", "tolerance"),
    *("verdict", "seeds", "missing"),
)
ATTEMPTS_NEEDED = 3
UNJUDGED_PROFILE, PRINT_PROFILE = "smoke", "paper"
Grid = Mapping[tuple[str, str], Collection[str]]


@dataclass(frozen=True)
class Case:
    """A claim, where it was put to the test, and the checks that came of it."""

    claim: Claim
    evidence: Evidence
    profile: str
    data: str
    checks: tuple[Check, ...]
    published: Mapping[str, float]
    printed_data: str

    @property
    def asked(self) -> bool:
        """Whether the claim can be put to these data: the grid has all runs of one check or more.

        It has not where a claim is about text and the data are images, for instance.
        """
        if self.claim.scope != "data" or self.evidence.labels is None:
            return True
        needs = [check.sample.sources for check in self.checks]
        return any(labels and labels <= self.evidence.labels for labels in needs)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the checks."""
        if self.profile == UNJUDGED_PROFILE:
            return Verdict.NOT_RUN
        return worst(check.verdict for check in self.checks)

    @property
    def deciding(self) -> Check | None:
        """The first check with the claim's verdict; the headline at an unjudged profile."""
        found = (check for check in self.checks if check.verdict == self.verdict)
        return next(found, self.checks[0] if self.checks else None)


def judge(
    paper: str,
    results: pd.DataFrame,
    *,
    toy: pd.DataFrame | None = None,
    declared: Grid | None = None,
    recorded: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Judge every claim of a paper on every data set and profile in the results.

    Args:
        paper: "dg_vae".
        results: The results table, one row a run, with the columns label, data, profile, seed,
            stale and the metrics.
        toy: The toy's runs: method, seed, marginal_kl, accuracy, mean_kl (nats), and profile.
        declared: (profile, data) -> the labels of that profile's grid. Sweeps then run over the
            points declared or present; without it a claim needs every point of the paper's grid.
        recorded: Attempts in the form of `attempts()`, which is the default.

    Returns:
        One row a claim, profile and data set, with the columns `COLUMNS`. `obtained`, `interval`
        and `tolerance` are those of the check that decided, which `note` names. Data that a claim
        is not about, or whose grid has none of its runs, get no row, unless no data would be left.

    Raises:
        VaelibError: The paper is unknown, or the attempts are malformed.
    """
    tried, why = attempts() if recorded is None else recorded, causes()
    cases = _cases(paper, results, toy, declared)
    return pd.DataFrame([_row(case, tried, why) for case in cases], columns=list(COLUMNS))


def checks(
    paper: str,
    results: pd.DataFrame,
    *,
    toy: pd.DataFrame | None = None,
    declared: Grid | None = None,
) -> pd.DataFrame:
    """The checks behind `judge`, one row each, with the columns `CHECK_COLUMNS`."""
    cases = _cases(paper, results, toy, declared)
    rows = [_check_row(case, check) for case in cases for check in case.checks]
    return pd.DataFrame(rows, columns=list(CHECK_COLUMNS))


def _cases(
    paper: str, results: pd.DataFrame, toy: pd.DataFrame | None, declared: Grid | None
) -> Iterator[Case]:
    tables = list(_tables(results, declared or {}))
    scopes = {
        "data": tables or [("", "", Evidence(pd.DataFrame()))],
        "toy": list(_toys(toy, list(dict.fromkeys(profile for profile, _, _ in tables)))),
        "analytic": [("any", "random draws", Evidence(pd.DataFrame()))],
    }
    module = PAPERS[check_name(paper, PAPERS, "paper with claims")]
    results_in_print = module.published_results()
    printed = {e.labels: Evidence(results_in_print, e.labels) for *_, e in scopes["data"]}
    for claim in claims(paper):
        cases = []
        for profile, data, evidence in scopes[claim.scope]:
            made = tuple(claim.check(evidence))
            means = _printed_means(claim, printed[evidence.labels]) if claim.scope == "data" else {}
            cases.append(Case(claim, evidence, profile, data, made, means, module.PUBLISHED_DATA))
        yield from [case for case in cases if case.asked] or cases[:1]


def _printed_means(claim: Claim, printed: Evidence) -> dict[str, float]:
    """What the claim's own checks make of the printed numbers, by the name of the check."""
    found = {check.name: check.mean for check in claim.check(printed)}
    return {name: mean for name, mean in found.items() if mean is not None}


def _tables(results: pd.DataFrame, declared: Grid) -> Iterator[tuple[str, str, Evidence]]:
    """The results of each profile and data set, planned ones without a run included."""
    groups = [] if results.empty else results.groupby(["profile", "data"], sort=False)
    found = {(str(profile), str(data)): rows for (profile, data), rows in groups}
    for profile, data in dict.fromkeys([*declared, *found]):
        rows = found.get((profile, data), pd.DataFrame(columns=["label"]))
        labels = declared.get((profile, data))
        grid = None if labels is None else frozenset(labels) | frozenset(rows["label"])
        yield profile, data, Evidence(_fresh(rows) if len(rows) else rows, grid)


def _toys(toy: pd.DataFrame | None, profiles: list[str]) -> Iterator[tuple[str, str, Evidence]]:
    if toy is None or toy.empty:
        yield "", "toy", Evidence(pd.DataFrame())
        return
    table = toy.rename(columns={"method": "label"}).assign(data="toy")
    if "profile" not in table:
        table = table.assign(profile=profiles[0] if len(profiles) == 1 else "any")
    for profile, rows in table.groupby("profile", sort=False):
        yield str(profile), "toy", Evidence(_fresh(rows))


def _fresh(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a label and seed; a stale one only where there is no other."""
    stale = rows["stale"].astype(bool) if "stale" in rows else pd.Series(False, index=rows.index)
    ordered = rows.assign(stale=stale).sort_values("stale", kind="stable")
    return ordered.drop_duplicates(["label", "seed"])


def _row(case: Case, tried: pd.DataFrame, why: pd.DataFrame) -> dict[str, Any]:
    claim, check = case.claim, case.deciding
    shown = _numbers(case, check) if check else dict.fromkeys(COLUMNS[6:10])
    return {
        "id": claim.id,
        "paper": claim.paper,
        "statement": claim.statement,
        "source": claim.source,
        "profile": case.profile,
        "data": case.data,
        **shown,
        "verdict": str(case.verdict),
        "note": "; ".join(_notes(case, tried, why)),
        "page": claim.page,
    }


def _check_row(case: Case, check: Check) -> dict[str, Any]:
    return {
        "id": case.claim.id,
        "check": check.name,
        "profile": case.profile,
        "data": case.data,
        **_numbers(case, check),
        "verdict": str(check.verdict if case.profile != UNJUDGED_PROFILE else Verdict.NOT_RUN),
        "seeds": len(check.values),
        "missing": ", ".join(check.sample.missing),
    }


def _numbers(case: Case, check: Check) -> dict[str, Any]:
    printed = case.published.get(check.name) if check.published is None else check.published
    return {
        "published": printed,
        "obtained": check.mean,
        "interval": _span(check.bounds),
        "tolerance": _tolerance(check.low, check.high),
    }


def _span(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"[{bounds[0]:.4g}, {bounds[1]:.4g}]"


def _tolerance(low: float, high: float) -> str:
    if low == high:
        return f"= {low:.4g}"
    if math.isinf(low):
        return "any" if math.isinf(high) else f"≤ {high:.4g}"
    return f"≥ {low:.4g}" if math.isinf(high) else f"[{low:.4g}, {high:.4g}]"


# ---- Notes ----------------------------------------------------------------------------------


def _notes(case: Case, tried: pd.DataFrame, why: pd.DataFrame) -> Iterator[str]:
    if case.profile == UNJUDGED_PROFILE:
        yield f"the {UNJUDGED_PROFILE} profile checks plumbing, never claims"
        return
    if case.deciding is not None:
        yield from _check_notes(case, case.deciding)
    yield from _grid_notes(case)
    if case.deciding is not None and case.claim.scope == "data":
        yield from _print_notes(case, case.deciding)
    if case.verdict in (Verdict.NOT_REPRODUCED, Verdict.INCONCLUSIVE):
        yield from _cause_notes(case, why)
    if case.verdict == Verdict.NOT_REPRODUCED:
        yield _attempt_note(case, tried)


def _check_notes(case: Case, check: Check) -> Iterator[str]:
    good = sum(other.verdict == Verdict.REPRODUCED for other in case.checks)
    roles = {Verdict.REPRODUCED: "shown", Verdict.NOT_RUN: "waits for"}
    role = roles.get(case.verdict, "decided by")
    yield f"{role}: {check.name}; {good} of {len(case.checks)} checks reproduced"
    missing = list(dict.fromkeys(what for one in case.checks for what in one.sample.missing))
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        yield "missing: " + ", ".join(missing[:4]) + more
    elif not check.values:
        yield "nothing to compare"
    if check.values and check.bounds is None:
        yield "one seed: no interval"
    if check.former is not None:
        span = _tolerance(*check.former)
        yield f"{check.former_verdict} under the former tolerance {span}: {check.reason}"


def _grid_notes(case: Case) -> Iterator[str]:
    """Whether the grid lacks points of the claim, and whether stale records were read."""
    if case.evidence.labels is not None:
        whole = case.claim.check(Evidence(pd.DataFrame(columns=["label", "data"])))
        wanted = frozenset().union(*(check.sample.sources for check in whole))
        if lacking := wanted - case.evidence.labels:
            yield f"partial grid: {len(wanted) - len(lacking)} of {len(wanted)} runs"
    table = case.evidence.table
    if len(table) and table["stale"].any():
        used = frozenset().union(*(check.sample.sources for check in case.checks))
        count = int((table["stale"] & table["label"].isin(used)).sum())
        if count:
            yield f"{count} of the records are stale"


def _print_notes(case: Case, check: Check) -> Iterator[str]:
    printed = case.published.get(check.name)
    if printed is None or check.mean is None:
        return
    if (case.profile, case.data) == (PRINT_PROFILE, case.printed_data):
        yield f"difference to print {check.mean - printed:+.4g}"
    else:
        yield "other data: direction only"


def _of(case: Case, recorded: pd.DataFrame) -> pd.DataFrame:
    """What is recorded of a claim on a data set at a profile."""
    where = {"claim": case.claim.id, "data": case.data, "profile": case.profile}
    return recorded[(recorded[list(where)] == pd.Series(where)).all(axis=1)]


def _cause_notes(case: Case, recorded: pd.DataFrame) -> Iterator[str]:
    for row in _of(case, recorded).itertuples():
        known = row.kind != "open"
        yield f"likely cause ({row.kind}): {row.why}" if known else f"no cause found: {row.why}"


def _attempt_note(case: Case, recorded: pd.DataFrame) -> str:
    rows = _of(case, recorded)
    told = " ".join(
        f"({i}) {r.tried} {r.outcome} [{', '.join(record[:12] for record in r.records)}]"
        for i, r in enumerate(rows.itertuples(), 1)
    )
    if len(rows) >= ATTEMPTS_NEEDED:
        return f"{len(rows)} attempts: {told}"
    note = f"not reproduced (provisional: {len(rows)} of {ATTEMPTS_NEEDED} attempts)"
    return f"{note} {told}".strip()
