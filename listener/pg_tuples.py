"""Rows as PostgreSQL's logical replication sends them: kept as bytes, decoded column by column when somebody asks.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html, "TupleData". What a row's image
doesn't hold (a column outside the replica identity, an unchanged TOAST value) is unknown, which is not NULL.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import compress
from operator import itemgetter
from typing import Any, Final, NamedTuple


class Unknown(Enum):
    """The type of `UNKNOWN_VALUE`, for `value is UNKNOWN_VALUE`."""

    UNKNOWN_VALUE = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN_VALUE"


#: A value that the server didn't send, and that nothing else tells.
UNKNOWN_VALUE: Final = Unknown.UNKNOWN_VALUE

#: A value: its text in the connection's encoding, None for NULL, or unknown.
Value = bytes | None | Unknown
Names = tuple[str | int, ...]

_NULL, _UNCHANGED, _TEXT, _BINARY = b"nutb"
_BARE = (_NULL, _UNCHANGED)
_int16 = struct.Struct(">H").unpack_from
_length = struct.Struct(">I").unpack_from
_as_length = struct.Struct(">I").pack


class ProtocolError(ValueError):
    """The bytes are not what the protocol says: what was expected, and at which byte of what was decoded."""


class Column(NamedTuple):
    """A published column. `key`: it is part of the replica identity."""

    name: str
    type_oid: int
    typmod: int
    key: bool


class _Plan(NamedTuple):
    """How to get some columns out of a tuple.

    `wanted`: for each column up to the last one asked for, whether it is. `arranged` puts those found, which stand in
    the table's order with an unknown value behind them, into the order asked for.
    """

    wanted: tuple[bool, ...]
    arranged: Callable[[list[Value]], tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A relation as of some change: what the tuples that follow are made of.

    `identity` is `pg_class.relreplident`: "d" (primary key), "n" (nothing), "f" (all columns), "i" (an index).
    """

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[Column, ...]
    #: The names of the columns, and of those of the replica identity.
    names: tuple[str, ...] = field(init=False, compare=False, repr=False)
    keys: tuple[str, ...] = field(init=False, compare=False, repr=False)
    _plans: dict[tuple[Names | None, bool], _Plan] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Names and plans are worked out once for all tuples."""
        object.__setattr__(self, "names", tuple(column.name for column in self.columns))
        object.__setattr__(self, "keys", tuple(column.name for column in self.columns if column.key))
        object.__setattr__(self, "_plans", {})

    def plan(self, columns: Names | None, only_keys: bool) -> _Plan:
        """How to get these columns (all: None), if just those of the replica identity are known."""
        plan = self._plans.get((columns, only_keys))
        if plan is None:
            plan = self._plans[columns, only_keys] = self._planned(columns, only_keys)
        return plan

    def _planned(self, columns: Names | None, only_keys: bool) -> _Plan:
        places = range(len(self.columns)) if columns is None else [self._place(column) for column in columns]
        known = {place for place in places if place >= 0 and (self.columns[place].key or not only_keys)}
        found = {place: at for at, place in enumerate(sorted(known))}
        wanted = tuple(place in known for place in range(max(known, default=-1) + 1))
        return _Plan(wanted, _arranger([found.get(place, -1) for place in places]))

    def _place(self, column: str | int) -> int:
        """A column's place, -1 for a name that the relation doesn't have."""
        if isinstance(column, int):
            if not 0 <= column < len(self.columns):
                raise IndexError(f"{self.schema}.{self.name} has {len(self.columns)} columns, so no column {column}")
            return column
        return self.names.index(column) if column in self.names else -1


def _arranger(order: list[int]) -> Callable[[list[Value]], tuple[Value, ...]]:
    if len(order) > 1:
        several: Callable[[list[Value]], tuple[Value, ...]] = itemgetter(*order)
        return several
    return lambda found: tuple(found[at] for at in order)


class Image(NamedTuple):
    """A row before or after a change, as far as the server told: cheap, hashable, decoded when asked.

    `data` is the row's TupleData. With `only_keys` just the replica identity's columns of it are known. `older` is
    the TupleData that has what `data` leaves out as unchanged, in full or (`older_keys`) the replica identity's.
    """

    shape: Shape
    data: bytes
    only_keys: bool = False
    older: bytes | None = None
    older_keys: bool = False

    def __hash__(self) -> int:
        return hash((self.shape.oid, self.data, self.only_keys))

    def values(self, columns: Names | None = None) -> tuple[Value, ...]:
        """The values of these columns, by name or place from 0; of all: None.

        A column that the image doesn't have, or the relation doesn't, is unknown. Nothing behind the last one asked
        for is looked at.

        Raises:
            ProtocolError: the tuple is damaged.
            IndexError: a place that the relation doesn't have.
        """
        plan = self.shape.plan(columns, self.only_keys)
        found = _found(self.data, plan.wanted, len(self.shape.columns))
        if self.older is not None and UNKNOWN_VALUE in found:
            self._fill(found, plan)
        found.append(UNKNOWN_VALUE)
        return plan.arranged(found)

    def _fill(self, found: list[Value], plan: _Plan) -> None:
        """Put in what is unchanged."""
        places = tuple(compress(range(len(plan.wanted)), plan.wanted))
        before = Image(self.shape, self.older or b"", self.older_keys).values(places)
        for at, value in enumerate(found):
            if value is UNKNOWN_VALUE:
                found[at] = before[at]

    @property
    def full(self) -> bool:
        """Whether every column's value is known."""
        return UNKNOWN_VALUE not in self.values()


