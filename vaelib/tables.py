"""Tables for pages and papers: published beside obtained, with seeds, staleness and provenance."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vaelib.metrics import METRICS
from vaelib.studies import Study

STALE = "†"
_NOTES = {
    "stale": f"{STALE} made by older code; `vaelib study PAPER --stale` makes it anew.",
    "same": "Cells: published | obtained (difference), obtained as mean ± sd over seeds.",
    "other": "Cells: published | obtained, obtained as mean ± sd over seeds. Published on other "
    "data: compare directions only.",
    "alone": "Cells: mean ± sd over seeds.",
}
_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "|": r"$|$",
    STALE: r"$^\dagger$",
    "β": r"$\beta$",
    "δ": r"$\delta$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "κ": r"$\kappa$",
    "–": "--",
    "−": "$-$",
}


def comparison(compared: pd.DataFrame) -> pd.DataFrame:
    """One row a model, one column a metric, every cell "published | obtained mean ± sd".

    Args:
        compared: As of `Study.compare` or `Study.table`: one row a data set, label and column.

    Returns:
        Text cells, indexed by label, or by data set and label where there are several data sets.
        Labels of stale results end in a dagger. `attrs["notes"]` says what a reader must know.
    """
    if compared.empty:
        return _noted(pd.DataFrame(), ["No runs yet."])
    table = compared.assign(label=_labels(compared))
    if "published" not in table:
        table = table.assign(published=float("nan"), difference=float("nan"))
    groups = table.groupby("column", sort=False)
    table["cell"] = pd.concat([_cells(group) for _, group in groups])
    index = ["data", "label"] if len(set(table["data"])) > 1 else ["label"]
    order = table.drop_duplicates(index)[index]
    rows = pd.MultiIndex.from_frame(order) if len(index) > 1 else pd.Index(order["label"])
    wide = table.pivot_table("cell", index, "column", aggfunc="first")
    wide = wide.reindex(index=rows, columns=list(table["column"].unique()))
    return _noted(wide.rename_axis(columns=None).fillna("–"), _notes(table))


def _labels(table: pd.DataFrame) -> list[str]:
    """Labels, with a dagger where any number of the data set's label is stale."""
    stale = table.groupby(["data", "label"])["stale"].transform("any")
    return [
        f"{label} {STALE}" if s else label for label, s in zip(table["label"], stale, strict=True)
    ]


