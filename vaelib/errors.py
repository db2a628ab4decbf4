"""One exception for everything a user can mend, and the "did you mean" sentence."""

import difflib
from collections.abc import Iterable, Mapping


class VaelibError(ValueError):
    """A mistake the user can mend; the message is one sentence: what, where, what to do."""


def check_name(
    name: str, allowed: Iterable[str], what: str, also: Mapping[str, str] | None = None
) -> str:
    """Return `name` when it is one of `allowed`.

    Args:
        name: What the user wrote.
        allowed: The known names.
        what: The kind of thing named, for the message ("method", "data set", "option of 'bn'").
        also: Aliases, alias -> known name; a near miss of one suggests its name.

    Returns:
        `name` unchanged.

    Raises:
        VaelibError: The name is unknown; the message gives the nearest known name and all of them.
    """
    known = list(allowed)
    if name in known:
        return name
    aliases = dict(also or {})
    near = difflib.get_close_matches(str(name), [*known, *aliases], n=1, cutoff=0.5)
    hint = f"did you mean {aliases.get(near[0], near[0])!r}? " if near else ""
    raise VaelibError(f"unknown {what} {name!r}: {hint}Known: {', '.join(known) or 'none'}.")
