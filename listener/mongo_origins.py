"""Where a MongoDB collection's changes come from: a change stream tells none of a view or a time-series collection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pymongo.database import Database

from listener.feed import Origin, Untold


def origins_of(database: Database[Any], relations: Collection[str]) -> dict[str, Origin | Untold]:
    """For each relation the collections whose changes change it: itself, or what a view is made of."""
    listed = database.command("listCollections", filter={"type": {"$in": ["view", "timeseries"]}})
    special = {one["name"]: one for one in _all(database, listed)}
    return {relation: _origin(relation, _origins(relation, special, frozenset())) for relation in relations}


def _origin(relation: str, made_of: frozenset[str] | None) -> Origin | Untold:
    if made_of is not None:
        return Origin(made_of, relation if made_of == {relation} else None)
    return Untold(
        f"`{relation}` is, or is made of, a time-series collection, and MongoDB tells no changes of those; set "
        "retrain.schedule, and retrain.on_change to false"
    )


def _all(database: Database[Any], reply: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    cursor = reply["cursor"]
    yield from cursor["firstBatch"]
    while cursor["id"]:
        cursor = database.command("getMore", cursor["id"], collection="$cmd.listCollections")["cursor"]
        yield from cursor["nextBatch"]


def _origins(name: str, special: Mapping[str, Any], seen: frozenset[str]) -> frozenset[str] | None:
    found = special.get(name)
    if found is None:
        return frozenset({name})
    if found["type"] == "timeseries" or name in seen:
        return None
    made_of: frozenset[str] = frozenset()
    for part in {found["options"]["viewOn"], *_named(found["options"].get("pipeline", []))}:
        inner = _origins(part, special, seen | {name})
        if inner is None:
            return None
        made_of |= inner
    return made_of


def _named(value: Any) -> Iterator[str]:
    """The other collections that a view's pipeline names, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from _named(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("$lookup", "$graphLookup") and isinstance(item, Mapping) and isinstance(item.get("from"), str):
                yield item["from"]
            if key == "$unionWith":
                name = item if isinstance(item, str) else item.get("coll")
                if isinstance(name, str):
                    yield name
            yield from _named(item)
