"""The replication slot that keeps PostgreSQL's log for us until what it holds is stored.

https://www.postgresql.org/docs/current/view-pg-replication-slots.html
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from listener.pg_slots import create_slot
from listener.postgres_session import PgSession
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable, PositionLost

log: Any = structlog.get_logger("refitd.feed")

PLUGIN = "pgoutput"
_FREE_BY_S = 10.0
_LOOK_S = 0.05
_LONGEST_NAME = 63
#: A new slot waits so long for transactions to end; then it is tried anew.
_BEGUN_BY_S = 20.0

_STATE = """
SELECT plugin, database, active_pid, pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::int8, coalesce(wal_status, 'lost')
FROM pg_catalog.pg_replication_slots WHERE slot_name = %s
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as it stands. `confirmed`: what lies before it is no longer sent; None before it is ready."""

    plugin: str | None
    database: str | None
    active_pid: int | None
    confirmed: int | None
    wal_status: str


def slot_name(database: str) -> str:
    """The slot of a database: names of slots are the whole server's, and of small letters, digits and `_` alone."""
    plain = f"refitd_{database}"
    if re.fullmatch(r"[a-z0-9_]{1,63}", plain):
        return plain
    digest = hashlib.sha256(database.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9_]', '_', plain.lower())[: _LONGEST_NAME - 9]}_{digest}"


class Slots:
    """What is done with one slot."""

    def __init__(self, session: PgSession, conninfo: str, name: str, database: str) -> None:
        self._session, self._conninfo, self.name, self._database = session, conninfo, name, database

    def state(self) -> Slot | None:
        """The slot as it stands; None when there is none."""
        found = self._session.rows(_STATE, (self.name,))
        return Slot(*found[0]) if found else None

    def check(self, position: int) -> None:
        """See that the slot still has everything after a position.

        Raises:
            PositionLost: it is gone, invalid, or stands behind it: the server would skip ahead without a word.
        """
        slot = self.state()
        if slot is None:
            raise PositionLost(f"the replication slot {self.name} is gone")
        self._check_ours(slot)
        if slot.wal_status == "lost" or slot.confirmed is None:
            raise PositionLost(
                f"the replication slot {self.name} has lost its log: more was written than max_slot_wal_keep_size keeps"
            )
        if slot.confirmed > position:
            raise PositionLost(
                f"the replication slot {self.name} was advanced or made anew: it stands {slot.confirmed - position} "
                "bytes behind the stored position"
            )

    def make(self) -> None:
        """A new slot, that tells everything that is committed from now on; an old one goes.

        Raises:
            DatastoreUnavailable: transactions that are open don't end for so long that it can't begin.
            DatastoreUnsuitable: the login may not, or there is no room for a slot.
        """
        self.drop()
        until = time.monotonic() + _BEGUN_BY_S
        try:
            create_slot(self._conninfo, self.name, cancelled=lambda: time.monotonic() > until, waiting=_tell)
        except psycopg.errors.QueryCanceled:
            raise DatastoreUnavailable(
                "a replication slot can begin only when the transactions that write have ended, and some don't: "
                "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL; or they are in "
                "pg_prepared_xacts"
            ) from None
        except (
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.ConfigurationLimitExceeded,
            psycopg.errors.ObjectNotInPrerequisiteState,
        ) as error:
            raise DatastoreUnsuitable(f"PostgreSQL refuses: {error.diag.message_primary}; {_fix(error)}") from None

    def drop(self) -> None:
        """Have no slot of this name. One that a process uses is taken from it: who holds the lease owns the slot."""
        slot = self.state()
        if slot is None:
            return
        self._check_ours(slot)
        self.free()
        self._session.rows("SELECT pg_drop_replication_slot(%s)", (self.name,))

    def free(self) -> None:
        """End whoever uses the slot: the connection of a daemon that was killed, or has lost its lease.

        Raises:
            DatastoreUnavailable: it doesn't end.
        """
        until = time.monotonic() + _FREE_BY_S
        while (slot := self.state()) and slot.active_pid is not None:
            if time.monotonic() > until:
                raise DatastoreUnavailable(f"the replication slot {self.name} is used by the process {slot.active_pid}")
            self._session.rows("SELECT pg_terminate_backend(%s)", (slot.active_pid,))
            time.sleep(_LOOK_S)

    def _check_ours(self, slot: Slot) -> None:
        if slot.plugin != PLUGIN or slot.database != self._database:
            raise DatastoreUnsuitable(
                f"the replication slot {self.name} is somebody else's (plugin {slot.plugin}, database "
                f"{slot.database}): drop it with SELECT pg_drop_replication_slot('{self.name}') if nobody needs it"
            )


def _tell(pids: list[int]) -> None:
    log.warning("a new replication slot waits for transactions that write to end", pids=pids)


def _fix(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "ALTER ROLE … REPLICATION, for the daemon's login"
    if isinstance(error, psycopg.errors.ConfigurationLimitExceeded):
        return "raise max_replication_slots, or drop slots that nobody uses, and restart the server"
    return "set wal_level = logical in postgresql.conf (ALTER SYSTEM SET wal_level = logical) and restart the server"
