"""This run of a page against the published one: numbers, tolerance and a picture of both.

The published one is what the committed records hold at the `laptop` profile. A page executed again
with other parameters ends with the two side by side.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vaelib import plots, tables
from vaelib.claims.verdicts import student_t
from vaelib.data.datasets import holds
from vaelib.run import Run
from vaelib.store import Store
from vaelib.studies import Planned, Study

PUBLISHED = "laptop"  # the profile whose records the published book shows
USUAL = {"NLL": "nll_iw500", "distortion": "distortion", "KL": "kl", "MI": "mi_global"}
USUAL |= {"AU": "au", "CU": "cu_pq"}
_NAMED = 12  # settings that the note names at most


def published_one(study: Study) -> Study:
    """The same rows of the grid as the published book has them: committed records alone."""
    results = study.store.results or Path("results")
    store, labels = Store(results, results), sorted(study.asked) or None
    return Study(study.paper, PUBLISHED, labels=labels, store=store)


def new_runs(study: Study) -> list[tuple[Planned, Run]]:
    """The runs found that no committed record has, to the last digit."""
    made = [(plan, run) for plan, run in study.found if run.entry.folder is not None]
    results = study.store.results
    known = Store(results, results).entries() if made and results else []
    metrics = {str(entry.key): entry.record["metrics"] for entry in known}
    return [(p, run) for p, run in made if metrics.get(str(run.entry.key)) != run.metrics]


def tolerance(published: pd.Series, seeds: int) -> float:
    """How far the mean of new seeds may lie from the published mean by chance, 19 times in 20.

    Args:
        published: One value a published seed; of a single one no spread is known.
        seeds: How many new seeds.

    Returns:
        Half the 95 % prediction interval of Student's t, t s sqrt(1/n + 1/m); NaN for one seed.
    """
    count = len(published)
    if count < 2:
        return math.nan
    spread = float(published.std(ddof=1)) * math.sqrt(1 / count + 1 / seeds)
    return student_t(count - 1) * spread


def compare(study: Study) -> pd.DataFrame:
    """A row a data set, model and number where this run has runs that are not committed records.

    Returns:
        data, label, column, metric; `on`, the data set of the published numbers; `published` and
        `here`, means over seeds; difference; `tolerance` (see there); `within`, None where it is
        not known. `attrs["changed"]` says which settings differ.
    """
    new = {(plan.data, plan.label) for plan, _ in new_runs(study)}
    if not new:
        return pd.DataFrame()
    book = published_one(study)
    theirs, ours = book.results(), study.results()
    rows, places = [], dict[tuple[str, str], str]()
    for (data, label), mine in ours.groupby(["data", "label"], sort=False):
        there = _place(data, theirs[theirs["label"] == label]) if (data, label) in new else None
        if there is None:
            continue
        places[data, label] = there
        beside = theirs[(theirs["data"] == there) & (theirs["label"] == label)]
        for column, metric in _columns(study).items():
            pair = [table.reindex(columns=[metric])[metric].dropna() for table in (beside, mine)]
            if all(map(len, pair)):
                about = {"data": data, "label": label, "column": column, "metric": metric}
                rows.append(about | {"on": there} | _pair(*pair))
    made = pd.DataFrame(rows)
    made.attrs["changed"] = _changed(study, book, places)
    return made


def _place(data: str, published: pd.DataFrame) -> str | None:
    """The same data set, or else the first that holds the same: sentences, pairs or images."""
    known = list(dict.fromkeys(published["data"]))
    alike = [name for name in known if holds(name) == holds(data)]
    return data if data in known else next(iter(alike), None)


def _columns(study: Study) -> dict[str, str]:
    """Heads and metrics: those of the tables asked for, or the usual ones."""
    items = [item for item in study.about["item"] if item["id"] in study.asked]
    named = {head: m for item in items for head, m in item.get("columns", {}).items()}
    return {head: metric for metric, head in {m: h for h, m in (named or USUAL).items()}.items()}


def _pair(published: pd.Series, here: pd.Series) -> dict[str, Any]:
    """One number of both, with what is to be made of their difference."""
    difference = float(here.mean() - published.mean())
    allowed = tolerance(published, len(here))
    close = abs(difference) <= allowed + 1e-9 * abs(float(published.mean()))
    return {
        "published": float(published.mean()),
        "here": float(here.mean()),
        "difference": difference,
        "tolerance": allowed,
        "within": None if math.isnan(allowed) else close,
    }


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and options in one, without those that say which run it is."""
    flat = {name: value for name, value in config.items() if name != "options"}
    left_out = ("seed", "data", "profile", "device", "threads")
    return {k: v for k, v in (flat | config["options"]).items() if k not in left_out}


