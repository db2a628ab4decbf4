"""Tables as text that other programs read: Markdown, LaTeX, CSV, JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "|": r"$|$",
    "†": r"$^\dagger$",
    "β": r"$\beta$",
    "δ": r"$\delta$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "κ": r"$\kappa$",
    "–": "--",
    "−": "$-$",
}


def flattened(table: pd.DataFrame) -> pd.DataFrame:
    """The index as ordinary columns, unless it is only a count."""
    if isinstance(table.index, pd.RangeIndex) or table.empty:
        return table
    return table.reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table, notes below; bars inside cells are escaped."""
    flat = flattened(table)
    rows = [list(flat.columns), ["---"] * flat.shape[1], *flat.to_numpy().tolist()]
    lines = ["| " + " | ".join(_pipe(cell) for cell in row) + " |" for row in rows]
    notes = table.attrs.get("notes", [])
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def _pipe(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")


def to_latex(table: pd.DataFrame, caption: str = "", label: str = "") -> str:
    """A `table` environment for the package booktabs, every cell escaped, notes below."""
    flat = flattened(table)
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
    return flattened(table).to_csv(index=False, lineterminator="\n")


def to_json(value: Any) -> str:
    """Text in JSON, in ASCII, so that every terminal and pipe takes it."""
    return json.dumps(clean(value), indent=1, allow_nan=False)


def clean(value: Any) -> Any:
    """A value as JSON knows it: not-a-number and infinities become null."""
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
