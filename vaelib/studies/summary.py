"""A number of a table: its mean and spread over seeds."""

from typing import Any

import pandas as pd


def summary(group: pd.DataFrame, item: dict[str, Any], column: str) -> dict[str, Any]:
    """One number of an item over the seeds of a label on one data set.

    Args:
        group: The results of a label on one data set, a row a seed.
        item: A table or figure, with `columns` and perhaps `percent`.
        column: One of its columns.
    """
    metric, first, wanted = item["columns"][column], group.iloc[0], item.get("percent", False)
    percent = wanted is True or (isinstance(wanted, list) and column in wanted)
    values = group.reindex(columns=[metric])[metric].astype(float) * (100.0 if percent else 1.0)
    return {
        "data": first["data"],
        "label": first["label"],
        "family": first["family"],
        "value": first["value"],
        "column": column,
        "metric": metric,
        "percent": percent,
        "mean": values.mean(),
        "sd": values.std(ddof=1),
        "seeds": int(values.notna().sum()),
        "stale": bool(group["stale"].any()),
    }
