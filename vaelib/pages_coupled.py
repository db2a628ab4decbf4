"""Tables of Coupled-VAE's pages: printed values in the results' units, methods beside twins."""

from statistics import fmean
from typing import Any

import pandas as pd
import torch

from vaelib import pages, tables
from vaelib.claims import interval
from vaelib.claims.coupled_vae import (
    BASES,
    COUPLED,
    COUPLED_10,
    CVAES,
    DIALOGUES,
    EUCLIDEAN,
    KERNEL,
    NO_MATCH,
    NO_RECONSTRUCTION,
    OF,
    TWIN,
    published_results,
)
from vaelib.claims.dynamics import tracked
from vaelib.data.pairs import halves
from vaelib.studies import Study
from vaelib.tables import Shown

# Curves over a weight for `vaelib.plots.weight_curves`: the weight in words, the run.
LINES: dict[str, dict[str, list[tuple[str, str]]]] = {
    "lambda_m": {
        "RQ kernel": [
            ("0", NO_MATCH(COUPLED)),
            *zip(("0.1", "1", "5"), KERNEL, strict=True),
            ("10", COUPLED_10),
        ],
        "Euclidean distance": list(zip(("0.1", "1", "5"), EUCLIDEAN, strict=True)),
    },
    "lambda_r": {
        "RQ kernel": [
            ("0", NO_RECONSTRUCTION),
            ("0.5", OF("RQ", "lambda_r", 0.5)),
            ("1", COUPLED),
            ("5", OF("RQ", "lambda_r", 5.0)),
        ]
    },
    "dialogue": {
        "Coupled-CVAE": list(zip(("CVAE", "0.1", "0.5", "1", "2"), CVAES, strict=True)),
    },
}


def planned(study: Study, item: str) -> list[str]:
    """The data sets on which the study plans a run of an item."""
    labels = study.labels_of(item)
    return [
        d for d in study.data if any(p.data == d and p.label in labels for p in study.planned())
    ]


def printed_for(study: Study, data: str) -> tuple[pd.DataFrame, str]:
    """The printed rows as results, and the printed name of the data set they are of.

    Args:
        study: The study of Coupled-VAE.
        data: An id; where the paper has no language models on it, PTB's rows are taken.
    """
    names = {id_: name for name, id_ in study.about["data"].items() if name != DIALOGUES}
    dataset = names.get(data, "PTB")
    return published_results(dataset), dataset


def with_print(study: Study, item: str, dataset: str = "PTB") -> dict[str, pd.DataFrame]:
    """Results by data set, those on which an item is planned, and then the printed ones.

    Args:
        study: The study of Coupled-VAE.
        item: An item.
        dataset: "PTB", "Yelp" or "Yahoo", or "Switchboard" for the dialogues.
    """
    results = study.results()
    found = {data: results[results["data"] == data] for data in planned(study, item)}
    printed = published_results("PTB" if dataset == DIALOGUES else dataset)
    return found | {f"{dataset} (printed)": printed}


def _nothing(title: str, what: str = "runs") -> Shown:
    """A line in the place of an empty table."""
    return Shown(pd.DataFrame(), "", (f"{title}: no {what} yet.",))


# ---- Methods beside their twins ---------------------------------------------------------------


def twin_differences(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Twin less base of every seed that both have: data, base, seed, difference.

    Args:
        results: A results table.
        metric: A column of it.
    """
    rows: list[dict[str, Any]] = []
    if metric not in results:
        return pd.DataFrame(columns=["data", "base", "seed", "difference"])
    for data, mine in results.groupby("data", sort=False):
        values = mine.set_index(["label", "seed"])[metric].dropna().to_dict()
        for base in BASES:
            seeds = sorted(s for label, s in values if label == base and (TWIN(base), s) in values)
            rows += [
                {"data": data, "base": base, "seed": s}
                | {"difference": values[TWIN(base), s] - values[base, s]}
                for s in seeds
            ]
    return pd.DataFrame(rows, columns=["data", "base", "seed", "difference"])


def twin_table(study: Study, item: str, column: str, data: str) -> Shown:
    """A row a base: its value, its twin's, and the difference with its interval over seeds.

    Args:
        study: The study of Coupled-VAE.
        item: "table1" or "table2".
        column: One of the item's columns, as printed ("NLL").
        data: One of the study's data sets.
    """
    metric, results = study.item(item)["columns"][column], study.results()
    printed, name = printed_for(study, data)
    theirs, ours = (
        twin_differences(t, metric) for t in (printed, results[results["data"] == data])
    )
    cells = tables.comparison(study.compare(item, data))
    cells.index = [str(label).removesuffix(f" {tables.STALE}") for label in cells.index]
    rows = []
    for base in BASES:
        if {base, TWIN(base)} <= set(cells.index):
            changes = (d.loc[d["base"] == base, "difference"].tolist() for d in (theirs, ours))
            change = " | ".join(map(_signed, changes))
            alone, coupled = (cells.loc[label, column] for label in (base, TWIN(base)))
            rows.append({"": base, "alone": alone, "coupled": coupled, "coupled − alone": change})
    other = " Compare directions only." if study.profile != "paper" else ""
    notes = (
        f"Cells: published on {name} | obtained, as mean ± sd over seeds.{other}",
        "Differences are means over seeds with their 95 % interval; of one seed there is none.",
    )
    title = f"{column} with and without a coupled path, {data}"
    return Shown(pd.DataFrame(rows), title, notes) if rows else _nothing(title, "pair of runs")


def _signed(values: list[float]) -> str:
    """The mean with its sign, and its interval where there is more than one value."""
    if not values:
        return "–"
    ends = interval(values) or ()
    mean, *bounds = (f"{v:+.2f}" if round(v, 2) else "0.00" for v in (fmean(values), *ends))
    return (f"{mean} [{', '.join(bounds)}]" if bounds else mean).replace("-", "−")


# ---- What runs wrote, and what they followed --------------------------------------------------


def followed(study: Study, item: str) -> pd.DataFrame:
    """What an item's runs tracked: data, label, seed, and the columns of `dynamics.tracked`."""
    labels = study.labels_of(item)
    each = [
        tracked(run).assign(data=plan.data, label=plan.label, seed=plan.seed)
        for plan, run in study.found
        if plan.label in labels
    ]
    found = [table for table in each if len(table)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def answers(study: Study, item: str, data: str, count: int = 5) -> pd.DataFrame:
    """Posts of the test split, their own responses, and each run's: a row a run, a column a post.

    Args:
        study: The study of Coupled-VAE.
        item: The item whose runs answer.
        data: A data set of posts with responses.
        count: How many posts.
    """
    written = pages.samples(study, item, data, count)
    if written.empty:
        return written
    corpus = next(r.corpus for p, r in study.found if p.data == data)
    words = corpus.vocabulary.decode
    said = zip(*halves(corpus.test.mixed(torch.arange(len(written)))), strict=True)
    posts, responses = zip(*((words(a), words(b)) for a, b in said), strict=True)
    rows = {"post": posts, "response": responses}
    head = pd.DataFrame({name: [" ".join(s) for s in side] for name, side in rows.items()})
    return pd.concat([head, written], axis=1)
