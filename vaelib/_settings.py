"""Every setting of a run and every option of its parts as one table, read off the code itself."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from vaelib.build import PARTS, options_of
from vaelib.config import FIELDS, Config, profile_values, profiles

_ENTRY = re.compile(r"    (\w+(?:, \w+)*): (.+)")


def described(thing: object) -> dict[str, str]:
    """Name -> text of the arguments and attributes that a docstring explains."""
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in (inspect.getdoc(thing) or "").splitlines():
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            texts |= dict.fromkeys(names, entry[2])
        elif names and line.startswith(" " * 8):
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
        else:
            names = []
    return {name: text.replace("`", "") for name, text in texts.items()}


def settings(profile: str, data: str) -> pd.DataFrame:
    """Where a setting belongs, its name, default, value at a profile on a data set, and what it is.

    Raises:
        VaelibError: The profile is unknown.
    """
    given = profile_values(profile, data)
    rows = [
        {
            "of": owner,
            "setting": name,
            "default": _text(default),
            f"{profile}, {data}": _text(given.get(name, default)),
            "what it is": texts.get(name, ""),
        }
        for owner, texts, defaults in _owners()
        for name, default in defaults.items()
    ]
    return pd.DataFrame(rows)


def exceptions() -> pd.DataFrame:
    """What a profile changes for single data sets only."""
    rows = [
        {"profile": profile, "data": data, "changes": ", ".join(f"{k}={v}" for k, v in own.items())}
        for profile, table in profiles().items()
        for data, own in table.get("data", {}).items()
    ]
    return pd.DataFrame(rows)


def _owners() -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """The run, then every part that has options: name, what its docstring says, defaults."""
    asked = {"method", "data", "profile", "seed", "options"}
    plain = {name: field.default for name, field in FIELDS.items() if name not in asked}
    yield "run", described(Config), plain
    for kind, registry in PARTS.items():
        what = "term" if kind == "regulariser" else kind
        for name, part in registry.items():
            if options := options_of(part):
                yield f"{what} {name}", described(part), options


def _text(value: Any) -> str:
    if value is None:
        return "all"
    if isinstance(value, (tuple, list)):
        return ", ".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value}"
