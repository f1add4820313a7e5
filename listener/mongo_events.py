"""MongoDB change events as changes: a pure decoder of their bytes.

Format: https://www.mongodb.com/docs/manual/reference/change-events/
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from functools import lru_cache

from bson import Timestamp
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument

from listener.bson_bytes import (
    ARRAY,
    DOCUMENT,
    TIMESTAMP,
    Elements,
    elements,
    elements_between,
    end_of,
    name_of,
    text_at,
)
from listener.feed import Change, Kind
from registry.errors import PositionLost

#: Operations that change one row.
ROWS = {"insert": Kind.INSERT, "update": Kind.UPDATE, "replace": Kind.UPDATE, "delete": Kind.DELETE}
_RELATIONS = frozenset({"drop", "rename", "dropDatabase"})

#: How nearly all events begin. The sizes are checked afterwards; what doesn't fit is read element by element.
_HEAD = re.compile(
    rb"\x03_id\x00(.{4})\x02_data\x00(.{4})([0-9A-F]+)\x00\x00"
    rb"\x02operationType\x00(.{4})([A-Za-z]+)\x00\x11clusterTime\x00(.{8})(?:\x09wallTime\x00.{8})?",
    re.DOTALL,
)
#: The bytes of an empty document.
_EMPTY = 5
_sizes = struct.Struct("<iii").unpack
_timestamp = struct.Struct("<II").unpack


class Event:
    """One event: its token, operation and cluster time, and where its other elements lie.

    Every property raises `InvalidBSON` where the event has no such element, or one of another type.
    """

    __slots__ = ("_data", "_found", "_time", "operation", "token")

    def __init__(self, data: bytes, start: int = 0, behind: int | None = None) -> None:
        """The event that begins at `start`; `behind` it the next one does, where that was checked already."""
        self._data = data
        end = end_of(data, start) if behind is None else behind - 1
        head = _HEAD.match(data, start + 4, end)
        if head:
            id_size, token_size, operation_size, token, operation, self._time = head.group(1, 2, 4, 3, 5, 6)
            length = len(token)
            expected = (length + 17, length + 1, len(operation) + 1)
            if _sizes(id_size + token_size + operation_size) == expected:
                self.token, self.operation = token.decode(), operation.decode()
                self._found = elements_between(data, head.end(), end)
                return
        self._read_all(start + 4, end)

    def _read_all(self, start: int, end: int) -> None:
        found = self._found = elements_between(self._data, start, end)
        self.token = token_at(self._data, found, b"_id")
        self.operation = text_at(self._data, place_of(found, b"operationType"))
        kind, first, last = place_of(found, b"clusterTime")
        if kind != TIMESTAMP:
            raise InvalidBSON(f"a timestamp was expected at byte {first}")
        self._time = self._data[first:last]

    @property
    def stamp(self) -> Timestamp:
        """Its cluster time."""
        increment, seconds = _timestamp(self._time)
        return Timestamp(seconds, increment)

    @property
    def collection(self) -> str | None:
        """Where it happened; None where that isn't one collection."""
        return _collection(self.document(b"ns"))

    @property
    def renamed_to(self) -> str | None:
        """The new name of a renamed collection."""
        return _collection(self.document(b"to"))

    @property
    def has_key(self) -> bool:
        """Whether it is about one row."""
        return b"documentKey" in self._found

    @property
    def key(self) -> RawBSONDocument:
        """Its row's key."""
        return RawBSONDocument(self.document(b"documentKey") or b"")

    @property
    def row(self) -> RawBSONDocument:
        """The row after it."""
        return RawBSONDocument(self.document(b"fullDocument") or b"")

    def document(self, name: bytes) -> bytes | None:
        """A document within the event; None where it is absent or null."""
        place = self._found.get(name)
        return self._data[place[1] : place[2]] if place and place[0] == DOCUMENT else None


