"""Where the book's notebooks are and what they may be told: typed, checked parameters."""

import ast
import contextlib
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelib.config import profiles
from vaelib.errors import VaelibError, check_name
from vaelib.literals import parse_literal


def extra(name: str) -> Any:
    """Import a module of the extra `[book]`.

    Raises:
        VaelibError: It is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise VaelibError(
            f"the book needs the package {error.name!r}: install vaelib's extra with "
            "`pip install 'vaelib[book]'`, or `make setup` in a checkout."
        ) from error


def project_root(start: Path | None = None) -> Path:
    """The folder that holds `_toc.yml` and `notebooks/`: `start` (or here) or one above it.

    Raises:
        VaelibError: There is none.
    """
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise VaelibError(f"no book in {here} or above: go to the project's checkout first.")


def find_notebook(notebook: str | Path, root: Path | None = None) -> Path:
    """The file of a notebook given by path or by name.

    Raises:
        VaelibError: There is none; the message names the nearest.
    """
    path = Path(notebook)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    folder = project_root(root) / "notebooks"
    known = sorted(p.stem for p in folder.glob("*.ipynb"))
    return folder / f"{check_name(path.stem, known, 'notebook')}.ipynb"


def pages(root: Path | None = None) -> list[str]:
    """The book's pages in reading order, as `_toc.yml` names them."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (str(v) for k, v in node.items() if k in ("root", "file"))
            yield from (page for v in node.values() for page in walk(v))
        elif isinstance(node, list):
            yield from (page for item in node for page in walk(item))

    return list(walk(extra("yaml").safe_load((project_root(root) / "_toc.yml").read_text("utf-8"))))


def notebooks(root: Path | None = None) -> list[str]:
    """The pages that are notebooks, in reading order."""
    folder = project_root(root) / "notebooks"
    return [page for page in pages(root) if (folder / f"{page}.ipynb").is_file()]


@dataclass(frozen=True)
class ParameterSpec:
    """What a notebook parameter may be; `SPEC` holds one for every name notebooks share.

    Attributes:
        type: The annotation in the parameters cell: "str", "int", "list[int]", ...
        wanted: What it must be, as read after "must be".
        example: A value as written in YAML.
        help: One line for listings.
        valid: Whether a value of the right type is in range; None where every one is.
        names: The known names where the value is one of them; a wrong one is met with the nearest.
        everything: The value that takes all the profile has; allowed only where it is the
            notebook's default, since other notebooks show a choice.
    """

    type: str
    wanted: str
    example: str
    help: str
    valid: Callable[[Any], bool] | None = None
    names: Callable[[], Iterable[str]] | None = None
    everything: Any = None


@dataclass(frozen=True)
class Parameter:
    """A parameter as a notebook declares it: `name: type = default  # help`."""

    name: str
    type: str
    default: Any
    help: str


def _distinct(values: list[Any]) -> bool:
    return 0 < len(set(values)) == len(values)


def _dataset_names() -> list[str]:
    from vaelib.data import DATASETS

    return ["study", *DATASETS]


SPEC = {
    "profile": ParameterSpec(
        "str", "smoke, laptop or paper", "laptop", "how much work: smoke, laptop or paper",
        names=profiles,
    ),
    "dataset": ParameterSpec(
        "str", "a data set's id or an existing folder", "grammar",
        "an id listed by `vaelib datasets`, a folder of texts, or study for all of the profile",
        bool, _dataset_names, "study",
    ),
    "seeds": ParameterSpec(
        "list[int]", "a list of one or more distinct whole numbers >= 0", "[0, 1]",
        "one run per method and seed; an empty list takes the profile's seeds",
        lambda seeds: _distinct(seeds) and min(seeds) >= 0, everything=[],
    ),
    "jobs": ParameterSpec(
        "int", "a whole number >= 1", "2", "runs trained at the same time", lambda n: n >= 1
    ),
    "device": ParameterSpec(
        "str", "auto, cpu, cuda or cuda:N", "auto", "where to train: auto, cpu or cuda",
        lambda device: re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is not None,
    ),
    "methods": ParameterSpec(
        "list[str]", "a list of one or more distinct labels of the study",
        '["VAE (default)", "BN-VAE(1.2)"]', "labels of the study's runs to show", _distinct,
    ),
    "steps": ParameterSpec(
        "int", "a multiple of 5, at least 5", "500", "updates of each run; a snapshot each fifth",
        lambda n: n >= 5 and n % 5 == 0,
    ),
    "epochs": ParameterSpec(
        "int", "a whole number >= 1", "20", "passes over the training split", lambda n: n >= 1
    ),
    "train_size": ParameterSpec(
        "int", "a whole number >= 1", "10000", "sentences trained on", lambda n: n >= 1
    ),
    "train_missing": ParameterSpec(
        "bool", "true or false", "true",
        "train the runs the store lacks; false shows only what is there"
    ),
}  # fmt: skip
_BASES: dict[str, Any] = {"str": str, "bool": bool, "int": int, "float": (int, float)}


def _has_type(value: Any, annotation: str) -> bool:
    if annotation.startswith("list["):
        return isinstance(value, list) and all(_has_type(v, annotation[5:-1]) for v in value)
    base = _BASES[check_name(annotation, [*_BASES, "list[...]"], "parameter type")]
    return isinstance(value, base) and (annotation == "bool" or not isinstance(value, bool))


