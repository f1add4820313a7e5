"""Selects on PostgreSQL, as `registry.selects.Selects` has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from registry.errors import DocumentInvalid, Fault
from registry.sql_select import SqlSelect, parse_sql_select
from registry.sql_watch import watches
from registry.watch import Watch


class SqlSelects:
    """See `registry.selects.Selects`. Relations are named as `sql_select.Relation.sql` does."""

    def faults(self, select: Any, *, scheduled: bool) -> list[Fault]:
        """All that is wrong with a select, each with its path within it."""
        try:
            parsed = parse_sql_select(select)
        except DocumentInvalid as error:
            return list(error.faults)
        if scheduled or not parsed.volatile:
            return []
        said = "depends on the time or on chance, so no change tells when its rows change; add retrain.schedule"
        return [Fault("", f"{', '.join(parsed.volatile)} {said}")]

    def field_fault(self, name: str) -> str | None:
        """Nothing: a column can have any name."""
        return None

    def watches(self, select: Any, fields: Iterable[str] | None) -> Mapping[str, Watch]:
        """What a faultless select depends on, for each table or view that it reads."""
        return watches(_parsed(select), fields)

    def relation(self, select: Any) -> str:
        """The first table or view that it reads."""
        return _parsed(select).relations[0].sql


@lru_cache(maxsize=256)
def _parsed(select: str) -> SqlSelect:
    return parse_sql_select(select)
