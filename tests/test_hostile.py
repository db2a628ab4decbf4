"""Texts of a corpus are data: whatever stands in them appears as text, wherever they are shown."""

import html
import io
import json
import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vaelib import _listings, book, pages, pages_coupled, plots, tables
from vaelib._book_checks import check_outputs
from vaelib._formats import _TEX, tex, to_csv, to_json, to_latex, to_markdown
from vaelib.cli import main
from vaelib.data import load
from vaelib.errors import VaelibError
from vaelib.literals import visible
from vaelib.run import run, run_config
from vaelib.store import Store
from vaelib.studies import Study

ROOT = Path(__file__).parents[1]
NAME = "$x^2$ | <b>& _q_ {{z}} %s [a](b)"
WORDS = [
    *("<script>alert(1)</script>", "<img/src=x/onerror=alert(1)>", "</td></table>", "<!--"),
    *("&amp;", "**bold**", "_em_", "snake_case", "`code`", "[a](https://a.example)", "![i](x.png)"),
    *("{ref}`x`", "{{author}}", "$x^2$", "$$", r"\(y\)", r"\frac{1}{0}", r"\\", r"\begin{x}", "|"),
    *("~~no~~", "%d", "#1", "^", "---", "<<", "*", "[", "[opt]", "'", '"', "nan", "NA", "None"),
    *("=1+1", "@A1", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "\x00", "\x7f"),
    *("\u202edrow", "\u2066in", "\u200fmark", "שלום", "é", "🙂", "Traceback", "most", "x" * 10_000),
]
ACTIVE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def write(folder: Path, line: Callable[[list[str]], str]) -> Path:
    """A corpus of four hostile words a sentence, every word in the training split."""
    draw = random.Random(0)
    rows = [(WORDS * 2)[i : i + 4] for i in range(0, len(WORDS), 2)] * 3
    folder.mkdir()
    for name, count in (("train", len(rows)), ("valid", 12), ("test", 12)):
        draw.shuffle(rows)
        (folder / f"{name}.txt").write_text("".join(map(line, rows[:count])), "utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("hostile") / NAME, lambda row: " ".join(row) + "\n")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "th", "caption", "small"):
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


@pytest.fixture
def hostile() -> pd.DataFrame:
    table = pd.DataFrame({"text": WORDS, "<th>$y$": [f"[{word}" for word in WORDS]})
    table.attrs["notes"] = [f"note {word}" for word in WORDS]
    return table


def cells(table: pd.DataFrame) -> list[list[str]]:
    """Heads and cells as they should be read."""
    rows = [list(table.columns), *table.to_numpy().tolist()]
    return [[visible(cell) for cell in row] for row in rows]


# ---------------------------------------------------------------- formats


def test_on_a_page_a_table_holds_text_alone(hostile: pd.DataFrame) -> None:
    page = tables.show(hostile, WORDS[0], rows=1000)._repr_html_()
    seen = Tags(page)
    own = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "small", "br"}
    assert seen.tags <= own
    assert seen.attributes <= {"class", "style"}
    assert not ACTIVE.search(page)
    head, caption = cells(hostile), visible(WORDS[0])
    assert seen.cells[:-1] == [caption, *(cell for row in head for cell in row)]
    assert all(visible(word) in seen.cells[-1] for word in WORDS)
    assert page.startswith('<div class="vaelib-table tex2jax_ignore mathjax_ignore">')
    assert not ACTIVE.search(repr(tables.show(hostile, "\x1b[31m", rows=1000)))


def test_markdown_reads_back_as_the_text(hostile: pd.DataFrame) -> None:
    """By the parser of the book, with formulas, roles and substitutions."""
    pytest.importorskip("myst_parser")
    from myst_parser.config.main import MdParserConfig
    from myst_parser.mdit_to_docutils.base import DocutilsRenderer
    from myst_parser.parsers.mdit import create_md_parser

    enabled = {"amsmath", "dollarmath", "substitution", "attrs_inline", "strikethrough"}
    parser = create_md_parser(MdParserConfig(enable_extensions=enabled), DocutilsRenderer)
    inline = [token for token in parser.parse(to_markdown(hostile)) if token.type == "inline"]
    kinds = {child.type for token in inline for child in token.children or []}
    assert kinds <= {"text", "text_special"}
    read = ["".join(child.content for child in token.children or []) for token in inline]
    wanted = [cell for row in cells(hostile) for cell in row]
    notes = [visible(note) for note in hostile.attrs["notes"]]
    assert read == [text.strip() for text in (*wanted, *notes)]


