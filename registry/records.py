"""The registry's rows beside the model document: what is pending, fits, versions, feeds.

All are plain frozen values; a store reads and writes them. Times are aware, in UTC, by the datastore's clock.

A fit's states and its legal moves (docs/how-it-works.md draws them):

    queued ──> running ──> published
      │          ├───────> failed       the select, the rows, the estimator or the time limit
      │          ├───────> cancelled    somebody asked, or the model was removed
      └──────────┴───────> lost         its worker or its daemon is gone; the model is fitted again
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

#: A change's place in the datastore's order, and a data cut's: a MongoDB cluster time, a PostgreSQL xid or
#: snapshot. Opaque outside the store and the feed of that datastore.
Stamp = Any


class FitState(StrEnum):
    """Where a fit stands. See the module's diagram."""

    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether nothing follows this state."""
        return not LEGAL_MOVES[self]


LEGAL_MOVES: Mapping[FitState, frozenset[FitState]] = {
    FitState.QUEUED: frozenset({FitState.RUNNING, FitState.FAILED, FitState.CANCELLED, FitState.LOST}),
    FitState.RUNNING: frozenset({FitState.PUBLISHED, FitState.FAILED, FitState.CANCELLED, FitState.LOST}),
    FitState.PUBLISHED: frozenset(),
    FitState.FAILED: frozenset(),
    FitState.CANCELLED: frozenset(),
    FitState.LOST: frozenset(),
}


def sources(target: FitState) -> list[str]:
    """The states from which a fit may move to `target`."""
    return [str(state) for state, targets in LEGAL_MOVES.items() if target in targets]


@dataclass(frozen=True, slots=True)
class Counts:
    """Matching changes by kind. `other` counts truncates, drops and renames, `resyncs` unprovable gaps."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    other: int = 0
    resyncs: int = 0

    @property
    def changes(self) -> int:
        """Rows changed."""
        return self.inserts + self.updates + self.deletes

    @property
    def total(self) -> int:
        """Everything that makes a model stale."""
        return self.changes + self.other + self.resyncs

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Counts)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(max(0, getattr(self, one.name) - getattr(other, one.name)) for one in fields(Counts)))

    def as_dict(self) -> dict[str, int]:
        """All five counts by name."""
        return {one.name: getattr(self, one.name) for one in fields(Counts)}


@dataclass(frozen=True, slots=True)
class Delta:
    """What one batch of a feed adds to one model's pending work."""

    counts: Counts
    need: Stamp | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """The newest version of a model, as far as deciding needs it."""

    number: int
    generation: int
    spec_hash: str
    cut: Stamp
    at: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest failed attempt since the last version."""

    count: int
    at: datetime
    error: str
    spec_hash: str
    generation: int


@dataclass(frozen=True, slots=True)
class Pending:
    """One model's pending work, and all else that deciding about it needs: one read.

    `seen` only grows; `covered` is its value at the cut of the newest version; the difference is pending.
    `watching` is the spec hash by which changes are matched; a document that changes and changes back would
    otherwise seem covered. `blind` says that something without a stamp came since the newest fit began, so that
    only a later fit covers it. `since` is when the first uncovered change was recorded, `since_claim` the first one
    after the newest fit began.
    """

    model: str
    generation: int = 0
    seen: Counts = Counts()
    covered: Counts = Counts()
    need: Stamp | None = None
    since: datetime | None = None
    since_claim: datetime | None = None
    last: datetime | None = None
    resync: str | None = None
    blind: bool = False
    fit: str | None = None
    watching: str | None = None
    published: Published | None = None
    failure: Failure | None = None
    finished: datetime | None = None
    schedule: str | None = None
    due_at: datetime | None = None
    retrain_now: Any = None
    retrain_tried: Any = None

    @property
    def outstanding(self) -> Counts:
        """What no published version covers yet."""
        return self.seen - self.covered


@dataclass(frozen=True, slots=True)
class Fit:
    """One training run of one model: attempt-counted, fenced by its claim token."""

    id: str
    model: str
    state: FitState
    attempt: int
    token: str
    document: Mapping[str, Any]
    spec_hash: str
    reason: Mapping[str, Any]
    generation: int
    seen: Counts
    need: Stamp | None
    owner: str
    bound: bool
    created: datetime
    started: datetime | None = None
    heartbeat: datetime | None = None
    finished: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    error: str | None = None
    cancel: str | None = None
    next_due: datetime | None = None


@dataclass(frozen=True, slots=True)
class VersionDraft:
    """What a fit hands in to be published."""

    digest: str
    format: str
    rows: int
    rows_digest: str
    metrics: Mapping[str, float]
    cut: Stamp
    select_hash: str
    promoted: bool
    gate: str
    parts: Mapping[str, float]
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """What a fit published. Immutable."""

    model: str
    number: int
    fit: str
    created: datetime
    generation: int
    spec_hash: str
    reason: Mapping[str, Any]
    document: Mapping[str, Any]
    draft: VersionDraft


@dataclass(frozen=True, slots=True)
class FeedRow:
    """Where a feed stands, and who follows it."""

    id: str
    kind: str
    epoch: int = 0
    owner: str | None = None
    lease_until: datetime | None = None
    position: Mapping[str, Any] | None = None
    identity: str | None = None
    relations: Mapping[str, Stamp] = field(default_factory=dict)
    recorded: datetime | None = None
    resyncs: int = 0
    last_resync: str | None = None
    dead_letters: int = 0
