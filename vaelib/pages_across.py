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

    Of the first seed alone: seeds may have been made at different times, on different machines, and
    then their times do not compare. `started` says when a run was: those of another hour may have
    shared their machine with other work. `sentences` says which methods were given fewer of them,
    so that a multiple of theirs is not one of cost per sentence.

    Args:
        study: A study.
        data: One of its data sets.
        reference: The label to divide by.
    """
    columns = ["label", "train s", "evaluate s", "train ratio", "sentences", "started"]
    here = [(plan, run) for plan, run in study.found if plan.data == data]
    first = min((plan.seed for plan, _ in here), default=0)
    rows = [
        {
            "label": plan.label,
            "train s": run.provenance["train_seconds"],
            "evaluate s": run.provenance["evaluate_seconds"],
            "sentences": run.config.train_size,
            "started": run.provenance["started"],
        }
        for plan, run in here
        if plan.seed == first
    ]
    found = pd.DataFrame(rows, columns=columns)
    base = found["train s"][found["label"] == reference].max()
    found["train ratio"] = found["train s"] / base
    return found.sort_values("train ratio", kind="stable", ignore_index=True).round(2)
