"""Selects on MongoDB, as `registry.selects.Selects` has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registry.errors import DocumentInvalid, Fault
from registry.mongo_select import parse_mongo_select
from registry.mongo_watch import is_volatile, watches
from registry.watch import Watch


class MongoSelects:
    """See `registry.selects.Selects`."""

    def faults(self, select: Any, *, scheduled: bool) -> list[Fault]:
        """All that is wrong with a select, each with its path within it."""
        if isinstance(select, str):
            return [Fault("", "is SQL, but the datastore is MongoDB: write {collection: …, filter: …}")]
        try:
            parsed = parse_mongo_select(select)
        except DocumentInvalid as error:
            return list(error.faults)
        if scheduled:
            return []
        said = "depends on the time or on chance, so no change tells when its rows change; add retrain.schedule"
        return [Fault(place, said) for place in is_volatile(parsed)]

    def field_fault(self, name: str) -> str | None:
        """Why no select can give a field of this name; None when one can."""
        if not name.startswith("$") and all(name.split(".")):
            return None
        return (
            f"`{name}` can't be read from MongoDB, whose field names begin with no $ and have no empty part between "
            "dots; rename it in a pipeline ($getField)"
        )

    def watches(self, select: Any, fields: Iterable[str] | None) -> Mapping[str, Watch]:
        """What a faultless select depends on, for each collection that it reads."""
        return watches(parse_mongo_select(select), fields)

    def relation(self, select: Any) -> str:
        """The select's collection."""
        return parse_mongo_select(select).collection
