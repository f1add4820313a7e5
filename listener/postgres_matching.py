"""PostgreSQL judges rows: `json_to_recordset` makes rows of them, and each predicate is a filter, as its user wrote it.

Only the columns that predicates read travel, each with the type and collation that it has in its table, as the text
that the server itself gave; so a predicate means here what it means in the select.
https://www.postgresql.org/docs/current/functions-json.html
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import psycopg

from listener.pg_tuples import UNKNOWN_VALUE, Image, Value
from listener.postgres_session import PgSession
from registry.postgres.connection import READER, Connection
from registry.postgres.failures import translate
from registry.sql_watch import SqlPredicate

#: A row's number, beside its columns.
_NUMBER = "__refitd_row__"
_ROWS_AT_ONCE = 5000
_BYTES_AT_ONCE = 8 * 1024 * 1024
_PREDICATES_AT_ONCE = 200
#: A predicate that takes longer on a few thousand rows is not worth its answer.
_LIMIT = "10s"

_COLUMNS = """
SELECT one.attname, pg_catalog.format_type(one.atttypid, one.atttypmod),
    CASE WHEN one.attcollation <> of_type.typcollation THEN (
        SELECT format('%%I.%%I', space.nspname, named.collname)
        FROM pg_catalog.pg_collation AS named JOIN pg_catalog.pg_namespace AS space ON space.oid = named.collnamespace
        WHERE named.oid = one.attcollation
    ) END,
    one.atttypid IN ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype) OR of_type.typtype = 'd'
FROM pg_catalog.pg_attribute AS one JOIN pg_catalog.pg_type AS of_type ON of_type.oid = one.atttypid
WHERE one.attrelid = pg_catalog.to_regclass(%s) AND one.attnum > 0 AND NOT one.attisdropped
"""

#: The values of the columns that are looked at, in their order.
_Row = tuple[Value, ...]


class PostgresEvaluator:
    """See `listener.matching.Evaluator`. Rows are `listener.pg_tuples.Image`s, predicates `SqlPredicate`s."""

    def __init__(self, connection: Connection) -> None:
        self._login = connection.login
        limits = {"default_transaction_read_only": "on", "statement_timeout": _LIMIT}
        self._session = PgSession(connection.parameters, role=READER, **limits)
        self._columns: dict[str, Mapping[str, _Column]] = {}

    def evaluate(
        self, relation: str, predicates: Sequence[SqlPredicate], rows: Sequence[Image]
    ) -> list[Collection[int]]:
        """For each predicate the indices of the rows that match it, or may."""
        names = tuple(sorted(frozenset[str]().union(*(one.columns for one in predicates))))
        indices: dict[_Row, list[int]] = {}
        for index, image in enumerate(rows):
            indices.setdefault(image.values(names) if names else (), []).append(index)
        distinct = list(indices)
        hits: list[set[int]] = []
        for first in range(0, len(predicates), _PREDICATES_AT_ONCE):
            hits += self._judge(relation, predicates[first : first + _PREDICATES_AT_ONCE], names, distinct)
        owners = list(indices.values())
        return [[index for place in some for index in owners[place]] for some in hits]

    def forget(self, relations: Collection[str]) -> None:
        """Look these relations' columns up again."""
        for relation in relations:
            self._columns.pop(relation, None)

    def close(self) -> None:
        """Give the connection back. Twice is safe."""
        self._session.close()

    def _judge(
        self, relation: str, predicates: Sequence[SqlPredicate], names: Sequence[str], rows: Sequence[_Row]
    ) -> list[set[int]]:
        """The places of the rows that match each predicate, or may: of which it needs a value that isn't known."""
        known = self._types(relation)
        found = [_unknown(one, names, rows) for one in predicates]
        for chunk in _chunks(rows):
            for hits, more in zip(found, self._ask(known, predicates, names, rows, chunk), strict=True):
                hits.update(more)
        return found

    def _ask(
        self, known: Mapping[str, _Column], predicates: Sequence[SqlPredicate], names: Sequence[str],
        rows: Sequence[_Row], chunk: range,
    ) -> list[Iterable[int]]:  # fmt: skip
        """One query a name that the table has in the predicates; where one fails, each predicate alone; where that
        fails, every row may match."""
        answers: list[Iterable[int]] = [()] * len(predicates)
        by_alias: dict[str, list[int]] = defaultdict(list)
        for place, one in enumerate(predicates):
            by_alias[one.alias].append(place)
        for places in by_alias.values():
            some = [predicates[place] for place in places]
            for place, answer in zip(places, self._ask_all(known, some, names, rows, chunk), strict=True):
                answers[place] = answer
        return answers

    def _ask_all(
        self, known: Mapping[str, _Column], predicates: Sequence[SqlPredicate], names: Sequence[str],
        rows: Sequence[_Row], chunk: range,
    ) -> list[Iterable[int]]:  # fmt: skip
        needed = sorted(frozenset[str]().union(*(one.columns for one in predicates)))
        try:
            if any(name not in known for name in needed):
                raise psycopg.errors.UndefinedColumn("a column of the predicates is not there any more")
            text = _as_json([(name, names.index(name)) for name in needed], rows, chunk)
            (answer,) = self._session.rows(_query(predicates, [(name, known[name]) for name in needed]), (text,))
            return [one or () for one in answer]
        except psycopg.OperationalError as error:
            if error.sqlstate is None or (error.sqlstate[:2] in ("08", "57", "53") and error.sqlstate != "57014"):
                self._session.close()
                raise translate(error, self._login) from error
            return self._one_by_one(known, predicates, names, rows, chunk)
        except psycopg.Error:
            return self._one_by_one(known, predicates, names, rows, chunk)

    def _one_by_one(
        self, known: Mapping[str, _Column], predicates: Sequence[SqlPredicate], names: Sequence[str],
        rows: Sequence[_Row], chunk: range,
    ) -> list[Iterable[int]]:  # fmt: skip
        if len(predicates) == 1:
            return [chunk]
        return [self._ask_all(known, [one], names, rows, chunk)[0] for one in predicates]

    def _types(self, relation: str) -> Mapping[str, _Column]:
        if relation not in self._columns:
            try:
                found = self._session.rows(_COLUMNS, (relation,))
            except psycopg.errors.InsufficientPrivilege:
                return {}  # not even its columns: any row may match
            except psycopg.Error as error:
                self._session.close()
                raise translate(error, self._login) from error
            self._columns[relation] = {name: _Column(*rest) for name, *rest in found}
        return self._columns[relation]


