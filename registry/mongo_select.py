"""A select on MongoDB: which rows of which collection a model is trained on.

Parsing checks it against the allow-lists of `mongo_operators` at every depth, so that what it returns runs no
code, writes nothing and stays in its database. A read-only login is the other half of that promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from registry import mongo_walk
from registry.errors import DocumentInvalid
from registry.mongo_notes import Notes, nearest, shown

MAX_COUNT = 2**63 - 1

FIND_KEYS = {
    "filter": "$match",
    "projection": "$project",
    "sort": "$sort",
    "skip": "$skip",
    "limit": "$limit",
}
"""The parts of a find, and the stage that says the same in a pipeline."""

KEYS = ("collection", *FIND_KEYS, "pipeline")


@dataclass(frozen=True, slots=True)
class MongoSelect:
    """A find, or with `pipeline` an aggregation. Checked: every operator in it is on the allow-lists."""

    collection: str
    filter: Mapping[str, Any]
    projection: Mapping[str, Any] | None
    sort: tuple[tuple[str, int], ...]
    skip: int
    limit: int  # 0: none
    pipeline: tuple[Mapping[str, Any], ...] | None


def parse_mongo_select(value: object) -> MongoSelect:
    """The select that a document spells out; a key whose value is null counts as absent.

    Raises `DocumentInvalid` with all its faults, each at its path within the select (`filter.age.$where`).
    """
    notes = Notes()
    if not isinstance(value, Mapping):
        fix = "write collection with filter, or with pipeline"
        notes.fault((), f"a select on MongoDB is a mapping, not {shown(value)}; {fix}")
        raise DocumentInvalid(notes.faults)
    given = {key: each for key, each in value.items() if each is not None}
    _check_keys(notes, given)
    notes.collection(given.get("collection"), ("collection",))
    sort = _read_sort(notes, given.get("sort", ()))
    skip, limit = (_count(notes, given.get(key, 0), key) for key in ("skip", "limit"))
    for key, read in _READ.items():
        if key in given:
            read(notes, given[key], (key,))
    if notes.faults:
        raise DocumentInvalid(notes.faults)
    return MongoSelect(
        collection=given["collection"],
        filter=given.get("filter", {}),
        projection=given.get("projection") or None,
        sort=sort,
        skip=skip,
        limit=limit,
        pipeline=tuple(given["pipeline"]) if "pipeline" in given else None,
    )


_READ: Mapping[str, Callable[[Notes, object, tuple[str | int, ...]], None]] = {
    "filter": mongo_walk.match,
    "projection": mongo_walk.projection,
    "pipeline": mongo_walk.pipeline,
}


def notes_of(select: MongoSelect) -> Notes:
    """What a checked select was seen to read, wherever it stands."""
    notes = Notes()
    mongo_walk.match(notes, select.filter, ("filter",))
    mongo_walk.projection(notes, select.projection or {}, ("projection",))
    mongo_walk.sort(notes, dict(select.sort), ("sort",))
    mongo_walk.pipeline(notes, select.pipeline or (), ("pipeline",))
    return notes


def _check_keys(notes: Notes, given: Mapping[Any, object]) -> None:
    for key in given:
        if key not in KEYS:
            near = nearest(key, KEYS) if isinstance(key, str) else ""
            notes.fault((key if isinstance(key, str) else shown(key),), f"is not part of a select{near}")
        elif key in FIND_KEYS and "pipeline" in given:
            notes.fault((key,), f"can't stand beside pipeline; put it into the pipeline as {FIND_KEYS[key]}")


def _read_sort(notes: Notes, value: object) -> tuple[tuple[str, int], ...]:
    """A sort, given as a mapping or as a list of pairs."""
    pairs: list[tuple[object, object]] = []
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        for at, pair in notes.sequence(value, ("sort",), "a sort that is no mapping {field: 1}"):
            if isinstance(pair, list | tuple) and len(pair) == 2:
                pairs.append((pair[0], pair[1]))
            else:
                notes.fault(at, f"a sort key is a pair [field, 1 or -1], not {shown(pair)}")
    checked = []
    for field, direction in pairs:
        at = ("sort", field if isinstance(field, str) else shown(field))
        notes.field(field, at)
        if isinstance(direction, bool) or direction not in (1, -1):
            notes.fault(at, f"a sort direction is 1 or -1, not {shown(direction)}")
        elif isinstance(field, str) and isinstance(direction, int | float):
            checked.append((field, int(direction)))
    return tuple(checked)


def _count(notes: Notes, value: object, key: str) -> int:
    """A whole number of rows. Clients whose numbers are all doubles write 10.0, which is taken as 10."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        notes.fault((key,), f"is a whole number of rows from 0 on, not {shown(value)}")
        return 0
    return int(value)
