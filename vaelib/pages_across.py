"""Tables of the chapter across the papers: ranks, rank correlations, costs."""

from collections.abc import Sequence

import pandas as pd

from vaelib.studies import Study


def ranks(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Place of each label by a metric, lowest value first: best, worst, and mean over seeds.

    Args:
        results: A results table of one data set; a label without the number has no place.
        metric: A column of it.
    """
    rows = results.dropna(subset=[metric]) if len(results) else pd.DataFrame()
    if rows.empty:
        return pd.DataFrame(columns=["label", "best", "worst", "mean", "seeds"])
    placed = rows.assign(place=rows.groupby("seed")[metric].rank(method="min"))
    found = placed.groupby("label")["place"].agg(["min", "max", "mean", "count"])
    found = found.sort_values("mean", kind="stable").reset_index()
    named = {"min": "best", "max": "worst", "count": "seeds"}
    return found.rename(columns=named).astype({"best": int, "worst": int})


def rank_correlations(results: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Spearman's rank correlation of some columns over all runs that have every one of them."""
    rows = results.reindex(columns=list(columns)).dropna()
    found = rows.corr("spearman").round(2) if len(rows) > 2 else pd.DataFrame()
    return found.rename_axis("column").reset_index() if len(found) else found


def costs(study: Study, data: str, reference: str) -> pd.DataFrame:
    """Seconds of training and evaluation of each label, and as a multiple of one label's.

    Medians over seeds; a multiple is of the run with the same seed. `sentences` says which methods
    were given fewer of them, so that a multiple of theirs is not one of cost per sentence.

    Args:
        study: A study.
        data: One of its data sets.
        reference: The label to divide by.
    """
    columns = ["train s", "evaluate s", "sentences"]
    rows = [
        {
            "label": plan.label,
            "seed": plan.seed,
            "train s": run.provenance["train_seconds"],
            "evaluate s": run.provenance["evaluate_seconds"],
            "sentences": run.config.train_size,
        }
        for plan, run in study.found
        if plan.data == data
    ]
    table = pd.DataFrame(rows, columns=["label", "seed", *columns])
    base = table[table["label"] == reference].set_index("seed")["train s"]
    table["train ratio"] = table["train s"] / table["seed"].map(base)
    columns.insert(2, "train ratio")
    found = table.groupby("label", sort=False)[columns].median().reset_index()
    return found.sort_values("train ratio", kind="stable").round(2)