def _spec(name: str, annotation: str) -> ParameterSpec:
    generic = ParameterSpec(annotation, f"of type {annotation}", "...", "")
    return SPEC.get(name, generic)


def _check(parameter: Parameter, value: Any) -> None:
    """Refuse a value of the wrong type or out of range, in one sentence."""
    name, spec = parameter.name, _spec(parameter.name, parameter.type)
    everything = spec.everything is not None and parameter.default == spec.everything
    if everything and value == spec.everything:
        return
    fits = _has_type(value, spec.type) and (spec.valid is None or spec.valid(value))
    if not fits or value == spec.everything:
        what = f"the text {value!r}" if isinstance(value, str) else repr(value)
        wanted = spec.wanted + (f", or {spec.everything} for all of the profile" * everything)
        raise VaelibError(
            f"parameter {name!r} must be {wanted}, not {what}: write -p {name} "
            f"'{spec.example}' with `vaelib book run`, or -y '{name}: {spec.example}' with "
            "papermill."
        )
    if spec.names and not (name == "dataset" and _is_folder(value)):
        check_name(value, spec.names(), "data set" if name == "dataset" else name)


def _is_folder(dataset: str) -> bool:
    from vaelib.data.datasets import data_name, own_folder

    folder = own_folder(data_name(dataset))
    return bool(folder and folder.is_dir())


def _check_methods(methods: Iterable[str], usual: Any) -> None:
    """Refuse labels that the notebook's study has not: the study that has its usual ones."""
    from vaelib.studies import grid, papers

    grids = [dict.fromkeys(row["label"] for row in grid(paper)) for paper in papers()]
    mine = [labels for labels in grids if usual and set(usual) <= set(labels)]
    known = {label: None for labels in mine or grids for label in labels}
    for label in methods:
        check_name(label, known, "label of a study's runs")


def _check_all(known: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    for name, parameter in known.items():
        _check(parameter, values[name])
    if "methods" in known:
        _check_methods(values["methods"], known["methods"].default)


def _declared(source: str, where: str, strict: bool = True) -> list[Parameter]:
    """The annotated assignments of a parameters cell, with the comments behind them."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            found.append(_declaration(node, node.value, source))
        elif strict:
            line = source.splitlines()[node.lineno - 1]
            raise VaelibError(
                f"{where}: the parameters cell says {line!r}; write `name: type = value  # what`."
            )
    return found


def _declaration(node: ast.AnnAssign, value: ast.expr, source: str) -> Parameter:
    name, annotation = ast.unparse(node.target), ast.unparse(node.annotation)
    try:
        default = ast.literal_eval(value)
    except ValueError as error:
        raise VaelibError(f"the default of parameter {name!r} must be written out.") from error
    last = source.splitlines()[(value.end_lineno or 1) - 1].encode()
    comment = last[value.end_col_offset :].decode().partition("#")[2].strip()
    return Parameter(name, annotation, default, comment or _spec(name, annotation).help)


def parameters(notebook: str | Path, root: Path | None = None) -> list[Parameter]:
    """The parameters a notebook declares in its first code cell tagged `parameters`.

    Args:
        notebook: A path, or a name under `notebooks/` with or without `.ipynb`.
        root: The project's folder; by default the one the caller stands in.

    Raises:
        VaelibError: No such notebook, no such cell, or a line that is no typed assignment.
    """
    path = find_notebook(notebook, root)
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", []):
            return _declared("".join(cell["source"]), path.name)
    raise VaelibError(f"{path.name} has no code cell tagged `parameters`; tag its first code cell.")


def validate(
    notebook: str | Path, given: Mapping[str, Any], root: Path | None = None
) -> dict[str, Any]:
    """Check parameter values against a notebook before anything runs.

    Args:
        notebook: A path, or a name under `notebooks/`.
        given: Name -> value, as real values (a list, not the text of one).
        root: The project's folder.

    Returns:
        `given` as a new dict.

    Raises:
        VaelibError: An unknown name, a wrong type or a value out of range, in one sentence.
    """
    known = {p.name: p for p in parameters(notebook, root)}
    for name in given:
        check_name(name, known, "parameter")
    _check_all(known, {name: p.default for name, p in known.items()} | dict(given))
    return dict(given)


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Stop a notebook whose parameters are wrong; its first code cell calls this.

    The cell after the one tagged `parameters` says `vaelib.book.check_parameters(globals())`. It
    checks the values that the parameters cell and papermill's injected cell left behind, and
    refuses names that papermill injected though the notebook declares none such.

    Args:
        namespace: `globals()` of the notebook.

    Raises:
        VaelibError: The sentence of `validate`.
    """
    cells = [cell for cell in namespace.get("In", []) if isinstance(cell, str)]
    known = next(filter(None, map(_declared_leniently, cells)), {})
    for cell in cells:
        if cell.startswith("# Parameters\n"):
            for node in ast.parse(cell).body:
                if isinstance(node, ast.Assign):
                    check_name(ast.unparse(node.targets[0]), known, "parameter")
    shared = {n: Parameter(n, s.type, s.everything, "") for n, s in SPEC.items() if n in namespace}
    _check_all(known or shared, namespace)


def _declared_leniently(cell: str) -> dict[str, Parameter]:
    with contextlib.suppress(SyntaxError, ValueError):
        return {p.name: p for p in _declared(cell, "", strict=False)}
    return {}


parse_value = parse_literal  # `vaelib book run` reads values as all commands do