def token_at(data: bytes, found: Elements, name: bytes) -> str:
    """The text of the resume token that is the element of this name.

    Raises:
        InvalidBSON: there is none.
    """
    kind, start, end = place_of(found, name)
    if kind != DOCUMENT:
        raise InvalidBSON(f"a document was expected at byte {start}")
    return text_at(data, place_of(elements(data, start, end), b"_data"))


def place_of(found: Elements, name: bytes) -> tuple[int, int, int]:
    """Where the element of this name lies.

    Raises:
        InvalidBSON: there is none.
    """
    place = found.get(name)
    if place is None:
        raise InvalidBSON(f"there is no {name.decode()}")
    return place


@lru_cache(maxsize=1024)
def _collection(namespace: bytes | None) -> str | None:
    """Nearly all events have one of a few namespaces."""
    if namespace is None:
        return None
    place = elements(namespace).get(b"coll")
    return text_at(namespace, place) if place else None


def changes_of(event: Event, relations: Iterable[str]) -> list[Change]:
    """The changes of one event: one of a row; two of a rename; one for each relation of a dropped database."""
    if event.operation in ROWS:
        return [row_change(event, event.collection)]
    if event.operation not in _RELATIONS:
        return []
    stamp = event.stamp
    if event.operation == "dropDatabase":
        return [Change(relation, Kind.OTHER, stamp) for relation in relations]
    return [Change(name, Kind.OTHER, stamp) for name in (event.collection, event.renamed_to) if name is not None]


def row_change(event: Event, relation: str | None) -> Change:
    """The change of one row of this collection: of an event whose operation is one of `ROWS`."""
    operation = event.operation
    if relation is None:
        raise InvalidBSON("a row's change without its collection")
    before, after = event.document(b"fullDocumentBeforeChange"), event.document(b"fullDocument")
    touched = None
    if operation == "update":
        touched = _touched(event.document(b"updateDescription"))
    elif operation == "replace" and before is not None and after is not None:
        touched = _replaced(before, after)
    return Change(relation, ROWS[operation], event.stamp, event.document(b"documentKey"), before, after, touched)


def _replaced(before: bytes, after: bytes) -> tuple[str, ...]:
    """The top-level fields in which two images of a replaced row differ.

    In their bytes: 1 and 1.0 and true are different rows to a model.
    """
    old, new = _values(before), _values(after)
    return tuple(name_of(name) for name in {**old, **new} if old.get(name) != new.get(name))


def _values(row: bytes) -> dict[bytes, tuple[int, bytes]]:
    return {name: (kind, row[start:end]) for name, (kind, start, end) in elements(row).items()}


def _touched(description: bytes | None) -> tuple[str, ...] | None:
    """The paths that an update set, removed or shortened; None (unknown) where it doesn't say."""
    if description is None:
        return None
    places = elements(description)
    paths = [name_of(name) for name in _within(description, places.get(b"updatedFields"))]
    removed = _within(description, places.get(b"removedFields"))
    paths += [text_at(description, place) for place in removed.values()]
    for _, start, end in _within(description, places.get(b"truncatedArrays")).values():
        paths.append(text_at(description, place_of(elements(description, start, end), b"field")))
    return tuple(paths)


def _within(data: bytes, place: tuple[int, int, int] | None) -> Elements:
    """The elements of a document or array within a document; none where it is absent, null or empty."""
    if place is None or place[0] not in (DOCUMENT, ARRAY) or place[2] - place[1] == _EMPTY:
        return {}
    return elements(data, place[1], place[2])


def token_time(token: str) -> Timestamp:
    """The cluster time inside a resume token.

    A token is a hexadecimal KeyString; its first value is a timestamp: the type byte 0x82, then seconds and
    increment, 32 bits each, big-endian (MongoDB source, `resume_token.h` and `key_string.cpp`).

    Raises:
        PositionLost: it is no such token.
    """
    try:
        if not token.startswith("82") or len(token) < 18:
            raise ValueError
        return Timestamp(int(token[2:10], 16), int(token[10:18], 16))
    except ValueError:
        raise PositionLost(f"the stored resume token is of an unknown form ({token[:24]}…)") from None
