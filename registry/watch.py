"""What a select depends on in one relation, whatever the datastore: the common words of selects and matching."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Watch:
    """What in one relation (a collection, a table) a select depends on."""

    predicate: Any
    """Which rows count, as the datastore's own evaluator takes it. `{}`: every row; None: can't be told from one row
    alone, so any change counts."""

    filter_fields: frozenset[str] | None
    """Dotted paths that the predicate reads; None: any."""

    used_fields: frozenset[str] | None
    """Dotted paths that predicate, sort, projection, pipeline or training read; None: the whole row."""


UNKNOWN = Watch(None, None, None)


def touches(changed: Iterable[str], fields: frozenset[str] | None) -> bool:
    """Whether any changed path equals, holds or lies within one of the fields (None: always).

    Array positions don't count: numeric parts of a path, but for its first, are left out of the comparison.
    """
    if fields is None:
        return True
    whole, beginnings = _index(fields)
    for path in changed:
        parts = _parts(path)
        if parts in beginnings or any(parts[:end] in whole for end in range(1, len(parts) + 1)):
            return True
    return False


def union(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """The fields of both; None, which is any field, wins."""
    return None if one is None or other is None else one | other


def merge(one: Watch, other: Watch) -> Watch:
    """What holds for a relation that is read in two ways."""
    used = union(one.used_fields, other.used_fields)
    if one.predicate is None or other.predicate is None:
        return Watch(None, None, used)
    if one.predicate == other.predicate:
        return Watch(one.predicate, one.filter_fields, used)
    return Watch({}, frozenset(), used)


def _parts(path: str) -> tuple[str, ...]:
    first, *rest = path.split(".")
    return (first, *(part for part in rest if not part.isdecimal()))


@lru_cache(maxsize=4096)
def _index(fields: frozenset[str]) -> tuple[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]]:
    """The fields, and every path that one of them lies within."""
    whole = frozenset(map(_parts, fields))
    return whole, frozenset(parts[:end] for parts in whole for end in range(1, len(parts)))
