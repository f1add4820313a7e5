"""The replication slot: ours, whole, read by the daemon, and what it makes the server keep.

https://www.postgresql.org/docs/current/view-pg-replication-slots.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from listener.postgres_slot import PLUGIN, slot_name
from refitd.asking import asking, connection_of, is_made, row
from refitd.checks.check import Check, bad, doubtful, good
from refitd.standing import holds_lease
from refitd.views import size
from registry.postgres.connection import Connection
from registry.postgres.store import parse_lsn
from registry.records import FeedRow
from registry.store import Store

_RESYNC = "start the daemon: it makes a new slot, fits every model again and goes on"

# Columns that newer versions added are looked up in the row.
_SLOT = """
SELECT to_jsonb(slot) || jsonb_build_object(
    'held', greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), slot.restart_lsn), 0)::int8,
    'confirmed', pg_wal_lsn_diff(slot.confirmed_flush_lsn, '0/0')::int8) AS slot
FROM pg_replication_slots AS slot WHERE slot.slot_name = %s
"""
_LIMITS = """
SELECT name, setting, current_setting(name) FROM pg_settings
WHERE name IN ('max_slot_wal_keep_size', 'idle_replication_slot_timeout')
"""


def slot_checks(store: Store) -> Iterator[Check]:
    """The slot, and how long the server keeps the log for it."""
    connection = connection_of(store)
    database = connection.login.database
    with asking(connection) as session:
        slot = row(session, _SLOT, (slot_name(database),)).get("slot")
        limits = {name: (setting, shown) for name, setting, shown in session.rows(_LIMITS)}
    yield from _limits(limits)
    feeds = store.feeds.all() if is_made(connection) else []
    feed = next((one for one in feeds if one.id == f"postgresql:{database}" and one.position), None)
    if slot is None:
        yield _none_yet(slot_name(database), feed)
    else:
        yield _slot(slot, feed, database, connection, followed=any(holds_lease(one, store.now()) for one in feeds))


def _none_yet(name: str, feed: FeedRow | None) -> Check:
    if feed is None:
        return good("slot", f"{name} is not there yet: `refitd run` makes it")
    return bad("slot", f"{name} is gone, but the feed stands at a position: what came since then is gone", _RESYNC)


def _slot(
    slot: Mapping[str, Any], feed: FeedRow | None, database: str, connection: Connection, *, followed: bool
) -> Check:
    name, held = slot["slot_name"], size(slot["held"])
    if slot["plugin"] != PLUGIN or slot["database"] != database:
        said = f"{name} is somebody else's (plugin {slot['plugin']}, database {slot['database']})"
        return bad("slot", said, f"if nobody needs it: SELECT pg_drop_replication_slot('{name}')")
    status = slot["wal_status"] or "lost"
    if status == "lost":
        why = slot.get("invalidation_reason") or "the log that it needs was removed"
        fix = f"{_RESYNC}; raise max_slot_wal_keep_size if that happens again"
        return bad("slot", f"{name} is lost ({why})", fix)
    behind = _skips(slot, feed, connection)
    if behind:
        return bad("slot", f"{name} {behind}", _RESYNC)
    read = "is read" if slot["active"] else "is not read now"
    said = f"{name} {read}, it keeps {held} of the log (wal_status {status})"
    if status != "reserved":
        fix = "start the daemon, or look why it is slow; the server removes the log at max_slot_wal_keep_size"
        return doubtful("slot", f"{said}: that is more than max_wal_size, or about to be removed", fix)
    if followed and not slot["active"]:
        return doubtful("slot", f"{said}, although a daemon holds the lease", "look into the daemon's log")
    return good("slot", said)


def _skips(slot: Mapping[str, Any], feed: FeedRow | None, connection: Connection) -> str | None:
    """Why the stored position is no place to go on from. The server itself would skip ahead without a word."""
    position = dict(feed.position or {}) if feed else {}
    lsn, history = position.get("lsn"), position.get("history")
    if not isinstance(lsn, str) or history is None:
        return None
    if history != connection.history():
        return "belongs to this server, but the stored position to another one, or an older timeline"
    if slot["confirmed"] is not None and slot["confirmed"] > parse_lsn(lsn):
        return "was advanced or made anew: what came after the stored position is gone"
    return None


def _limits(limits: Mapping[str, tuple[str, str]]) -> Iterator[Check]:
    setting, shown = limits["max_slot_wal_keep_size"]
    if setting == "-1":
        yield doubtful(
            "slot limit",
            "max_slot_wal_keep_size is -1: a daemon that stays away fills the disk with the log that the slot keeps",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB' (what the disk can spare); SELECT pg_reload_conf(); "
            "beyond it the slot is lost, and every model fitted again",
        )
    else:
        yield good("slot limit", f"the server keeps up to {shown} for a daemon that is away (max_slot_wal_keep_size)")
    idle, shown = limits.get("idle_replication_slot_timeout", ("0", "0"))
    if idle != "0":
        yield doubtful(
            "slot timeout",
            f"idle_replication_slot_timeout is {shown}: a daemon that is away for longer loses the slot, and every "
            "model is fitted again",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf(), if "
            "max_slot_wal_keep_size is limit enough",
        )
