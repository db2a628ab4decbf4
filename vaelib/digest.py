"""A digest of exactly the code that determines a run's numbers.

Starting from the functions and classes a run uses, names are followed through the package's own
modules; the definitions reached are hashed without comments, docstrings, `raise` statements and
`if`s that do nothing but raise. Code that a run does not use (another method's term, plots,
commands) can change without making its record stale.
"""

import ast
import hashlib
import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "vaelib"
ROOT = Path(__file__).parent
# Plumbing that carries values without making them: naming, checking, storing, fetching.
PLUMBING = ("config", "store", "errors", "registry", "digest", "data.download")
PLUMBING += ("data.folder", "data.datasets")


Place = tuple[str, str]  # the module and the name of a definition


class _Module:
    """The top-level definitions of one module, by name, and where its imported names come from."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, Place] = {}
        for node in ast.parse(source).body:
            self._add(node)

    def _add(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            for alias in node.names:
                self.imports[alias.asname or alias.name] = (node.module or "", alias.name)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.definitions.setdefault(node.name, []).append(_stripped(node))
            for name in _registered_for(node):
                self.definitions.setdefault(name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        self.definitions.setdefault(name.id, []).append(node)


def _dump(node: Any) -> str:
    """The tree as text, the same under every Python version: empty fields are left out."""
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((n, v) for n, v in ast.iter_fields(node) if v is not None and v != [])
    inside = ",".join(f"{n}={_dump(v)}" for n, v in fields if n != "kind")
    return f"{type(node).__name__}({inside})"


class _NoChecks(ast.NodeTransformer):
    """Refusals make no number: errors may be reworded, and checks that only raise added."""

    def visit_Raise(self, node: ast.Raise) -> ast.Pass:
        return ast.Pass()

    def visit_If(self, node: ast.If) -> ast.AST | None:
        only_raises = len(node.body) == 1 and isinstance(node.body[0], ast.Raise)
        assigns = any(isinstance(child, ast.NamedExpr) for child in ast.walk(node.test))
        if only_raises and not node.orelse and not assigns:
            return None
        return self.generic_visit(node)


def _stripped(node: Any) -> Any:
    node = _NoChecks().visit(node)
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            documented = ast.get_docstring(child) is not None
            child.body = child.body[documented:]
        if getattr(child, "body", None) == []:
            child.body = [ast.Pass()]
    return node


def _registered_for(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """The class a function is registered for with torch's `register_kl`: code it is used with."""
    calls = [d for d in node.decorator_list if isinstance(d, ast.Call)]
    kls = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "register_kl"]
    return [a.id for call in kls for a in call.args[:1] if isinstance(a, ast.Name)]


@cache
def _module(name: str) -> _Module | None:
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return None
    place = ROOT.joinpath(*parts[1:])
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return _Module(name, path.read_text("utf-8")) if path.is_file() else None


def _resolve(module: str, name: str) -> Place | None:
    """Where `name`, as seen in `module`, is defined; None when outside the package."""
    for _ in range(20):
        known = _module(module)
        if known is None or module.removeprefix(f"{PACKAGE}.") in PLUMBING:
            return None
        if name in known.definitions:
            return module, name
        if name not in known.imports:
            return None
        module, name = known.imports[name]
    return None


def _references(module: str, node: ast.AST) -> Iterable[Place]:
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            found = _resolve(module, child.id)
            if found:
                yield found
        elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            yield from _through_module(module, child.value.id, child.attr)


def _through_module(module: str, name: str, attribute: str) -> Iterable[Place]:
    known = _module(module)
    imported = known.imports.get(name) if known else None
    if imported:
        found = _resolve(f"{imported[0]}.{imported[1]}", attribute)
        if found:
            yield found


@cache
def _definition(place: Place) -> tuple[str, tuple[Place, ...]] | None:
    """The code of one definition and the places it refers to; None when there is none."""
    module = _module(place[0])
    if module is None or place[1] not in module.definitions:
        return None
    nodes = module.definitions[place[1]]
    references = {found for node in nodes for found in _references(place[0], node)}
    return "\n".join(_dump(node) for node in nodes), tuple(sorted(references))


def _places(roots: Iterable[Any]) -> tuple[Place, ...]:
    return tuple((root.__module__, root.__qualname__.split(".")[0]) for root in roots)


def _reachable(places: Iterable[Place]) -> dict[Place, str]:
    """The package's definitions that some places use: (module, name) -> code."""
    todo, seen = list(places), dict[Place, str]()
    while todo:
        place = todo.pop()
        definition = _definition(place)
        if place in seen or definition is None:
            continue
        seen[place] = definition[0]
        todo.extend(definition[1])
    return seen


def _foreign(root: Any) -> str:
    """The source of a part from outside the package, or its name where there is none to read."""
    try:
        return inspect.getsource(root)
    except (OSError, TypeError):
        return f"{root.__module__}.{root.__qualname__}"


def code_digest(roots: Iterable[Any], extra: str = "") -> str:
    """Twelve hex digits of the code `roots` use.

    Args:
        roots: Functions and classes of this package that a run calls.
        extra: Further text to cover, such as settings.
    """
    roots = list(roots)
    extra += "".join(_foreign(r) for r in roots if r.__module__.split(".")[0] != PACKAGE)
    return hashlib.sha256((_text(_places(roots)) + extra).encode()).hexdigest()[:12]


@cache
def _text(places: tuple[Place, ...]) -> str:
    """All code that is reachable from some places, in the order of its names."""
    code = _reachable(places)
    return "\n".join(f"{module}.{name}: {code[module, name]}" for module, name in sorted(code))
