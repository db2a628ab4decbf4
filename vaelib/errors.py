"""One exception for everything a user can mend, and the "did you mean" sentence."""

import difflib
from collections.abc import Iterable, Mapping


class VaelibError(ValueError):
    """A mistake the user can mend; the message is one sentence: what, where, what to do."""


class UnknownName(VaelibError, KeyError):
    """A name that nothing goes by; a `KeyError` too, as of any mapping."""

    __str__ = Exception.__str__  # the sentence, where a KeyError would quote it


def check_name(
    name: str,
    allowed: Iterable[str],
    what: str,
    also: Mapping[str, str] | None = None,
    first: Iterable[str] = (),
) -> str:
    """Return `name` when it is one of `allowed`.

    Args:
        name: What the user wrote.
        allowed: The known names.
        what: The kind of thing named, for the message ("method", "data set", "option of 'bn'").
        also: Aliases, alias -> known name; a near miss of one suggests its name.
        first: The allowed names that are likeliest meant; one with a word that begins with `name`
            is suggested.

    Returns:
        `name` unchanged.

    Raises:
        UnknownName: The name is unknown; the message gives the nearest known name and all of them.
    """
    own = list(first)
    known = list(dict.fromkeys([*own, *allowed]))
    if name in known:
        return name
    aliases = dict(also or {})
    near = [k for k in own if any(word.startswith(str(name)) for word in k.split("_"))]
    near = near or difflib.get_close_matches(
        str(name), [*known, *aliases], n=1, cutoff=0.6 if own else 0.5
    )
    hint = f"did you mean {aliases.get(near[0], near[0])!r}? " if near else ""
    raise UnknownName(f"unknown {what} {name!r}: {hint}Known: {', '.join(known) or 'none'}.")
