"""The registry's contract: what a datastore must do to hold it. `registry/mongo/` is one implementation.

Guarantees that every implementation keeps, and `tests/contract/` checks:

- A write that returned is durable: it survives the loss of any minority of the datastore.
- Every method may be called again after an error with an unknown outcome; doing so changes nothing twice.
- A method that takes an `epoch` or a `token` writes nothing and raises `Fenced` when that is no longer the
  newest one, checked in the transaction that writes.
- Rows come back as the frozen values of `registry/records.py`.
- A server that does not answer raises `DatastoreUnavailable`; nothing else of a driver's errors gets out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from registry.records import Delta, FeedRow, Fit, FitState, Pending, Stamp, Version, VersionDraft
from registry.selects import Selects

RawDocument = Mapping[str, Any]


class Documents(Protocol):
    """The model documents, as users write them."""

    def all(self) -> list[RawDocument]:
        """Every document as it stands, valid or not."""

    def get(self, model: str) -> RawDocument | None:
        """One document as it stands."""

    def put(self, document: RawDocument) -> None:
        """Write it whole, but for `status`, which stays as it is."""

    def change(self, model: str, fields: Mapping[str, Any]) -> bool:
        """Set some top-level fields. False when there is no such document."""

    def remove(self, model: str) -> bool:
        """Remove it; its versions stay until `gc`. False when there was none."""

    def set_status(self, model: Any, status: Mapping[str, Any]) -> None:
        """Replace `status`, if the document is still there; `model` is its `_id`, of whatever type."""


class Feeds(Protocol):
    """Where feeds stand, who follows them, and what they made pending."""

    def acquire(self, feed: str, kind: str, owner: str, lease_s: float) -> FeedRow | None:
        """Take the feed's lease if it is free, expired, one's own, or held by a dead process of this machine.

        Every success counts the epoch up. None when somebody else holds it.
        """

    def renew(self, feed: str, epoch: int, lease_s: float) -> None:
        """Hold the lease for longer. Raises `Fenced` when it was taken over."""

    def release(self, feed: str, epoch: int) -> None:
        """Give the lease back, if it is still one's own."""

    def record(
        self, feed: str, epoch: int, position: Mapping[str, Any], pending: Mapping[str, Delta]
    ) -> Mapping[str, Pending]:
        """Store the position and what became pending, in one transaction; the new rows of those models.

        A delta whose `need` the model's newest version covers already changes nothing. Raises `Fenced`.
        """

    def begin(
        self, feed: str, epoch: int, identity: str, position: Mapping[str, Any], relations: Mapping[str, Stamp]
    ) -> None:
        """Store what the feed follows from this position on: each relation, and since when without a gap.

        Raises `Fenced`.
        """

    def resync(
        self, feed: str, epoch: int, identity: str, position: Mapping[str, Any], relations: Mapping[str, Stamp],
        need: Stamp, models: Iterable[str], reason: str, *, lost: bool = True,
    ) -> Mapping[str, Pending]:  # fmt: skip
        """`begin`, and in the same transaction mark these models pending for a reason; their new rows.

        A version whose cut covers `need` covers it. `lost` counts it as a resync of the feed: changes may have been
        missed. Raises `Fenced`.
        """

    def all(self) -> list[FeedRow]:
        """Every feed."""


