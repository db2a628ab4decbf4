"""This run against the published one: what counts as new, the tolerance, what is said and drawn."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from plot_helpers import check_fits, check_ink, words
from scipy import stats

from vaelib import against, plots
from vaelib._book_beside import beside, run_beside
from vaelib.run import key_of
from vaelib.store import Key, Store, write_json
from vaelib.studies import Planned, Study

LABELS = ["VAE (default)", "DG-VAE(default)"]
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NLL = [23.0, 23.4, 23.2]  # of the committed records, seed by seed


def facts(plan: Planned, nll: float) -> tuple[Key, dict[str, Any]]:
    key = key_of(plan.config)
    metrics = {"nll_iw500": nll, "kl": 0.1, "mi_global": 0.1, "au": 0.0}
    about = {"started": "2030", "test_size": 10, "train_seconds": 60.0, "evaluate_seconds": 6.0}
    about |= {"device": "a processor", "precision": "fp32"}
    about |= {"versions": {"vaelib": "0.1.0", "torch": "2.13"}}
    about |= {"data": {"id": plan.data, "stand_in": False}}
    facts = {"key": str(key), "question": plan.config.question, "config": plan.config.to_dict()}
    facts |= {"epochs": [], "history": {}, "texts": {}, "metrics": metrics, "provenance": about}
    return key, facts


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three committed seeds of each label on the grammar, none in the store."""
    store = Store(tmp_path / "runs", tmp_path / "results")
    for plan in opened(store, seeds=[0, 1, 2]).planned():
        key, made = facts(plan, NLL[plan.seed])
        assert store.results is not None
        write_json(store.results / f"{key}.json", made)
    return store


def opened(
    store: Store, data: str = "grammar", labels: Sequence[str] = LABELS, **more: Any
) -> Study:
    return Study("dg_vae", "laptop", data=data, labels=list(labels), store=store, **more)


def run_all(study: Study, nll: float) -> Study:
    for plan in study.planned():
        key, made = facts(plan, nll)
        write_json(study.store.record_path(key), made)
    return study.refresh()


def test_published_runs_are_nothing_to_compare(store: Store, capsys: Any) -> None:
    study = opened(store, seeds=[0, 1])
    assert against.compare(study).empty
    assert against.show(study) == []
    assert "All 4 runs of this page are the published ones" in capsys.readouterr().out


def test_a_page_without_a_run_says_so(store: Store, capsys: Any) -> None:
    assert against.show(opened(store, seeds=[9])) == []
    assert capsys.readouterr().out.startswith("No run of this page is there")


def test_a_run_made_again_is_new_only_where_a_number_is_another(store: Store) -> None:
    same = run_all(opened(store, seeds=[0]), NLL[0])
    assert [run.entry.folder is None for _, run in same.found] == [False, False]
    assert against.new_runs(same) == []
    other = run_all(opened(store, seeds=[0]), NLL[0] + 1e-9)
    assert [plan.label for plan, _ in against.new_runs(other)] == LABELS


def test_numbers_stand_beside_the_published_ones_with_a_tolerance(store: Store) -> None:
    table = against.compare(run_all(opened(store, seeds=[0, 1], epochs=1), 23.3))
    assert list(table["label"].unique()) == LABELS
    row = table[(table["label"] == LABELS[0]) & (table["metric"] == "nll_iw500")].iloc[0]
    assert (row["on"], row["data"]) == ("grammar", "grammar")
    assert row["published"] == pytest.approx(23.2)
    assert row["difference"] == pytest.approx(0.1)
    allowed = stats.t.ppf(0.975, 2) * 0.2 * math.sqrt(1 / 3 + 1 / 2)
    assert row["tolerance"] == pytest.approx(allowed, rel=1e-5)
    assert row["within"]
    assert table.attrs["changed"] == ["epochs: 12 published, 1 here"]
    still = table[table["metric"] == "kl"].iloc[0]  # no spread: only the same is within
    assert still["tolerance"] == pytest.approx(0, abs=1e-12)
    assert still["within"]
    far = against.compare(run_all(opened(store, seeds=[0], epochs=2), 25.0))
    assert not far[far["metric"] == "nll_iw500"]["within"].any()


def test_of_one_published_seed_no_tolerance_is_known() -> None:
    assert math.isnan(against.tolerance(pd.Series([1.0]), 3))


def test_other_data_of_the_same_kind_stand_beside(store: Store, capsys: Any) -> None:
    study = run_all(opened(store, data="ptb", seeds=[0]), 100.0)
    table = against.compare(study)
    assert set(table["on"]) == {"grammar"}
    shown, picture = against.show(study)
    assert "The book has nothing on ptb: beside it stands grammar." in shown.notes
    assert "2 of 2 runs of this page are not in the published book" in capsys.readouterr().out
    check_fits(picture)


