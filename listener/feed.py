"""The contract of a feed: one ordered, resumable sequence of committed changes.

- Order: changes come in the datastore's commit order; positions only go forward.
- At least once: after a position was stored, a resumed feed gives everything after it, perhaps something before
  it again. It never skips: what it can't prove it did not miss raises `PositionLost`.
- Images: `before` and `after` are exactly the committed rows, or None when the datastore doesn't give them.
- A feed has no effects in the registry; the follower stores positions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from registry.records import Stamp

Position = Mapping[str, Any]

#: A row as the datastore gives it, hashable: raw BSON, or a tuple of its replication protocol. Only its own evaluator
#: reads it.
Image = Any


class Kind(StrEnum):
    """What happened to a row, or to the whole relation (`OTHER`: dropped, renamed, truncated)."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change.

    `touched` are the dotted paths that an update changed, None when unknown (a replaced row). `key` and the rows
    are in the datastore's own form, hashable: equal ones are judged once.
    """

    relation: str
    kind: Kind
    stamp: Stamp
    key: bytes | None = None
    before: Image | None = None
    after: Image | None = None
    touched: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some changes, and the position after them.

    `position` None: in the middle of a transaction too large for one batch. Such a batch is not to be recorded before
    one with a position comes.

    `documents` are the models whose documents changed (by `registry.canonical.key_of`), None when any may have;
    `versions` those that published one, None when any may have. What it tells of them can be read by now.
    """

    changes: tuple[Change, ...]
    position: Position | None
    documents: frozenset[Any] | None = frozenset()
    versions: frozenset[str] | None = frozenset()

    @property
    def quiet(self) -> bool:
        """Whether nothing happened that anybody waits for."""
        return not self.changes and self.documents == frozenset() and self.versions == frozenset()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a relation's changes are told: under these names; `itself` is its own one, where it is told by itself.

    `columns` are the fields that an update's `touched` tells of; None: all that there may be.
    """

    relations: frozenset[str]
    itself: str | None = None
    columns: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Untold:
    """A relation whose changes the datastore doesn't tell: why, and the fix."""

    reason: str


class Feed(Protocol):
    """One feed. Used by one thread, but for `close`."""

    name: str
    kind: str

    def identity(self) -> str:
        """Which datastore this is: another one after a restore or a new replica set, though the address is the same."""

    def origins(self, relations: Collection[str]) -> Mapping[str, Origin | Untold]:
        """For each relation, as selects name it, those whose changes change it: itself, or what a view is made of.

        Raises:
            DatastoreUnavailable.
        """

    def start(self, relations: frozenset[str]) -> Position:
        """Follow these relations from now on; the position to store.

        Raises:
            DatastoreUnavailable, DatastoreUnsuitable.
        """

    def resume(self, position: Position, relations: frozenset[str], followed: frozenset[str]) -> Position:
        """Follow these relations from a stored position, at which `followed` were followed. Returns the same place as a
        position to store with these relations.

        Raises:
            PositionLost: the datastore no longer has what comes after it.
            DatastoreUnavailable, DatastoreUnsuitable.
        """

    def next(self, timeout_s: float) -> Batch | None:
        """The next batch, waiting so long for one; None when nothing came, not even progress.

        Raises:
            PositionLost, DatastoreUnavailable.
        """

    def since(self) -> Stamp:
        """A cut at this stamp, and the changes that `next` gives, together miss nothing of the relations that the last
        `start` or `resume` added."""

    def stored(self, position: Position) -> None:
        """This position is stored: the datastore need not keep what lies before it for us."""

    def close(self) -> None:
        """Give the connection back. Twice is safe."""
