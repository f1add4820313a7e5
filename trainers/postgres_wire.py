"""The two ways a statement's rows come from PostgreSQL: ADBC, which makes Arrow of them by itself, and psycopg.

Both use a connection of their own, in a transaction that sees what the cut sees. ADBC is several times as fast;
psycopg takes over where it is not installed, or does not know a type. What comes is the same.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from types import ModuleType
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.adapt import Buffer, Loader
from psycopg.conninfo import make_conninfo
from psycopg.pq import Format
from psycopg.rows import dict_row, tuple_row

from registry.postgres.connection import PUBLIC_NAMES, READER
from trainers.postgres_columns import from_values

#: Selects run as this role, where there is one and the login may become it.
ROLE = READER
#: How the client library says that there is no connection any more: it has no code for that.
_BROKEN = re.compile(
    r"server closed the connection|terminating connection|connection to server|SSL connection has been"
)
#: psycopg's rows of one batch.
_ROWS = 20_000
#: Seconds after which a statement is cancelled from here, if the server's own limit did not end it.
_GRACE = 2.0


#: A statement ends soon after a client that was killed: else it would run on to its end. Not every system can tell.
_CHECK_CLIENT = """
    set_config('client_connection_check_interval',
        CASE WHEN version() ~* 'linux|darwin|apple|bsd|illumos' THEN '5s' ELSE '0' END, false)
"""
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True, slots=True)
class Session:
    """How to connect, and what each connection is set to."""

    parameters: Mapping[str, Any]
    limit: float | None = None
    """Seconds that one statement may take."""

    @property
    def settings(self) -> str:
        """One statement that sets what the session's selects are run under."""
        limit = 0 if self.limit is None else max(1, round(self.limit * 1000))
        values = {
            "TimeZone": "UTC",
            "DateStyle": "ISO, YMD",
            "IntervalStyle": "postgres",
            "extra_float_digits": "1",
            "bytea_output": "hex",
            "standard_conforming_strings": "on",
            "default_transaction_read_only": "on",
            "idle_in_transaction_session_timeout": "0",
            "statement_timeout": str(limit),
        }
        calls = [f"set_config('{name}', '{value}', false)" for name, value in values.items()]
        return f"SELECT {', '.join(calls)}, {_CHECK_CLIENT}, {PUBLIC_NAMES}"

    def connect(self) -> psycopg.Connection[dict[str, Any]]:
        """A connection in a transaction that only reads; no snapshot is taken yet. Raises psycopg.Error."""
        connection = psycopg.connect(**self.parameters, autocommit=True, row_factory=dict_row, prepare_threshold=None)
        try:
            connection.execute(self.settings)
            connection.execute(BEGIN)
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(frozen=True, slots=True)
class Job:
    """One statement to run, in the state that a snapshot shows."""

    session: Session
    snapshot: str
    role: str | None
    text: str
    wire: Sequence[pa.DataType]

    @property
    def before(self) -> list[str]:
        """What comes between BEGIN and the statement."""
        role = [] if self.role is None else [f"SET LOCAL ROLE {self.role}"]
        return [f"SET TRANSACTION SNAPSHOT '{self.snapshot}'", *role]


class Refused(Exception):
    """ADBC can't do it; psycopg may."""


def read(job: Job) -> Generator[pa.RecordBatch, None, None]:
    """The statement's rows, as they come. Ended early, it ends the statement.

    Raises:
        psycopg.Error, adbc_driver_manager.Error, pyarrow.ArrowException: what the server or the driver says.
    """
    try:
        yield from by_adbc(job)
    except Refused:
        yield from by_psycopg(job)


def adbc() -> ModuleType | None:
    """The driver's module, where it is installed."""
    try:
        import adbc_driver_postgresql.dbapi as driver
    except ImportError:
        return None
    module: ModuleType = driver
    return module


def errors() -> tuple[type[Exception], ...]:
    """What `read` raises."""
    driver = adbc()
    own = (psycopg.Error, pa.ArrowException)
    return own if driver is None else (*own, driver.Error)


def by_adbc(job: Job) -> Iterator[pa.RecordBatch]:
    """See `read`. Raises Refused before the first batch."""
    driver = adbc()
    if driver is None:
        raise Refused
    begun = False
    try:
        with contextlib.closing(driver.connect(make_conninfo(**job.session.parameters), autocommit=True)) as connection:
            for statement in (job.session.settings, BEGIN, *job.before):
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            with connection.cursor() as cursor, _watched(job, cursor.adbc_cancel):
                cursor.execute(job.text)
                for batch in _batches(cursor):
                    begun = True
                    yield batch
    except (driver.Error, pa.ArrowException) as error:
        if begun or getattr(error, "sqlstate", None) or _BROKEN.search(str(error)):
            raise
        raise Refused from error  # the server didn't say it


def by_psycopg(job: Job) -> Iterator[pa.RecordBatch]:
    """See `read`."""
    with contextlib.closing(job.session.connect()) as connection:
        for statement in job.before:
            connection.execute(statement.encode())
        with connection.cursor("refitd_rows", row_factory=tuple_row) as cursor:
            for name in ("timestamp", "timestamptz"):
                cursor.adapters.register_loader(name, _Microseconds)
            with _watched(job, connection.cancel):
                cursor.execute(job.text.encode(), binary=True)
                while rows := cursor.fetchmany(_ROWS):
                    yield from_values(rows, job.wire)


def _batches(cursor: Any) -> Iterable[pa.RecordBatch]:
    """The reader behind `fetch_record_batch`: it raises the server's errors with their codes, as the public one, which
    is pyarrow's own, can't (https://github.com/apache/arrow-adbc/issues/1523)."""
    reader = getattr(getattr(cursor, "_results", None), "reader", None)
    batches: Iterable[pa.RecordBatch] = cursor.fetch_record_batch() if reader is None else reader
    return batches


class _Microseconds(Loader):
    """A timestamp as PostgreSQL sends it: microseconds since 2000. Python's own times know no infinity."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return int.from_bytes(data, "big", signed=True)


@contextmanager
def _watched(job: Job, cancel: Callable[[], None]) -> Iterator[None]:
    """Cancels a statement that is left early, or that takes longer than the server should have let it."""
    limit = job.session.limit
    timer = None if limit is None else Timer(limit + _GRACE, cancel)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    except BaseException:
        cancel()
        raise
    finally:
        if timer is not None:
            timer.cancel()
