"""One logical replication slot of PostgreSQL, over the watched tables and our own model documents and versions.

The stream tells of rows. What it can't tell, that a relation was altered, rewritten, attached, or out of the
publication for a while, the catalogs are asked for every `LOOK_S`; it counts as a change of that relation. A position
holds what relations looked like, so that what happened while nobody followed is seen as well.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from listener.feed import Batch, Change, Kind, Origin, Position, Untold
from listener.pg_stream import PgStream
from listener.pg_tuples import ProtocolError
from listener.pgoutput import read_lsn, show_lsn
from listener.postgres_changes import Assembler, Taken
from listener.postgres_late import Late, News
from listener.postgres_publication import PUBLICATION, Publication
from listener.postgres_relations import Relations
from listener.postgres_session import PgSession
from listener.postgres_slot import Slots, slot_name
from listener.postgres_unsettled import writers
from registry.errors import DatastoreUnavailable, PositionLost
from registry.postgres.connection import Connection, translated
from registry.postgres.failures import translate
from registry.postgres.stamps import PgStamp, Snapshot

#: Seconds between two looks at the catalogs.
LOOK_S = 1.0
#: And, at first, for what was told and can't be read yet.
_LATE_LOOK_S = 0.005
_STATEMENT_LIMIT = "20s"
#: A table that somebody has locked is asked for again: others are not to wait for it.
_LOCK_LIMIT = "500ms"
_NOW = "SELECT pg_current_snapshot()::text, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::int8"


class PostgresFeed:
    """See `listener.feed.Feed`. A position is `{history, lsn, publication, shapes, unsettled, late}`.

    Where in which log; the publication's oid; each relation's fingerprint; transactions that may have changed one
    unseen; and those that told of documents or versions which can't be read yet.
    """

    kind = "postgresql"

    def __init__(self, connection: Connection) -> None:
        database = connection.login.database
        self.name = f"postgresql:{database}"
        self._connection = connection
        self._session = PgSession(connection.parameters, statement_timeout=_STATEMENT_LIMIT, lock_timeout=_LOCK_LIMIT)
        self._publication = Publication(self._session)
        self._conninfo = make_conninfo(**connection.parameters)
        self._slots = Slots(self._session, self._conninfo, slot_name(database), database)
        self._stream: PgStream | None = None
        self._assembler = Assembler("", 0, 0)
        self._known = Relations(self._session, self._publication, connection.login.user)
        self._relations: frozenset[str] = frozenset()
        self._shapes: dict[str, str] = {}
        self._unsettled: dict[str, frozenset[int]] = {}
        self._oid = 0
        self._since = PgStamp("")
        self._look_at = self._catalogs_at = 0.0
        self._late = Late()
        self._late_wait = _LATE_LOOK_S
        self._waiting: Batch | None = None

    @translated
    def identity(self) -> str:
        """The system identifier and the timeline: transaction ids and places in the log mean something only there."""
        return self._connection.history()

    @translated
    def origins(self, relations: Collection[str]) -> Mapping[str, Origin | Untold]:
        """For each relation those whose changes change it. Tables among them get into the publication here."""
        self._publication.prepare()
        self._known.ask(relations)
        return {name: self._known.origin(name) for name in relations}

    @translated
    def start(self, relations: frozenset[str]) -> Position:
        """Follow these relations from now on, with a new slot; the position to store."""
        self._end_stream()
        history = self.identity()
        self._oid = self._publication.prepare()
        self._known.ask(())  # a publication made anew has none of the tables
        self._slots.make()
        self._follow(relations, history)
        slot = self._slots.state()
        self._open(slot.confirmed if slot and slot.confirmed else self._now()[1])
        self._late = Late()
        self._unsettled = {}  # the slot began when those who wrote before had ended
        return self._position(self._assembler.lsn)

    @translated
    def resume(self, position: Position, relations: frozenset[str], followed: frozenset[str]) -> Position:
        """Follow these relations from a stored position. What the catalogs show to have changed since counts."""
        lsn, shapes, unsettled, late = self._check(position)
        new = relations - followed
        if self._stream is None or lsn != self._assembler.lsn or self._assembler.torn:
            self._end_stream()
            self._slots.check(lsn)
            self._slots.free()
            self._follow(relations, position["history"])
            self._open(lsn)
        else:
            self._follow(relations, position["history"])
        self._unsettled = {name: xids for name, xids in unsettled.items() if name in relations}
        self._late = late if late.news.keys() != self._late.news.keys() else self._late
        self._unsettle(new)
        altered = {name for name in relations - new if shapes.get(name) != self._shapes.get(name)}
        if altered:
            self._waiting = self._altered(altered)
        self._publication.drop(followed - relations)
        return self._position(lsn)

    def next(self, timeout_s: float) -> Batch | None:
        """The next batch, waiting so long for one."""
        try:
            return self._next(timeout_s)
        except psycopg.Error as error:
            self._end_stream()
            if isinstance(error, psycopg.errors.UndefinedObject) or "publication" in str(error):
                raise PositionLost(f"PostgreSQL can't go on: {error.diag.message_primary or error}") from error
            raise translate(error, self._connection.login) from error
        except ProtocolError as error:
            self._end_stream()
            raise DatastoreUnavailable(f"PostgreSQL sent what can't be read: {error}") from error

    def since(self) -> PgStamp:
        """A snapshot that was taken when what `start` or `resume` added was in the publication already."""
        return self._since

    def stored(self, position: Position) -> None:
        """The slot need not keep the log before this position."""
        if self._stream is not None and "lsn" in position:
            self._stream.acknowledge(read_lsn(position["lsn"]))

    def close(self) -> None:
        """Give the connections back; the slot stays. Twice is safe."""
        self._end_stream()
        self._session.close()

    def _next(self, timeout_s: float) -> Batch | None:
        if self._stream is None:
            raise DatastoreUnavailable("the replication stream is not open")
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            return waiting
        seen = self._look_again()
        if seen is not None:
            return seen
        chunk = self._stream.take(min(timeout_s, max(0.0, self._look_at - time.monotonic())))
        taken = self._assembler.take(chunk.messages, chunk.sent) if chunk else None
        return self._batch(taken) if taken else None

    def _batch(self, taken: Taken) -> Batch:
        """What was taken in. What it tells of documents and versions waits until it can be read."""
        if taken.lsn is None:
            return Batch(taken.changes, None)
        told = self._told(self._late | taken.news) if taken.news else News()
        return Batch(taken.changes, self._position(taken.lsn), told.documents, told.versions)

    def _told(self, late: Late) -> News:
        """What can be read by now; for the rest we look again soon."""
        told, rest = late.parted(self._now()[0])
        self._late_wait = min(2 * self._late_wait, LOOK_S / 4) if rest == self._late else _LATE_LOOK_S
        self._late = rest
        if rest.news:
            self._look_at = time.monotonic() + self._late_wait
        return told

    # What the catalogs say

    def _follow(self, relations: frozenset[str], history: str) -> None:
        """Tell changes of these from now on, and remember how they look."""
        self._relations = relations
        self._known.look()
        self._shapes = self._known.fingerprints(relations)
        self._assembler.follow(self._known.among(relations))
        self._since = PgStamp(history, self._now()[0])

    def _look_again(self) -> Batch | None:
        """What has happened that the stream doesn't tell, when it is time to look."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_S
        told = self._told(self._late) if self._late.news else News()
        if told:
            return Batch((), self._position(self._assembler.lsn), told.documents, told.versions)
        if now < self._catalogs_at:
            return None
        self._catalogs_at = now + LOOK_S
        if self._publication.oid() != self._oid:
            raise PositionLost(f"the publication {PUBLICATION} was dropped or made anew")
        different = self._known.look()
        looks = self._known.fingerprints(self._relations)
        altered = {name for name in self._relations if looks[name] != self._shapes[name]}
        altered |= self._known.turned_up(self._relations)
        snapshot = self._now()[0]
        altered |= {name for name, xids in self._unsettled.items() if any(snapshot.shows(xid) for xid in xids)}
        if altered:
            return self._altered(altered)
        return Batch((), self._position(self._assembler.lsn), None) if different else None

    def _altered(self, names: Collection[str]) -> Batch:
        """A change of each of these, that only a cut from now on covers; and the documents are to be read again."""
        self._known.publish()
        self._shapes |= self._known.fingerprints(names)
        self._assembler.follow(self._known.among(self._relations))
        self._unsettle(names)
        snapshot = self._now()[0]
        unsettled = {
            name: frozenset(xid for xid in xids if not snapshot.shows(xid)) for name, xids in self._unsettled.items()
        }
        self._unsettled = {name: xids for name, xids in unsettled.items() if xids}
        stamp = PgStamp(self._since.history, snapshot)
        changes = tuple(Change(name, Kind.OTHER, stamp) for name in sorted(names))
        return Batch(changes, self._position(self._assembler.lsn), None)

    def _unsettle(self, names: Collection[str]) -> None:
        """Remember who is writing to relations that were not followed so far: what they wrote is not told."""
        oids = {one.oid: one.name for one in self._known.among(names)}
        for name, xids in writers(self._session, oids).items():
            self._unsettled[name] = self._unsettled.get(name, frozenset()) | xids

    # The stream and its positions

    def _open(self, lsn: int) -> None:
        snapshot, _ = self._now()
        self._assembler = Assembler(self._since.history, snapshot.xmax, lsn)
        self._assembler.follow(self._known.among(self._relations))
        self._stream = PgStream(self._conninfo)
        self._stream.open(self._slots.name, lsn, PUBLICATION)
        self._stream.acknowledge(lsn)
        self._look_at = self._catalogs_at = time.monotonic() + LOOK_S

    def _end_stream(self) -> None:
        self._waiting = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _position(self, lsn: int) -> Position:
        position: dict[str, Any] = {
            "history": self._since.history,
            "lsn": show_lsn(lsn),
            "publication": self._oid,
            "shapes": dict(self._shapes),
        }
        if self._unsettled:
            position["unsettled"] = {name: sorted(xids) for name, xids in self._unsettled.items()}
        if self._late.news:
            position["late"] = sorted(self._late.news)
        return position

    def _check(self, position: Position) -> tuple[int, Mapping[str, str], dict[str, frozenset[int]], Late]:
        """Its parts, if it is one of this server's and of this publication's."""
        try:
            lsn = read_lsn(position["lsn"])
            history, oid = str(position["history"]), int(position["publication"])
            shapes: Mapping[str, str] = dict(position["shapes"])
            unsettled = {name: frozenset(map(int, xids)) for name, xids in position.get("unsettled", {}).items()}
            late = Late.of(map(int, position.get("late", ())))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PositionLost(
                "the stored position can't be read: it has no history, lsn, publication and shapes"
            ) from None
        if history != self.identity():
            raise PositionLost(f"the stored position is of another server or timeline ({history})")
        newest = self._now()[1]
        if lsn > newest:
            raise PositionLost(
                f"the stored position ({show_lsn(lsn)}) is after the server's newest ({show_lsn(newest)}): restored?"
            )
        self._oid = self._publication.oid() or 0
        if oid != self._oid:
            raise PositionLost(f"the publication {PUBLICATION} was dropped or made anew")
        return lsn, shapes, unsettled, late

    def _now(self) -> tuple[Snapshot, int]:
        ((snapshot, lsn),) = self._session.rows(_NOW)
        return Snapshot.parse(snapshot), int(lsn)
