"""A table of DU-VAE's pages: accuracies in percent, as print has them."""

import pandas as pd

from vaelib import tables
from vaelib.studies import Study


def in_percent(study: Study, item: str, data: str) -> tables.Shown:
    """An item whose results are fractions and whose printed numbers are percent, in percent.

    Args:
        study: DU-VAE's study.
        item: One of its items with columns, such as "table2".
        data: One of its data sets.

    Returns:
        The table with its provenance. Without a run it says so.
    """
    about, compared = study.item(item), study.compare(item)
    mine = compared[compared["data"] == data] if len(compared) else pd.DataFrame()
    if len(mine):
        mine = mine.assign(mean=100 * mine["mean"], sd=100 * mine["sd"])
    title = f"{about['title']} ({study.about['reference']}, {about['source']}), on {data}"
    return tables.show(tables.comparison(mine), title, tables.provenance(study, item, data))
