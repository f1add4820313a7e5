"""Transactions that wrote to a table before it was published: what they wrote then is never told."""

from __future__ import annotations

from collections.abc import Mapping

from listener.pgoutput import widen
from listener.postgres_session import PgSession

# Who has written to a table holds a lock on it, or on its partition, until the end, two-phase ones included. Of a
# transaction with savepoints the least id is its own: only that one is in snapshots.
_WRITERS = """
WITH RECURSIVE parts (whole, oid) AS (
    SELECT root.oid, root.oid FROM unnest(%s::oid[]) AS root (oid)
    UNION
    SELECT parts.whole, child.inhrelid
    FROM parts JOIN pg_catalog.pg_inherits AS child ON child.inhparent = parts.oid
)
SELECT parts.whole::int8, min(its.transactionid::text::int8),
    (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8)
FROM parts
JOIN pg_catalog.pg_locks AS held ON held.locktype = 'relation' AND held.relation = parts.oid AND held.granted
    AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND held.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
JOIN pg_catalog.pg_locks AS its ON its.locktype = 'transactionid' AND its.granted
    AND its.virtualtransaction = held.virtualtransaction AND its.mode = 'ExclusiveLock'
GROUP BY parts.whole, held.virtualtransaction
"""


def writers(session: PgSession, oids: Mapping[int, str]) -> dict[str, frozenset[int]]:
    """For each of these tables, by name, the transactions under way that may have written to it, as xid8.

    Raises:
        psycopg.Error.
    """
    if not oids:
        return {}
    found: dict[str, frozenset[int]] = {}
    for oid, xid, newest in session.rows(_WRITERS, (list(oids),)):
        name = oids[oid]
        found[name] = found.get(name, frozenset()) | {widen(xid, newest)}
    return found