def test_latex_holds_nothing_active(hostile: pd.DataFrame) -> None:
    known = sorted((re.escape(text) for text in _TEX.values()), key=len, reverse=True)
    for word in WORDS:
        rest = re.sub("|".join(known), "", tex(word).replace("-{}", "-\n"))
        assert not re.search(r"[\\{}$&%#_^~<>`*\[]|--", rest), word
        assert not ACTIVE.search(tex(word))
    back = {text: sign for sign, text in _TEX.items()}
    text = re.sub("|".join(known), lambda found: back[found[0]], tex(" ".join(WORDS)))
    assert text.replace("-{}", "-") == visible(" ".join(WORDS))
    rows = [line for line in to_latex(hostile, WORDS[0]).splitlines() if line.endswith(r" \\")]
    assert len(rows) == len(WORDS) + 1
    assert not any(row.startswith(("[", "*")) for row in rows), "an option of the row's end"


def test_csv_and_json_read_back_the_same(hostile: pd.DataFrame) -> None:
    """A cell that begins like a formula stays as it is: the file is for programs."""
    table = hostile[~hostile["text"].str.contains("\x00")].reset_index(drop=True)
    back = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False, lineterminator="\n")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert to_json(WORDS).isascii()
    assert json.loads(to_json(WORDS)) == WORDS


def test_a_terminal_shows_control_characters_and_obeys_none(
    hostile: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    _listings.print_table(hostile.to_dict("records"), " ".join(WORDS[:-1]))
    _listings.say(" ".join(WORDS))
    shown = "".join(capsys.readouterr())
    assert not ACTIVE.search(shown)
    assert r"\x1b[31mred\x1b[0m" in shown
    assert r"\u202edrow" in shown
    assert "שלום" in shown


@pytest.mark.parametrize("word", ["$$ x $$", "Traceback (most recent call last):", "<Axes: x>"])
def test_what_a_table_quotes_is_no_fault_of_the_page(tmp_path: Path, word: str) -> None:
    shown = tables.show(pd.DataFrame({"text": [word]}))
    page = f'<div class="cell_output">{{}}</div><title>t</title>{shown._repr_html_()}'
    (tmp_path / "a.html").write_text(page.format(shown._repr_html_()))
    assert book.scan(tmp_path) == []
    (tmp_path / "a.html").write_text(page.format(html.escape(word)))
    assert len(book.scan(tmp_path)) == 1
    data = {"text/html": shown._repr_html_(), "text/plain": repr(shown)}
    output = {"output_type": "display_data", "data": data}
    cell = {"cell_type": "code", "source": "x", "execution_count": 1, "outputs": [output]}
    assert check_outputs({"cells": [cell | {"metadata": {}}]}) == []


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\x00", "a\u202eb", "a\udcff"])
def test_a_folder_whose_name_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VaelibError, match="control characters; rename the folder"):
        run("vae", data=str(tmp_path / name), profile="smoke")


def seen(figure: plots.Picture) -> list[str]:
    """What the texts of a picture say once drawn; a formula as its source."""
    from plot_helpers import letters

    drawn = [text._preprocess_math(text.get_text()) for text in letters(figure)]
    return [f"formula {text}" if math else str(text) for text, math in drawn]


@pytest.mark.parametrize("name", ["$x^2$", "$\\frac$", "a$b", "$$", "cost $5 or $6"])
def test_a_picture_writes_the_name_of_data_as_it_is(name: str) -> None:
    from test_plots import fabricate

    figure = plots.tradeoff(fabricate(name, seeds=1), ["DG"])
    figure.svg()
    assert name in seen(figure)
    grid = plots.image_grid([[0.0] * 4] * 2, 2, column_names=(name, "b"), note=name)
    grid.svg()
    assert seen(grid).count(name) == 2


# ---------------------------------------------------------------- from the folder to the reader


def test_every_word_of_the_folder_is_read(folder: Path) -> None:
    words = set(load(folder).vocabulary.words)
    assert set(WORDS) <= words


