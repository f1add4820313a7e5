"""How much a datastore keeps for a feed alone: PostgreSQL's log, held by the replication slot."""

from __future__ import annotations

from registry.store import Store

_HELD = """
SELECT greatest(0, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))::int8 AS held
FROM pg_replication_slots WHERE slot_name = %s AND database = current_database() AND restart_lsn IS NOT NULL
"""


def retained_bytes(store: Store) -> dict[str, int]:
    """For each feed, by its id, the bytes that the datastore would not keep without it.

    A feed is missing where nothing is kept so: in MongoDB, whose oplog has its size whoever reads it; and where the
    slot is gone or has lost its log.

    Raises:
        DatastoreUnavailable, DatastoreUnsuitable.
    """
    if store.kind != "postgresql":
        return {}
    from listener.postgres_slot import slot_name
    from refitd.asking import connection_of

    connection = connection_of(store)
    database = connection.login.database
    row = connection.row(_HELD, (slot_name(database),))
    return {f"postgresql:{database}": row["held"]} if row else {}
