"""Values as JSON has them: times in ISO 8601 and UTC, no NaN, nothing of a driver's types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from registry.redaction import redact


def plain(value: Any) -> Any:
    """The value with mappings, lists, texts, finite numbers, booleans and null alone.

    NaN and the infinities become null; numpy's values become Python's; what has no JSON form becomes its text.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return show_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and scalars, pandas' columns
        return plain(value.tolist())
    return str(value)


def show_time(value: datetime) -> str:
    """`2026-11-23T07:00:24.123Z`; a time without a zone is taken as UTC, as datastores keep it."""
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """One JSON document, without secrets."""
    return redact(json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False))
