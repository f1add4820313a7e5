"""Records to BSON documents and back. A record's `id` or `model` is its `_id`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from registry.records import (
    Counts,
    Failure,
    FeedRow,
    Fit,
    FitState,
    Pending,
    Published,
    Version,
    VersionDraft,
)

_PARTS: Mapping[str, type[Any]] = {
    "seen": Counts,
    "covered": Counts,
    "published": Published,
    "failure": Failure,
    "draft": VersionDraft,
}


def encode(value: Any) -> Any:
    """A record, or what is in one, as BSON-able values."""
    if isinstance(value, FitState):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: encode(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def row_of(record: Fit | Pending | FeedRow) -> dict[str, Any]:
    """The whole row of a record, under its `_id`."""
    row: dict[str, Any] = encode(record)
    row["_id"] = row.pop("model") if isinstance(record, Pending) else row.pop("id")
    if isinstance(record, FeedRow):
        row["relations"] = relations_row(record.relations)
    return row


def _decode(kind: type[Any], row: Mapping[str, Any]) -> Any:
    known = {one.name for one in fields(kind)}
    values = {name: value for name, value in row.items() if name in known}
    for name, part in _PARTS.items():
        if isinstance(values.get(name), Mapping):
            values[name] = _decode(part, values[name])
    return kind(**values)


def pending_of(row: Mapping[str, Any]) -> Pending:
    """A row of `refitd.pending`."""
    record: Pending = _decode(Pending, {**row, "model": row["_id"]})
    return record


def fit_of(row: Mapping[str, Any]) -> Fit:
    """A row of `refitd.fits`."""
    record: Fit = _decode(Fit, {**row, "id": row["_id"], "state": FitState(row["state"])})
    return record


def feed_of(row: Mapping[str, Any]) -> FeedRow:
    """A row of `refitd.feeds`."""
    record: FeedRow = _decode(FeedRow, {**row, "id": row["_id"], "relations": _relations(row)})
    return record


def relations_row(relations: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As a list: a collection's name may hold dots, which a field's name should not."""
    return [{"name": name, "since": since} for name, since in sorted(relations.items())]


def _relations(row: Mapping[str, Any]) -> dict[str, Any]:
    return {one["name"]: one["since"] for one in row.get("relations") or ()}


def version_of(row: Mapping[str, Any]) -> Version:
    """A row of `refitd.versions`."""
    record: Version = _decode(Version, row)
    return record
