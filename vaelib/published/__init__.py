"""What the papers printed: one tidy CSV a table, read as it is and never edited."""

from importlib.resources import files

import pandas as pd

from vaelib.errors import check_name

COLUMNS = ("paper", "table", "dataset", "model", "metric", "value")
PAPERS = ("dg_vae", "du_vae", "vae_mine", "coupled_vae")
_SUFFIXES = {"K": 1e3, "M": 1e6}


def tables(paper: str) -> tuple[str, ...]:
    """The names of a paper's tables, as `published` takes them.

    Raises:
        VaelibError: The paper is unknown.
    """
    prefix = check_name(paper, PAPERS, "paper") + "_"
    names = sorted(entry.name for entry in files(__name__).iterdir())
    stems = [name.removesuffix(".csv") for name in names if name.endswith(".csv")]
    return tuple(stem.removeprefix(prefix) for stem in stems if stem.startswith(prefix))


def published(paper: str, table: str) -> pd.DataFrame:
    """One printed table, a row a number.

    Args:
        paper: "dg_vae", "du_vae", "vae_mine" or "coupled_vae".
        table: One of `tables(paper)`, such as "table2".

    Returns:
        The columns paper, table, dataset, model, metric (all text, as printed) and value (float;
        a printed "42K" is 42000).

    Raises:
        VaelibError: The paper or the table is unknown.
    """
    frame = _stored(paper, table)
    return frame.assign(value=frame["value"].map(_number))


def pivot(paper: str, table: str, dataset: str | None = None, text: bool = False) -> pd.DataFrame:
    """One printed table as printed: a row a model of a data set, a column a metric.

    Args:
        paper: As in `published`.
        table: As in `published`.
        dataset: Keep this data set only, by its printed name.
        text: Whether cells are text with all printed digits, to be shown, instead of numbers.

    Returns:
        A table indexed by (dataset, model), or by model where `dataset` is given, in print order.

    Raises:
        VaelibError: The paper, the table or the data set is unknown.
    """
    frame = _stored(paper, table) if text else published(paper, table)
    index = ["dataset", "model"]
    if dataset is not None:
        check_name(dataset, list(frame["dataset"].unique()), f"data set of {paper} {table}")
        frame, index = frame[frame["dataset"] == dataset], ["model"]
    wide = frame.pivot(index=index, columns="metric", values="value")
    order = frame.drop_duplicates(index)[index]
    rows = pd.MultiIndex.from_frame(order) if len(index) > 1 else pd.Index(order["model"])
    return wide.reindex(index=rows, columns=list(frame["metric"].unique()))


def side_by_side(paper: str, table: str, *datasets: str) -> pd.DataFrame:
    """A printed table with its data sets beside each other, to be shown.

    Args:
        paper: As in `published`.
        table: As in `published`.
        datasets: Printed names, in the order wanted.

    Returns:
        A row a model, the columns "model" and "NLL, PTB" for each metric and data set; the numbers
        are text with all printed digits.

    Raises:
        VaelibError: The paper, the table or a data set is unknown.
    """
    wide = pd.concat({name: pivot(paper, table, name, text=True) for name in datasets}, axis=1)
    wide.columns = pd.Index([f"{metric}, {name}" for name, metric in wide.columns])
    return wide.rename_axis("model").reset_index()


def _stored(paper: str, table: str) -> pd.DataFrame:
    """The rows of a table with every cell as the file has it, as text."""
    name = check_name(table, tables(paper), f"table of {paper}")
    with (files(__name__) / f"{paper}_{name}.csv").open(encoding="utf-8") as lines:
        return pd.read_csv(lines, dtype=str)


def _number(text: str) -> float:
    scale = _SUFFIXES.get(text[-1])
    return float(text) if scale is None else float(text[:-1]) * scale
