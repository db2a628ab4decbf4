"""Names -> things. Parts, terms, metrics, data sets and methods all live in a `Registry`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from vaelib.errors import UnknownName, VaelibError, check_name

T = TypeVar("T")


_PLAIN = dict.fromkeys(map(ord, " _-–,()*")) | str.maketrans(
    {"β": "beta", "δ": "delta", "κ": "kappa"}
)


def _plain(name: str) -> str:
    return name.casefold().translate(_PLAIN)


def _short(name: str) -> str:
    plain = _plain(name)
    return plain.removesuffix("vae") or plain


class Registry(Mapping[str, T], Generic[T]):
    """An ordered mapping from a name to an entry, with aliases and helpful errors.

    Args:
        what: The kind of thing registered, used in error messages ("term", "encoder", ...).
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._notes: dict[str, str] = {}

    def add(self, name: str, entry: T, aliases: tuple[str, ...] = ()) -> T:
        """Register `entry` under `name`.

        Raises:
            VaelibError: The name or an alias is taken.
        """
        self._check_free(name, *aliases)
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))
        return entry

    def alias(self, name: str, alias: str) -> None:
        """Let an entry be found by one more name.

        Raises:
            VaelibError: That name is taken, or there is no such entry.
        """
        self._check_free(alias)
        self._aliases[alias] = self.canonical(name)

    def _check_free(self, *names: str) -> None:
        for new in names:
            if new in self._entries or new in self._aliases:
                raise VaelibError(f"the {self.what} {new!r} is registered twice; rename one.")

    def register(self, name: str, aliases: tuple[str, ...] = ()) -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda entry: self.add(name, entry, aliases)

    def note(self, name: str, text: str) -> None:
        """What to say of a name that is a variation of an entry: how it is had."""
        self._notes[_plain(name)] = text

    def remove(self, name: str) -> None:
        """Forget an entry and its aliases (for tests that register something of their own)."""
        gone = self.canonical(name)
        del self._entries[gone]
        self._aliases = {a: n for a, n in self._aliases.items() if n != gone}

    def canonical(self, name: str) -> str:
        """The registered name behind `name`, which may be an alias.

        Where nothing goes by that very name, case does not matter, nor whether and how parts of it
        are joined ("-", "_", a blank), nor "VAE" at its end, if only one entry can be meant.

        Raises:
            UnknownName: Nothing goes by that name.
        """
        if isinstance(name, str) and name in self._entries:
            return name
        everyone = {known: known for known in self._entries} | self._aliases
        if isinstance(name, str):
            if name in everyone:
                return everyone[name]
            for form in (_plain, _short):
                alike = {to for known, to in everyone.items() if form(known) == form(name)}
                if len(alike) == 1:
                    return alike.pop()
            if note := self._notes.get(_plain(name)):
                raise UnknownName(f"{name!r} is no {self.what} of its own: {note}.")
            bare, _, setting = name.partition("(")
            if setting and bare.strip() in self:
                known = f"the {self.what} {self.canonical(bare.strip())!r} with a setting"
                raise UnknownName(f"{name!r} is {known}: give the setting apart, as NAME=VALUE.")
        near = {_plain(known): to for known, to in everyone.items()}
        return check_name(name, self._entries, self.what, also=self._aliases | near)

    def aliases(self, name: str) -> tuple[str, ...]:
        """All aliases of a registered name."""
        return tuple(alias for alias, target in self._aliases.items() if target == name)

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: object) -> bool:
        try:
            return bool(self.canonical(name))  # type: ignore[arg-type]
        except UnknownName:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
