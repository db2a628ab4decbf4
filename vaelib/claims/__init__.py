"""What the papers claim, and what became of it: claims, the verdict rule, the ledger."""

from vaelib.claims.evidence import Check, Claim, Evidence, Sample
from vaelib.claims.failures import PAPERS, attempts, causes, claims
from vaelib.claims.ledger import checks, judge
from vaelib.claims.verdicts import Verdict, interval, judge_interval, worst

__all__ = [
    "PAPERS",
    "Check",
    "Claim",
    "Evidence",
    "Sample",
    "Verdict",
    "attempts",
    "causes",
    "checks",
    "claims",
    "interval",
    "judge",
    "judge_interval",
    "worst",
]
