"""How a model's pending row changes. Pure: a row and what happened in, the new row out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from registry.postgres.stamps import PgStamp, join, summed_up
from registry.records import Delta, Failure, Fit, Pending, Published, Version


def with_delta(row: Pending, delta: Delta, now: datetime, visible: PgStamp) -> Pending:
    """The row after a batch of changes; the same row when the newest version's cut covers them already.

    Args:
        now: the server's clock.
        visible: what the server shows now, to sum up many needs by.
    """
    if delta.need is not None and row.published is not None and row.published.cut.covers(delta.need):
        return row
    return replace(
        row,
        generation=row.generation + 1,
        seen=row.seen + delta.counts,
        need=_needed(row.need, delta.need, visible),
        since=row.since or now,
        since_claim=row.since_claim or now,
        last=now,
        resync=delta.reason or row.resync,
        blind=row.blind or delta.need is None,
    )


def _needed(had: PgStamp | None, more: PgStamp | None, visible: PgStamp) -> PgStamp | None:
    """Both needs. With another history than the row's, the new one replaces it."""
    if more is None:
        return had
    need = more if had is None or had.history != more.history else join([had, more])
    same = need.history == visible.history and visible.snapshot is not None
    return summed_up(need, visible.snapshot) if same and visible.snapshot is not None else need


def claimed(row: Pending, fit: Fit) -> Pending:
    """The row while this fit is the model's one under way."""
    return replace(row, fit=fit.id, since_claim=None, blind=False, retrain_tried=fit.document.get("retrain_now"))


def invisible(row: Pending, visible: PgStamp) -> bool:
    """Whether a cut taken now would not cover what is pending. Needs of another history say nothing of that."""
    need = row.need
    return need is not None and need.history == visible.history and not visible.covers(need)


def is_older(cut: PgStamp, published: Published | None) -> bool:
    """Whether a cut shows less than the newest version's did. Cuts of different histories don't compare."""
    if published is None or published.cut.history != cut.history:
        return False
    return not cut.covers(published.cut)


def covered_by(row: Pending, fit: Fit, version: Version, now: datetime) -> Pending:
    """The row after a version: all of it is covered when what it needs lies within the cut.

    Otherwise what the fit saw when it was claimed is; the rest stays pending.
    """
    cut = version.draft.cut
    whole = not row.blind and (row.need is None or cut.covers(row.need))
    return replace(
        row,
        covered=row.seen if whole else fit.seen,
        since=None if whole else row.since_claim,
        since_claim=None if whole else row.since_claim,
        need=None if whole else _left(row.need, cut),
        resync=None if whole else row.resync,
        published=Published(version.number, version.generation, version.spec_hash, cut, now),
        failure=None,
        fit=None,
        finished=now,
        retrain_now=fit.document.get("retrain_now"),
        due_at=row.due_at if fit.next_due is None else fit.next_due,
    )


def _left(need: PgStamp | None, cut: PgStamp) -> PgStamp | None:
    """What a cut leaves of a need."""
    shown = cut.snapshot
    if need is None or shown is None or need.history != cut.history:
        return need
    hidden = frozenset(xid for xid in need.xids if not shown.shows(xid))
    snapshot = need.snapshot if need.snapshot is not None and not shown.includes(need.snapshot) else None
    return PgStamp(need.history, snapshot, hidden) if hidden or snapshot else None


def after_failure(row: Pending, fit: Fit, error: str | None, now: datetime) -> Pending:
    """The row after its fit ended without a version.

    Without an error it is as if the fit had not been: the daemon stopped, or gave the fit up by itself.
    """
    freed: dict[str, Any] = {"fit": None, "finished": now}
    if error is None:
        return replace(row, **freed, retrain_tried=row.retrain_now)
    count = 1 + (row.failure.count if row.failure else 0)
    return replace(row, **freed, failure=Failure(count, now, error, fit.spec_hash, fit.generation))
