"""One session with a PostgreSQL server: how it is set up, and how statements and transactions go through it."""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import dict_row

from registry.errors import DatastoreUnsuitable

Row = dict[str, Any]
T = TypeVar("T")

#: An answer may take so many times the time that a server has to be found in: waiting for a lock ends before that.
_PATIENCE = 3.0

#: Once for each connection. What the operator set for a login stays, but for what the registry relies on: a commit is
#: on disk when it returns, names mean what they say, and a paused process holds its locks for no longer than a lease.
_SET_UP = """
SELECT control.system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS history,
       pg_size_bytes(current_setting('wal_segment_size')) AS segment,
       current_setting('wal_block_size')::bigint AS block,
       set_config('TimeZone', 'UTC', false),
       set_config('DateStyle', 'ISO, YMD', false),
       set_config('search_path', 'pg_catalog, pg_temp', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('idle_in_transaction_session_timeout', %(limit)s, false),
       set_config('lock_timeout', CASE current_setting('lock_timeout')
           WHEN '0' THEN %(limit)s ELSE current_setting('lock_timeout') END, false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
           WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
FROM pg_control_system() AS control
"""


class _Patient(psycopg.Connection[Row]):
    """A connection that gives up when an answer takes too long: a server can stop without closing anything."""

    patience_s: float = 30.0

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's, with a limit. Raises psycopg.OperationalError, and closes the connection."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s") from None


@dataclass(frozen=True, slots=True)
class Session:
    """One connection, while one caller has it. Within `Connection.transaction` statements go out together: a
    statement whose rows nobody asks for costs no round trip."""

    connection: psycopg.Connection[Row]
    history: str
    segment: int
    block: int
    pipeline: psycopg.Pipeline | None = None

    def send(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> psycopg.Cursor[Row]:
        """Run a statement; its rows may be fetched later."""
        return self.connection.execute(query, values)

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """All rows of a statement."""
        cursor = self.send(query, values)
        self._sync()
        return cursor.fetchall()

    def row(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Row | None:
        """The first row of a statement."""
        cursor = self.send(query, values)
        self._sync()
        return cursor.fetchone()

    def _sync(self) -> None:
        # A mere flush would leave the server waiting for more of the same, and not know that the transaction is idle.
        if self.pipeline is not None:
            self.pipeline.sync()


def connect(parameters: Mapping[str, Any], timeout_s: float) -> Session:
    """A new session, each statement a transaction of its own. Raises psycopg.Error or `DatastoreUnsuitable`."""
    connection = _Patient.connect(autocommit=True, row_factory=dict_row, **parameters)
    connection.patience_s = _PATIENCE * timeout_s
    try:
        _check_encoding(connection)
        row = connection.execute(_SET_UP, {"limit": f"{max(1, round(timeout_s * 1000))}ms"}).fetchone()
    except BaseException:
        connection.close()
        raise
    assert row is not None
    return Session(connection, row["history"], row["segment"], row["block"])


def in_transaction(session: Session, work: Callable[[Session], T], *, durable: bool) -> T:
    """Run `work` in one transaction. Raises psycopg.Error; whoever catches it rolls back."""
    with session.connection.pipeline() as pipeline:
        inside = replace(session, pipeline=pipeline)
        inside.send("BEGIN")
        if not durable:
            inside.send("SET LOCAL synchronous_commit TO off")
        result = work(inside)
        commit = inside.send("COMMIT")
    if commit.statusmessage != "COMMIT":
        raise psycopg.OperationalError(f"the transaction was not committed ({commit.statusmessage})")
    return result


def is_quiet(connection: psycopg.Connection[Row]) -> bool:
    """Whether nothing came while the connection lay idle: what the server says unasked is that it ends it."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _check_encoding(connection: psycopg.Connection[Row]) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatastoreUnsuitable(
            f"the database {connection.info.dbname} has the encoding {encoding}, which can't hold every document; "
            "refitd needs UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move the rows there"
        )
