"""Values as a reader writes them, and texts as a terminal or a page may show them."""

import re
from typing import Any

from vaelib.errors import VaelibError

_DIGITS = re.compile(r"[-+]?\d{1,400}")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_COMMA = re.compile(r""",(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")  # none inside quotes
# Control characters, line separators, what turns the direction of writing, halves of characters.
_ACTIVE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WORDS = {"true": True, "false": False, "null": None, "~": None}


def parse_literal(text: str) -> Any:
    """A value as written in YAML: true, 3, 1e-3, [0, 1], null, "text" or text.

    Example:
        >>> parse_literal("[0, 1e-3, 'a, b']"), parse_literal("false"), parse_literal("'3'")
        ([0, 0.001, 'a, b'], False, '3')

    Raises:
        VaelibError: A list or a quoted text does not end.
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _DIGITS.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    if text[:1] in ("'", '"', "["):
        if len(text) < 2 or text[-1] != text[0].replace("[", "]"):
            raise VaelibError(
                f"cannot read the value {text}: it begins with {text[0]} and does not end so."
            )
        inside = text[1:-1]
        return inside if text[0] != "[" else [parse_literal(part) for part in _split(inside)]
    return text


def visible(text: str) -> str:
    r"""A text whose control characters are seen, written as Python escapes them, and do nothing.

    Example:
        >>> visible("red \x1b[31m")
        'red \\x1b[31m'
    """
    return _ACTIVE.sub(lambda found: ascii(found[0])[1:-1], text)


def _split(inside: str) -> list[str]:
    return _COMMA.split(inside) if inside.strip() else []
