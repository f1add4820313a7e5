"""What one read asks of PostgreSQL: the user's select, described by the server and wrapped. Nothing is read here.

The user's text is first prepared alone: the server itself says that it is one whole statement. Only then does it stand
between parentheses, on lines of its own, so that a comment at its end hides nothing of ours. What is run is prepared
too, so it stays one statement.

A row's key is a hash of its table's primary key, where each row comes of one row of one table: the hash is one more
column of the user's select, before its FROM, and the server describes that text too. Elsewhere, and where the login may
not read the key, it is a hash of the row's own values: rows that are equal have equal keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.pq import ExecStatus
from psycopg.rows import DictRow

from registry.errors import RowsUnusable
from registry.sql_select import SqlSelect
from registry.sql_text import Token, tokens_of
from registry.sql_tree import quoted
from trainers.arrays import unknown_field
from trainers.postgres_types import Output, PgType, at_path, hash_of, json_of, output, resolve
from trainers.rows import KEY

Psycopg = psycopg.Connection[DictRow]

#: The types with these numbers, and all that they are over or made of.
TYPES = """
WITH RECURSIVE found (oid, typname, typnamespace, typtype, typtypmod, typbasetype, typelem, typlen, typsubscript) AS (
    SELECT oid, typname, typnamespace, typtype, typtypmod, typbasetype, typelem, typlen, typsubscript
    FROM pg_catalog.pg_type WHERE oid = ANY (%s)
    UNION
    SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typtypmod, t.typbasetype, t.typelem, t.typlen, t.typsubscript
    FROM found AS f JOIN pg_catalog.pg_type AS t ON t.oid IN (f.typbasetype, f.typelem)
)
SELECT f.oid::bigint, typname AS name, n.nspname AS schema, typtype AS kind, typtypmod AS modifier,
       typbasetype::bigint AS base, typelem::bigint AS element,
       typsubscript = 'pg_catalog.array_subscript_handler'::regproc AND typlen = -1
           AND typname NOT IN ('int2vector', 'oidvector') AS is_array
FROM found AS f JOIN pg_catalog.pg_namespace AS n ON n.oid = f.typnamespace
"""
_PRIMARY_KEY = """
SELECT a.attname AS name, a.atttypid::bigint AS oid, has_column_privilege(i.indrelid, a.attnum, 'SELECT') AS readable
FROM pg_catalog.pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%s) AND i.indisprimary AND k.place <= i.indnkeyatts
ORDER BY k.place
"""


@dataclass(frozen=True, slots=True)
class Query:
    """One statement. Its columns: one for each output, one for each guard, and the hash of the key."""

    text: str
    outputs: tuple[Output, ...]

    @property
    def wire(self) -> list[pa.DataType]:
        """What each of its columns holds."""
        guards = [pa.bool_() for one in self.outputs if one.guard is not None]
        return [*(one.wire for one in self.outputs), *guards, pa.int64()]


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    oid: int
    modifier: int


def query_of(connection: Psycopg, select: SqlSelect, fields: tuple[str, ...] | None) -> Query:
    """The statement that reads these fields of a select.

    Args:
        connection: in a transaction.

    Raises:
        RowsUnusable: the select has no such field, two of one name, or one of ours.
        psycopg.Error: the server refuses the select; the transaction has failed then.
    """
    described = describe(connection, select.text)
    _check_names([column.name for column in described])
    with_key = _with_key(connection, select, described)
    return wrap(connection, with_key or select.text, described, fields, has_key=with_key is not None)


def wrap(
    connection: Psycopg, text: str, described: Sequence[_Column], fields: tuple[str, ...] | None, *, has_key: bool
) -> Query:
    """The statement around a text whose columns are known. `has_key`: the key's hash follows them."""
    catalog = types(connection, [column.oid for column in described])
    kinds = [resolve(column.oid, column.modifier, catalog) for column in described]
    known = {column.name: (f'"c{at}"', kinds[at]) for at, column in enumerate(described)}
    outputs = tuple(_output(name, known) for name in (known if fields is None else fields))
    guards = [one.guard.condition for one in outputs if one.guard is not None]
    key = '"key"' if has_key else hash_of('"__rows"', kinds)
    wanted = ", ".join([*(one.expression for one in outputs), *guards, key])
    names = ", ".join([*(reference for reference, _ in known.values()), *(['"key"'] if has_key else [])])
    return Query(f'SELECT {wanted} FROM (\n{text}\n) AS "__rows" ({names})', outputs)


