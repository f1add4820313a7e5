"""What PostgreSQL, or a driver of it, says of a read, as what it means for a fit.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from registry.errors import DatastoreUnavailable, RefitdError, RowsUnusable
from registry.postgres.failures import translate
from registry.postgres.uri import Login
from registry.redaction import redact
from registry.sql_select import SqlSelect
from registry.sql_tree import Relation, quoted

#: Connections lost, too little of something, shutdowns and crashes, lost races, snapshots too old: all pass.
_PASSING = ("08", "40", "53", "57P", "58", "72", "55006", "55P03", "25P02", "25P03")
_CANCELLED, _TRANSACTION_LIMIT = "57014", "25P04"
_FORBIDDEN, _NO_TABLE, _NO_SCHEMA, _READ_ONLY = "42501", "42P01", "3F000", "25006"
#: The driver's name for it, as text or bytes.
_PRIMARY = "PG_DIAG_MESSAGE_PRIMARY"
_DENIED = re.compile(r"permission denied for (?P<kind>\w+) (?P<name>.+)")

#: Every table and view that a select can name, as it would name it.
TABLES = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'refitd')
    AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1 LIMIT 10000
"""


@dataclass(frozen=True, slots=True)
class Said:
    """An error of the server's, whichever driver brought it."""

    code: str | None
    message: str
    hint: str = ""

    @classmethod
    def by(cls, error: Exception) -> Said:
        """Of psycopg's errors, or ADBC's."""
        if isinstance(error, psycopg.Error):
            diagnosis = error.diag
            more = " ".join(part for part in (diagnosis.message_detail, diagnosis.message_hint) if part)
            return cls(error.sqlstate, redact(diagnosis.message_primary or error), redact(more))
        code: str | None = getattr(error, "sqlstate", None) or None
        details = dict(getattr(error, "details", None) or ())
        primary: bytes = next((details[key] for key in (_PRIMARY, _PRIMARY.encode()) if key in details), b"")
        return cls(code, redact(primary.decode(errors="replace") or str(error).partition("\n")[0]))


def translated(
    error: Exception, select: SqlSelect, who: Login, *, tables: Sequence[str] = (), late: bool
) -> RefitdError:
    """The error as ours.

    Args:
        who: who reads which database.
        tables: what the select could have named.
        late: whether the read took as long as one may.
    """
    said = Said.by(error)
    code = said.code
    if code is None:
        if isinstance(error, psycopg.Error):
            return translate(error, who)
        return DatastoreUnavailable(f"PostgreSQL does not answer; try a fresh cut: {said.message}")
    if code == _TRANSACTION_LIMIT or (code == _CANCELLED and late):
        return RowsUnusable(
            "reading took longer than the statement limit; add an index for the select's WHERE and ORDER BY, or select "
            f"less ({said.message})"
        )
    if code == _CANCELLED or code.startswith(_PASSING):
        return DatastoreUnavailable(f"PostgreSQL gave up reading; try a fresh cut: {said.message} ({code})")
    refused = f"PostgreSQL refuses the select: {said.message}"
    if code == _FORBIDDEN:
        return RowsUnusable(f"{refused}; run {_grant(said.message, select.relations, who.user)}")
    if code in (_NO_TABLE, _NO_SCHEMA):
        return RowsUnusable(f"{refused}; {_nearest(said.message, select.relations, tables)}")
    if code == _READ_ONLY:
        return RowsUnusable(f"{refused}; a select for training only reads")
    return RowsUnusable(f"{refused} ({code})" + (f"; {said.hint}" if said.hint else ""))


def _grant(said: str, relations: Iterable[Relation], user: str) -> str:
    """The statement that an administrator has to run."""
    found = _DENIED.search(said)
    kind, name = (found["kind"], found["name"]) if found else ("", "")
    to = quoted(user)
    if kind == "schema":
        return f"GRANT USAGE ON SCHEMA {quoted(name)} TO {to}"
    if kind == "function":
        return f"GRANT EXECUTE ON FUNCTION {name} TO {to}"
    of = [relation.sql for relation in relations if relation.name == name]
    return f"GRANT SELECT ON {of[0] if of else quoted(name)} TO {to}"


def _nearest(said: str, relations: Iterable[Relation], tables: Sequence[str]) -> str:
    names = [f"{each.schema}.{each.name}" if each.schema else each.name for each in relations]
    missing = next((name for name in names if f'"{name}"' in said), names[0] if names else "")
    near = difflib.get_close_matches(missing, tables, 3, 0.5)
    if not near:
        near = [name for name in tables if name.rpartition(".")[2] == missing.rpartition(".")[2]][:3] or [*tables][:5]
    return f"nearest: {', '.join(near)}" if near else "there are no tables that this login sees"


def tables_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names that `TABLES` gave."""
    return [str(row["name"]) for row in rows]
