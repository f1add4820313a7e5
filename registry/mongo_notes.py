"""What a reading of a MongoDB select finds: its faults, and what it depends on.

`Notes` also reads what needs no grammar: names, collections and plain values. `mongo_walk` reads the rest.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum, auto

from registry import mongo_operators as ops
from registry.errors import DocumentInvalid, Fault

MAX_DEPTH = 60
MAX_FAULTS = 100
DBREF_KEYS = frozenset({"$ref", "$id", "$db"})

Path = tuple[str | int, ...]


class Sight(Enum):
    """What kind of thing a select was seen to read."""

    FIELD = auto()  # a field of the row: its dotted path
    ANY_FIELD = auto()  # fields, and which can't be told: the operator
    ROW = auto()  # the row as a whole, or an index: the operator or variable
    VOLATILE = auto()  # another answer on the same rows: the operator or variable


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that a select reads, and where it stands."""

    sight: Sight
    name: str
    path: str


def dotted(path: Path) -> str:
    """`("filter", "a", 0)` as `filter.a.0`, long names cut short."""
    return ".".join(part if len(part) <= 80 else f"{part[:77]}..." for part in map(str, path))


def shown(value: object) -> str:
    """A value, short enough for a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else reprlib.repr(value)


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean X?` for the known name that looks most like this one, or nothing."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 1) if len(name) <= 60 else []
    return f"; did you mean {by_lower[found[0]]}?" if found else ""


def is_operators(value: object) -> bool:
    """Whether the server reads this mapping as operators, and not as a document to compare with."""
    if not isinstance(value, Mapping) or not value:
        return False
    first = next(iter(value))
    return isinstance(first, str) and first.startswith("$") and first not in DBREF_KEYS


class Notes:
    """Collects `faults`, and what was `seen` outside other collections' rows.

    Its methods raise `DocumentInvalid` themselves only at `MAX_FAULTS`: a hostile document must not keep the
    daemon busy.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self._foreign = 0

    def fault(self, path: Path, message: str) -> None:
        fault = Fault(dotted(path), message)
        if fault not in self.faults:
            self.faults.append(fault)
        if len(self.faults) >= MAX_FAULTS:
            more = Fault("", f"the select has {MAX_FAULTS} faults or more; the rest was not read")
            raise DocumentInvalid([*self.faults, more])

    def see(self, sight: Sight, name: str, path: Path) -> None:
        if not self._foreign or sight is Sight.VOLATILE:
            self.seen.append(Seen(sight, name, dotted(path)))

    @contextmanager
    def foreign(self) -> Iterator[None]:
        """Within it, what is read belongs to another collection's rows."""
        self._foreign += 1
        try:
            yield
        finally:
            self._foreign -= 1

    def refused(self, name: str, path: Path) -> bool:
        """Whether this is an operator with a reason of its own to be refused, which is then a fault."""
        if name in ops.REFUSED:
            self.fault(path, f"{name} {ops.REFUSED[name]}")
        elif name in ops.EXTENDED_JSON:
            self.fault(path, f"{name} is extended JSON; store the BSON value (see bson.json_util)")
        return name in ops.REFUSED or name in ops.EXTENDED_JSON

    def unknown(self, name: str, path: Path, what: str, known: Collection[str]) -> None:
        """A fault for an operator or key that is not on the list that holds here."""
        if not self.refused(name, path):
            said = f"{name} is not" if name in ops.ALL else f"{shown(name)} is not known as"
            self.fault(path, f"{said} {what}{nearest(name, known)}")

    def mapping(self, value: object, path: Path, what: str) -> list[tuple[str, object]]:
        """The items of a mapping that have a usable key; faults for the rest, and for what is too deep."""
        if self.too_deep(path):
            return []
        if not isinstance(value, Mapping):
            self.fault(path, f"{what} is a mapping, not {shown(value)}")
            return []
        items = []
        for key, each in value.items():
            if isinstance(key, str) and "\0" not in key:
                items.append((key, each))
            else:
                self.fault(path, f"the key {shown(key)} is not a string without NUL; quote it")
        return items

    def sequence(self, value: object, path: Path, what: str) -> list[tuple[Path, object]]:
        """The items of a list, each with its path; a fault for anything else, and for what is too deep."""
        if self.too_deep(path):
            return []
        if not isinstance(value, list | tuple):
            self.fault(path, f"{what} is a list, not {shown(value)}")
            return []
        return [((*path, index), each) for index, each in enumerate(value)]

    def too_deep(self, path: Path) -> bool:
        if len(path) > MAX_DEPTH:
            self.fault(path[:6], f"is nested deeper than {MAX_DEPTH} levels; flatten it")
        return len(path) > MAX_DEPTH

    def plain(self, value: object, path: Path, *, literal: bool = False) -> None:
        """A value to compare with. Only a literal may hold a `$` key: else it is a misplaced operator."""
        if isinstance(value, Mapping):
            for key, each in self.mapping(value, path, "a value"):
                if literal or not key.startswith("$") or key in DBREF_KEYS:
                    self.plain(each, (*path, key), literal=literal)
                elif not self.refused(key, (*path, key)):
                    why = "stands in a value, which is compared as a whole; put the condition at a dotted path"
                    self.fault((*path, key), f"{shown(key)} {why}")
        elif isinstance(value, list | tuple):
            for at, each in self.sequence(value, path, "a value"):
                self.plain(each, at, literal=literal)
        elif isinstance(value, date) and not isinstance(value, datetime):
            self.fault(path, f"MongoDB has no date without a time; write {value.isoformat()}T00:00:00Z")

    def field(self, value: object, path: Path) -> None:
        """A name of one of the row's fields, which is read."""
        if not isinstance(value, str) or value.startswith("$") or "\0" in value or not all(value.split(".")):
            self.fault(path, f"{shown(value)} does not name a field; write a or a.b, without $")
        else:
            self.see(Sight.FIELD, value, path)

    def collection(self, value: object, path: Path) -> None:
        if isinstance(value, Mapping):
            self.fault(path, "reads another database; give a collection of this one, by its name alone")
        elif not isinstance(value, str) or not value:
            self.fault(path, f"a collection's name is a non-empty string, not {shown(value)}")
        elif value.startswith(("system.", "refitd.")):
            self.fault(path, f"{shown(value)} holds no rows of yours; select from neither system.* nor refitd.*")
        elif "$" in value or "\0" in value:
            self.fault(path, f"{shown(value)} is not a collection's name: it holds $ or NUL")
