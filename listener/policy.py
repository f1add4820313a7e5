"""When a model is fitted: pure decisions from the document's `retrain` and the model's pending row.

Level triggered: everything is derived from rows, so a decision taken twice, late, or by another daemon is the
same decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from registry.canonical import canonical_json
from registry.document import ModelDocument
from registry.records import Counts, Pending
from registry.schedule import next_due

#: Waiting times after failures double from the first to the last of these.
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 300.0
#: New matching changes may be what mends a failing model: with them it waits no longer than this.
NEWS_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one model.

    `due_at` None: nothing to do until something changes. Otherwise: fit at that time, because of `kind`.
    `why` says it for people.
    """

    kind: str | None
    due_at: datetime | None
    why: str

    def due(self, now: datetime) -> bool:
        """Whether the fit should start by now."""
        return self.due_at is not None and self.due_at <= now


@dataclass(frozen=True, slots=True)
class _Cause:
    kind: str
    at: datetime
    why: str
    hurried: bool = False


def decide(document: ModelDocument, state: Pending, now: datetime) -> Decision:
    """What to do about a model, at `now` by the datastore's clock."""
    if state.fit:
        return Decision(None, None, "a fit is under way")
    if document.paused:
        return Decision(None, None, "it is paused; `refitd resume` goes on")
    causes = sorted(_causes(document, state, now), key=lambda cause: cause.at)
    if not causes:
        return Decision(None, None, _why_nothing(document, state))
    best = min((_held_back(document, state, cause) for cause in causes), key=lambda cause: cause.at)
    return Decision(best.kind, best.at, best.why)


def backoff_s(failures: int) -> float:
    """Seconds to wait after the nth failure in a row: doubling, bounded."""
    return min(FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 30), LAST_BACKOFF_S) if failures > 0 else 0.0


def next_schedule(document: ModelDocument, now: datetime) -> datetime | None:
    """When the model is due next by its cron expression; None without one."""
    return next_due(document.retrain.schedule, now) if document.retrain.schedule else None


def _causes(document: ModelDocument, state: Pending, now: datetime) -> Iterator[_Cause]:
    """Every reason to fit, and from when on it holds."""
    if state.published is None:
        yield _Cause("added", now, "it was never fitted")
    elif state.published.spec_hash != document.spec_hash():
        yield _Cause("edited", now, "its document was edited since the newest version")
    if document.retrain_now is not None and _differ(document.retrain_now, state.retrain_now):
        fresh = _differ(document.retrain_now, state.retrain_tried)
        yield _Cause("requested", now, "a fit was asked for", hurried=fresh)
    if state.due_at is not None and document.retrain.schedule:
        yield _Cause("schedule", state.due_at, f"its schedule is {document.retrain.schedule}")
    yield from _change_causes(document, state, now)


def _differ(one: Any, other: Any) -> bool:
    """Not `!=`: nan is not even equal to itself, and would be asked for without end."""
    return canonical_json(one) != canonical_json(other)


def _change_causes(document: ModelDocument, state: Pending, now: datetime) -> Iterator[_Cause]:
    retrain, outstanding = document.retrain, state.outstanding
    if not outstanding.total or not retrain.on_change:
        return
    if not _enough(document, outstanding):
        return
    first, last = state.since or now, state.last or now
    at = min(last + timedelta(seconds=retrain.quiet), first + timedelta(seconds=retrain.max_wait))
    kind = "resync" if outstanding.resyncs else "changes"
    yield _Cause(kind, at, f"{describe_counts(outstanding)} pending" + (f": {state.resync}" if state.resync else ""))


def _enough(document: ModelDocument, outstanding: Counts) -> bool:
    """What can't be counted (a drop, a gap) counts as enough."""
    return bool(outstanding.other or outstanding.resyncs) or outstanding.changes >= document.retrain.min_changes


def _held_back(document: ModelDocument, state: Pending, cause: _Cause) -> _Cause:
    """The cause, not before cooldown and back-off allow it."""
    at, why = cause.at, cause.why
    if cause.kind in ("changes", "resync", "schedule") and state.finished:
        at = max(at, state.finished + timedelta(seconds=document.retrain.cooldown))
    failure = state.failure
    if failure and failure.spec_hash == document.spec_hash() and not cause.hurried:
        wait = backoff_s(failure.count)
        if state.generation > failure.generation:
            wait = min(wait, NEWS_BACKOFF_S)
        at = max(at, failure.at + timedelta(seconds=wait))
        why = f"{why}; {failure.count} failed in a row"
    return _Cause(cause.kind, at, why, cause.hurried)


def _why_nothing(document: ModelDocument, state: Pending) -> str:
    outstanding = state.outstanding
    if not outstanding.total:
        return "nothing is pending: the newest version covers every matching change"
    if not document.retrain.on_change:
        return f"{describe_counts(outstanding)} pending, but `retrain.on_change` is false"
    missing = document.retrain.min_changes - outstanding.changes
    return f"{describe_counts(outstanding)} pending; {missing} more until `retrain.min_changes`"


def describe_counts(counts: Counts) -> str:
    """`3 inserts, 1 delete`."""
    named = [
        f"{count} {name if count > 1 or name == 'other' else name.removesuffix('s')}"
        for name, count in counts.as_dict().items()
        if count
    ]
    return ", ".join(named) or "nothing"
