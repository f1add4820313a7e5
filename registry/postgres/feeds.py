"""Feeds in `refitd.feeds`: positions, leases, and the transaction that records what became pending.

A lease is fenced by its epoch: each transaction updates the row with that epoch first, and so waits for a takeover, or
a takeover for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from registry.errors import Fenced
from registry.owner import is_dead
from registry.postgres import work
from registry.postgres.connection import Connection
from registry.postgres.pending import with_delta
from registry.postgres.rows import feed_of, jsonb, listed, text
from registry.postgres.session import Session
from registry.records import Counts, Delta, FeedRow, Pending, Stamp

_COLUMNS = listed(FeedRow)
_LEASE = "clock_timestamp() + make_interval(secs => %(lease_s)s)"
_ADVANCE = """
UPDATE refitd.feeds
SET position = %(position)s, recorded = clock_timestamp(),
    identity = coalesce(%(identity)s, identity), relations = coalesce(%(relations)s, relations),
    resyncs = resyncs + %(lost)s, last_resync = coalesce(%(reason)s, last_resync)
WHERE id = %(feed)s AND epoch = %(epoch)s
RETURNING epoch
"""


class PostgresFeeds:
    """See `registry.store.Feeds`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self, feed: str, kind: str, owner: str, lease_s: float) -> FeedRow | None:
        """Take the feed's lease if it is free, expired, one's own, or held by a dead process of this machine."""
        query = "SELECT epoch, owner FROM refitd.feeds WHERE id = %s"
        row = self._connection.row(query, (feed,))
        if row is None:
            self._connection.run(
                "INSERT INTO refitd.feeds (id, kind) VALUES (%s, %s) ON CONFLICT DO NOTHING", (feed, kind)
            )
            row = self._connection.row(query, (feed,))
        if row is None:
            return None
        free = row["owner"] == owner or bool(row["owner"] and is_dead(row["owner"]))
        taken = self._connection.row(
            f"UPDATE refitd.feeds SET owner = %(owner)s, epoch = epoch + 1, lease_until = {_LEASE}"
            " WHERE id = %(feed)s AND epoch = %(epoch)s"
            " AND (%(free)s OR lease_until IS NULL OR lease_until <= clock_timestamp())"
            f" RETURNING {_COLUMNS}",
            {"feed": feed, "owner": owner, "epoch": row["epoch"], "free": free, "lease_s": lease_s},
        )
        return feed_of(taken) if taken else None

    def renew(self, feed: str, epoch: int, lease_s: float) -> None:
        """Hold the lease for longer. Raises `Fenced` when it was taken over."""
        done = self._connection.run(
            f"UPDATE refitd.feeds SET lease_until = {_LEASE} WHERE id = %(feed)s AND epoch = %(epoch)s",
            {"feed": feed, "epoch": epoch, "lease_s": lease_s},
        )
        if not done:
            raise _fenced(feed)

    def release(self, feed: str, epoch: int) -> None:
        """Give the lease back, if it is still one's own."""
        self._connection.run(
            "UPDATE refitd.feeds SET owner = NULL, lease_until = NULL WHERE id = %s AND epoch = %s", (feed, epoch)
        )

    def record(
        self, feed: str, epoch: int, position: Mapping[str, Any], pending: Mapping[str, Delta]
    ) -> Mapping[str, Pending]:
        """Store the position and what became pending, in one transaction; the new rows of those models."""
        return self._advance(_fields(feed, epoch, position), pending)

    def begin(
        self, feed: str, epoch: int, identity: str, position: Mapping[str, Any], relations: Mapping[str, Stamp]
    ) -> None:
        """Store what the feed follows from this position on: each relation, and since when without a gap."""
        self._advance(_fields(feed, epoch, position, identity, relations), {})

    def resync(
        self, feed: str, epoch: int, identity: str, position: Mapping[str, Any], relations: Mapping[str, Stamp],
        need: Stamp, models: Iterable[str], reason: str, *, lost: bool = True,
    ) -> Mapping[str, Pending]:  # fmt: skip
        """`begin`, and in the same transaction mark these models pending for a reason."""
        deltas = {model: Delta(Counts(resyncs=1), need, reason) for model in models}
        fields = _fields(feed, epoch, position, identity, relations)
        told = {"lost": 1, "reason": text(reason)} if lost else {}
        return self._advance(fields | told, deltas)

    def all(self) -> list[FeedRow]:
        """Every feed."""
        return [feed_of(row) for row in self._connection.rows(f"SELECT {_COLUMNS} FROM refitd.feeds ORDER BY id")]

    def _advance(self, fields: Mapping[str, Any], pending: Mapping[str, Delta]) -> dict[str, Pending]:
        if not pending:  # one statement is its own transaction
            if not self._connection.run(_ADVANCE, fields):
                raise _fenced(fields["feed"])
            return {}

        def record(session: Session) -> dict[str, Pending]:
            fence = session.send(_ADVANCE, fields)
            had, moment = work.lock(session, pending)
            if fence.fetchone() is None:
                raise _fenced(fields["feed"])
            rows = {model: with_delta(had[model], pending[model], moment.now, moment.visible) for model in pending}
            work.write(session, (row for model, row in rows.items() if row is not had[model]))
            return rows

        return self._connection.transaction(record)


def _fields(
    feed: str, epoch: int, position: Mapping[str, Any], identity: str | None = None,
    relations: Mapping[str, Stamp] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "feed": feed,
        "epoch": epoch,
        "position": jsonb(position),
        "identity": identity,
        "relations": None if relations is None else jsonb(relations),
        "lost": 0,
        "reason": None,
    }


def _fenced(feed: str) -> Fenced:
    return Fenced(f"the feed {feed} was taken over by another daemon")
