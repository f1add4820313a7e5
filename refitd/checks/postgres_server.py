"""PostgreSQL itself: reachable, new enough, writable, and set up to tell changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from listener.postgres_slot import slot_name
from refitd.asking import asking, connection_of, quoted, row
from refitd.checks.check import Check, bad, doubtful, good
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable
from registry.postgres.connection import Connection
from registry.store import Store

#: Publications follow a partitioned table as one, and take whole schemas, since then.
LEAST_VERSION = 15
_FEW = 2

_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
    pg_is_in_recovery() AS standby, current_setting('server_encoding') AS encoding,
    coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'its socket') AS address,
    current_database() AS database, current_user AS login,
    (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name IN (
        'wal_level', 'default_transaction_read_only', 'max_replication_slots', 'max_wal_senders')) AS settings,
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only_by,
    (SELECT count(*) FROM pg_replication_slots) AS slots,
    (SELECT count(*) FROM pg_stat_replication) AS senders,
    ARRAY(SELECT slot_name FROM pg_replication_slots WHERE slot_name = %s) AS ours,
    EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s AND active) AS ours_read
"""


def server_checks(store: Store) -> Iterator[Check]:
    """Whether there is a server that can do the work at all. Nothing else makes sense after a failure."""
    connection = connection_of(store)
    began = time.monotonic()
    try:
        seen = _seen(connection)
    except (DatastoreUnavailable, DatastoreUnsuitable) as error:
        fix = "start PostgreSQL, or correct the datastore's URI (host, port, user, password, database)"
        yield bad("datastore", str(error), fix)
        return
    took = (time.monotonic() - began) * 1000
    said = f"PostgreSQL {seen['version']} at {seen['address']}, database {seen['database']}, {took:.0f} ms"
    yield good("datastore", said)
    yield _version(seen)
    yield _writable(seen)
    yield _encoding(seen)


def log_checks(store: Store) -> Iterator[Check]:
    """Whether the server's log tells changes, and has room for one more who follows it."""
    seen = _seen(connection_of(store))
    yield _wal_level(seen)
    yield _room(seen, "max_replication_slots", "replication slots", int(seen["slots"]), ours=bool(seen["ours"]))
    yield _room(seen, "max_wal_senders", "WAL senders", int(seen["senders"]), ours=bool(seen["ours_read"]))


def _seen(connection: Connection) -> Mapping[str, Any]:
    """What the server says of itself; of a standby too, which is no good, but should be told from no server."""
    slot = slot_name(connection.login.database)
    try:
        with asking(connection) as session:
            return row(session, _SERVER, (slot, slot))
    except DatastoreUnavailable:
        with asking(connection, target_session_attrs="any") as session:
            return row(session, _SERVER, (slot, slot))


def _version(seen: Mapping[str, Any]) -> Check:
    said = f"PostgreSQL {seen['version']}"
    if int(seen["major"]) < LEAST_VERSION:
        return bad("version", said, f"upgrade to PostgreSQL {LEAST_VERSION} or newer")
    return good("version", said)


def _writable(seen: Mapping[str, Any]) -> Check:
    if seen["standby"]:
        fix = "name the primary in the datastore's URI (of several hosts, the one that takes writes is used)"
        return bad("writable", "this server is a standby, in recovery: it takes no writes", fix)
    if seen["settings"]["default_transaction_read_only"] == "on":
        return bad("writable", "default_transaction_read_only is on: the registry can't be written", _read_write(seen))
    return good("writable", "it takes writes")


def _read_write(seen: Mapping[str, Any]) -> str:
    """By where the setting comes from."""
    name, role, database = "default_transaction_read_only", quoted(seen["login"]), quoted(seen["database"])
    fixes = {
        "user": f"ALTER ROLE {role} RESET {name}",
        "database": f"ALTER DATABASE {database} RESET {name}",
        "database user": f"ALTER ROLE {role} IN DATABASE {database} RESET {name}",
        "client": f"take {name} out of the datastore's URI (options) and of PGOPTIONS",
    }
    return fixes.get(str(seen["read_only_by"]), f"ALTER ROLE {role} SET {name} = off")


def _encoding(seen: Mapping[str, Any]) -> Check:
    if seen["encoding"] != "UTF8":
        fix = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move the rows there"
        return bad("encoding", f"{seen['encoding']}, which can't hold every model document", fix)
    return good("encoding", "UTF8")


def _wal_level(seen: Mapping[str, Any]) -> Check:
    level = seen["settings"]["wal_level"]
    if level != "logical":
        fix = (
            "ALTER SYSTEM SET wal_level = logical; and restart the server (in clouds it is a parameter of the instance)"
        )
        return bad("wal_level", f"{level}: the log doesn't tell changes of rows", fix)
    return good("wal_level", "logical")


def _room(seen: Mapping[str, Any], setting: str, what: str, used: int, *, ours: bool) -> Check:
    """Whether there is one for us."""
    most = int(seen["settings"][setting])
    left = most - used
    said = f"{used} of {most} {what} are in use" + (", one of them ours" if ours else "")
    fix = f"ALTER SYSTEM SET {setting} = {max(10, most * 2)}; and restart the server"
    if setting == "max_replication_slots":
        fix += "; or drop a slot that nobody needs (SELECT slot_name, active FROM pg_replication_slots)"
    if left <= 0 and not ours:
        return bad(setting, f"{said}: none is left for the daemon", fix)
    if left < _FEW and not ours:
        return doubtful(setting, f"{said}: {left} is left", fix)
    return good(setting, said)