def _noted(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    table.attrs["notes"] = notes
    return table


def _notes(table: pd.DataFrame) -> list[str]:
    kind = "alone" if table["published"].isna().all() else "other"
    kind = "same" if table["difference"].notna().any() else kind
    few, most = int(table["seeds"].min()), int(table["seeds"].max())
    seeds = f"Seeds: {most}." if few == most else f"Seeds: {few} to {most}."
    return [_NOTES[kind], seeds, *([_NOTES["stale"]] if table["stale"].any() else [])]


def _cells(column: pd.DataFrame) -> pd.Series:
    """The cells of one column, all with the same number of decimals."""
    metric = column["metric"].iloc[0]
    mine = decimals(metric, column["mean"])
    printed = _printed_decimals(column["published"])
    some = column["published"].notna().any()
    rows = zip(*(column[c] for c in ("mean", "sd", "published", "difference")), strict=True)
    cells = []
    for mean, sd, published, difference in rows:
        cell = _number(mean, mine) + ("" if pd.isna(sd) else f" ± {_number(sd, mine)}")
        if pd.notna(difference):
            cell += f" ({_number(difference, max(mine, printed), '+')})"
        cells.append(f"{_number(published, printed)} | {cell}" if some else cell)
    return pd.Series(cells, index=column.index)


def decimals(metric: str, values: pd.Series) -> int:
    """Decimals to show: 3 for fractions; 1 for nats as in print, 2 in a column of small ones.

    Counts of dimensions are whole unless a mean over seeds is not.
    """
    unit = METRICS[metric].unit if metric in METRICS else "F1" if "rouge" in metric else "nats"
    if unit == "dimensions":
        return 0 if (values.dropna() % 1 == 0).all() else 1
    if unit == "F1":
        return 3
    return 2 if values.abs().max() < 10 else 1


def _printed_decimals(values: pd.Series) -> int:
    """The fewest decimals, at most 2, that show every printed number in full."""
    known = values.dropna()
    return next((n for n in (0, 1) if known.round(n).equals(known)), 2)


def _number(value: float, places: int, sign: str = "") -> str:
    """A number with a true minus sign; a dash where there is none; never minus zero."""
    if pd.isna(value):
        return "–"
    text = f"{value:{sign}.{places}f}"
    if not float(text):
        text = text.lstrip("-+")
    return text.replace("-", "−")


def provenance(study: Study, item: str | None = None) -> str:
    """Profile, data, devices and seeds behind a table or figure, as one line.

    Args:
        study: A study.
        item: One of its items; None takes all its runs.
    """
    labels = study.labels_of(item) if item else None
    found = [(p, r) for p, r in study.found if labels is None or p.label in labels]
    if not found:
        return f"Profile {study.profile}: no runs yet."
    data = ", ".join(_data_name(r.provenance["data"]) for r in _first_of_each(found))
    devices = _listed(f"{r.provenance['device']}, {r.provenance['precision']}" for _, r in found)
    seeds = ", ".join(str(s) for s in sorted({p.seed for p, _ in found}))
    versions = [r.provenance["versions"] for _, r in found]
    code = ", ".join(f"{p} {_listed(v[p] for v in versions)}" for p in ("vaelib", "torch"))
    return (
        f"Profile {study.profile}; data: {data}; seeds {seeds}; {len(found)} runs; "
        f"device: {devices}; {code}."
    )


def _listed(names: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(names))


def _first_of_each(found: list) -> list:
    return list({p.data: r for p, r in reversed(found)}.values())[::-1]


def _data_name(about: dict) -> str:
    return f"{about['id']} (a stand-in)" if about["stand_in"] else about["id"]


@dataclass(frozen=True)
class Shown:
    """A table as notebooks show it: HTML on a page, text where text is compared.

    Attributes:
        table: What is shown.
        caption: Above it.
        notes: Below it, a line each.
    """

    table: pd.DataFrame
    caption: str
    notes: tuple[str, ...]

    def _repr_html_(self) -> str:
        """A box that scrolls sideways; no colours, so that light and dark pages both fit."""
        body = _words(self.table).to_html(border=0, index=False)
        head = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        body = body.replace("<thead>", f"{head}<thead>", 1)
        body = body.replace(" | ", "&nbsp;|&nbsp;").replace(" ± ", "&nbsp;±&nbsp;")
        foot = "<br>".join(html.escape(note) for note in self.notes)
        foot = f"<p><small>{foot}</small></p>" if foot else ""
        return f'<div style="overflow-x: auto">{body}</div>{foot}'

    def __repr__(self) -> str:
        text = _words(self.table).to_string(index=False) if len(self.table) else "(empty)"
        return "\n".join([*([self.caption] if self.caption else []), text, *self.notes])


def show(table: pd.DataFrame, caption: str = "", provenance: str = "", rows: int = 100) -> Shown:
    """Prepare any table for a notebook.

    Args:
        table: A `comparison` (its notes come along) or any other table.
        caption: One line above.
        provenance: As of `provenance`; the last line below.
        rows: Rows beyond this many are left out, and a note says so.
    """
    cut = f"The first {rows} of {len(table)} rows." if len(table) > rows else ""
    notes = [cut, *table.attrs.get("notes", []), provenance]
    return Shown(table.head(rows), caption, tuple(note for note in notes if note))


def _words(table: pd.DataFrame) -> pd.DataFrame:
    """All cells as text: four digits of a number, a dash for none."""
    return _flat(table).map(_word)


def _word(cell: Any) -> str:
    if cell is None or cell is pd.NA or cell is pd.NaT or cell != cell:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The index as ordinary columns, unless it is only a count."""
    if isinstance(table.index, pd.RangeIndex) or table.empty:
        return table
    return table.reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table, notes below; bars inside cells are escaped."""
    flat = _flat(table)
    rows = [list(flat.columns), ["---"] * flat.shape[1], *flat.to_numpy().tolist()]
    lines = ["| " + " | ".join(_pipe(cell) for cell in row) + " |" for row in rows]
    notes = table.attrs.get("notes", [])
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def _pipe(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")


def to_latex(table: pd.DataFrame, caption: str = "", label: str = "") -> str:
    """A `table` environment for the package booktabs, every cell escaped, notes below."""
    flat = _flat(table)
    rows = [[tex(cell) for cell in row] for row in [list(flat.columns), *flat.to_numpy().tolist()]]
    head, *body = [" & ".join(row) + r" \\" for row in rows]
    align = "l" * (flat.shape[1] - table.shape[1] or 1)
    align += "r" * (flat.shape[1] - len(align))
    inside = [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    lines = [
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{tex(caption)}}}"] if caption else []),
        *([rf"\label{{{label}}}"] if label else []),
        rf"\begin{{tabular}}{{{align}}}",
        *inside,
        r"\end{tabular}",
        *(rf"\par\footnotesize {tex(note)}" for note in table.attrs.get("notes", [])),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def tex(cell: object) -> str:
    """Text with every character that LaTeX reads specially escaped."""
    return "".join(_TEX.get(character, character) for character in str(cell))


def to_csv(table: pd.DataFrame) -> str:
    """Comma-separated text, the index as columns."""
    return _flat(table).to_csv(index=False, lineterminator="\n")