def test_the_commands_show_a_hostile_corpus(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("VAELIB_RESULTS", str(tmp_path / "none"))

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        out, err = capsys.readouterr()
        assert ended.value.code in (0, None), err
        assert not ACTIVE.search(out + re.sub(r"\r|\x1b\[A", "", err))
        return out

    where = ("--data", str(folder), "--profile", "smoke")
    assert str(folder) in call("train", "vae", *where)
    key = re.search(r"\w{12}-\w{12}", call("runs"))
    assert key
    call("evaluate", key[0])
    call("evaluate", key[0], "metrics=[bleu, distinct]")
    for style in ("md", "latex", "csv", "json", "text"):
        shown = call("table", "dg_vae/table2", *where, "--format", style)
        assert "<b>" not in shown or style in ("csv", "json", "text")
    with pytest.raises(SystemExit):
        main(["train", "vae", "--data", "\x1b[31m/no"])
    assert "\x1b" not in "".join(capsys.readouterr())


def test_what_models_write_is_shown_as_text(folder: Path, store: Store) -> None:
    study = Study("dg_vae", "smoke", data=str(folder), labels=["interpolation"], store=store)
    for plan in study.planned()[:2]:
        run_config(plan.config, store=store)
    study.refresh()
    assert study.found
    for make in (pages.samples, pages.interpolations):
        table = make(study, "interpolation", str(folder))
        assert len(table)
        page = tables.show(table, f"on {folder}")._repr_html_()
        read = Tags(page)
        assert not {"script", "img", "b"} & read.tags
        wanted = [visible(str(cell)) for row in table.to_numpy() for cell in row]
        assert read.cells[1 + table.shape[1] :] == wanted


@pytest.mark.slow
def test_answers_to_hostile_posts(tmp_path: Path, store: Store) -> None:
    own = write(tmp_path / NAME, lambda row: f"{row[0]} {row[1]}\t{row[2]} {row[3]}\n")
    data = f"pairs:{own}"
    study = Study("coupled_vae", "smoke", data=data, labels=["CVAE"], store=store)
    run_config(study.planned()[0].config, store=store)
    said = pages_coupled.answers(study.refresh(), "table8", data)
    assert len(said)
    page = tables.show(said)._repr_html_()
    assert not {"script", "img", "b"} & Tags(page).tags
    assert all(visible(post) in Tags(page).cells for post in said["post"])


@pytest.mark.slow
def test_a_page_of_the_book_on_a_hostile_corpus(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed at smoke on the folder, rendered and scanned as the book is."""
    soup = pytest.importorskip("bs4").BeautifulSoup
    project = tmp_path / "project"
    (project / "notebooks").mkdir(parents=True)
    for name in ("_config.yml", "notebooks/vae_mine_texts.ipynb"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    (project / "book" / "_static").mkdir(parents=True)
    for file in (ROOT / "book" / "_static").iterdir():
        (project / "book" / "_static" / file.name).write_bytes(file.read_bytes())
    (project / "_toc.yml").write_text("format: jb-book\nroot: vae_mine_texts\n")
    (project / "book" / "references.bib").write_text("")
    monkeypatch.chdir(project)
    monkeypatch.setenv("VAELIB_STORE", str(project / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    copy = project / "_build" / "smoke" / "executed" / "vae_mine_texts.ipynb"
    book.run_notebook("vae_mine_texts", {"profile": "smoke", "dataset": str(folder)}, copy)
    outputs = copy.read_text("utf-8")
    assert "Nearest test sentences" in outputs
    index = book.build("smoke", execute_notebooks=False, strict=False)
    page = soup((index.parent / "vae_mine_texts.html").read_text("utf-8"), "html.parser")
    shown = page.select(".cell_output .vaelib-table")
    assert len(shown) > 5
    inside = {tag.name for box in shown for tag in box.find_all(True)}
    assert not {"script", "img", "b", "em", "strong", "code", "a", "span"} & inside
    words = " ".join(box.get_text(" ") for box in shown).split()
    assert len({visible(word) for word in WORDS} & set(words)) > len(WORDS) / 3
    assert not [line for line in book.scan(index.parent) if "raw formula" in line]