def describe(connection: Psycopg, text: str) -> list[_Column]:
    """The columns of a statement, which is parsed but not run. Raises psycopg.Error."""
    pgconn, encoding = connection.pgconn, connection.info.encoding
    result = pgconn.prepare(b"", text.encode())
    if result.status == ExecStatus.COMMAND_OK:
        result = pgconn.describe_prepared(b"")
    if result.status != ExecStatus.COMMAND_OK:
        error = psycopg.errors.error_from_result(result, encoding)
        # Of a connection that has broken the server says nothing, so no class of error either.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))
    return [
        _Column((result.fname(at) or b"").decode(), result.ftype(at), result.fmod(at)) for at in range(result.nfields)
    ]


def types(connection: Psycopg, oids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
    """The catalog's rows of these types, for `resolve`."""
    return {row["oid"]: row for row in connection.execute(TYPES, [sorted(set(oids))])}


def insert_column(text: str, tokens: Sequence[Token], column: str) -> str | None:
    """A plain SELECT with one more column, after its own. None where its FROM isn't found."""
    depth = 0
    for at, token in enumerate(tokens):
        if depth == 0 and token.is_word("from") and not tokens[at - 1].is_word("distinct"):
            return f"{text[: token.start]}\n, {column} {text[token.start :]}"
        depth += token.is_mark("(", "[") - token.is_mark(")", "]")
    return None


def _with_key(connection: Psycopg, select: SqlSelect, described: Sequence[_Column]) -> str | None:
    """The select with a hash of its table's primary key as its last column. None where that can't be had."""
    if not select.single or select.alias is None or len(select.relations) != 1:
        return None
    columns = connection.execute(_PRIMARY_KEY, [select.relations[0].sql]).fetchall()
    if not columns or not all(column["readable"] for column in columns):
        return None
    catalog = types(connection, [column["oid"] for column in columns])
    kinds = [resolve(column["oid"], -1, catalog) for column in columns]
    names = ", ".join(f"{quoted(select.alias)}.{quoted(column['name'])}" for column in columns)
    hashed = f"{hash_of(f'ROW({names})', kinds)} AS {quoted(KEY)}"
    text = insert_column(select.text, tokens_of(select.text), hashed)
    if text is None:
        return None
    try:
        with connection.transaction():
            made = describe(connection, text)
    except psycopg.errors.ProgrammingError:
        return None
    return text if made[:-1] == list(described) and made[-1].name == KEY else None


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise RowsUnusable("the select gives no columns; name those to train on: SELECT age, income FROM …")
    if KEY in names:
        raise RowsUnusable(f"`{KEY}` is a name of refitd's own; give that column another one with AS")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RowsUnusable(f"the select gives two columns the name `{twice[0]}`; give each a name of its own with AS")


def _output(name: str, known: Mapping[str, tuple[str, PgType]]) -> Output:
    if name in known:
        return output(name, *known[name])
    parts = name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        outer = ".".join(parts[:depth])
        if outer not in known:
            continue
        made = json_of(*known[outer])
        if made is None:
            raise RowsUnusable(
                f"`{name}` leads into `{outer}`, which is of type {known[outer][1].shown} and has no fields: only "
                "json, jsonb, hstore and composite types do"
            )
        return at_path(name, made, parts[depth:])
    raise unknown_field(name, known)
