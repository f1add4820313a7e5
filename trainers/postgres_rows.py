"""Training rows from PostgreSQL: everything read through one cut is what one snapshot shows.

A cut is an open transaction, `REPEATABLE READ READ ONLY`, on a connection of its own, which has exported its snapshot.
Each read has one more connection, in a transaction that takes that snapshot over: what it runs, and how it ends, leaves
the cut as it was. Where a role `refitd_reader` exists and the login may become it, selects run as that role.

A cut covers a change when the change's transaction is visible in its snapshot. No place in the log says that: a commit
is in the log before anybody sees it, and with synchronous replication long before.

Snapshots don't hold what TRUNCATE, or an ALTER TABLE that writes its table anew, has done away with since: such a table
looks empty to them. The feed sees both, so that the model is fitted again.

Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice
from typing import Any

import psycopg
import pyarrow as pa
import structlog

from registry.errors import DatastoreUnavailable, DatastoreUnsuitable, RefitdError
from registry.postgres.connection import Connection
from registry.postgres.failures import translate
from registry.postgres.stamps import PgStamp, Snapshot
from registry.postgres.uri import Login
from registry.sql_select import SqlSelect, parse_sql_select
from trainers.postgres_columns import columns
from trainers.postgres_failures import TABLES, tables_of, translated
from trainers.postgres_query import Psycopg, Query, query_of
from trainers.postgres_wire import BEGIN, ROLE, Job, Session, errors, read

log: Any = structlog.get_logger("refitd.rows")

_WAIT = 30.0
_POLLS = (0.05, 0.5)
#: So many transactions are named in a message.
_NAMED = 5

_MOMENT = """
SELECT pg_current_snapshot()::text AS snapshot,
       system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS history
FROM pg_control_system()
"""
#: Since 16 a member of a role may be forbidden to become it.
_MAY_BECOME = "SELECT pg_has_role(current_user, oid, %s) AS may FROM pg_catalog.pg_roles WHERE rolname = %s"


class PostgresReader:
    """Reads rows of the datastore's database. Safe to share between threads; a cut is for one thread."""

    def __init__(self, connection: Connection, *, statement_limit: float | None = None) -> None:
        """`statement_limit`: seconds that one read may take; None: no limit."""
        self._session = Session(dict(connection.parameters), statement_limit)
        self._login = connection.login

    @contextmanager
    def cut(self, need: PgStamp | None) -> Iterator[PostgresCut]:
        """A cut in which all is visible that `need` names. What another history needs is as visible as it will be.

        Raises:
            DatastoreUnavailable: no answer, or what is needed isn't visible after half a minute.
            DatastoreUnsuitable: the server is a standby, or refuses the login.
        """
        try:
            connection = self._session.connect()
        except psycopg.Error as error:
            raise translate(error, self._login) from error
        with closing(connection):
            try:
                stamp = _reached(connection, need)
                row = connection.execute("SELECT pg_export_snapshot() AS name").fetchone()
                role = _role(connection)
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                raise DatastoreUnsuitable(
                    "this PostgreSQL server is a standby, which can't say what it has seen; name the primary in the "
                    "datastore's URI"
                ) from error
            except psycopg.Error as error:
                raise translate(error, self._login) from error
            assert row is not None
            yield PostgresCut(connection, self._session, self._login, stamp, row["name"], role)

    def close(self) -> None:
        """Nothing to give back: a cut closes its own connections."""


class PostgresCut:
    """The state of a database that the snapshot of `stamp` shows. For one thread."""

    def __init__(
        self, connection: Psycopg, session: Session, login: Login, stamp: PgStamp, exported: str, role: str | None
    ) -> None:
        self.stamp = stamp
        self._connection, self._session, self._login = connection, session, login
        self._exported, self._role = exported, role

    def rows(self, select: Any, fields: tuple[str, ...] | None) -> Iterator[pa.RecordBatch]:
        """See `trainers.rows.Cut`, and `trainers.postgres_types` for the columns. Batches come as the server sends
        them; only a read with JSON columns waits for its end, for their types are known only then. None for no rows.

        `fields`: names of the select's columns, or dotted paths into one of JSON. None: all of them.

        A row's `KEY` comes from its table's primary key where each row is made of one row of one table; elsewhere
        from the values of the row.

        Raises:
            RowsUnusable: see `trainers.rows.Cut`; also a select that the server refuses, or one beyond the limit.
            DatastoreUnavailable: the server gave up, or the cut is gone: try again with a fresh one.
            DocumentInvalid: the select itself.
        """
        parsed = parse_sql_select(select)
        begun = time.monotonic()
        try:
            query = self._query(parsed, fields)
            job = Job(self._session, self._exported, self._role, query.text, query.wire)
            with closing(read(job)) as batches:
                yield from columns(batches, query.outputs)
        except errors() as error:
            raise self._translated(error, parsed, begun) from error

    def _query(self, select: SqlSelect, fields: tuple[str, ...] | None) -> Query:
        with self._connection.transaction(force_rollback=True):
            if self._role is not None:
                self._connection.execute(f"SET LOCAL ROLE {self._role}".encode())
            return query_of(self._connection, select, fields)

    def _translated(self, error: Exception, select: SqlSelect, begun: float) -> RefitdError:
        limit = self._session.limit
        late = limit is not None and time.monotonic() - begun >= limit
        who = Login(self._role or self._login.user, self._login.database)
        return translated(error, select, who, tables=self._tables(error), late=late)

    def _tables(self, error: Exception) -> list[str]:
        if not isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
            return []
        try:
            return tables_of(self._connection.execute(TABLES.encode()))
        except psycopg.Error:
            return []  # the first error says more


def _reached(connection: Psycopg, need: PgStamp | None) -> PgStamp:
    """The stamp of the transaction's snapshot; of a fresh one as long as that doesn't cover the need."""
    deadline, pause = time.monotonic() + _WAIT, _POLLS[0]
    while True:
        row = connection.execute(_MOMENT).fetchone()
        assert row is not None
        stamp = PgStamp(row["history"], Snapshot.parse(row["snapshot"]))
        if need is None or stamp.covers(need):
            return stamp
        if need.history != stamp.history:
            log.info("the server's history is another one now; what was pending counts as visible", was=need.history)
            return stamp
        if time.monotonic() > deadline:
            raise DatastoreUnavailable(_not_visible(need, stamp))
        connection.execute("ROLLBACK")
        time.sleep(pause)
        pause = min(pause * 1.5, _POLLS[1])
        connection.execute(BEGIN)


def _not_visible(need: PgStamp, stamp: PgStamp) -> str:
    shown = stamp.snapshot
    assert shown is not None
    wanted = need.snapshot
    until = shown.xmax if wanted is None else wanted.xmax
    by_name = (xid for xid in sorted(need.xids) if not shown.shows(xid))
    by_snapshot = (
        xid
        for xid in chain(sorted(shown.running), range(shown.xmax, until))
        if wanted is not None and wanted.shows(xid)
    )
    named = ", ".join(map(str, islice(chain(by_name, by_snapshot), _NAMED)))
    return (
        f"after {_WAIT:g} s PostgreSQL still does not show what must be trained on: the transactions {named}; "
        "their commits may wait for a synchronous standby (SELECT * FROM pg_stat_activity WHERE wait_event = 'SyncRep')"
    )


def _role(connection: Psycopg) -> str | None:
    """The role that selects run as, if not the login."""
    how = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    row = connection.execute(_MAY_BECOME, (how, ROLE)).fetchone()
    return ROLE if row is not None and row["may"] else None
