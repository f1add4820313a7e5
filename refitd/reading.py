"""Model documents from files: YAML (several to a file) or JSON, MongoDB's extended JSON included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from bson.errors import BSONError

from registry.errors import DocumentInvalid, Fault

#: One key that says a type which JSON lacks. `$regex` is not among them: in a filter it is the query operator.
_WRAPPERS = frozenset(
    {
        "$oid", "$date", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal", "$binary", "$uuid",
        "$timestamp", "$regularExpression", "$minKey", "$maxKey", "$symbol",
    }
)  # fmt: skip


def read_documents(path: Path) -> list[Mapping[str, Any]]:
    """Every document of a file, as it is written there. Not validated.

    Raises:
        DocumentInvalid: the file can't be read, or holds something that is no document; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(path, f"can't be read: {error}") from None
    found: list[Mapping[str, Any]] = []
    for value in _parse(path, text):
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, Mapping):
                raise _fault(path, f"holds {type(one).__name__} {str(one)[:40]!r} where a model document should be")
            try:
                found.append(extended(one))
            except (TypeError, ValueError, KeyError, BSONError) as error:
                raise _fault(path, f"holds a faulty value of extended JSON: {error}") from None
    if not found:
        raise _fault(path, "is empty: a model document has at least _id, trainer, object, training_select, train_X")
    return found


def extended(value: Any) -> Any:
    """The value with extended JSON's wrappers, such as `{$oid: …}`, as what they stand for."""
    if isinstance(value, Mapping):
        inner = {str(key): extended(item) for key, item in value.items()}
        if len(inner) == 1 and next(iter(inner)) in _WRAPPERS:
            from bson import json_util

            return json_util.object_hook(inner, json_util.JSONOptions(tz_aware=True, tzinfo=UTC))
        return inner
    if isinstance(value, list):
        return [extended(item) for item in value]
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):  # YAML knows days; datastores don't
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def _parse(path: Path, text: str) -> list[Any]:
    if path.suffix.lower() == ".json":
        try:
            return [json.loads(text)]
        except json.JSONDecodeError as error:
            raise _fault(path, f"is not JSON: {error}") from None
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [value for value in yaml.load_all(text, loader) if value is not None]
    except yaml.YAMLError as error:
        raise _fault(path, f"is not YAML: {' '.join(str(error).split())}") from None


def _fault(path: Path, message: str) -> DocumentInvalid:
    return DocumentInvalid([Fault(str(path), message)])