def _changed(study: Study, book: Study, places: Mapping[tuple[str, str], str]) -> list[str]:
    """What differs between settings of the two, as "epochs: 12 published, 1 here"."""
    known = {(p.data, p.label): _flat(run.entry.record["config"]) for p, run in book.found}
    found: dict[str, dict[str, None]] = {}
    for plan, run in new_runs(study):
        place = plan.data, plan.label
        if place in places:
            theirs, ours = known[places[place], plan.label], _flat(run.entry.record["config"])
            for name in [n for n in ours if n in theirs and theirs[n] != ours[n]]:
                told = f"{_told(theirs[name])} published, {_told(ours[name])} here"
                found.setdefault(name, {})[told] = None
    return [
        f"{name}: {next(iter(told)) if len(told) == 1 else 'differs from row to row'}"
        for name, told in found.items()
    ]


def _told(value: Any) -> str:
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 3 else str(value)


def show(study: Study) -> list[Any]:
    """What a page displays at its end: a table and a picture, or nothing where nothing is new.

    Prints one sentence: how many of the runs shown are published ones, and how the others do.
    """
    total, new = len(study.found), len(new_runs(study))
    told, shown = f"{new} of {total} runs of this page are not in the published book", list[Any]()
    if not new:
        told = f"All {total} runs of this page are the published ones"
        told = f"{told if total else 'No run of this page is there'}: there is nothing to compare"
    elif (compared := compare(study)).empty:
        told += ", and nothing like them is"
    else:
        judged = compared["within"].dropna()
        told += f"; {int(judged.sum())} of {len(judged)} numbers that can be judged are within"
        told += " the tolerance"
        shown = [_table(compared), plots.against(compared)]
    print(f"{told}.")
    return shown


def _table(compared: pd.DataFrame) -> tables.Shown:
    """`compare` in words, a metric with the same decimals throughout."""
    heads = {"data": "data", "label": "model", "column": "quantity"}
    shown = compared[list(heads)].rename(columns=heads)
    for name in ("published", "here", "difference", "tolerance"):
        shown[name] = ""
        for metric, rows in compared.groupby("metric", sort=False):
            places = max(2, tables.decimals(str(metric), rows["published"]))
            sign = "+" if name == "difference" else ""
            shown.loc[rows.index, name] = [tables.number(v, places, sign) for v in rows[name]]
    shown["within"] = compared["within"].map({True: "yes", False: "no"}).fillna("–")
    notes = [
        "Published and here: means over seeds. Tolerance: how far the mean of new seeds lies from "
        "the published mean by chance alone, 19 times in 20 (Student's t); a dash where the book "
        "has one seed. Where settings or data differ it says what is more than chance, not what "
        "is wrong.",
    ]
    elsewhere = compared[compared["on"] != compared["data"]]
    for data, rows in elsewhere.groupby("data", sort=False):
        others = ", ".join(dict.fromkeys(rows["on"]))
        notes.append(f"The book has nothing on {data}: beside it stands {others}.")
    changed = compared.attrs["changed"]
    more = f"; and {len(changed) - _NAMED} more" * (len(changed) > _NAMED)
    told = "; ".join(changed[:_NAMED]) + more
    notes.append(f"Settings that differ: {told}." if changed else "The settings are the same.")
    shown.attrs["notes"] = notes
    return tables.show(shown, "This run against the published one", rows=400)
