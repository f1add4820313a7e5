"""Model documents in the table `refitd.models`: one row each, `spec` as the user wrote it, `status` ours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from registry.errors import DocumentInvalid, Fault
from registry.postgres.connection import Connection
from registry.postgres.rows import as_given, jsonb, parse_time, show_time, text
from registry.postgres.session import Row
from registry.store import RawDocument

#: Columns of their own: what a spec says of them means nothing.
_OUTSIDE = frozenset({"_id", "id", "status"})
# As text: one document that is nested too deep to be read must not hide the others.
_SELECT = "SELECT id, spec::text AS spec, status FROM refitd.models"
_TIMES = ("at", "fitted_at", "pending_since", "due_at")


class PostgresDocuments:
    """See `registry.store.Documents`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[RawDocument]:
        """Every document as it stands, valid or not."""
        return [document_of(row) for row in self._connection.rows(_SELECT)]

    def get(self, model: Any) -> RawDocument | None:
        """One document as it stands; None also for what can't be a name here."""
        if not isinstance(model, str):
            return None
        row = self._connection.row(f"{_SELECT} WHERE id = %s", (model,))
        return document_of(row) if row else None

    def put(self, document: RawDocument) -> None:
        """Write it whole, but for `status`, which stays as it is.

        Raises:
            DocumentInvalid: its name is no text, or JSON can't hold a value of it.
        """
        model, spec = spec_of(document)
        self._connection.run(
            "INSERT INTO refitd.models (id, spec) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET spec = excluded.spec",
            (model, as_given(spec)),
        )

    def change(self, model: str, fields: Mapping[str, Any]) -> bool:
        """Set some top-level fields. False when there is no such document. Raises `DocumentInvalid` as `put` does."""
        query = "UPDATE refitd.models SET spec = spec || %s WHERE id = %s"
        return self._connection.run(query, (as_given(as_json(fields)), model)) == 1

    def remove(self, model: str) -> bool:
        """Remove it; its versions stay until `gc`. False when there was none."""
        return self._connection.run("DELETE FROM refitd.models WHERE id = %s", (model,)) == 1

    def set_status(self, model: Any, status: Mapping[str, Any]) -> None:
        """Replace `status`, if the document is still there. Times in it are stored as text, in UTC."""
        if isinstance(model, str):
            self._connection.run("UPDATE refitd.models SET status = %s WHERE id = %s", (jsonb(status), model))


def document_of(row: Row) -> RawDocument:
    """A row of `refitd.models` as one mapping, its name under `_id`."""
    spec = _read(row["spec"])
    document = {"_id": row["id"], **{key: value for key, value in spec.items() if key not in _OUTSIDE}}
    if row["status"] is None:
        return document
    return {**document, "status": status_of(row["status"])}


def _read(spec: str) -> dict[str, Any]:
    """What a spec says; of one that is nested too deep, that it is."""
    try:
        found = json.loads(spec)
    except RecursionError:
        return {"spec": "is nested too deep to be read"}
    return found if isinstance(found, dict) else {}


def status_of(status: Any) -> Any:
    """A stored status with its times as times; what was not written by us stays as it is."""
    if not isinstance(status, dict):
        return status
    return {key: _time(value) if key in _TIMES else value for key, value in status.items()}


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_time(value)
    except ValueError:
        return value


def spec_of(document: RawDocument) -> tuple[str, dict[str, Any]]:
    """A document's name, and all else of it as JSON. Raises `DocumentInvalid`."""
    model = document.get("_id")
    if not isinstance(model, str) or text(model) != model:
        raise DocumentInvalid([Fault("_id", f"{str(model)[:40]!r} is no name: write a text without NUL characters")])
    return model, as_json({key: value for key, value in document.items() if key not in _OUTSIDE})


def as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON holds it, times as text in UTC.

    Raises:
        DocumentInvalid: with every value that JSON can't hold.
    """
    faults: list[Fault] = []
    found = {str(key): _value(value, str(key), faults) for key, value in fields.items()}
    faults += [Fault(str(key), "is no text that JSON can hold") for key in fields if not _is_text(key)]
    if faults:
        raise DocumentInvalid(faults)
    return found


def _value(value: Any, path: str, faults: list[Fault]) -> Any:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if _is_text(value):
        return str(value)
    if isinstance(value, datetime):
        return show_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_value(item, f"{path}.{n}", faults) for n, item in enumerate(value)]
    if isinstance(value, Mapping) and all(map(_is_text, value)):
        return {str(key): _value(item, f"{path}.{key}", faults) for key, item in value.items()}
    faults.append(Fault(path, _said(value)))
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and text(value) == value


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value} is no number of JSON: write null, or leave it out"
    if isinstance(value, str):
        return "holds a NUL character or half a surrogate pair, which PostgreSQL can't store: leave it out"
    if isinstance(value, Mapping):
        return "has a key that is no text that JSON can hold"
    return f"is of the type {type(value).__name__}, which JSON doesn't have: write it as text or numbers"
