"""PostgreSQL's old rows: with REPLICA IDENTITY FULL the log holds the whole row as it was before an update or delete.

By default it holds the primary key alone. The identity of a partitioned table's changes is that of the partition.
https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import psycopg

from listener.postgres_catalog import Relation, look
from listener.postgres_publication import PUBLICATION
from listener.postgres_session import PgSession
from refitd.asking import asking, connection_of, shown
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable
from registry.store import Store

_TABLE, _PARTITIONED = "r", "p"

_LEAVES = """
SELECT DISTINCT root.oid::int8, format('%%I.%%I', space.nspname, leaf.relname), leaf.relreplident = 'f',
    pg_catalog.pg_has_role(leaf.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(leaf.relowner)
FROM unnest(%s::oid[]) AS root (oid)
CROSS JOIN LATERAL (
    SELECT root.oid UNION SELECT tree.relid::oid FROM pg_catalog.pg_partition_tree(root.oid) AS tree WHERE tree.isleaf
) AS part (oid)
JOIN pg_catalog.pg_class AS leaf ON leaf.oid = part.oid AND leaf.relkind = 'r'
JOIN pg_catalog.pg_namespace AS space ON space.oid = leaf.relnamespace
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that holds rows. `full`: its old rows are in the log; `ours`: the login may alter it."""

    name: str
    full: bool
    ours: bool
    owner: str


def enable_line(table: str) -> str:
    """What a table's owner types into psql."""
    return f"ALTER TABLE {table} REPLICA IDENTITY FULL"


def enabled(store: Store, relations: Iterable[str]) -> dict[str, bool]:
    """See `refitd.images.enabled`."""
    wanted = sorted(set(relations))
    with asking(connection_of(store)) as session:
        return {name: all(one.full for one in tables) for name, tables in tables_of(session, wanted).items()}


def enable(store: Store, relations: Iterable[str]) -> list[str]:
    """See `refitd.images.enable`."""
    with asking(connection_of(store)) as session:
        behind = tables_of(session, sorted(set(relations)))
        missing = {one.name: one for tables in behind.values() for one in tables if not one.full}
        foreign = [one for one in missing.values() if not one.ours]
        if foreign:
            owners = ", ".join(sorted({one.owner for one in foreign}))
            raise DatastoreUnsuitable(
                f"PostgreSQL lets nobody but a table's owner ({owners}) change what its log keeps of old rows; have "
                f"them run: {'; '.join(enable_line(one.name) for one in foreign)}"
            )
        return [name for name in sorted(missing) if _altered(session, name)]


def cost(relations: Iterable[str]) -> str:
    """See `refitd.images.cost`."""
    return (
        f"{', '.join(map(shown, relations))}: PostgreSQL's log keeps no rows as they were before a change, but for "
        "their keys (no REPLICA IDENTITY FULL), so every update and delete costs a fit"
    )


def tables_of(session: PgSession, names: Collection[str]) -> dict[str, list[Table]]:
    """The tables whose old rows help to judge changes of each relation; none for a view, a single partition, or what
    isn't there: any change of what those are made of counts, so the old rows are never looked at.

    Raises:
        psycopg.Error.
    """
    found = look(session.rows, names, PUBLICATION)
    asked = {name: some[0] for name, some in found.behind.items() if some and _helped(some[0])}
    rows = session.rows(_LEAVES, (sorted({one.oid for one in asked.values()}),)) if asked else []
    leaves: dict[int, list[Table]] = {}
    for oid, *columns in rows:
        leaves.setdefault(oid, []).append(Table(*columns))
    return {name: leaves.get(asked[name].oid, []) if name in asked else [] for name in names}


def _helped(relation: Relation) -> bool:
    return relation.kind in (_TABLE, _PARTITIONED) and relation.logged and relation.root is None


def _altered(session: PgSession, name: str) -> bool:
    """False when the table is gone since."""
    try:
        session.rows(enable_line(name))
    except psycopg.errors.UndefinedTable:
        return False
    except psycopg.errors.LockNotAvailable:
        raise DatastoreUnavailable(
            f"PostgreSQL did not get the lock on {name} in 3 s, because a transaction that uses it goes on; try again, "
            f"or run at a quiet time: {enable_line(name)}"
        ) from None
    return True
