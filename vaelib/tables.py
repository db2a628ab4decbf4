"""Tables for pages and papers: published beside obtained, with verdicts and provenance."""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vaelib._formats import flattened, markdown, to_csv, to_json, to_latex, to_markdown
from vaelib.literals import visible
from vaelib.metrics import METRICS, spec_of
from vaelib.studies import Study

STALE = "†"
QUOTED = "vaelib-table tex2jax_ignore mathjax_ignore"
_NOTES = {
    "stale": f"{STALE} made by older code; `vaelib study PAPER --stale` makes it anew.",
    "same": "Cells: published | obtained (difference), obtained as mean ± sd over seeds.",
    "other": "Cells: published | obtained, obtained as mean ± sd over seeds. Published on other "
    "data: compare directions only.",
    "alone": "Cells: mean ± sd over seeds.",
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
    if "percent" in table:
        table["column"] = table["column"].where(~table["percent"], table["column"].map(_percent))
    groups = table.groupby("column", sort=False)
    table["cell"] = pd.concat([_cells(group) for _, group in groups])
    index = ["data", "label"] if len(set(table["data"])) > 1 else ["label"]
    order = table.drop_duplicates(index)[index]
    rows = pd.MultiIndex.from_frame(order) if len(index) > 1 else pd.Index(order["label"])
    wide = table.pivot_table("cell", index, "column", aggfunc="first")
    wide = wide.reindex(index=rows, columns=list(table["column"].unique()))
    return _noted(wide.rename_axis(columns=None).fillna("–"), _notes(table))


def _percent(column: str) -> str:
    return column if column.endswith("(%)") else f"{column} (%)"


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
    seeds = table.loc[table["mean"].notna(), "seeds"]
    few, most = (int(seeds.min()), int(seeds.max())) if len(seeds) else (0, 0)
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
        cell = number(mean, mine) + ("" if pd.isna(sd) else f" ± {number(sd, mine)}")
        if pd.notna(difference):
            cell += f" ({number(difference, max(mine, printed), '+')})"
        cells.append(f"{number(published, printed)} | {cell}" if some else cell)
    return pd.Series(cells, index=column.index)


def decimals(metric: str, values: pd.Series) -> int:
    """Decimals to show: 3 for fractions; 1 for nats as in print, 2 in a column of small ones.

    Counts of dimensions are whole unless a mean over seeds is not.
    """
    spec = METRICS[metric] if metric in METRICS else spec_of(metric)
    if spec and spec.unit == "dimensions":
        return 0 if (values.dropna() % 1 == 0).all() else 1
    most = values.abs().max()
    if spec and spec.unit in ("1", "F1") and most <= 1:
        return 3
    return 2 if most < 10 else 1


def _printed_decimals(values: pd.Series) -> int:
    """The fewest decimals, at most 4, that show every printed number in full."""
    known = values.dropna()
    return next((n for n in range(4) if known.round(n).equals(known.round(6))), 4)


def number(value: float, places: int, sign: str = "") -> str:
    """A number with a true minus sign; a dash where there is none; never minus zero."""
    if pd.isna(value):
        return "–"
    text = f"{value:{sign}.{places}f}"
    if not float(text):
        text = text.lstrip("-+")
    return text.replace("-", "−")


def origin(study: Study, item: str | None = None, data: str | None = None) -> dict[str, Any]:
    """What every exported table says of its numbers: where, from how many runs, how old.

    Args:
        study: A study.
        item: One of its items; None takes all its runs.
        data: One of its data sets; None takes all of them.
    """
    labels = None if item is None else study.labels_of(item)
    wanted = [(p, r) for p, r in study.found if data in (None, p.data)]
    found = [(p, r) for p, r in wanted if labels is None or p.label in labels]
    made = [run.provenance for _, run in found]
    return {
        "paper": study.paper,
        "item": item,
        "profile": study.profile,
        "data": _once(about["data"]["id"] for about in made),
        "stand_ins": _once(a["data"]["id"] for a in made if a["data"]["stand_in"]),
        "seeds": sorted({plan.seed for plan, _ in found}),
        "runs": len(found),
        "stale": sum(run.stale for _, run in found),
        "devices": _once(f"{about['device']}, {about['precision']}" for about in made),
        "versions": {p: _once(a["versions"][p] for a in made) for p in ("vaelib", "torch")},
    }


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def provenance(study: Study, item: str | None = None, data: str | None = None) -> str:
    """`origin` as one line."""
    made = origin(study, item, data)
    if not made["runs"]:
        return f"Profile {study.profile}: no runs yet."
    names = [name + " (a stand-in)" * (name in made["stand_ins"]) for name in made["data"]]
    stale = f" ({made['stale']} stale)" if made["stale"] else ""
    code = ", ".join(f"{name} {'; '.join(versions)}" for name, versions in made["versions"].items())
    return (
        f"Profile {study.profile}; data: {', '.join(names)}; seeds "
        f"{', '.join(map(str, made['seeds']))}; {made['runs']} runs{stale}; "
        f"device: {'; '.join(made['devices'])}; {code}."
    )


def verdicts(study: Study, item: str, toy: pd.DataFrame | None = None) -> pd.DataFrame:
    """What became of the claims about a table or figure, judged on the study's whole grid.

    Args:
        study: A study, restricted to the item or not.
        item: An item; its `claims` in the study's file are the numbers of the claims about it.
        toy: The toy's results, for claims about it.

    Returns:
        A row a claim: claim, statement, and for each data set the verdict.
    """
    ids = [f"{study.paper}.{number}" for number in study.item(item).get("claims", [])]
    if not ids:
        return pd.DataFrame(columns=["claim", "statement"])
    ledger = study.whole.claims(toy).replace({"data": {"": "no runs yet"}})
    words = ledger[ledger["id"].isin(ids)].copy()
    words.loc[words["note"].str.contains("(provisional", regex=False), "verdict"] += (
        " (provisional)"
    )
    wide = words.pivot_table("verdict", ["id", "statement"], "data", aggfunc="first", sort=False)
    wide = wide.reset_index().rename(columns={"id": "claim"}).rename_axis(columns=None)
    return wide.fillna("–")


def _verdict_notes(judged: pd.DataFrame) -> list[str]:
    """A line a data set: which claims, by number, met which verdict."""
    notes = []
    for data in judged.columns[2:]:
        mine = judged[judged[data] != "–"]
        groups = mine["claim"].str.rpartition(".")[2].groupby(mine[data], sort=False)
        told = "; ".join(f"{verdict}: {', '.join(numbers)}" for verdict, numbers in groups)
        notes.append(f"Verdicts on {data}, by number of the claim: {told}.")
    return notes


@dataclass(frozen=True)
class Shown:
    """A table as notebooks show it: HTML on a page, text where text is compared.

    Attributes:
        table: What is shown.
        caption: Above it.
        notes: Below it, a line each.
        details: Below these: heads, each with lines that a page shows on a click.
    """

    table: pd.DataFrame
    caption: str
    notes: tuple[str, ...]
    details: tuple[tuple[str, Sequence[str]], ...] = ()

    def _repr_html_(self) -> str:
        """A box that scrolls sideways; no colours, so that light and dark pages both fit.

        What it holds is data: escaped, and of a class in which no formula is looked for.
        """
        body = _words(self.table).to_html(border=0, index=False)
        for least, kind in ((200, "text"), (30, "long")):  # columns the style does not squeeze
            body = re.sub(rf"<td>(?=[^<]{{{least}}})", f'<td class="{kind}">', body)
        head = f"<caption>{_html(self.caption)}</caption>" if self.caption else ""
        body = body.replace("<thead>", f"{head}<thead>", 1)
        body = body.replace(" | ", "&nbsp;|&nbsp;").replace(" ± ", "&nbsp;±&nbsp;")
        foot = "<br>".join(map(_html, self.notes))
        foot = f"<p><small>{foot}</small></p>" if foot else ""
        for title, lines in self.details:
            inside = "".join(f"<p>{_html(line)}</p>" for line in lines)
            foot += f"<details><summary>{_html(title)}</summary>{inside}</details>"
        return f'<div class="{QUOTED}"><div style="overflow-x: auto">{body}</div>{foot}</div>'

    def __repr__(self) -> str:
        text = _words(self.table).to_string(index=False) if len(self.table) else "(empty)"
        folded = [line for at, inside in self.details for line in (at, *(f"  {x}" for x in inside))]
        around = [visible(line) for line in (self.caption, *self.notes, *folded)]
        return "\n".join([*(around[:1] if self.caption else []), text, *around[1:]])


def show(table: pd.DataFrame, caption: str = "", provenance: str = "", rows: int = 100) -> Shown:
    """Prepare any table for a notebook.

    Args:
        table: A `comparison` or any other table; `notes` and `details` of its `attrs` come along.
        caption: One line above.
        provenance: As of `provenance`; the last line below.
        rows: Rows beyond this many are left out, and a note says so.
    """
    cut = f"The first {rows} of {len(table)} rows." if len(table) > rows else ""
    notes = [cut, *table.attrs.get("notes", []), provenance]
    details = tuple(table.attrs.get("details", ()))
    return Shown(table.head(rows), caption, tuple(note for note in notes if note), details)


def present(
    study: Study, item: str, data: str | None = None, judged: pd.DataFrame | None = None
) -> Shown:
    """An item's table with all that belongs beside it: verdicts of its claims, provenance.

    Args:
        study: A study.
        item: One of its items with columns, such as "table2".
        data: One of its data sets; None puts all of them into one table.
        judged: As of `verdicts`, the default.

    Raises:
        VaelibError: The item is no table of runs.
    """
    about = study.item(item)
    title = f"{about['title']} ({study.about['reference']}, {about['source']})"
    judged = verdicts(study, item) if judged is None else judged
    if data is not None:
        title = f"{title}, on {data}"
        judged = judged.filter(["claim", "statement", data])
    compared = study.compare(item, data)
    table = comparison(compared)
    table.attrs["notes"] += _absent(study.labels_of(item), compared)
    table.attrs["notes"] += [*_verdict_notes(judged), provenance(study, item, data)]
    return show(table, title)


def _absent(labels: list[str], compared: pd.DataFrame) -> list[str]:
    """A sentence for each data set of which the table lacks rows that the item has."""
    notes = []
    for data, found in compared.groupby("data", sort=False)["label"] if len(compared) else ():
        shown = set(found)
        if lacking := [label for label in labels if label not in shown]:
            notes.append(f"Without a run on {data}: {', '.join(lacking)}.")
    return notes


def _words(table: pd.DataFrame) -> pd.DataFrame:
    """All cells and heads as text: four digits of a number, a dash for none."""
    words = flattened(table).map(_word).rename_axis(columns=None)  # else a column of its own
    return words.rename(columns=lambda name: visible(str(name)))


def _html(text: str) -> str:
    return html.escape(visible(text))


def _word(cell: Any) -> str:
    if cell is None or cell is pd.NA or cell is pd.NaT or cell != cell:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else visible(str(cell))


# ---- A table to take away -------------------------------------------------------------------


def render(study: Study, item: str, style: str, judged: pd.DataFrame | None = None) -> str:
    """An item's table as a file holds it, with profile, data, seeds and stale runs.

    Args:
        study: A study.
        item: One of its items with columns.
        style: "md" and "latex" say where the numbers are from in notes below the table, "json" in
            the object `provenance` beside `rows` and `claims`, "csv" in the first columns of each
            row (see `numbers`).
        judged: As of `verdicts`, the default.

    Raises:
        VaelibError: The item is no table of runs.
    """
    if style == "csv":
        return to_csv(numbers(study, item))
    if style == "json":
        about = {"provenance": origin(study, item), "rows": study.compare(item).to_dict("records")}
        about["claims"] = (verdicts(study, item) if judged is None else judged).to_dict("records")
        return to_json(about) + "\n"
    shown = present(study, item, judged=judged)
    if style == "latex":
        return to_latex(shown.table, shown.caption, f"tab:{study.paper}-{item}-{study.profile}")
    return f"{markdown(shown.caption)}\n\n{to_markdown(shown.table)}"


def numbers(study: Study, item: str) -> pd.DataFrame:
    """A row a model: where its numbers are from, then each column's published, mean, sd and so on.

    `seeds` are the seeds with blanks between them, `stale` how many of their runs are stale.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in study.compare(item).to_dict("records"):
        place = one["data"], one["label"]
        if place not in rows:
            mine = [(p, r) for p, r in study.found if (p.data, p.label) == place]
            rows[place] = {
                "paper": study.paper,
                "item": item,
                "profile": study.profile,
                "data": one["data"],
                "stand_in": mine[0][1].provenance["data"]["stand_in"],
                "label": one["label"],
                "seeds": " ".join(str(p.seed) for p, _ in mine),
                "stale": sum(r.stale for _, r in mine),
            }
        kinds = ("published", "mean", "sd", "difference")
        rows[place] |= {f"{one['column']} {kind}": one[kind] for kind in kinds}
    return pd.DataFrame(list(rows.values()))


def save(study: Study, item: str, folder: Path | str = "_build/tables") -> list[Path]:
    """Write an item's table in every format to `<folder>/<profile>/<paper>_<item>.<suffix>`.

    Returns:
        The files written.
    """
    target, judged, made = Path(folder) / study.profile, verdicts(study, item), []
    target.mkdir(parents=True, exist_ok=True)
    for suffix, style in {"csv": "csv", "json": "json", "md": "md", "tex": "latex"}.items():
        made.append(target / f"{study.paper}_{item}.{suffix}")
        made[-1].write_text(render(study, item, style, judged), "utf-8")
    return made