def test_where_nothing_is_alike_that_is_said(store: Store, capsys: Any) -> None:
    study = run_all(opened(store, labels=["BN-VAE(0.6)"], seeds=[0]), 100.0)
    assert against.show(study) == []
    assert "and nothing like them is." in capsys.readouterr().out


def test_the_table_says_what_the_picture_shows(store: Store) -> None:
    shown, picture = against.show(run_all(opened(store, seeds=[0], epochs=1), 25.0))
    text = repr(shown)
    assert re.search(r"grammar +VAE \(default\) +NLL +23.20 +25.00 +\+1.80 +\S+ +no", text)
    assert "Settings that differ: epochs: 12 published, 1 here." in shown.notes
    check_fits(picture)
    check_ink(picture)
    heads = list(dict.fromkeys(shown.table["quantity"]))
    assert [a.get_title() for a in picture.axes if a.axison] == heads
    assert "this run" in words(picture)
    for axes in picture.axes:
        assert axes.get_xlim() == axes.get_ylim()


def test_the_picture_of_nothing_says_so() -> None:
    assert "nothing to compare" in words(plots.against(pd.DataFrame()))


# ---- Two copies on one page -------------------------------------------------------------------


def copy(*outputs: dict[str, Any], injected: bool = False) -> dict[str, Any]:
    """An executed notebook with a heading above each output."""
    cells: list[dict[str, Any]] = []
    if injected:
        tags = {"tags": ["injected-parameters"]}
        cells.append({"cell_type": "code", "metadata": tags, "source": "x = 1", "outputs": []})
    for number, output in enumerate(outputs):
        source = [f"## Part {number}\n", "\n", "Words."]
        cells.append({"cell_type": "markdown", "metadata": {}, "source": source})
        cells.append({"cell_type": "code", "metadata": {}, "source": "", "outputs": [output]})
    return {"cells": cells}


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def drawn(svg: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"image/svg+xml": svg, "text/plain": "x"}}


def test_outputs_stand_side_by_side_and_equal_ones_are_folded() -> None:
    old = copy(printed("same"), printed("one <b>"), drawn("<svg><script>1</script></svg>"))
    new = copy(printed("same"), printed("two"), drawn("<svg></svg>"), injected=True)
    page = beside("small", old, new, "seeds [0]")
    assert "<h1>small: published, and with seeds [0]</h1>" in page
    assert page.count("<details>") == 1
    assert "<summary>Part 0: the same in both</summary>" in page
    assert "<div><pre>one &lt;b&gt;</pre></div><div><pre>two</pre></div>" in page
    assert "<script>" not in page  # a picture is an image, which runs nothing
    assert 'alt="published, Part 2"' in page
    assert 'alt="this run, Part 2"' in page


def test_progress_and_empty_cells_are_left_out() -> None:
    progress = {"output_type": "stream", "name": "stderr", "text": "3 of 4"}
    page = beside("small", copy(progress), copy(progress), "the same parameters")
    assert "3 of 4" not in page
    assert "Part 0" not in page


def test_a_notebook_runs_beside_its_published_self(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    sources = [
        "seeds: list[int] = []  # seeds",
        "import os\nprint(seeds, os.environ['VAELIB_STORE'])",
    ]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, tmp_path / "small.ipynb")
    monkeypatch.setenv("VAELIB_STORE", str(tmp_path / "mine"))
    copy, page = run_beside(tmp_path / "small.ipynb", {"seeds": [4]}, tmp_path / "out" / "a.ipynb")
    assert (copy.name, page.name) == ("a.ipynb", "a.html")
    text = page.read_text("utf-8")
    published, here = re.findall(r"<pre>(.*?)\n</pre>", text)
    assert here == f"[4] {tmp_path / 'mine'}"
    assert published.startswith("[] ")  # of a store that is empty: the committed records alone
    assert "mine" not in published
    assert os.environ["VAELIB_STORE"] == str(tmp_path / "mine")
    assert sorted(path.name for path in page.parent.iterdir()) == ["a.html", "a.ipynb"]


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_every_page_of_a_study_ends_with_the_comparison(name: str) -> None:
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shows_a_study = any(source.startswith("study = open_study(") for source in code)
    ending = ["compared = against.show(study)\ndisplay(*compared[:1])", "display(*compared[1:])"]
    assert (code[-2:] == ending) == shows_a_study
