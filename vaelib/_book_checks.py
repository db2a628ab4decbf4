"""What must never be published: checks of executed notebooks and of the built site."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vaelib._book_parameters import extra

_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_BARE_REPR = re.compile(r"<(?:Figure size|Axes:|matplotlib\.|IPython\.)|\bobject at 0x[0-9a-f]+>")
# A download helper imports tqdm's notebook flavour, which asks for widgets no page could show.
_WARNING = re.compile(r"\b\w*Warning: (?!IProgress not found).*")
_QUOTED = ".vaelib-table"  # a table holds data, whatever they look like; see `vaelib.tables`
_EXTERNAL = re.compile(r"(?:^|,\s)\s*(?:https?:)?//", re.IGNORECASE)
_CSS_EXTERNAL = re.compile(r"""(?:url\(|@import)\s*['"]?((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)
_LOADED_LINKS = {
    "stylesheet", "icon", "shortcut", "apple-touch-icon", "preload", "prefetch", "modulepreload",
    "preconnect", "dns-prefetch", "manifest",
}  # fmt: skip
_LOADING = ("src", "srcset", "poster", "data", "xlink:href")  # attributes


# ---------------------------------------------------------------- executed notebooks


def check_outputs(notebook: dict[str, Any]) -> list[str]:
    """What stands in a notebook's outputs and has no place on a page.

    Args:
        notebook: An executed notebook as JSON.

    Returns:
        One line per finding: tracebacks, warnings, bare object representations, cells not run.
    """
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = []
    for number, cell in enumerate(code, 1):
        if "".join(cell["source"]).strip() and cell["execution_count"] is None:
            found.append(f"code cell {number} has not been executed")
        allowed = "raises-exception" in cell["metadata"].get("tags", [])
        for output in cell["outputs"]:
            found += [f"code cell {number} {what}" for what in _output_problems(output, allowed)]
    return found


def _output_problems(output: dict[str, Any], error_allowed: bool) -> Iterator[str]:
    kind = output["output_type"]
    if kind == "error":
        if not error_allowed:
            yield f"ends in {output['ename']}: {output['evalue']}"
        return
    data = output.get("data", {})
    page = "".join(data.get("text/html", ""))
    text = "".join(output.get("text", "")) + page * ('class="vaelib-table' not in page)
    if kind == "stream" and output["name"] == "stderr":
        yield from (f"warns: {match[0]}" for match in _WARNING.finditer(text))
    if _TRACEBACK.search(text) and not error_allowed:
        yield "prints a traceback"
    shown = text if len(data) > 1 else text + "".join(data.get("text/plain", ""))
    if match := _BARE_REPR.search(shown):
        yield f"shows a bare {match[0]!r}; end the line with a semicolon"


def strip_for_site(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy without stderr (progress) and without what the run says of the machine it ran on."""
    cells = [dict(cell) for cell in notebook["cells"]]
    for cell in cells:
        hidden = ("papermill", "execution")
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k not in hidden}
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
    metadata = {k: v for k, v in notebook["metadata"].items() if k != "papermill"}
    return {**notebook, "cells": cells, "metadata": metadata}


# ---------------------------------------------------------------- the built site


class _Site:
    """The site's pages, parsed once.

    Args:
        folder: The folder with `index.html`.
    """

    def __init__(self, folder: Path) -> None:
        soup = extra("bs4").BeautifulSoup
        files = [p for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts]
        self.folder = folder
        self.pages = {p: soup(p.read_text("utf-8"), "html.parser") for p in files}
        self.anchors = {path: _anchors(page) for path, page in self.pages.items()}


def _anchors(page: Any) -> set[str]:
    named = {tag["name"] for tag in page.find_all("a", attrs={"name": True})}
    return named | {tag["id"] for tag in page.find_all(id=True)}


def _find_tracebacks(page: Any, path: Path, site: _Site) -> Iterator[str]:
    for output in page.select(".cell_output"):
        quoted = {id(part) for box in output.select(_QUOTED) for part in box.strings}
        text = "".join(part for part in output.strings if id(part) not in quoted)
        allowed = output.find_parent(class_="tag_raises-exception")
        if not allowed and (output.select_one(".traceback") or _TRACEBACK.search(text)):
            yield f"an output shows a traceback: {text.strip().splitlines()[-1][:120]}"
        if match := _BARE_REPR.search(text):
            yield f"an output shows a bare {match[0]!r}"


def _find_broken_links(page: Any, path: Path, site: _Site) -> Iterator[str]:
    targets = {tag["href"] for tag in page.find_all(("a", "link"), href=True)}
    targets |= {tag["src"] for tag in page.find_all(src=True)}
    refresh = page.find("meta", attrs={"http-equiv": re.compile("refresh", re.IGNORECASE)})
    if refresh:
        targets.add(refresh["content"].partition("url=")[2])
    for target in sorted(targets):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or target in ("", "#"):
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not file.is_file():
            yield f"the link {target!r} leads to no file"
        elif parts.fragment and unquote(parts.fragment) not in site.anchors.get(file, {""}):
            yield f"the link {target!r} leads to no such place on its page"


def _find_bare_images(page: Any, path: Path, site: _Site) -> Iterator[str]:
    for image in page.find_all("img"):
        alt, source = (image.get("alt") or "").strip(), image.get("src", "")
        decorative = image.get("role") == "presentation" or image.get("aria-hidden") == "true"
        if not decorative and (not alt or alt == source or alt == Path(source).name):
            yield f"the image {source!r} has no alt text"


def _find_external_loads(page: Any, path: Path, site: _Site) -> Iterator[str]:
    for attribute in _LOADING:
        for tag in page.find_all(attrs={attribute: _EXTERNAL}):
            yield f"<{tag.name}> loads {tag[attribute].strip()!r} from outside"
    for tag in page.find_all("link", href=_EXTERNAL):
        if _LOADED_LINKS & set(tag.get("rel", [])):
            yield f"<link> loads {tag['href']!r} from outside"
    css = [tag.get_text() for tag in page.find_all("style")]
    css += [tag["style"] for tag in page.find_all(style=True)]
    yield from _css_loads("\n".join(css))


def _css_loads(css: str) -> Iterator[str]:
    for url in _CSS_EXTERNAL.findall(re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)):
        yield f"a style loads {url!r} from outside"


def _find_missing_math(page: Any, path: Path, site: _Site) -> Iterator[str]:
    scripts = " ".join(tag["src"] for tag in page.find_all("script", src=True))
    if page.select_one(".math") and "mathjax" not in scripts.lower():
        yield "has formulas but loads no MathJax"
    article = page.select_one("article") or page
    for text in article.find_all(string=re.compile(r"\$\$|\\begin\{")):
        is_code = text.find_parent(("pre", "code", "script", "style"))
        is_code = is_code or text.find_parent(class_=_QUOTED[1:])
        if not is_code and not text.find_parent(class_="math"):
            yield f"shows a raw formula: {text.strip()[:60]!r}"


_CHECKS: tuple[Callable[[Any, Path, _Site], Iterator[str]], ...] = (
    _find_tracebacks,
    _find_broken_links,
    _find_bare_images,
    _find_external_loads,
    _find_missing_math,
)


def scan(html_dir: str | Path) -> list[str]:
    """Look over a built site without opening a browser.

    Args:
        html_dir: The folder with `index.html`.

    Returns:
        One line `page: finding` for every traceback in an output, broken internal link or anchor,
        image without alt text, request a browser would send outside on load (links a reader may
        click are fine), and formula that cannot be shown.
    """
    site = _Site(Path(html_dir).resolve())
    found = []
    for path, page in site.pages.items():
        name = path.relative_to(site.folder)
        found += [f"{name}: {what}" for check in _CHECKS for what in check(page, path, site)]
    for path in sorted(site.folder.rglob("*.css")):
        css, name = path.read_text("utf-8", errors="replace"), path.relative_to(site.folder)
        found += [f"{name}: {what}" for what in _css_loads(css)]
    return found
