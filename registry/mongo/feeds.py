"""Feeds in `refitd.feeds`: positions, leases, and the transaction that records what became pending.

A lease is fenced by its epoch: each transaction matches it and counts `n` up. The increment matters: a write
that changes nothing would let MongoDB commit a stale leader's transaction beside the takeover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError

from registry.errors import Fenced
from registry.mongo.connection import Connection, Row, translated
from registry.mongo.orphans import end_orphans
from registry.mongo.rows import encode, feed_of, pending_of, relations_row, row_of
from registry.owner import is_dead
from registry.records import Counts, Delta, FeedRow, Pending, Stamp

_FEW = 4


class MongoFeeds:
    """See `registry.store.Feeds`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._feeds = connection.collection("feeds")
        self._pending = connection.collection("pending")
        self._known: set[str] = set()

    @translated
    def acquire(self, feed: str, kind: str, owner: str, lease_s: float) -> FeedRow | None:
        """Take the feed's lease if it is free, expired, one's own, or held by a dead process of this machine."""
        row = self._feeds.find_one({"_id": feed}) or self._make(feed, kind)
        free = {"$lt": [{"$ifNull": ["$lease_until", "$$NOW"]}, {"$add": ["$$NOW", 1]}]}
        dead = bool(row["owner"] and is_dead(row["owner"]))
        if dead:
            end_orphans(self._connection.client)
        mine_or_dead = dead or row["owner"] == owner
        taken = self._feeds.find_one_and_update(
            {"_id": feed, "epoch": row["epoch"], **({} if mine_or_dead else {"$expr": free})},
            [
                {
                    "$set": {
                        "owner": owner,
                        "epoch": {"$add": ["$epoch", 1]},
                        "lease_until": {"$add": ["$$NOW", round(lease_s * 1000)]},
                    }
                }
            ],
            return_document=ReturnDocument.AFTER,
        )
        return feed_of(taken) if taken else None

    def _make(self, feed: str, kind: str) -> Row:
        row = row_of(FeedRow(id=feed, kind=kind))
        try:
            self._feeds.insert_one(row)
        except DuplicateKeyError:  # another daemon was first
            return self._feeds.find_one({"_id": feed}) or row
        return row

    @translated
    def renew(self, feed: str, epoch: int, lease_s: float) -> None:
        """Hold the lease for longer. Raises `Fenced` when it was taken over."""
        until = {"$add": ["$$NOW", round(lease_s * 1000)]}
        done = self._feeds.update_one({"_id": feed, "epoch": epoch}, [{"$set": {"lease_until": until}}])
        if not done.matched_count:
            raise Fenced(f"the feed {feed} was taken over by another daemon")

    @translated
    def release(self, feed: str, epoch: int) -> None:
        """Give the lease back, if it is still one's own."""
        self._feeds.update_one({"_id": feed, "epoch": epoch}, {"$set": {"owner": None, "lease_until": None}})

    @translated
    def record(
        self, feed: str, epoch: int, position: Mapping[str, Any], pending: Mapping[str, Delta]
    ) -> Mapping[str, Pending]:
        """Store the position and what became pending, in one transaction; the new rows of those models."""
        self._make_rows(pending)

        def work(session: ClientSession) -> list[Row]:
            self._advance(session, feed, epoch, {"position": position})
            return self._add(session, pending)

        return {row["_id"]: pending_of(row) for row in self._connection.transaction(work)}

    @translated
    def begin(
        self, feed: str, epoch: int, identity: str, position: Mapping[str, Any], relations: Mapping[str, Stamp]
    ) -> None:
        """Store what the feed follows from this position on: each relation, and since when without a gap."""
        fields = {"identity": identity, "position": position, "relations": relations_row(relations)}
        self._connection.transaction(lambda session: self._advance(session, feed, epoch, fields))

    @translated
    def resync(
        self, feed: str, epoch: int, identity: str, position: Mapping[str, Any], relations: Mapping[str, Stamp],
        need: Stamp, models: Iterable[str], reason: str, *, lost: bool = True,
    ) -> Mapping[str, Pending]:  # fmt: skip
        """`begin`, and in the same transaction mark these models pending for a reason."""
        deltas = {model: Delta(Counts(resyncs=1), need, reason) for model in models}
        fields = {"identity": identity, "position": position, "relations": relations_row(relations)}
        self._make_rows(deltas)

        def work(session: ClientSession) -> list[Row]:
            told = {"last_resync": reason} if lost else {}
            self._advance(session, feed, epoch, fields | told, resyncs=int(lost))
            return self._add(session, deltas)

        return {row["_id"]: pending_of(row) for row in self._connection.transaction(work)}

    @translated
    def all(self) -> list[FeedRow]:
        """Every feed."""
        return [feed_of(row) for row in self._feeds.find().sort("_id")]

    def _advance(
        self, session: ClientSession, feed: str, epoch: int, fields: Mapping[str, Any], *, resyncs: int = 0
    ) -> None:
        done = self._feeds.update_one(
            {"_id": feed, "epoch": epoch},
            {"$set": dict(fields), "$currentDate": {"recorded": True}, "$inc": {"n": 1, "resyncs": resyncs}},
            session=session,
        )
        if done.matched_count != 1:
            raise Fenced(f"the feed {feed} was taken over by another daemon")

    def _make_rows(self, models: Iterable[str]) -> None:
        """Make missing rows beforehand: inside the transaction, two upserts of one key would abort it."""
        missing = [model for model in models if model not in self._known]
        if missing:
            make_pending_rows(self._connection, missing)
            self._known.update(missing)

    def _add(self, session: ClientSession, pending: Mapping[str, Delta]) -> list[Row]:
        if len(pending) <= _FEW:
            rows = (
                self._pending.find_one_and_update(
                    {"_id": model}, add_delta(delta), session=session, return_document=ReturnDocument.AFTER
                )
                for model, delta in pending.items()
            )
            return [row for row in rows if row]
        self._pending.bulk_write(
            [UpdateOne({"_id": model}, add_delta(delta)) for model, delta in pending.items()],
            ordered=False,
            session=session,
        )
        return list(self._pending.find({"_id": {"$in": list(pending)}}, session=session))


def make_pending_rows(connection: Connection, models: Sequence[str]) -> None:
    """An empty row for every model that has none."""
    collection = connection.collection("pending")
    collection.bulk_write(
        [
            UpdateOne({"_id": model}, {"$setOnInsert": _without_id(row_of(Pending(model)))}, upsert=True)
            for model in models
        ],
        ordered=False,
    )


def _without_id(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "_id"}


def add_delta(delta: Delta) -> list[Row]:
    """The update that adds a delta, unless the newest version's cut covers it already."""
    counts = {
        f"seen.{name}": {"$add": [f"$seen.{name}", count]} for name, count in encode(delta.counts).items() if count
    }
    added = {
        **counts,
        "generation": {"$add": ["$generation", 1]},
        "need": {"$max": ["$need", delta.need]},
        "since": {"$ifNull": ["$since", "$$NOW"]},
        "since_claim": {"$ifNull": ["$since_claim", "$$NOW"]},
        "last": "$$NOW",
        "resync": {"$literal": delta.reason} if delta.reason else "$resync",
    }
    if delta.need is None:
        return [{"$set": {**added, "blind": True}}]
    covered = {"$gte": ["$published.cut", delta.need]}
    return [{"$set": {name: {"$cond": [covered, f"${name}", value]} for name, value in added.items()}}]
