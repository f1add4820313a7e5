"""Stamps of PostgreSQL: transactions that must be visible, and snapshots in which they are. Pure.

A change is stamped with the id of its transaction, a data cut with its snapshot. A cut covers a change when the
transaction is visible in the snapshot: what a log position says of that is not enough, for a commit is in the log
before anybody sees it, and with synchronous replication long before.

Transaction ids are 64 bits wide (xid8), and mean something only within one history: one system identifier, one
timeline. https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

#: So many transactions are named one by one; more are summed up by a snapshot that shows them.
NAMED = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions are visible: those below `xmax` but for `running`. PostgreSQL's `pg_snapshot`."""

    xmax: int
    running: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """`xmin:xmax:running,…`, as `pg_current_snapshot()::text` gives it. Raises ValueError."""
        _, xmax, running = text.split(":")
        return cls(int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def __str__(self) -> str:
        xmin = min(self.running, default=self.xmax)
        return f"{xmin}:{self.xmax}:{','.join(map(str, sorted(self.running)))}"

    def shows(self, xid: int) -> bool:
        """Whether this transaction is visible (or was rolled back), as `pg_visible_in_snapshot` has it."""
        return xid < self.xmax and xid not in self.running

    def includes(self, other: Snapshot) -> bool:
        """Whether all is visible in this one that is in the other."""
        unseen_there = range(self.xmax, other.xmax)
        if len(unseen_there) > len(other.running) or any(xid not in other.running for xid in unseen_there):
            return False
        return not any(other.shows(xid) for xid in self.running)

    def up_to(self, xid: int) -> Snapshot:
        """This one, but nothing after the transaction is visible."""
        if xid >= self.xmax - 1:
            return self
        return Snapshot(xid + 1, frozenset(one for one in self.running if one <= xid))


@dataclass(frozen=True, slots=True)
class PgStamp:
    """A change's or a cut's place: what must be visible, or is.

    `snapshot` and `xids` together; `lsn` is a place in the log, by which positions of feeds are compared.
    """

    history: str
    snapshot: Snapshot | None = None
    xids: frozenset[int] = frozenset()
    lsn: int | None = None

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """What `as_row` gave. Raises KeyError, TypeError or ValueError."""
        snapshot = row.get("snapshot")
        return cls(
            history=str(row["history"]),
            snapshot=Snapshot.parse(snapshot) if snapshot else None,
            xids=frozenset(int(xid) for xid in row.get("xids", ())),
            lsn=row.get("lsn"),
        )

    def as_row(self) -> dict[str, Any]:
        """As JSON holds it; only what it has."""
        row: dict[str, Any] = {"history": self.history}
        if self.snapshot is not None:
            row["snapshot"] = str(self.snapshot)
        if self.xids:
            row["xids"] = sorted(self.xids)
        if self.lsn is not None:
            row["lsn"] = self.lsn
        return row

    def covers(self, other: PgStamp) -> bool:
        """Whether a cut at this stamp covers a change, or all that a cut covers, at the other one."""
        if self.history != other.history:
            return False
        if self.snapshot is None:
            return self.lsn is not None and other.lsn is not None and self.lsn >= other.lsn
        shown = self.snapshot
        if other.snapshot is None and not other.xids and other.lsn is not None:
            return False  # a place in the log says nothing of what is visible
        if other.snapshot is not None and not shown.includes(other.snapshot):
            return False
        return all(shown.shows(xid) for xid in other.xids)


def join(stamps: Iterable[PgStamp]) -> PgStamp:
    """The stamp that a cut covers when it covers each of these. Of several histories the last one counts."""
    listed = list(stamps)
    history = listed[-1].history
    found = dict.fromkeys(listed)
    same = [one for one in found if one.history == history]
    xids = frozenset[int]().union(*(one.xids for one in same))
    snapshot: Snapshot | None = None
    for one in same:
        if one.snapshot is not None:
            snapshot = one.snapshot if snapshot is None else _both(snapshot, one.snapshot)
    if snapshot is not None:
        xids = frozenset(xid for xid in xids if not snapshot.shows(xid))
    return PgStamp(history, snapshot, xids)


def summed_up(need: PgStamp, now: Snapshot) -> PgStamp:
    """The same need with few names: many transactions that are visible by now become one snapshot.

    Args:
        now: a snapshot taken after `need` was known.
    """
    if len(need.xids) <= NAMED:
        return need
    visible = [xid for xid in need.xids if now.shows(xid)]
    if not visible:
        return need
    rest = frozenset(need.xids) - frozenset(visible)
    return join([PgStamp(need.history, now.up_to(max(visible)), rest), PgStamp(need.history, need.snapshot)])


def _both(one: Snapshot, other: Snapshot) -> Snapshot:
    """A snapshot that includes both. Of those that one server took, one includes the other; parts of them may not."""
    if one.includes(other):
        return one
    if other.includes(one):
        return other
    xmax = max(one.xmax, other.xmax)
    hidden = {xid for xid in one.running | other.running if not one.shows(xid) and not other.shows(xid)}
    return Snapshot(xmax, frozenset(hidden))