class Fits(Protocol):
    """Pending work, and the fits that cover it."""

    def pending(self, models: Iterable[str] | None = None) -> dict[str, Pending]:
        """The rows of these models (of all, when None); a model without one has an empty row made for it."""

    def forget(self, model: str) -> None:
        """Drop a removed model's pending row and cancel its fit."""

    def watching(self, model: str, spec_hash: str | None, gap: str | None = None) -> None:
        """Store which form of the document the feed's changes are matched by from now on (None: none, it is invalid).

        With a `gap`, mark the model pending for that reason.
        """

    def schedule(self, model: str, cron: str | None, due_at: datetime | None) -> None:
        """Store when the model is due by its schedule."""

    def start(self, fit: Fit) -> Fit:
        """Insert a queued fit as the model's only one under way, with `seen`, `need` and `attempt` taken from its
        pending row in the same transaction.

        Raises:
            FitBusy: it has one already.
            NotVisible: a cut taken now would not cover what is pending; look again soon.
        """

    def run(self, fit: str, token: str) -> None:
        """queued → running; running stays so. Raises `Fenced`."""

    def beat(self, fit: str, token: str, progress: Mapping[str, Any], lines: Sequence[str]) -> str | None:
        """Say that the fit lives, how far it is, and what it logged; why it should stop, if it should.

        Raises `Fenced` when it is no longer this fit's turn.
        """

    def end(self, fit: str, state: FitState, error: str | None, *, token: str | None = None) -> bool:
        """Move to failed, cancelled or lost; a failure is counted. False when it had ended already.

        Without a token: the reaper's right. Raises `Fenced` on a foreign token.
        """

    def cancel(self, fit: str, reason: str) -> bool:
        """Ask a fit to stop. False when it had ended already."""

    def publish(self, fit: str, token: str, draft: VersionDraft) -> Version:
        """Insert the version, clear what it covers, end the fit: one transaction.

        Raises `Fenced` when the token is not the fit's, the fit has ended, the model is gone, or the cut is older
        than the newest version's.
        """

    def keep(self, fit: str, token: str, draft: VersionDraft) -> Version:
        """Insert what a fit had when it was asked to stop, as a version that covers nothing. The fit goes on.

        Raises `Fenced` when the token is not the fit's, the fit has ended, or the model is gone.
        """

    def get(self, fit: str) -> Fit:
        """One fit. Raises `NotFound`."""

    def recent(self, model: str | None = None, limit: int = 50) -> list[Fit]:
        """The newest fits first."""

    def active(self) -> list[Fit]:
        """All that are queued or running."""

    def lines(self, fit: str, after: int = 0) -> list[tuple[int, datetime, str]]:
        """Log lines with a number above `after`, in order: number, time, text."""


class Versions(Protocol):
    """What was published."""

    def of(self, model: str) -> list[Version]:
        """The newest first."""

    def get(self, model: str, number: int) -> Version:
        """One version. Raises `NotFound`."""

    def live(self, model: str) -> Version:
        """The version that `load` and `predict` use. Raises `NotFound`, saying why there is none."""

    def remove(self, model: str, numbers: Iterable[int]) -> None:
        """Forget versions (for `gc`)."""

    def models(self) -> list[str]:
        """Every model that has versions, also those whose document is gone."""


class Artifacts(Protocol):
    """Bytes under their own SHA-256 digest."""

    def put(self, data: bytes) -> str:
        """Store them, durably; the digest, in hexadecimal. Storing the same bytes again costs nothing."""

    def get(self, digest: str) -> bytes:
        """The bytes. Raises `NotFound`, or `ArtifactCorrupt` when they are not what the digest promises."""

    def remove(self, digest: str) -> None:
        """Forget them, if they are there."""

    def all(self) -> dict[str, int]:
        """Digest → size in bytes."""


class Store(Protocol):
    """A registry in one datastore."""

    #: `mongodb` or `postgresql`.
    kind: str

    @property
    def documents(self) -> Documents:
        """The model documents."""

    @property
    def feeds(self) -> Feeds:
        """Feeds and leases."""

    @property
    def fits(self) -> Fits:
        """Pending work and fits."""

    @property
    def versions(self) -> Versions:
        """What was published."""

    @property
    def artifacts(self) -> Artifacts:
        """The fitted objects' bytes."""

    @property
    def selects(self) -> Selects:
        """How selects are written for this datastore."""

    def prepare(self) -> None:
        """Make collections or tables, validator and indexes, where they are missing. Idempotent."""

    def now(self) -> datetime:
        """The datastore's clock, good to some milliseconds without a round trip."""

    def newest(self) -> Stamp:
        """A stamp that covers everything that is committed by now."""

    def position_stamp(self, position: Mapping[str, Any] | None) -> Stamp | None:
        """The stamp up to which a feed that stands at this position has told everything; None where it says none.

        It only compares with those of `newest`.
        """

    def newer(self, one: Stamp | None, other: Stamp | None) -> bool:
        """Whether a cut at `one` does not cover a change at `other`."""

    def join(self, stamps: Iterable[Stamp]) -> Stamp:
        """The stamp that a cut covers when it covers each of these, of which there is at least one."""

    def show_stamp(self, stamp: Stamp | None) -> str | None:
        """A stamp as text for people and JSON."""

    def close(self) -> None:
        """Give connections back. Twice is safe."""
