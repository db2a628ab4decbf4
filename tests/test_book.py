"""Parameters, papermill runs, the build and the scan, on small fabricated notebooks and pages.

At the end: what the pages of the book themselves promise.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import yaml

from vaelib import book
from vaelib._book_checks import check_outputs, strip_for_site
from vaelib._commands import parse_parameters
from vaelib._settings import exceptions, settings
from vaelib.build import PARTS, options_of
from vaelib.config import FIELDS, profile_values, profiles
from vaelib.errors import VaelibError
from vaelib.published import pivot

ROOT = Path(__file__).parents[1]
PARAMETERS = """\
# what a reader may change
profile: str = "laptop"  # how much work
seeds: list[int] = [0, 1]  # one run per seed
rate: float = 0.5
train_missing: bool = True
"""
CHECK = "import vaelib.book\n\nvaelib.book.check_parameters(globals())"
PAGE = "<html><head><title>t</title></head><body><article>{}</article></body></html>"


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook whose first cell is the parameters cell."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# The page {path.stem}")]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in (parameters, *cells)]
    notebook.cells[1].metadata.tags = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A two-cell notebook that checks its parameters and prints them."""
    return write_notebook(tmp_path / "small.ipynb", CHECK, "print(profile, seeds)")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one prose page and one notebook, with the real configuration."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copy(ROOT / "_config.yml", root)
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nparts:\n- caption: One\n  chapters:\n  - file: small\n"
    )
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "intro.md").write_text(
        "# Preface\n\nOn collapse: $x^2$. See [](small.ipynb).\n"
    )
    progress = "import sys\n\nprint('at', 'work', file=sys.stderr)\nprint(profile, seeds)"
    write_notebook(root / "notebooks" / "small.ipynb", CHECK, progress)
    monkeypatch.chdir(root)
    monkeypatch.setenv("VAELIB_STORE", str(root / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return root


def test_parameters_are_read_with_type_default_and_help(notebook: Path) -> None:
    found = {p.name: p for p in book.parameters(notebook)}
    assert list(found) == ["profile", "seeds", "rate", "train_missing"]
    assert found["seeds"].default == [0, 1]
    assert found["seeds"].type == "list[int]"
    assert found["seeds"].help == "one run per seed"
    assert found["train_missing"].help == book.SPEC["train_missing"].help


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sedes": [0]}, "unknown parameter 'sedes': did you mean 'seeds'?"),
        (
            {"seeds": "[0,1]"},
            "must be a list of one or more distinct whole numbers >= 0, not the text '[0,1]'",
        ),
        ({"seeds": [0, 0]}, "distinct"),
        ({"seeds": [-1]}, ">= 0"),
        ({"seeds": [True]}, "whole numbers"),
        ({"train_missing": "false"}, "must be true or false, not the text 'false'"),
        ({"train_missing": 0}, "must be true or false, not 0"),
        ({"profile": "laptpo"}, "unknown profile 'laptpo': did you mean 'laptop'?"),
        ({"profile": 3}, "must be smoke, laptop or paper, not 3"),
        ({"rate": "0.5"}, "must be of type float, not the text '0.5'"),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(
    notebook: Path, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(VaelibError) as caught:
        book.validate(notebook, given)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_right_values_pass_unchanged(notebook: Path) -> None:
    given = {"profile": "smoke", "seeds": [3, 5], "rate": 1, "train_missing": False}
    assert book.validate(notebook, given) == given


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("jobs", [1, 8], [0, 1.5, True, "2"]),
        ("seeds", [[], [0], [7, 3]], [[1, 1], [-1], [0.5], 0]),
        ("steps", [5, 500], [4, 501, 0, "500"]),
        ("epochs", [1], [0]),
        ("train_size", [1], [0]),
        ("device", ["auto", "cuda:1"], ["gpu", "cuda:x", 0]),
        ("methods", [["VAE (default)", "BN-VAE(0.6)"]], [[], ["VAE", "VAE"], "VAE", [1]]),
        ("dataset", [str(ROOT)], ["", "no/such/folder", 3]),
    ],
)
def test_shared_parameters_have_bounds(
    tmp_path: Path, name: str, good: list[Any], bad: list[Any]
) -> None:
    spec = book.SPEC[name]
    cell = f"{name}: {spec.type} = {good[0]!r}"
    path = write_notebook(tmp_path / "one.ipynb", parameters=cell)
    assert [book.validate(path, {name: value}) for value in good]
    for value in bad:
        with pytest.raises(VaelibError):
            book.validate(path, {name: value})


def test_every_example_in_spec_is_accepted(tmp_path: Path) -> None:
    for name, spec in book.SPEC.items():
        value = book.parse_value(spec.example)
        path = write_notebook(tmp_path / "one.ipynb", parameters=f"{name}: {spec.type} = {value!r}")
        assert book.validate(path, {name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "default", "everything"), [("seeds", [0], []), ("dataset", "grammar", "study")]
)
def test_only_where_it_is_the_default_may_a_page_be_asked_for_everything(
    tmp_path: Path, name: str, default: Any, everything: Any
) -> None:
    kind = book.SPEC[name].type
    one = write_notebook(tmp_path / "one.ipynb", parameters=f"{name}: {kind} = {default!r}")
    every = write_notebook(tmp_path / "all.ipynb", parameters=f"{name}: {kind} = {everything!r}")
    assert book.validate(every, {name: everything})
    assert book.validate(every, {name: default})
    with pytest.raises(VaelibError, match=f"parameter '{name}' must be .*, not .*: write"):
        book.validate(one, {name: everything})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"methods": ["VAE"]}, "label of a study's runs 'VAE': did you mean"),
        ({"methods": ["beta-VAE(0.40)"]}, "did you mean 'beta-VAE(0.4)'?"),
        ({"methods": []}, "must be a list of one or more distinct labels of the study, not []"),
        ({"dataset": "study"}, "must be a data set's id or an existing folder, not the text"),
        ({"dataset": "gramar"}, "did you mean 'grammar'"),
        ({"seeds": []}, "must be a list of one or more distinct whole numbers >= 0, not []"),
        ({"epochs": 0}, "must be a whole number >= 1"),
    ],
)
def test_the_live_page_refuses_before_anything_runs(
    given: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(VaelibError) as caught:
        book.run_notebook("dg_vae_live", given, tmp_path / "a" / "out.ipynb")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_the_live_page_takes_labels_folders_and_several_seeds() -> None:
    live = ROOT / "notebooks" / "dg_vae_live.ipynb"
    assert book.validate(live, {"profile": "smoke"}), "its methods run at every profile"
    assert book.validate(live, {"methods": ["DG-VAE(|b|=4)"], "seeds": [3, 1]})
    assert book.validate(live, {"methods": ["BN-VAE(0.6)"], "profile": "smoke"}), "any of the grid"
    assert book.validate(live, {"dataset": str(ROOT / "book"), "methods": ["BN-VAE(0.6)"]})


def test_command_line_text_is_read_as_yaml() -> None:
    assert book.parse_value("[0, 1]") == [0, 1]
    assert book.parse_value("false") is False
    assert book.parse_value("laptop") == "laptop"
    assert book.parse_value('["VAE", "BN-VAE(0.6)"]') == ["VAE", "BN-VAE(0.6)"]
    with pytest.raises(VaelibError, match="cannot read the value"):
        book.parse_value("[0, 1")


def test_a_parameters_cell_must_be_typed(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "loose.ipynb", parameters="seeds = [0]")
    with pytest.raises(VaelibError, match="write `name: type = value"):
        book.parameters(path)


def test_a_notebook_without_the_tag_is_refused(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "bare.ipynb")
    path.write_text(path.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(VaelibError, match="no code cell tagged `parameters`"):
        book.parameters(path)


def test_an_unknown_notebook_names_the_nearest(project: Path) -> None:
    with pytest.raises(VaelibError, match="did you mean 'small'"):
        book.parameters("smal")


def notebook_globals(injected: str = "", parameters: str = PARAMETERS) -> dict[str, Any]:
    """What a notebook's `globals()` holds after its parameters cell and papermill's."""
    cells = [parameters, f"# Parameters\n{injected}\n"] if injected else [parameters]
    namespace: dict[str, Any] = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, namespace)
    return namespace


@pytest.mark.parametrize(
    ("injected", "given"),
    [
        ('seeds = "[0,1]"', {"seeds": "[0,1]"}),
        ('train_missing = "false"', {"train_missing": "false"}),
        ("sedes = [0]", {"sedes": [0]}),
        ("methods = ['VAE']", {"methods": ["VAE"]}),
        ('profile = "laptpo"', {"profile": "laptpo"}),
    ],
)
def test_a_notebook_under_bare_papermill_says_the_same_sentence(
    notebook: Path, injected: str, given: dict[str, Any]
) -> None:
    with pytest.raises(VaelibError) as outside:
        book.validate(notebook, given)
    with pytest.raises(VaelibError) as inside:
        book.check_parameters(notebook_globals(injected))
    assert str(inside.value) == str(outside.value)


def test_good_parameters_pass_inside_a_notebook_and_outside_one() -> None:
    book.check_parameters(notebook_globals("seeds = [4]"))
    book.check_parameters({"seeds": [0], "other": 1})
    with pytest.raises(VaelibError, match="seeds"):
        book.check_parameters({"seeds": "[0]"})


def test_run_writes_the_executed_copy(notebook: Path, tmp_path: Path) -> None:
    out = book.run_notebook(
        notebook, {"profile": "smoke", "seeds": [7]}, tmp_path / "a" / "out.ipynb"
    )
    cells = json.loads(out.read_text())["cells"]
    assert cells[-1]["outputs"][0]["text"] == ["smoke [7]\n"]
    assert [path.name for path in out.parent.iterdir()] == ["out.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_no_process_behind(project: Path, how: signal.Signals) -> None:
    """Neither the workers nor the kernels that they started; Ctrl-C says how to go on."""
    begun = project / "begun"
    cell = f"import pathlib, time\n\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(300)"
    write_notebook(project / "notebooks" / "small.ipynb", CHECK, cell)
    command = [sys.executable, "-m", "vaelib", "book", "build", "--profile", "smoke"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, text=True, start_new_session=True) as build:
        until = time.monotonic() + 120
        while not begun.exists() and build.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        left = psutil.Process(build.pid).children(recursive=True)
        os.killpg(build.pid, how) if how == signal.SIGINT else build.kill()
        said = build.communicate(timeout=60)[1]
    assert build.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in said
    assert said.endswith("vaelib book build --profile smoke\n") == (how == signal.SIGINT)
    assert begun.exists()
    assert len(left) >= 2, "a worker and its kernel"
    gone, alive = psutil.wait_procs(left, timeout=30)
    for process in alive:
        process.kill()
    assert not alive
    assert len(gone) == len(left)


def test_the_time_left_goes_by_how_long_pages_took(tmp_path: Path) -> None:
    took = {"a": {"duration": 6.0}, "b": {}, "c": 1, "d": {"duration": 2.0}}
    for name, about in took.items():
        copy = json.dumps({"metadata": {"papermill": about}})
        (tmp_path / f"{name}.ipynb").write_text(copy)
    found = book._weights([*"abcde"], tmp_path)
    assert found == {"a": 6.0, "b": 4.0, "c": 4.0, "d": 2.0, "e": 4.0}
    assert book._weights("x", tmp_path) == {"x": 1.0}


def test_a_refused_run_leaves_nothing(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(VaelibError, match="must be true or false"):
        book.run_notebook(notebook, {"train_missing": "false"}, tmp_path / "a" / "out.ipynb")
    assert not (tmp_path / "a").exists()


def test_a_refusal_inside_a_notebook_leaves_no_file(tmp_path: Path) -> None:
    """Not even the log of an earlier failure: the sentence says all."""
    cell = "from vaelib.errors import VaelibError\n\nraise VaelibError('give another.')"
    path, out = write_notebook(tmp_path / "bad.ipynb", cell), tmp_path / "a" / "out.ipynb"
    out.parent.mkdir()
    out.with_suffix(".log").write_text("of an earlier run")
    with pytest.raises(VaelibError, match=r"^notebook bad: give another\.$"):
        book.run_notebook(path, {}, out)
    assert list(out.parent.iterdir()) == []


def test_a_failed_run_leaves_its_log_and_no_notebook(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "bad.ipynb", "{}['missing']")
    with pytest.raises(VaelibError, match="notebook bad stopped with KeyError: 'missing'"):
        book.run_notebook(path, {}, tmp_path / "a" / "out.ipynb")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["out.log"]
    assert "KeyError" in (tmp_path / "a" / "out.log").read_text()


@pytest.mark.slow
def test_a_project_builds_and_executes_only_what_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = book.build("smoke")
    assert index == project / "_build" / "smoke" / "html" / "index.html"
    page = (index.parent / "small.html").read_text()
    assert "smoke [0, 1]" in page
    assert "at work" not in page
    assert (index.parent / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert book.scan(index.parent) == []
    assert re.search(r"small executed, \d+ (s|min) so far, about 0 s left", capsys.readouterr().err)
    book.execute("smoke")
    assert "1 of 1 notebooks unchanged" in capsys.readouterr().err
    write_notebook(project / "notebooks" / "small.ipynb", CHECK, "1 / 0")
    with pytest.raises(VaelibError, match="notebook small stopped with ZeroDivisionError"):
        book.build("smoke")
    assert index.is_file(), "the earlier site stays"


@pytest.mark.slow
def test_a_warning_of_the_renderer_names_its_page(project: Path) -> None:
    (project / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
    (project / "book" / "intro.md").write_text("# Preface\n\n{ref}`nowhere`\n")
    with pytest.raises(VaelibError, match=r"page intro\.md: undefined label: 'nowhere'"):
        book.build("smoke")
    assert book.build("smoke", strict=False).is_file()


def test_a_page_needs_exactly_one_source(project: Path) -> None:
    (project / "notebooks" / "small.ipynb").unlink()
    with pytest.raises(VaelibError, match=r"page 'small' of _toc\.yml needs either"):
        book.build("smoke")


def test_outside_a_checkout_there_is_no_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VaelibError, match="no book in"):
        book.build("smoke")


def test_serve_without_a_site_says_how_to_build_one(project: Path) -> None:
    with pytest.raises(VaelibError, match="vaelib book build --profile smoke"):
        book.serve("smoke")


def executed(*outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    """An executed notebook of one cell."""
    cell = {"cell_type": "code", "source": "x", "execution_count": 1, "outputs": list(outputs)}
    metadata = {"papermill": {"output_path": "/home/me/out.ipynb"}}
    return {"cells": [{**cell, "metadata": {**metadata, "tags": list(tags)}}], "metadata": metadata}


ERROR = {"output_type": "error", "ename": "KeyError", "evalue": "'a'", "traceback": []}
WARNED = {"output_type": "stream", "name": "stderr", "text": ["a.py:1: UserWarning: odd\n"]}
BARE = {"output_type": "execute_result", "data": {"text/plain": ["<Axes: xlabel='a'>"]}}
FIGURE = {
    "output_type": "display_data",
    "data": {"text/plain": ["<Figure size 1x1>"], "image/png": "abc"},
}


@pytest.mark.parametrize(
    ("output", "finding"),
    [
        (ERROR, "code cell 1 ends in KeyError: 'a'"),
        (WARNED, "code cell 1 warns: UserWarning: odd"),
        (BARE, "code cell 1 shows a bare '<Axes:'; end the line with a semicolon"),
    ],
)
def test_bad_outputs_are_found(output: dict[str, Any], finding: str) -> None:
    assert check_outputs(executed(output)) == [finding]


def test_good_outputs_pass() -> None:
    progress = {"output_type": "stream", "name": "stderr", "text": ["50 %"]}
    assert check_outputs(executed(progress, FIGURE)) == []
    assert check_outputs(executed(ERROR, tags=("raises-exception",))) == []


def test_a_cell_that_was_not_executed_is_found() -> None:
    notebook = executed()
    notebook["cells"][0]["execution_count"] = None
    assert check_outputs(notebook) == ["code cell 1 has not been executed"]


def test_the_published_copy_holds_no_progress_and_no_paths() -> None:
    stripped = strip_for_site(executed(WARNED, FIGURE))
    assert stripped["cells"][0]["outputs"] == [FIGURE]
    assert "papermill" not in json.dumps(stripped)


def findings(folder: Path, body: str, head: str = "") -> list[str]:
    """What the scan finds on a page with this body."""
    page = PAGE.format(body).replace("</head>", f"{head}</head>")
    (folder / "a.html").write_text(page)
    return book.scan(folder)


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ('<a href="b.html">x</a>', "the link 'b.html' leads to no file"),
        ('<a href="#no">x</a>', "the link '#no' leads to no such place"),
        ('<img src="data:image/png;base64,aa">', "has no alt text"),
        ('<img src="p.png" alt="p.png">', "the image 'p.png' has no alt text"),
        ('<script src="https://cdn.example/x.js"></script>', "<script> loads"),
        (
            '<img alt="a" src="//cdn.example/x.png">',
            "<img> loads '//cdn.example/x.png' from outside",
        ),
        ('<div style="background: url(https://x.example/a.png)">', "a style loads"),
        ("<style>@import 'https://fonts.example/a.css';</style>", "a style loads"),
        (
            '<div class="cell_output"><pre class="traceback">ValueError: x</pre></div>',
            "ValueError: x",
        ),
        ('<div class="cell_output">Traceback (most recent call last)</div>', "shows a traceback"),
        ('<div class="cell_output">&lt;Figure size 10x10&gt;</div>', "bare '<Figure size'"),
        ('<span class="math">x</span>', "formulas but loads no MathJax"),
        ("<p>$$ x^2 $$</p>", "shows a raw formula"),
    ],
)
def test_scan_finds(tmp_path: Path, body: str, finding: str) -> None:
    assert any(finding in line for line in findings(tmp_path, body)), findings(tmp_path, body)


def test_scan_finds_web_fonts_in_style_sheets(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text(
        "/* url(https://fine.example) */ @font-face {src: url('//f.example/a.woff')}"
    )
    head = '<link rel="stylesheet" href="https://f.example/b.css">'
    found = findings(tmp_path, "", head)
    assert "a.css: a style loads '//f.example/a.woff' from outside" in found
    assert "a.html: <link> loads 'https://f.example/b.css' from outside" in found
    assert len(found) == 2


def test_scan_passes_a_clean_page(tmp_path: Path) -> None:
    body = (
        '<h1 id="top">x</h1><a href="#top">x</a> <a href="https://example.org/">x</a>'
        '<a href="mailto:a@example.org">x</a><img alt="A curve" src="data:image/png;base64,aa">'
        "<pre>$$ not a formula $$</pre>"
    )
    assert findings(tmp_path, body, '<link rel="canonical" href="https://example.org/">') == []


@pytest.mark.parametrize("name", [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb"))])
def test_the_books_notebooks_keep_the_contract(name: str) -> None:
    """Typed, documented, shared parameters with valid defaults, checked by the next code cell."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    found = book.parameters(path)
    assert book.validate(path, {p.name: p.default for p in found})
    assert all(p.help for p in found)
    assert all(p.type == book.SPEC[p.name].type for p in found if p.name in book.SPEC)
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert "parameters" in cells[0]["metadata"].get("tags", [])
    assert "check_parameters(globals())" in "".join(cells[1]["source"])
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    assert "nbval-check-output" in tags, "tag a cell whose text output must come out the same again"


def test_every_page_has_exactly_one_source() -> None:
    listed = book.pages(ROOT)
    prose = {path.stem for path in (ROOT / "book").glob("*.md")}
    runnable = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(listed) == sorted([*prose, *runnable])
    assert os.path.exists(ROOT / "book" / "references.bib")


# ---------------------------------------------------------------- what the pages promise

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
PROSE = {path.stem: path for path in sorted((ROOT / "book").glob("*.md"))}
ENDINGS = ("Summary", "Exercises", "Run it yourself")
# What trains, writes, or stands for something a reader has; the rest of the prose's code is run.
NOT_RUN = re.compile(r"vaelib\.(run|study)|folder = |TERMS\.register|vaelib\.testing|model\.")


def cells(name: str) -> list[dict[str, Any]]:
    """The cells of one of the book's notebooks."""
    return json.loads(NOTEBOOKS[name].read_text("utf-8"))["cells"]


def prose(name: str) -> str:
    """The text of a page: Markdown, or the Markdown cells of a notebook."""
    if name in PROSE:
        return PROSE[name].read_text("utf-8")
    texts = ["".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == "markdown"]
    return "\n\n".join(texts)


def blocks(text: str, language: str) -> list[str]:
    """The code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_every_page_but_the_bibliography_has_all_its_parts() -> None:
    for page in sorted({*NOTEBOOKS, *PROSE} - {"bibliography"}):
        text = prose(page)
        assert "Before you start\n:class: tip\n" in text.replace("\n\n", "\n"), page
        for word in ("will learn", "need", "Time"):
            assert re.search(rf"^\*\*(You )?{word}\*\* ", text, re.MULTILINE), (page, word)
        lacking = [part for part in ENDINGS if f"## {part}\n" not in text]
        assert lacking == [], page
        exercises = text.partition("## Exercises\n")[2]
        assert len(re.findall(r"^\d\. ", re.split(r"\n(?:##|:::|```\{)", exercises)[0], re.M)) > 1


@pytest.mark.parametrize("name", list(NOTEBOOKS))
def test_a_notebook_ends_with_the_commands_that_execute_it_again(name: str) -> None:
    last = cells(name)[-1]
    assert last["cell_type"] == "markdown"
    commands = "\n".join(blocks("".join(last["source"]), "bash")).splitlines()
    assert any(line.startswith(f"vaelib book run {name} -p ") for line in commands)
    assert any(line.startswith(f"papermill notebooks/{name}.ipynb ") for line in commands)


def test_every_command_that_executes_a_notebook_is_accepted() -> None:
    texts = [*(prose(page) for page in (*NOTEBOOKS, *PROSE)), (ROOT / "README.md").read_text()]
    lines = [line for text in texts for block in blocks(text, "bash") for line in block.split("\n")]
    ours = [shlex.split(line, comments=True)[3:] for line in lines if "vaelib book run " in line]
    ours = [[word for word in words if word != "--beside"] for words in ours]
    theirs = [shlex.split(line)[1:] for line in lines if line.startswith("papermill ")]
    assert min(len(ours), len(theirs)) > len(NOTEBOOKS)
    for words in ours:
        name, given = parse_parameters(words)
        book.validate(NOTEBOOKS[name], {k: book.parse_value(v) for k, v in given.items()})
    for source, copy, *rest in theirs:
        assert copy.endswith(".ipynb")
        given: dict[str, Any] = {}
        while rest:
            option, value, *more = rest
            given |= yaml.safe_load(value if option == "-y" else f"{value}: {more.pop(0)}")
            rest = more
        book.validate(ROOT / source, given)


@pytest.mark.parametrize("page", [*PROSE, "README"])
def test_the_code_of_the_prose_parses(page: str) -> None:
    path = PROSE.get(page, ROOT / f"{page}.md")
    for block in blocks(path.read_text("utf-8"), "python"):
        compile(block, str(path), "exec")


@pytest.mark.parametrize("page", [name for name, path in PROSE.items() if "print(" in prose(name)])
def test_the_code_of_the_prose_prints_what_it_says(page: str) -> None:
    """A block's last comment lines are what it prints; blocks build on those before them."""
    names: dict[str, Any] = {}
    exec("import torch, vaelib\nmu, logvar = torch.zeros(2, 8, 4)", names)  # a reader's own
    checked = 0
    for block in blocks(prose(page), "python"):
        if NOT_RUN.search(block):
            continue
        said = re.search(r"(?:^# .*\n)+\Z", block, re.MULTILINE)
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            exec(compile(block, page, "exec"), names)
        lines = [line.rstrip() for line in shown.getvalue().splitlines()]
        expected = [line[2:] for line in said[0].splitlines()] if said else []
        assert [line.strip() for line in lines] == [line.strip() for line in expected]
        checked += bool(said)
    assert checked


def test_the_printed_numbers_in_the_prose_are_those_of_the_published_table() -> None:
    text = prose("posterior_collapse").partition("| printed for Yahoo |")[2]
    rows = re.findall(r"^\| ([^|]*VAE[^|]*) \|" + r" ([\d.]+) \|" * 4, text, re.MULTILINE)
    table = pivot("dg_vae", "table2", "Yahoo")
    names = {"VAE": "VAE (default)", "DG-VAE": "DG-VAE(default)"}
    assert len(rows) > 4
    for label, *numbers in rows:
        printed = table.loc[names.get(label, label), ["KL", "MI", "AU", "CU"]]
        assert [float(n) for n in numbers] == printed.to_list(), label


@pytest.mark.parametrize("profile", list(profiles()))
def test_every_setting_and_option_is_in_the_books_table(profile: str) -> None:
    table = settings(profile, "ptb")
    assert table.columns.to_list()[:3] == ["of", "setting", "default"]
    assert (table["what it is"].str.len() > 3).all(), "say in the docstring what it is"
    mine = set(table.loc[table["of"] == "run", "setting"])
    assert mine == set(FIELDS) - {"method", "data", "profile", "seed", "options"}
    classes = [part for registry in PARTS.values() for part in registry.values()]
    assert set(table.loc[table["of"] != "run", "setting"]) == {
        name for part in classes for name in options_of(part)
    }
    shown = dict(zip(table["setting"], table[f"{profile}, ptb"], strict=True))
    for name, value in profile_values(profile, "ptb").items():
        assert shown[name] == str(value), name


def test_the_tables_of_settings_show_defaults_and_exceptions() -> None:
    table = settings("laptop", "grammar").set_index(["of", "setting"])
    assert table.loc[("posterior batch_norm", "norm_eps"), "default"] == "1e-05"
    assert table.loc[("posterior batch_norm", "norm_eps"), "laptop, grammar"] == "1e-08"
    assert table.loc[("run", "train_size"), "default"] == "all"
    assert table.loc[("schedule cyclic", "late_restart"), "default"] == "false"
    assert table.loc[("run", "extra_terms"), "default"] == "none"
    rows = exceptions().set_index(["profile", "data"])["changes"]
    assert rows["laptop", "ptb"] == "train_size=5000, nll_size=100"


def test_the_method_of_the_api_page_is_added_by_one_file(tmp_path: Path) -> None:
    """The page's file, put into a copy of the package, registers itself and keeps the contract."""
    shutil.copytree(ROOT / "vaelib", tmp_path / "vaelib")
    file, tests = (b for b in blocks(prose("api"), "python") if "moment_gap" in b)
    (tmp_path / "vaelib" / "objectives" / "moments.py").write_text(file, "utf-8")
    code = tests.replace('check_method("moments")', "import vaelib; vaelib.METHODS['moments']")
    code += 'print(vaelib.build.resolve("moments", data="grammar", free=0.5).regulariser)'
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "moment_gap\n"), done.stderr


@pytest.mark.parametrize("page", sorted((ROOT / "book").glob("*.md")), ids=lambda p: p.stem)
def test_no_formula_in_a_table_loses_a_bar(page: Path) -> None:
    """In a table's row Markdown reads `\\|` as one bar, before any formula is seen."""
    rows = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    assert [row for row in rows if "\\|" in row] == []
