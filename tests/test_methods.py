"""The page of methods: groups by rule, words from recipes and docstrings, papers from the book."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vaelib import _methods, pages
from vaelib._methods import GROUPS, escaped, explained, group_of, grouped
from vaelib.backbones import BACKBONES, USUAL
from vaelib.build import METHODS, PARTS, resolve
from vaelib.config import LAPTOP_METRICS
from vaelib.data.datasets import DATASETS
from vaelib.errors import VaelibError
from vaelib.metrics import METRICS
from vaelib.objectives import Recipe

ROOT = Path(__file__).parents[1]
PAGE = "\n".join(explained(group) for group in GROUPS)


def cells() -> list[dict[str, object]]:
    """The cells of the page."""
    return json.loads((ROOT / "notebooks" / "methods.ipynb").read_text("utf-8"))["cells"]


# ---------------------------------------------------------------- groups


def test_every_method_is_in_one_group_and_no_group_is_empty() -> None:
    found = [method for methods in grouped().values() for method in methods]
    assert sorted(found) == sorted(METHODS)
    assert all(grouped().values())


@pytest.mark.parametrize(
    ("method", "group"),
    [
        ("vae", "weight"),
        ("free_bits", "weight"),
        ("bow", "decoder"),
        ("skip", "decoder"),
        ("cnn", "decoder"),
        ("bn", "posterior"),
        ("du", "posterior"),
        ("dg_vmf", "batch"),
        ("mine", "batch"),
        ("iaf_fb", "flows"),
        ("wae_nf", "flows"),
        ("iwae", "training"),
        ("prefb", "training"),
        ("lm", "without"),
        ("cvae", "without"),
        ("coupled_cvae", "coupled"),
        ("coupled_lagging", "coupled"),
    ],
)
def test_the_place_of_a_method_follows_from_what_it_changes(method: str, group: str) -> None:
    assert group_of(method) == group


def test_a_new_method_finds_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS.items()))
    changes = {"regulariser": "density_gap", "schedule": "cyclic"}
    entry = Recipe("new", "New", "Kim et al. 2018", "none", "0", "New.", changes)
    METHODS.add("new", entry)
    assert group_of("new") == "batch"
    assert grouped()["batch"][-1] != "dg"
    assert "### New" in explained("batch")


def test_an_unknown_group_or_method_is_refused() -> None:
    with pytest.raises(VaelibError, match="did you mean 'flows'"):
        explained("flow")
    with pytest.raises(VaelibError, match="did you mean"):
        group_of("bnn")


def test_the_notebook_shows_every_group_in_order_below_its_title() -> None:
    sources = ["".join(cell["source"]) for cell in cells()]
    shown = [found[1] for s in sources if (found := re.search(r'explained\("(\w+)"\)', s))]
    assert shown == list(GROUPS)
    for name, group in GROUPS.items():
        before = sources[sources.index(f'Markdown(explained("{name}"))') - 1]
        assert before.startswith(f"## {group.title}\n")


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_is_explained_by_its_own_words(name: str) -> None:
    entry = METHODS[name]
    block = explained(group_of(name)).split(f"(method-{name.replace('_', '-')})=\n")[1]
    block = block.split("\n(method-")[0]
    assert block.startswith(f"### {escaped(entry.title)}\n\n{escaped(entry.summary)}\n")
    assert f"\n$$ {entry.formula} $$\n" in block
    assert f"\n- name: `{name}`" in block
    assert all(f"`{alias}`" in block for alias in METHODS.aliases(name))
    for key in entry.changes | entry.options:
        assert f"`{key}=" in block


def test_what_a_method_is_said_to_change_makes_it_of_the_plain_vae() -> None:
    """Written on the command line after `vaelib train vae`, the differences are the method."""
    from vaelib._commands import parse_settings

    for name, data in {"iaf_fb": "grammar", "coupled_wae_nf": "grammar", "cyclic": "ptb"}.items():
        words = re.findall(r"`([^`]*)`", _methods.differences(METHODS[name]))
        made = resolve("vae", data=data, **parse_settings(words, ())).to_dict()
        wanted = resolve(name, data=data).to_dict()
        assert {key for key in made if made[key] != wanted[key]} == {"method"}


def test_a_part_is_explained_once_where_a_method_brings_it() -> None:
    used = {
        (kind, entry.changes[kind])
        for entry in METHODS.values()
        for kind in PARTS
        if kind in entry.changes
    }
    for kind, name in sorted(used):
        word = "term" if kind == "regulariser" else kind
        assert PAGE.count(f"- the {word} `{name}`: ") == 1, name
    assert PAGE.count("- the term `coupled`: ") == 1
    assert "sum\\_d KL\\_d 1\\[KL\\_d \\> lambda/D\\]" in PAGE
    assert "Args:" not in PAGE


PIECES = st.text(st.sampled_from("ab1.,()*_$<>[]{}~|\\^=+-&:;/"), min_size=1, max_size=8)


@given(st.lists(PIECES, max_size=6).map(lambda pieces: " ".join(["A", *pieces])))
def test_plain_text_stays_plain(text: str) -> None:
    html = MarkdownIt().render(escaped(text))
    assert unescape(html) == f"<p>{text}</p>\n"


def test_code_in_plain_text_stays_code() -> None:
    html = MarkdownIt().render(escaped("A `b_c[d]` and e_f."))
    assert html == "<p>A <code>b_c[d]</code> and e_f.</p>\n"


# ---------------------------------------------------------------- papers


def test_every_paper_of_a_method_or_backbone_is_in_the_bibliography() -> None:
    text = (ROOT / "book" / "references.bib").read_text("utf-8")
    assert len(_methods.references()) == len(re.findall(r"^@", text, re.MULTILINE))
    for entry in (*METHODS.values(), *BACKBONES.values()):
        for paper in entry.paper.split("; "):
            if re.search(r" \d{4}$", paper):
                assert _methods.cited(paper).startswith("{cite}`"), paper


def test_papers_become_citations_and_words_stay() -> None:
    both = _methods.cited("Li et al. 2019; Wu et al. 2020")
    assert both == "{cite}`li2019surprising,wu2020coupled`"
    assert _methods.cited("Kingma & Welling 2014; own_code") == "{cite}`kingma2014vae`, own\\_code"
    assert _methods.cited("Nobody et al. 1999") == "Nobody et al. 1999"


def test_every_citation_of_the_prose_is_in_the_bibliography() -> None:
    text = (ROOT / "book" / "references.bib").read_text("utf-8")
    known = set(re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE))
    for page in (ROOT / "book").glob("*.md"):
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text("utf-8")):
            assert set(keys.split(",")) <= known, page.name


# ---------------------------------------------------------------- backbones and counts


def test_every_backbone_is_explained_with_the_data_it_reads() -> None:
    blocks = _methods.backbones().split("### ")[1:]
    assert len(blocks) == len(BACKBONES)
    for backbone, block in zip(BACKBONES.values(), blocks, strict=True):
        assert f"- name: `{backbone.name}`" in block
        reads = re.search(r"^- reads .*", block, re.MULTILINE)[0]
        wanted = {name for name, spec in DATASETS.items() if spec.holds == backbone.reads}
        assert set(re.findall(r"`(\w+)`", reads)) == wanted


def test_the_settings_of_every_backbone_are_shown() -> None:
    table = pages.backbone_settings()
    assert set(table["backbone"]) == set(BACKBONES) - {USUAL["text"]}
    every = table[table["profile"] == "every"].set_index("backbone")["changes"]
    assert "second_head=log_variance" in every["resnet"]
    assert table["changes"].str.len().min() > 0


def test_the_readme_counts_what_there_is() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"{len(METHODS)} methods on {len(BACKBONES)} backbones" in text
    more = len(METRICS) - len(LAPTOP_METRICS)
    assert f"{len(LAPTOP_METRICS)} metrics in every record and {more} more on request" in text
    table = text.split("| backbones, the usual one first |")[1].split("The first of each row")[0]
    for name, spec in DATASETS.items():
        assert spec.stand_in or f"`{name}`" in table, name
    assert all(f"`{name}`" in table for name in BACKBONES)


def test_the_page_of_data_lists_every_data_set() -> None:
    text = (ROOT / "book" / "data.md").read_text("utf-8")
    assert [name for name in DATASETS if f"`{name}`" not in text] == []


def test_the_page_of_metrics_names_every_metric() -> None:
    text = (ROOT / "book" / "metrics.md").read_text("utf-8")
    for name, spec in METRICS.items():
        assert any(f"`{word}`" in text for word in (name, *spec.columns)), name
