"""The methods page: every method and backbone in Markdown, made of recipes and docstrings alone.

A method's group is read off what it changes, so a new method finds its place by itself.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vaelib._book_parameters import project_root
from vaelib.backbones import BACKBONES, Backbone
from vaelib.build import PARTS, backbones_of, options_of
from vaelib.config import FIELDS
from vaelib.data.datasets import DATASETS
from vaelib.errors import VaelibError, check_name
from vaelib.objectives import Recipe
from vaelib.objectives.base import METHODS
from vaelib.posteriors_flow import PlanarPosterior

_ENTRY = re.compile(r"@\w+\{([^,\s]+),\s*author\s*=\s*\{([^,}]+)[^@]*?\byear\s*=\s*\{(\d{4})\}")
_PAPER = re.compile(r"(.+?)(?: & .+| and .+| et al\.)? (\d{4})")
_OF_PARTS = {"regulariser": "term"}  # what a kind of part is called, where not by its field


# ---------------------------------------------------------------- groups


def _backbone(entry: Recipe) -> Backbone:
    return BACKBONES[entry.changes.get("backbone", FIELDS["backbone"].default)]


def _part(kind: str, name: Any) -> type:
    registry: Any = PARTS[kind]
    return registry[name]


def _changed(entry: Recipe) -> list[tuple[str, str, type]]:
    """The parts that are not the plain VAE's: kind, registered name, class."""
    own = _backbone(entry).fields if "backbone" in entry.changes else {}
    fields = own | entry.changes
    found = [(kind, fields[kind]) for kind in PARTS if kind in fields]
    found += [("regulariser", name) for name in _extra_terms(entry)]
    return [(_OF_PARTS.get(kind, kind), name, _part(kind, name)) for kind, name in found]


def _of_family(entry: Recipe) -> bool:
    """Whether the posterior is of a family that no backbone has by itself."""
    usual = {backbone.fields.get("posterior") for backbone in BACKBONES.values()}
    return entry.changes.get("posterior") not in {None, *usual}


def _of_batch(entry: Recipe) -> bool:
    return any(getattr(part, "scope", "") == "batch" for _, _, part in _changed(entry))


def _extra_terms(entry: Recipe) -> tuple[str, ...]:
    return entry.changes.get("extra_terms", ())


def _of_decoder(entry: Recipe) -> bool:
    fields = {"backbone", "decoder", "extra_terms"}  # such a term is a second decoder
    options = options_of(_part("decoder", FIELDS["decoder"].default))
    return bool(fields & entry.changes.keys() or options.keys() & entry.options.keys())


def _of_training(entry: Recipe) -> bool:
    return "strategy" in entry.changes and not _of_family(entry)


def _of_responses(entry: Recipe) -> bool:
    return entry.changes.get("encoder") == "none" or _backbone(entry).reads == "pairs"


def _of_flows(entry: Recipe) -> bool:
    return any(part.__module__ == PlanarPosterior.__module__ for _, _, part in _changed(entry))


@dataclass(frozen=True)
class Group:
    """Methods that differ from the plain VAE in the same place.

    Attributes:
        title: A heading of the page.
        holds: Whether a method belongs here, unless it belongs to a later group.
    """

    title: str
    holds: Callable[[Recipe], bool]


GROUPS = {
    "weight": Group("The weight of the rate", lambda entry: True),
    "decoder": Group("The decoder", _of_decoder),
    "posterior": Group("The posterior family", _of_family),
    "batch": Group("The batch as a whole", _of_batch),
    "flows": Group("Flows", _of_flows),
    "training": Group("The training procedure", _of_training),
    "without": Group("Language models, and models of responses", _of_responses),
    "coupled": Group("Coupled models", lambda entry: "coupled" in _extra_terms(entry)),
}


def group_of(method: str) -> str:
    """The key in `GROUPS` of a method: the last group that holds it.

    Raises:
        VaelibError: The method is unknown.
    """
    return next(name for name in reversed(GROUPS) if GROUPS[name].holds(METHODS[method]))


def grouped() -> dict[str, list[str]]:
    """The methods of each group, those with the fewest differences first."""
    found: dict[str, list[str]] = {name: [] for name in GROUPS}
    for method in sorted(METHODS, key=lambda m: len(METHODS[m].changes | METHODS[m].options)):
        found[group_of(method)].append(method)
    return found


# ---------------------------------------------------------------- words


@cache
def references() -> Mapping[tuple[str, str], str]:
    """(first author's surname, year) -> key of the book's bibliography; empty without a book."""
    try:
        text = (project_root() / "book" / "references.bib").read_text("utf-8")
    except VaelibError:
        return {}
    return {(name, year): key for key, name, year in _ENTRY.findall(text)}


