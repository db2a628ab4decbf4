"""Tables as text that other programs read: Markdown, LaTeX, CSV, JSON.

Cells, heads, captions and notes are data: each format has one function that makes text of them,
whatever stands in them. CSV is for programs: a cell is quoted where it must be and else stays as it
is, so that it reads back the same; a spreadsheet is told to import it as text.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vaelib.literals import visible

# What Markdown reads specially inside a line: CommonMark, tables, formulas, substitutions.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|$&~{]|(?<!\w)_|_(?!\w)")
_TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # behind the end of a row this one and the next would be options of it
    "*": "{*}",
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
    """A pipe table, notes below, every cell and note escaped."""
    flat = flattened(table)
    rows = [list(flat.columns), ["---"] * flat.shape[1], *flat.to_numpy().tolist()]
    lines = ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
    notes = table.attrs.get("notes", [])
    return "\n".join([*lines, *(f"\n{markdown(note)}" for note in notes)]) + "\n"


def markdown(cell: object) -> str:
    """Text with every character that Markdown reads specially inside a line escaped."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(str(cell)))


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
    parts = re.findall("-{2,}|.", visible(str(cell)))  # hyphens in a row would make a dash
    return "".join(_TEX.get(part) or "{}".join(part) for part in parts)


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
