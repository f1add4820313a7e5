"""Connections to a PostgreSQL datastore: its clock, its history, its transactions, and its errors as ours."""

from __future__ import annotations

import functools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from registry.errors import DatastoreUnsuitable
from registry.postgres.failures import translate
from registry.postgres.session import Row, Session, connect, in_transaction, is_quiet
from registry.postgres.stamps import PgStamp, Snapshot
from registry.postgres.uri import login_of, parameters

P = ParamSpec("P")
T = TypeVar("T")

_CLOCK_GOOD_FOR_S = 30.0
#: So many connections wait for their next use; what is beyond that is closed.
_IDLE = 8
#: A transaction that lost to another one is run again, this often.
_ATTEMPTS = 8
_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

#: A role that has the right to read what selects may read, and no other: taken for them where the login may.
READER = "refitd_reader"

#: Sets the search path for selects: the login's own, but for our schema, which `"$user"` is for a login named `refitd`.
PUBLIC_NAMES = """
    set_config('search_path', coalesce((
        SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
        FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place) WHERE name <> 'refitd'
    ), ''), false)
"""


class Connection:
    """Shared by the parts of a `PostgresStore`. Thread-safe; a forked process gets connections of its own."""

    def __init__(self, uri: str, *, timeout_s: float = 10.0) -> None:
        """Connects lazily.

        Raises:
            SettingsInvalid: the URI can't be read or names no database.
        """
        self.parameters: Mapping[str, Any] = parameters(uri, timeout_s)
        self.login = login_of(self.parameters)
        self._timeout_s = timeout_s
        self._start_anew()

    def _start_anew(self) -> None:
        # What a parent process left is neither used nor closed here: both ends of it are the parent's.
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._offset = timedelta()
        self._read_at = -_CLOCK_GOOD_FOR_S * 2
        self._pid = os.getpid()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One connection for the caller alone, each statement a transaction of its own. Errors are ours."""
        with self._ours(), self._leased() as session:
            yield session

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """All rows of one statement. Of a registry that was never made, a SELECT finds none."""
        with self._ours(), self._leased() as session:
            try:
                return session.rows(query, values)
            except psycopg.errors.UndefinedTable:
                if query.startswith("SELECT") and not _is_made(session):
                    return []
                raise

    def row(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Row | None:
        """The first row of one statement. Of a registry that was never made, a SELECT finds none."""
        if query.startswith("SELECT"):
            return next(iter(self.rows(query, values)), None)
        with self.session() as session:
            return session.row(query, values)

    def run(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """How many rows one statement wrote."""
        with self.session() as session:
            return session.send(query, values).rowcount

    def transaction(self, work: Callable[[Session], T], *, durable: bool = True) -> T:
        """Run `work` in one transaction: read committed; run again when it lost to another one.

        `work` can run more than once, so it has no effect but its writes.

        Args:
            durable: False: its commit need not be on disk when this returns.
        """
        with self._ours():
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    with self._leased() as session:
                        return in_transaction(session, work, durable=durable)
                except _AGAIN:
                    if attempt == _ATTEMPTS:
                        raise
                    time.sleep(random.uniform(0, 0.005 * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    def history(self) -> str:
        """`SYSTEM_IDENTIFIER/TIMELINE` of the server: transaction ids mean something only within one of them."""
        with self.session() as session:
            return session.history

    def now(self) -> datetime:
        """The server's clock: measured at most every 30 s, and carried on by the local one between."""
        self._check_process()
        with self._lock:
            offset = self._offset if time.monotonic() - self._read_at <= _CLOCK_GOOD_FOR_S else None
        return datetime.now(UTC) + (self._measure() if offset is None else offset)

    def _measure(self) -> timedelta:
        with self.session() as session:
            before = datetime.now(UTC)
            row = session.row("SELECT clock_timestamp() AS now")
            after = datetime.now(UTC)
        assert row is not None
        with self._lock:
            self._offset = row["now"] - (before + (after - before) / 2)
            self._read_at = time.monotonic()
            return self._offset

    def close(self) -> None:
        """Give connections back. Twice is safe."""
        self._check_process()
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.connection.close()

    @contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise translate(error, self.login) from error
        except UnicodeEncodeError as error:
            raise DatastoreUnsuitable(f"PostgreSQL refuses: a text is no Unicode ({error.reason}); mend it") from None

    @contextmanager
    def _leased(self) -> Iterator[Session]:
        session = self._take()
        try:
            yield session
        except psycopg.OperationalError:
            if session.connection.closed:
                self.close()  # the others are the same server's
            raise
        finally:
            self._give(session)

    def _take(self) -> Session:
        self._check_process()
        while True:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None:
                return connect(self.parameters, self._timeout_s)
            if is_quiet(session.connection):
                return session
            session.connection.close()

    def _give(self, session: Session) -> None:
        connection = session.connection
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            try:
                connection.rollback()
            except psycopg.Error:
                connection.close()
        with self._lock:
            usable = not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE
            if usable and len(self._idle) < _IDLE:
                self._idle.append(session)
                return
        connection.close()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self._start_anew()


def snapshot(session: Session) -> PgStamp:
    """What is visible now: the stamp of a cut that is taken in this transaction's statement."""
    row = session.row("SELECT pg_current_snapshot()::text AS snapshot")
    assert row is not None
    return PgStamp(session.history, Snapshot.parse(row["snapshot"]))


def translated(method: Callable[P, T]) -> Callable[P, T]:
    """Turn psycopg's errors into ours, for those who hold a psycopg connection of their own."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except psycopg.Error as error:
            raise translate(error) from error

    return wrapper


def _is_made(session: Session) -> bool:
    found = session.row("SELECT to_regclass('refitd.meta') IS NOT NULL AS made")
    return bool(found and found["made"])