def cited(papers: str) -> str:
    """Papers such as "Kim et al. 2018; Li et al. 2019" as citations; other words stay."""
    keys: list[str] = []
    words: list[str] = []
    for paper in papers.split("; "):
        found = _PAPER.fullmatch(paper)
        known = references().get((found[1], found[2])) if found else None
        (keys if known else words).append(known or escaped(paper))
    return ", ".join([*([f"{{cite}}`{','.join(keys)}`"] if keys else []), *words])


def escaped(text: str) -> str:
    """Plain text as Markdown, in which `code` stays code and nothing else means anything."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([\\*_$<>\[\]{}~|])", r"\\\1", piece)
        for piece in pieces
    )


def told(part: object) -> str:
    """What a docstring says before its sections, as one paragraph of Markdown."""
    text = re.split(r"\n\n(?:Args|Attributes|Raises|Returns|Example):", inspect.getdoc(part) or "")
    return escaped(" ".join(text[0].split()))


def differences(entry: Recipe) -> str:
    """What a method changes, as written on the command line."""
    pairs = (entry.changes | entry.options).items()
    return ", ".join(f"`{name}={_value(value)}`" for name, value in pairs)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _all_but(names: Iterable[str], every: Iterable[str]) -> str:
    """Names among all there are, as few words as it takes."""
    mine, rest = list(names), [name for name in every if name not in set(names)]
    if not rest:
        return "all"
    code = [f"`{name}`" for name in (rest if len(rest) < len(mine) else mine)]
    return ("all but " if len(rest) < len(mine) else "") + ", ".join(code)


# ---------------------------------------------------------------- the page


def contents() -> str:
    """The groups with links to their methods."""
    lines = []
    for name, methods in grouped().items():
        links = ", ".join(f"[{method}](#method-{method.replace('_', '-')})" for method in methods)
        lines.append(f"- {GROUPS[name].title}: {links}")
    return "\n".join(lines)


def explained(group: str) -> str:
    """The methods of a group in Markdown.

    Args:
        group: A key of `GROUPS`.

    Raises:
        VaelibError: There is no such group.
    """
    check_name(group, GROUPS, "group of methods")
    seen: set[type] = set()
    blocks: list[str] = []
    for name, methods in grouped().items():
        for method in methods:
            parts = [part for part in _changed(METHODS[method]) if part[2] not in seen]
            seen |= {part[2] for part in parts}
            if name == group:
                blocks.append(_method(METHODS[method], parts))
    return "\n\n".join(blocks)


def _method(entry: Recipe, parts: Iterable[tuple[str, str, type]]) -> str:
    """One method; `parts` are those that the page has not explained before."""
    others = [f"`{alias}`" for alias in METHODS.aliases(entry.name)]
    also = f"; also {', '.join(others)}" if others else ""
    lines = [
        f"- name: `{entry.name}`{also}",
        f"- source: {cited(entry.paper)}; {escaped(entry.equation)}",
        f"- differs from `vae`: {differences(entry) or 'in nothing; this is it'}",
        f"- backbones: {_all_but(backbones_of(entry.name), BACKBONES)}",
        *(f"- the {kind} `{part}`: {told(how)}" for kind, part, how in parts),
    ]
    head = f"(method-{entry.name.replace('_', '-')})=\n### {escaped(entry.title)}"
    return "\n\n".join([head, escaped(entry.summary), f"$$ {entry.formula} $$", "\n".join(lines)])


def backbones() -> str:
    """The backbones in Markdown: parts, data sets they read, and how many methods they carry."""
    return "\n\n".join(map(_explained_backbone, BACKBONES.values()))


def _explained_backbone(backbone: Backbone) -> str:
    kinds = ("encoder", "posterior", "decoder")
    parts = {kind: backbone.fields.get(kind, FIELDS[kind].default) for kind in kinds}
    carried = sum(backbone.name in backbones_of(method) for method in METHODS)
    data = ", ".join(f"`{spec.id}`" for spec in DATASETS.values() if spec.holds == backbone.reads)
    lines = [
        f"- name: `{backbone.name}`",
        f"- source: {cited(backbone.paper)}",
        "- parts: " + ", ".join(f"{kind} `{name}`" for kind, name in parts.items()),
        f"- reads {backbone.reads}: {data}",
        f"- methods: {carried} of {len(METHODS)}",
    ]
    head = f"### {escaped(backbone.title[0].upper() + backbone.title[1:])}"
    return "\n\n".join([head, escaped(backbone.summary), "\n".join(lines)])