def _found(data: bytes, wanted: tuple[bool, ...], columns: int) -> list[Value]:
    """The wanted values of the first columns of a tuple that has so many."""
    found: list[Value] = []
    at = 2
    try:
        for take in wanted:
            kind = data[at]
            if kind == _TEXT:
                first = at + 5
                at = first + _length(data, at + 1)[0]
                if take:
                    found.append(data[first:at])
            elif kind in _BARE:
                at += 1
                if take:
                    found.append(None if kind == _NULL else UNKNOWN_VALUE)
            else:
                raise ProtocolError(f"a value (n, u or t) was expected at byte {at} of a tuple, not {_shown(kind)}")
    except (IndexError, struct.error):
        raise ProtocolError(f"a value was expected at byte {at} of a tuple of {len(data)} bytes") from None
    if at > len(data) or (len(wanted) == columns and at != len(data)):
        raise ProtocolError(f"the end of a tuple was expected at byte {at}, but it has {len(data)} bytes")
    return found


def _shown(kind: int) -> str:
    return "a binary value: the stream must be in text format" if kind == _BINARY else repr(bytes([kind]))


def tuple_end(payload: bytes, at: int, shape: Shape) -> int:
    """Where the TupleData that begins at this byte ends.

    Raises:
        ProtocolError: it is damaged, or none of this relation's.
    """
    check_tuple(payload, at, shape)
    start, at = at, at + 2
    try:
        for _ in shape.columns:
            kind = payload[at]
            if kind == _TEXT:
                at += 5 + _length(payload, at + 1)[0]
            elif kind in _BARE:
                at += 1
            else:
                raise ProtocolError(f"a value (n, u or t) was expected at byte {at}, not {_shown(kind)}")
    except (IndexError, struct.error):
        raise ProtocolError(f"a value was expected at byte {at} of a message of {len(payload)} bytes") from None
    if at > len(payload):
        raise ProtocolError(f"the end of the tuple of byte {start} was expected at byte {at} of {len(payload)}")
    return at


def check_tuple(payload: bytes, at: int, shape: Shape) -> None:
    """See that the TupleData at this byte has as many columns as its relation.

    Raises:
        ProtocolError: it hasn't.
    """
    if len(payload) < at + 2 or _int16(payload, at)[0] != len(shape.columns):
        many = f"a tuple of the {len(shape.columns)} columns of {shape.schema}.{shape.name}"
        raise ProtocolError(f"{many} was expected at byte {at}, not {payload[at : at + 2]!r}")


def touched(before: Image | None, after: Image | None) -> tuple[str, ...] | None:
    """The columns whose values differ; None (unknown) unless both rows are known in full.

    Raises:
        ProtocolError: a tuple is damaged.
    """
    if before is None or after is None or before.only_keys or after.only_keys:
        return None
    if before.shape is not after.shape and before.shape != after.shape:
        return None
    old, new = before.values(), after.values()
    if UNKNOWN_VALUE in old or UNKNOWN_VALUE in new:
        return None
    return tuple(name for name, was, now in zip(after.shape.names, old, new, strict=True) if was != now)


def key(image: Image) -> bytes | None:
    """What tells the row from all others of its relation: the values of its replica identity, as one string of bytes.

    Of a row without a replica identity, or where not all of it is known, None.

    Raises:
        ProtocolError: the tuple is damaged.
    """
    shape, data, only_keys, older, _ = image
    if older is None and not only_keys and shape.keys == shape.names and b"u" not in data:
        return data[2:] or None  # as below, since no value is unchanged: there isn't even the letter
    values: tuple[Any, ...] = image.values(shape.keys)
    if not values or UNKNOWN_VALUE in values:
        return None
    return b"".join(b"n" if value is None else b"t" + _as_length(len(value)) + value for value in values)
