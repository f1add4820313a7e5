"""MongoDB change events as changes: a pure decoder of raw BSON.

Format: https://www.mongodb.com/docs/manual/reference/change-events/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument

from listener.feed import Change, Kind
from registry.errors import PositionLost

_ROWS = {"insert": Kind.INSERT, "update": Kind.UPDATE, "replace": Kind.UPDATE, "delete": Kind.DELETE}
_RELATIONS = frozenset({"drop", "rename", "dropDatabase"})


def changes_of(event: Mapping[str, Any], relations: Iterable[str]) -> list[Change]:
    """The changes of one event: one of a row; two of a rename; one for each relation of a dropped database."""
    operation, stamp = event["operationType"], event["clusterTime"]
    kind = _ROWS.get(operation)
    if kind is not None:
        return [_row_change(event, kind, operation, stamp)]
    if operation not in _RELATIONS:
        return []
    if operation == "dropDatabase":
        return [Change(relation, Kind.OTHER, stamp) for relation in relations]
    named = [event["ns"]["coll"]] + ([event["to"]["coll"]] if "to" in event else [])
    return [Change(name, Kind.OTHER, stamp) for name in named]


def _row_change(event: Mapping[str, Any], kind: Kind, operation: str, stamp: Timestamp) -> Change:
    before, after = event.get("fullDocumentBeforeChange"), event.get("fullDocument")
    touched = None
    if operation == "update":
        touched = _touched(event["updateDescription"])
    elif operation == "replace" and before is not None and after is not None:
        touched = _replaced(before, after)
    return Change(
        relation=event["ns"]["coll"],
        kind=kind,
        stamp=stamp,
        key=_raw(event.get("documentKey")),
        before=_raw(before),
        after=_raw(after),
        touched=touched,
    )


def _raw(document: Any) -> bytes | None:
    return bytes(document.raw) if isinstance(document, RawBSONDocument) else None


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The top-level fields in which two images of a replaced row differ."""
    return tuple(
        name
        for name in {**before, **after}
        if name not in before or name not in after or not _same(before[name], after[name])
    )


def _same(one: Any, other: Any) -> bool:
    """Equal in value and in type: 1 and 1.0 and true are different rows to a model."""
    if isinstance(one, RawBSONDocument) and isinstance(other, RawBSONDocument):
        return bytes(one.raw) == bytes(other.raw)
    return type(one) is type(other) and bool(one == other) and not isinstance(one, list)


def _touched(description: Mapping[str, Any]) -> tuple[str, ...]:
    paths = [*description.get("updatedFields", {}), *description.get("removedFields", ())]
    paths += [one["field"] for one in description.get("truncatedArrays", ())]
    return tuple(paths)


def token_time(token: str) -> Timestamp:
    """The cluster time inside a resume token.

    A token is a hexadecimal KeyString; its first value is a timestamp: the type byte 0x82, then seconds and
    increment, 32 bits each, big-endian (MongoDB source, `resume_token.h` and `key_string.cpp`).

    Raises:
        PositionLost: it is no such token.
    """
    if not token.startswith("82") or len(token) < 18:
        raise PositionLost(f"the stored resume token is of an unknown form ({token[:24]}…)")
    return Timestamp(int(token[2:10], 16), int(token[10:18], 16))
