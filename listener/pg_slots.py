"""Replication connections to PostgreSQL, and what is asked on them: which server it is, and for a new slot.

https://www.postgresql.org/docs/current/protocol-replication.html. On such a connection only the simple query protocol
works. Errors of psycopg come through as they are.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from listener.pgoutput import read_lsn

#: Values come as text, in a form that must not depend on the settings of a role or database.
_TEXT_FORM = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
#: Unless the address says otherwise: what was sent and not even received by the other machine in 30 s ends it.
_TCP = {"connect_timeout": "10", "tcp_user_timeout": "30000", "keepalives_idle": "15", "keepalives_interval": "5"}
_POLL_S, _TOLD_AFTER_S, _CANCEL_S = 0.2, 2.0, 5.0

Connection = psycopg.Connection[tuple[Any, ...]]


class NewSlot(NamedTuple):
    """A slot gives the transactions that commit behind `consistent_point`, which are those not visible in `snapshot`.

    `snapshot` is `pg_current_snapshot()` as text, xmin:xmax:xip,….
    """

    consistent_point: int
    snapshot: str


def connect(conninfo: str) -> Connection:
    """A replication connection to the database; texts come in UTF-8 (as they are stored, if that has no encoding)."""
    given = conninfo_to_dict(conninfo)
    options = given.get("options") or os.environ.get("PGOPTIONS", "")
    ours = " ".join(f"-c {name}={value}" for name, value in _TEXT_FORM.items())
    more = {"client_encoding": "UTF8", "replication": "database", "options": f"{options} {ours}".strip()}
    return psycopg.connect(make_conninfo("", **{**_TCP, **given, **more}), autocommit=True)


def ask(pgconn: PGconn, query: str) -> list[tuple[str | None, ...]]:
    """The rows that answer a query, as text. One query: waits as long as it takes."""
    return rows_of(pgconn.exec_(query.encode()))


def rows_of(result: PGresult) -> list[tuple[str | None, ...]]:
    """A result's rows, as text; an error is raised."""
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise error_from_result(result)
    values = ([result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples))
    return [tuple(None if value is None else value.decode() for value in row) for row in values]


def quoted(name: str) -> str:
    """A name as an identifier of the replication commands."""
    return '"' + name.replace('"', '""') + '"'


def create_slot(
    conninfo: str,
    name: str,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    waiting: Callable[[list[int]], None] = lambda pids: None,
) -> NewSlot:
    """Make a logical slot for pgoutput. The server waits for the transactions that write at this time to end.

    `cancelled` is asked every 0.2 s whether to give up. `waiting` is told once, when it takes longer than 2 s, the
    processes that are waited for just then (0: a prepared transaction).

    Raises:
        psycopg.errors.QueryCanceled: given up; there is no slot.
        psycopg.errors.DuplicateObject: there is one of this name.
    """
    with connect(conninfo) as connection:
        pgconn = connection.pgconn
        ask(pgconn, "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")
        command = f"CREATE_REPLICATION_SLOT {quoted(name)} LOGICAL pgoutput (SNAPSHOT 'use')"
        pgconn.send_query(command.encode())
        ((_, point, *_),) = rows_of(_answer(connection, conninfo, cancelled, waiting))
        ((snapshot,),) = ask(pgconn, "SELECT pg_catalog.pg_current_snapshot()::text")
        ask(pgconn, "COMMIT")
        return NewSlot(read_lsn(str(point)), str(snapshot))


def _answer(
    connection: Connection, conninfo: str, cancelled: Callable[[], bool], waiting: Callable[[list[int]], None]
) -> PGresult:
    """The result of the query that was sent."""
    pgconn, begun = connection.pgconn, time.monotonic()
    told, give_up = False, 0.0
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    while pgconn.is_busy():
        if poll.poll(_POLL_S * 1000):
            pgconn.consume_input()
            continue
        now = time.monotonic()
        if give_up and now > give_up:
            raise psycopg.errors.QueryCanceled("given up, though the server does not say that it stopped")
        if not give_up and cancelled():
            connection.cancel_safe(timeout=_CANCEL_S)
            give_up = now + _CANCEL_S
        elif not told and not give_up and now - begun > _TOLD_AFTER_S:
            told = True
            waiting(_blocking(conninfo, connection.info.backend_pid))
    result = pgconn.get_result()
    while pgconn.get_result() is not None:
        pass
    if result is None:
        raise psycopg.OperationalError("the server gave no answer")
    return result


def _blocking(conninfo: str, pid: int) -> list[int]:
    """The processes that this one waits for."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute("SELECT pg_catalog.pg_blocking_pids(%s)", [pid]).fetchone()
    return list(row[0]) if row else []
