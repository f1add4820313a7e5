"""What a MongoDB select depends on: which changes of which collections can give it other rows.

Always on the safe side: a change that is said to matter and doesn't costs a fit; one that does and is said
not to would leave a model stale. `None` says "can't be told", and counts as "everything".

Paths are dotted, and stand for all elements of an array: `a.b` covers `a.0.b`. A change is described by the
paths at which the row differs; a changed array length counts as a change of the array itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry import mongo_walk
from registry.mongo_notes import Notes, Sight, is_operators
from registry.mongo_select import MongoSelect, notes_of
from registry.watch import UNKNOWN, Watch, merge, union

Stages = Sequence[Mapping[str, Any]]

CLOSING = frozenset({"$group", "$count", "$sortByCount", "$bucket", "$bucketAuto", "$replaceRoot", "$replaceWith"})
"""Stages after which a row holds only what they named."""

PASSING = frozenset({"$match", "$sort", "$limit", "$skip", "$sample", "$project", "$addFields", "$set"}) | {
    "$unset",
    "$unwind",
    "$lookup",
    "$graphLookup",
    "$unionWith",
}
"""Stages that read what they name and hand on the rest (`$project`, where it excludes)."""

OPEN_SCHEMA = frozenset({"additionalProperties", "patternProperties", "minProperties", "maxProperties", "dependencies"})
"""Keywords of `$jsonSchema` that look at fields which they don't name."""


def watches(select: MongoSelect, trained_fields: Iterable[str] | None) -> Mapping[str, Watch]:
    """One entry for each collection that the select reads; `trained_fields` None: the whole row (`_base`).

    A collection read more than once has what holds for all its readings together.
    """
    trained = None if trained_fields is None else frozenset(trained_fields)
    if select.pipeline is None:
        return {select.collection: _watch(select.filter, _used_by_find(select, trained))}
    used, closed = _reads(select.pipeline)
    if not closed:
        used = union(used, trained)
    found = {select.collection: _watch(_leading_match(select.pipeline), used)}
    for collection, watch in _foreign(select.pipeline):
        found[collection] = merge(found[collection], watch) if collection in found else watch
    return found


def is_volatile(select: MongoSelect) -> list[str]:
    """Paths of what gives another answer on the same rows (`$$NOW`, `$rand`, `$sample`, …)."""
    return [seen.path for seen in notes_of(select).seen if seen.sight is Sight.VOLATILE]


def _fields(notes: Notes) -> frozenset[str] | None:
    """The fields that were seen to be read, or None where that can't be told."""
    if any(seen.sight in (Sight.ROW, Sight.ANY_FIELD) for seen in notes.seen):
        return None
    return frozenset(seen.name for seen in notes.seen if seen.sight is Sight.FIELD)


def _watch(predicate: Mapping[str, Any], used: frozenset[str] | None) -> Watch:
    notes = Notes()
    mongo_walk.match(notes, predicate, ())
    if any(seen.sight in (Sight.ROW, Sight.VOLATILE) for seen in notes.seen) or _has_open_schema(predicate):
        return Watch(None, None, used)
    return Watch(predicate, _fields(notes), used)


def _has_open_schema(value: object, within: bool = False) -> bool:
    """Whether a `$jsonSchema` looks at fields it doesn't name: the matcher adds one of its own to rows."""
    if isinstance(value, Mapping):
        return any(
            (within and key in OPEN_SCHEMA) or _has_open_schema(each, within or key == "$jsonSchema")
            for key, each in value.items()
        )
    return isinstance(value, list | tuple) and any(_has_open_schema(each, within) for each in value)


def _used_by_find(select: MongoSelect, trained: frozenset[str] | None) -> frozenset[str] | None:
    used = _fields(notes_of(select))
    projection = select.projection or {}
    if trained is None and _closes(projection):
        return union(used, _implied_id(projection))
    return union(used, trained)


def _closes(projection: Mapping[str, Any]) -> bool:
    """Whether a projection names what it keeps, rather than what it drops (`_id` can be either in both)."""
    drops = any(key != "_id" and _is_zero(each) for key, each in projection.items())
    return not drops and any(_keeps(each) for each in projection.values())


def _is_zero(value: object) -> bool:
    return isinstance(value, bool | int | float) and value == 0


def _keeps(value: object) -> bool:
    if isinstance(value, Mapping) and value and not is_operators(value):
        return _closes(value)
    if isinstance(value, Mapping):
        return not value.keys() & {"$slice", "$meta"}  # these two alone also stand in a find that drops
    return not _is_zero(value)


def _implied_id(projection: Mapping[str, Any]) -> frozenset[str]:
    """`_id` is kept unless it is dropped by name."""
    return frozenset() if "_id" in projection else frozenset({"_id"})


def _reads(stages: Stages) -> tuple[frozenset[str] | None, bool]:
    """Which fields of the row these stages read, and whether nothing else of it is in what comes out."""
    used: frozenset[str] | None = frozenset()
    for at, stage in enumerate(stages):
        ((name, argument),) = stage.items()
        if name == "$facet":
            inner = [_reads(each) for each in argument.values()]
            for fields, closed in inner:
                used = union(used, fields if closed else None)
            return used, True
        if name not in CLOSING | PASSING:
            return None, True
        notes = Notes()
        mongo_walk.stage(notes, stage, ())
        used = union(used, _fields(notes))
        if name in CLOSING:
            return used, True
        if name == "$project" and _closes(argument):
            # Some servers (6.0.5 is one) give a later $group the whole row as its $$ROOT (SERVER-75267).
            later = Notes()
            mongo_walk.pipeline(later, stages[at + 1 :], ())
            used = None if _fields(later) is None else used
            return union(used, _implied_id(argument)), True
    return used, False


def _leading_match(stages: Stages) -> Mapping[str, Any]:
    """The `$match` stages in front, as one query."""
    found: list[Mapping[str, Any]] = []
    for stage in stages:
        if "$match" not in stage:
            break
        found.append(stage["$match"])
    if len(found) > 1:
        return {"$and": found}
    return found[0] if found else {}


def _foreign(stages: Stages) -> Iterable[tuple[str, Watch]]:
    """The other collections that stages read. What is joined to a row can't be told from itself alone."""
    for stage in stages:
        ((name, argument),) = stage.items()
        if name == "$facet":
            for inner in argument.values():
                yield from _foreign(inner)
        elif name == "$unionWith":
            inner = {"coll": argument} if isinstance(argument, str) else argument
            pipeline = inner.get("pipeline") or ()
            if "coll" in inner:
                yield inner["coll"], _watch(_leading_match(pipeline), None)
            yield from _foreign(pipeline)
        elif name in ("$lookup", "$graphLookup"):
            if "from" in argument:
                yield argument["from"], UNKNOWN
            for collection, _ in _foreign(argument.get("pipeline") or ()):
                yield collection, UNKNOWN
