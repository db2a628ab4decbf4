"""What the tests of claims share: results made of one row a run, and verdicts about them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vaelib import claims
from vaelib.claims import Claim, Evidence, worst

Edits = dict[tuple[str, str], float]  # (label, column) -> the value it gets


def edited(table: pd.DataFrame, edits: Edits | None) -> pd.DataFrame:
    """Results with some numbers changed; a label that is not there is an error of the test."""
    table = table.copy()
    for (label, metric), value in (edits or {}).items():
        assert (table["label"] == label).any(), label
        table.loc[table["label"] == label, metric] = value
    return table


def repeated(
    table: pd.DataFrame,
    noisy: Sequence[str],
    *,
    seeds: int = 3,
    spread: float = 0.001,
    profile: str = "paper",
    **where: Any,
) -> pd.DataFrame:
    """The same for several seeds, whose `noisy` columns lie `spread` apart around the given."""
    frames = []
    for seed in range(seeds):
        frame = table.assign(profile=profile, seed=seed, stale=False, **where)
        frame[list(noisy)] += spread * (seed - (seeds - 1) / 2)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def verdict_of(claim: Claim, table: pd.DataFrame) -> str:
    """The worst verdict of a claim's checks."""
    return str(worst(check.verdict for check in claim.check(Evidence(table))))


def check_names_what_is_missing(paper: str, claim: Claim, table: pd.DataFrame) -> None:
    """Without one of its runs a claim is not run, and the ledger says which one."""
    sources = frozenset().union(*(c.sample.sources for c in claim.check(Evidence(table))))
    label = sorted(sources)[0]
    ledger = claims.judge(paper, table[table["label"] != label]).set_index("id")
    assert ledger.loc[claim.id, "verdict"] == "not run"
    assert label in ledger.loc[claim.id, "note"]