class _Column:
    """A column's type, with its collation where that is not the type's own.

    `cast`: it is to be made of text in a second step, as JSON's `null` would become NULL, and JSON in a text a string.
    """

    __slots__ = ("cast", "type")

    def __init__(self, kind: str, collation: str | None, cast: bool) -> None:
        self.type = kind + (f" COLLATE {collation}" if collation else "")
        self.cast = cast


def _unknown(predicate: SqlPredicate, names: Sequence[str], rows: Sequence[_Row]) -> set[int]:
    places = [names.index(name) for name in predicate.columns]
    return {at for at, row in enumerate(rows) if any(row[place] is UNKNOWN_VALUE for place in places)}


def _chunks(rows: Sequence[_Row]) -> Iterable[range]:
    """Runs of rows for one query."""
    first, size = 0, 0
    for at, row in enumerate(rows):
        here = sum(len(value) for value in row if isinstance(value, bytes))
        if at > first and (size + here > _BYTES_AT_ONCE or at - first >= _ROWS_AT_ONCE):
            yield range(first, at)
            first, size = at, 0
        size += here
    if first < len(rows):
        yield range(first, len(rows))


def _as_json(columns: Sequence[tuple[str, int]], rows: Sequence[_Row], chunk: range) -> str:
    """The rows as a JSON array of objects. A value is the server's own text of it."""
    heads = [(json.dumps(name, ensure_ascii=False) + ":", place) for name, place in columns]
    lines = []
    for at in chunk:
        row, parts = rows[at], [f'"{_NUMBER}":{at}']
        for head, place in heads:
            value = row[place]
            if isinstance(value, bytes):
                parts.append(head + json.dumps(value.decode(), ensure_ascii=False))
        lines.append("{" + ",".join(parts) + "}")
    return "[" + ",".join(lines) + "]"


def _query(predicates: Sequence[SqlPredicate], columns: Sequence[tuple[str, _Column]]) -> str:
    """Every predicate as a filter over the same rows. A comment at a predicate's end ends with its line."""
    number = _quoted(_NUMBER)
    filters = ",\n".join(
        f"pg_catalog.array_agg({number}) FILTER (WHERE (\n{one.text.replace('%', '%%')}\n))" for one in predicates
    )
    read = [f"{number} int4", *(f"{_quoted(name)} {'text' if one.cast else one.type}" for name, one in columns)]
    made = [number, *(f"{_quoted(name)}::{one.type}" if one.cast else _quoted(name) for name, one in columns)]
    names = ", ".join([number, *(_quoted(name) for name, _ in columns)])
    alias = _quoted(predicates[0].alias)
    rows = f"SELECT {', '.join(made)} FROM pg_catalog.json_to_recordset(%s::json) AS __text ({', '.join(read)})"
    return f"SELECT {filters}\nFROM ({rows}) AS {alias} ({names})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'
