"""Two executed copies of one notebook on one page: each table and picture beside the other's."""

import base64
import contextlib
import html
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaelib.book import parameters, run_notebook
from vaelib.store import atomic, read_json

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 120rem;
  padding: 0 1rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem; }
.pair > div { min-width: 0; overflow-x: auto; }
.pair img { width: 100%; max-width: 50rem; }
table { border-collapse: collapse; font-size: 13px; }
td, th { padding: 0.15rem 0.5rem; text-align: right; }
pre { white-space: pre-wrap; }
summary { cursor: pointer; }
@media (max-width: 60rem) { .pair { grid-template-columns: 1fr; } }
"""
_KINDS = {"image/svg+xml": "svg+xml", "image/png": "png"}


def run_beside(
    notebook: str | Path, given: Mapping[str, Any], output: str | Path | None = None
) -> tuple[Path, Path]:
    """Execute a notebook with parameters of one's own, and as it is published: see `beside`.

    Args:
        notebook, given, output: As of `vaelib.book.run_notebook`.

    Returns:
        The executed copy, and beside it the page `<name>.html` with both.

    Raises:
        VaelibError: A parameter is wrong, or the notebook stopped; the page is then not made.
    """
    here = run_notebook(notebook, given, output)
    usual = {"train_missing": False} if "train_missing" in _names(notebook) else {}
    with tempfile.TemporaryDirectory() as scratch, _store(Path(scratch) / "runs"):
        published = read_json(run_notebook(notebook, usual, Path(scratch) / here.name))
    told = ", ".join(f"{name} {value!r}" for name, value in given.items()) or "the same parameters"
    page = here.with_suffix(".html")
    with atomic(page) as file:
        file.write(beside(here.stem, published, read_json(here), told).encode())
    return here, page


def _names(notebook: str | Path) -> list[str]:
    return [parameter.name for parameter in parameters(notebook)]


@contextlib.contextmanager
def _store(root: Path) -> Iterator[None]:
    """Kernels started meanwhile see the committed records and no other runs."""
    before = os.environ.get("VAELIB_STORE")
    os.environ["VAELIB_STORE"] = str(root)
    try:
        yield
    finally:
        os.environ.pop("VAELIB_STORE")
        os.environ |= {} if before is None else {"VAELIB_STORE": before}


def beside(name: str, published: Mapping[str, Any], here: Mapping[str, Any], told: str) -> str:
    """A page of its own with the outputs of both copies, those that differ first to be seen.

    Args:
        name: Of the notebook.
        published: A copy executed with its own parameters, as JSON.
        here: A copy of the same notebook executed with others.
        told: These parameters, in words.

    Returns:
        HTML that loads nothing from elsewhere. Outputs that are the same are folded.
    """
    title = html.escape(f"{name}: published, and with {told}")
    parts = [f"<h1>{title}</h1>", '<div class="pair"><h2>published</h2><h2>this run</h2></div>']
    for heading, old, new in _pairs(published["cells"], here["cells"]):
        left, right = _shown(old, f"published, {heading}"), _shown(new, f"this run, {heading}")
        if not left and not right:
            continue
        head = html.escape(heading)
        pair = f'<div class="pair"><div>{left}</div><div>{right}</div></div>'
        same = _shown(old, "") == _shown(new, "")
        folded = f"<details><summary>{head}: the same in both</summary>{pair}</details>"
        parts.append(folded if same else f"<h3>{head}</h3>{pair}")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head, body = f"<head>{head}{view}</head>", "<body>" + "\n".join(parts) + "</body>"
    return f'<!doctype html>\n<html lang="en">{head}\n{body}</html>\n'


def _pairs(
    published: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Each code cell of both, with the heading above it; cells that papermill adds left out."""
    heading = ""
    for old, new in zip(*(map(_own, (published, here))), strict=True):
        if old["cell_type"] == "code":
            yield heading, old, new
        elif found := re.findall(r"^#+ (.*)", "".join(old["source"]), re.MULTILINE):
            heading = found[-1]


def _own(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [c for c in cells if "injected-parameters" not in c["metadata"].get("tags", [])]


def _shown(cell: Mapping[str, Any], alt: str) -> str:
    """The outputs of a cell as HTML: pictures that run no script, tables, and plain text."""
    return "\n".join(filter(None, (_output(output, alt) for output in cell["outputs"])))


def _output(output: Mapping[str, Any], alt: str) -> str:
    data = output.get("data", {})
    for kind, short in _KINDS.items():
        if kind in data:
            code = "".join(data[kind]).strip()
            code = base64.b64encode(code.encode()).decode() if short == "svg+xml" else code
            source = f"data:image/{short};base64,{code}"
            return f'<img alt="{html.escape(alt)}" src="{source}">'
    if "text/html" in data:
        return "".join(data["text/html"])
    if output.get("name") == "stderr":
        return ""
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"<pre>{html.escape(text)}</pre>" if text.strip() else ""
