"""The demo on PostgreSQL: its server, and what is written there by plain SQL."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from refitd._postgres_account import choose_account
from refitd.demo_data import MODEL, Scan, specification
from refitd.embedded_postgres import EmbeddedPostgres

Connection = psycopg.Connection[tuple[Any, ...]]

_DATABASE = "demo"

# REPLICA IDENTITY FULL is the counterpart of MongoDB's images: with it the log holds a row as it was before a change.
_TABLES: tuple[LiteralString, ...] = (
    "CREATE TABLE scans (id int PRIMARY KEY, pixels float8[], label int)",
    "ALTER TABLE scans REPLICA IDENTITY FULL",
    "CREATE TABLE held_out (id int PRIMARY KEY, pixels float8[], label int)",
    "ALTER TABLE held_out REPLICA IDENTITY FULL",
)

SPEC: Mapping[str, Any] = specification(
    "SELECT pixels, label FROM scans WHERE label IS NOT NULL", "SELECT pixels, label FROM held_out"
)


@contextmanager
def postgres_started(folder: Path) -> Iterator[PostgresWriter]:
    """A PostgreSQL with its data in the folder."""
    data = folder / "postgres"
    _let_in(folder, data)
    # Stopped, not killed, though nobody will read these data again: killed it would leave its shared memory behind.
    with EmbeddedPostgres.start(data, database=_DATABASE) as server:
        uri = server.uri(_DATABASE)
        with psycopg.connect(uri, autocommit=True) as connection:
            yield PostgresWriter(connection, uri)


def _let_in(folder: Path, data: Path) -> None:
    """Where the server becomes another user, since it refuses to be root: let that user, and no other, enter."""
    run_as = choose_account(data / "db")
    if run_as.gid is not None:
        os.chown(folder, -1, run_as.gid)
        folder.chmod(0o710)


class PostgresWriter:
    """See `refitd.demo_writer.Writer`."""

    def __init__(self, connection: Connection, uri: str) -> None:
        self.uri = uri
        self._connection = connection

    def make_tables(self) -> None:
        """Both with the whole old row in the log."""
        for statement in _TABLES:
            self._connection.execute(statement)

    def insert(self, table: str, scans: Sequence[Scan]) -> None:
        """In one transaction. A scan without a label has NULL there."""
        statement = psycopg.sql.SQL("INSERT INTO {} (id, pixels, label) VALUES (%s, %s, %s)")
        rows = [(one.number, list(one.pixels), one.label) for one in scans]
        self._run_many(statement.format(psycopg.sql.Identifier(table)), rows)

    def label(self, labels: Mapping[int, int]) -> None:
        """An update each, in one transaction."""
        statement = psycopg.sql.SQL("UPDATE scans SET label = %s WHERE id = %s")
        self._run_many(statement, [(label, number) for number, label in labels.items()])

    def insert_document(self) -> None:
        """The very statement that is shown."""
        statement: Any = "\n".join(_insertion())
        self._connection.execute(statement)

    def shown(self) -> Sequence[str]:
        """As SQL: the tables, and the document."""
        return [*(f"{statement};" for statement in _TABLES), *_insertion()]

    def _run_many(self, statement: psycopg.sql.SQL | psycopg.sql.Composed, rows: Sequence[Sequence[Any]]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(statement, rows)


def _insertion() -> list[str]:
    fields = [f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in SPEC.items()]
    listed = ",\n".join(fields).splitlines()
    return [f"INSERT INTO refitd.models (id, spec) VALUES ('{MODEL}', '{{", *listed, "}');"]
