"""Records to rows and back. Rows go in as JSON (`jsonb_populate_record`), and come back column by column. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from typing import Any

from psycopg.types.json import Jsonb

from registry.postgres.stamps import PgStamp
from registry.records import Counts, Failure, FeedRow, Fit, FitState, Pending, Published, Version, VersionDraft

Row = Mapping[str, Any]


def columns(kind: type[Any]) -> tuple[str, ...]:
    """A record's columns; a version's draft lies flat among its own."""
    own = tuple(one.name for one in fields(kind) if one.name != "draft")
    return own + columns(VersionDraft) if kind is Version else own


def listed(kind: type[Any], prefix: str = "") -> str:
    """A record's columns in SQL."""
    return ", ".join(f'{prefix}"{name}"' for name in columns(kind))


def row_of(record: Fit | Pending | FeedRow | Version) -> dict[str, Any]:
    """The whole row of a record, as JSON holds it."""
    row: dict[str, Any] = plain(record)
    return row | row.pop("draft") if isinstance(record, Version) else row


def jsonb(value: Any) -> Jsonb:
    """A value of ours as a parameter: see `plain`."""
    return Jsonb(plain(value), dumps=_dumps)


def as_given(value: Any) -> Jsonb:
    """What is JSON already as a parameter."""
    return Jsonb(value, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """As `jsonb` holds it: times as text in UTC, NaN and infinities as their names, no NUL characters."""
    if isinstance(value, PgStamp):
        return value.as_row()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return show_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return text(str(value))


def text(value: str) -> str:
    """What a column of PostgreSQL can hold of a text: no NUL, no half of a surrogate pair."""
    return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def show_time(value: datetime) -> str:
    """`2026-11-23T07:00:24.123456Z`; a time without a zone is taken as UTC."""
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(value: str) -> datetime:
    """What `show_time` gave. Raises ValueError."""
    found = datetime.fromisoformat(value)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def pending_of(row: Row) -> Pending:
    """A row of `refitd.pending`."""
    values = _known(Pending, row)
    published, failure = values["published"], values["failure"]
    return Pending(
        **values
        | {
            "seen": Counts(**values["seen"]),
            "covered": Counts(**values["covered"]),
            "need": _stamp(values["need"]),
            "published": Published(
                **published | {"cut": PgStamp.parse(published["cut"]), "at": parse_time(published["at"])}
            )
            if published
            else None,
            "failure": Failure(**failure | {"at": parse_time(failure["at"])}) if failure else None,
        }
    )


def fit_of(row: Row) -> Fit:
    """A row of `refitd.fits`."""
    values = _known(Fit, row)
    return Fit(
        **values
        | {
            "state": FitState(values["state"]),
            "seen": Counts(**values["seen"]),
            "need": _stamp(values["need"]),
        }
    )


def feed_of(row: Row) -> FeedRow:
    """A row of `refitd.feeds`."""
    values = _known(FeedRow, row)
    relations = {name: PgStamp.parse(since) for name, since in values["relations"].items()}
    return FeedRow(**values | {"relations": relations})


def version_of(row: Row) -> Version:
    """A row of `refitd.versions`."""
    parts = _known(VersionDraft, row)
    numbers = {name: {key: float(one) for key, one in parts[name].items()} for name in ("metrics", "parts")}
    draft = VersionDraft(**parts | numbers | {"cut": PgStamp.parse(parts["cut"])})
    own = {name: row[name] for name in (one.name for one in fields(Version)) if name != "draft"}
    return Version(**own, draft=draft)


def _known(kind: type[Any], row: Row) -> dict[str, Any]:
    return {one.name: row[one.name] for one in fields(kind)}


def _stamp(row: Row | None) -> PgStamp | None:
    return PgStamp.parse(row) if row else None
