"""Selects as people write them in Python: `Collection("customers").find({"country": "DE"})`, SQL, or Ibis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from registry.errors import DocumentInvalid, Fault
from registry.sql_ibis import ibis_sql, is_ibis

Sort = str | Mapping[str, int] | Sequence[tuple[str, int]]


@runtime_checkable
class Selecting(Protocol):
    """Anything that can be written down as a model document's `training_select`."""

    def as_select(self) -> dict[str, Any]:
        """The select as the document spells it."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of the datastore's database, to select training rows from. Nothing is read here."""

    name: str

    def find(
        self,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 (pymongo's name)
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        *,
        sort: Sort | None = None,
        limit: int = 0,
        skip: int = 0,
    ) -> Find:
        """The rows that a filter finds, with the arguments of pymongo's `find`."""
        named = projection if projection is None or isinstance(projection, Mapping) else dict.fromkeys(projection, 1)
        found = Find(self.name, dict(filter or {}), dict(named) if named else None)
        return found.sort(sort).skip(skip).limit(limit) if sort else found.skip(skip).limit(limit)

    def aggregate(self, pipeline: Iterable[Mapping[str, Any]]) -> Aggregation:
        """The rows that an aggregation pipeline gives."""
        return Aggregation(self.name, tuple(dict(stage) for stage in pipeline))

    def as_select(self) -> dict[str, Any]:
        """The whole collection."""
        return self.find().as_select()


@dataclass(frozen=True, slots=True)
class Find:
    """A find. Every method gives a new one, as in `find({}).sort("at", -1).limit(1000)`."""

    collection: str
    filter: Mapping[str, Any] = field(default_factory=dict)
    projection: Mapping[str, Any] | None = None
    ordered: tuple[tuple[str, int], ...] = ()
    skipped: int = 0
    limited: int = 0

    def sort(self, key: Sort, direction: int = 1) -> Find:
        """Ordered by one field, `[(field, direction), …]`, or `{field: direction}`."""
        if isinstance(key, str):
            return replace(self, ordered=((key, direction),))
        pairs = key.items() if isinstance(key, Mapping) else key
        return replace(self, ordered=tuple((name, way) for name, way in pairs))

    def limit(self, count: int) -> Find:
        """At most so many rows; 0: all."""
        return replace(self, limited=count)

    def skip(self, count: int) -> Find:
        """Without the first so many rows."""
        return replace(self, skipped=count)

    def as_select(self) -> dict[str, Any]:
        """The select as the document spells it: only what was said."""
        select: dict[str, Any] = {"collection": self.collection}
        if self.filter:
            select["filter"] = dict(self.filter)
        if self.projection:
            select["projection"] = dict(self.projection)
        if self.ordered:
            select["sort"] = [list(pair) for pair in self.ordered]
        return select | {key: value for key, value in (("skip", self.skipped), ("limit", self.limited)) if value}


@dataclass(frozen=True, slots=True)
class Aggregation:
    """An aggregation over one collection."""

    collection: str
    pipeline: tuple[Mapping[str, Any], ...]

    def as_select(self) -> dict[str, Any]:
        """The select as the document spells it."""
        return {"collection": self.collection, "pipeline": [dict(stage) for stage in self.pipeline]}


def to_select(select: Any, path: str = "training_select") -> dict[str, Any] | str:
    """The document's form of whatever was given as a select: a mapping for MongoDB, SQL for PostgreSQL.

    Raises:
        DocumentInvalid: it is none of the forms; says which there are.
    """
    if isinstance(select, Selecting):
        return select.as_select()
    if isinstance(select, Mapping):
        return dict(select)
    if isinstance(select, str):
        return select
    if is_ibis(select):
        try:
            return ibis_sql(select)
        except DocumentInvalid as error:
            raise DocumentInvalid([fault.under(path) for fault in error.faults]) from None
    forms = "refitd.Collection(NAME).find({…}) or .aggregate([…]), 'SELECT … FROM …', or an Ibis table expression"
    kind = f"{type(select).__module__}.{type(select).__qualname__}"
    raise DocumentInvalid([Fault(path, f"is a {kind}: write {forms}")])
