"""What the papers claim, and what became of it: claims, the verdict rule, the ledger."""

from vaelib.claims.evidence import Check, Claim, Evidence, Sample
from vaelib.claims.ledger import PAPERS, attempts, checks, claims, judge
from vaelib.claims.verdicts import Verdict, interval, judge_interval, worst

__all__ = [
    "PAPERS",
    "Check",
    "Claim",
    "Evidence",
    "Sample",
    "Verdict",
    "attempts",
    "checks",
    "claims",
    "interval",
    "judge",
    "judge_interval",
    "worst",
]
