"""What was tried to make failing claims hold, and what failures and open verdicts are due to."""

import re
from importlib.resources import files
from types import ModuleType
from typing import Any

import pandas as pd

from vaelib.claims import coupled_vae, dg_vae, du_vae, vae_mine
from vaelib.claims.evidence import Claim
from vaelib.config import profiles, read_toml
from vaelib.data import DATASETS
from vaelib.errors import VaelibError, check_name

# A paper's module offers CLAIMS, PUBLISHED_DATA and published_results().
PAPERS: dict[str, ModuleType] = {
    "dg_vae": dg_vae,
    "du_vae": du_vae,
    "vae_mine": vae_mine,
    "coupled_vae": coupled_vae,
}
ATTEMPT_KEYS = ("claim", "data", "profile", "tried", "outcome", "records")
CAUSE_KEYS = ("claim", "data", "profile", "kind", "why")
KINDS = ("scale", "data", "measure", "misprint", "method", "open")
# The key of a training, as `vaelib runs` lists it, or with the digest of the evaluation behind it.
_RECORD = re.compile(r"[0-9a-f]{12}(-[0-9a-f]{12}){1,2}")


def claims(paper: str) -> tuple[Claim, ...]:
    """The claims of a paper in their order.

    Raises:
        VaelibError: The paper is unknown.
    """
    return tuple(PAPERS[check_name(paper, PAPERS, "paper with claims")].CLAIMS)


def attempts() -> pd.DataFrame:
    """The recorded attempts at failing claims: claim, data, profile, tried, outcome, records.

    Raises:
        VaelibError: An entry lacks a key, has an unknown one, or names no claim or no record.
    """
    return _attempts(read_toml(files("vaelib.claims") / "attempts.toml").get("attempt", []))


def causes() -> pd.DataFrame:
    """The likely causes of failing and of inconclusive claims: claim, data, profile, kind, why.

    The kind is one of `KINDS`: the smaller scale, the data, how something is measured, a misprint,
    the method itself, or that nothing tried points to one.

    Raises:
        VaelibError: An entry lacks a key, has an unknown one, or names no claim or kind.
    """
    return _causes(read_toml(files("vaelib.claims") / "attempts.toml").get("cause", []))


def _attempts(entries: Any) -> pd.DataFrame:
    """Attempts, once all of them are whole, name records and say something that no other says."""
    told = _told(entries, "attempt", ATTEMPT_KEYS)
    for number, entry in enumerate(entries, 1):
        where = f"attempt {number} of attempts.toml"
        if wrong := _no_records(entry["records"]):
            raise VaelibError(
                f"{where} names the record {wrong[0]!r}: list keys as `vaelib runs` shows them."
            )
        if (first := entries.index(entry) + 1) < number:
            raise VaelibError(f"{where} is attempt {first} once more; leave it out.")
    return told


def _causes(entries: Any) -> pd.DataFrame:
    """Causes, once all of them are whole and of a known kind, one for a claim on a data set."""
    told = _told(entries, "cause", CAUSE_KEYS)
    for number, entry in enumerate(entries, 1):
        check_name(entry["kind"], KINDS, f"kind of cause {number} of attempts.toml")
    if len(again := told[told.duplicated(["claim", "data", "profile"])]):
        where = " ".join(map(str, again.iloc[0][["claim", "data", "profile"]]))
        raise VaelibError(f"attempts.toml gives two causes for {where}; make them one.")
    return told


def _told(entries: Any, what: str, keys: tuple[str, ...]) -> pd.DataFrame:
    """The tables of one name in attempts.toml, once they have all keys and known names."""
    if not (isinstance(entries, list) and all(isinstance(one, dict) for one in entries)):
        one = "an" if what == "attempt" else "a"
        raise VaelibError(f"attempts.toml has {one} {what} that is no table; begin it [[{what}]].")
    known = {
        "claim": [claim.id for paper in PAPERS for claim in claims(paper)],
        "data": [*DATASETS, "toy"],
        "profile": profiles(),
    }
    for number, entry in enumerate(entries, 1):
        where = f"{what} {number} of attempts.toml"
        for name in entry:
            check_name(name, keys, f"key in {where}")
        if lacking := [name for name in keys if not entry.get(name)]:
            raise VaelibError(f"{where} lacks {', '.join(lacking)}: give all keys.")
        for name, allowed in known.items():
            check_name(entry[name], allowed, f"{name} of {where}")
    return pd.DataFrame(entries, columns=list(keys))


def _no_records(given: Any) -> list[Any]:
    """What is no record's key in what should be a list of them."""
    listed = given if isinstance(given, list) else [[given]]
    return [name for name in listed if not _RECORD.fullmatch(str(name))]
