"""Why a model is, or isn't, being fitted: every number that the decision was made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from listener.policy import describe_counts
from refitd.standing import Standing, following
from refitd.views import Row, ago, describe_reason, fit_row, model_row
from registry.durations import format_duration
from registry.store import Store

_FITS = 3


def why_row(one: Standing, store: Store) -> Row:
    """The same as `explain`, for programs."""
    pending = one.pending
    return {
        **model_row(one),
        "why": one.status.get("reason"),
        "due_at": one.decision.due_at if one.decision else None,
        "kind": one.decision.kind if one.decision else None,
        "counts": pending.outstanding.as_dict(),
        "seen": pending.seen.as_dict(),
        "since": pending.since,
        "last": pending.last,
        "need": store.show_stamp(pending.need),
        "cut": store.show_stamp(pending.published.cut) if pending.published else None,
        "resync": pending.resync,
        "failures": one.status.get("failures", 0),
        "faults": one.status.get("faults", []),
        "followed": following(store) is not None,
        "fits": [fit_row(fit) for fit in store.fits.recent(one.model, _FITS)],
    }


def explain(one: Standing, store: Store) -> Iterator[tuple[str, Any]]:
    """Names and texts, for people."""
    now, pending = store.now(), one.pending
    yield "model", one.model
    yield "state", one.state
    if one.document is None:
        yield "faults", "\n".join(f"{fault['path']}: {fault['message']}" for fault in one.status["faults"])
    else:
        yield "because", one.status["reason"]
        yield "error", one.error
        yield "next fit", _due(one, store)
    waits = f" since {ago(pending.since, now)}" if pending.outstanding.total and pending.since else ""
    yield "pending", f"{describe_counts(pending.outstanding)}{waits}"
    yield "seen", f"{describe_counts(pending.seen)} in all; the last {ago(pending.last, now)}"
    if pending.resync:
        yield "resync", pending.resync
    if pending.published:
        at = store.show_stamp(pending.published.cut)
        yield "newest", f"version {pending.published.number}, {ago(pending.published.at, now)}, of the rows at {at}"
    yield from _policy(one)
    for fit in store.fits.recent(one.model, _FITS):
        outcome = f"version {fit.version}" if fit.version else fit.error or ""
        yield "fit", f"{fit.id} {fit.state}, {ago(fit.created, now)}: {describe_reason(fit.reason)} → {outcome}"


def _due(one: Standing, store: Store) -> str:
    if one.fit is not None:
        stage = one.fit.progress.get("stage")
        return f"{one.fit.id} is {one.fit.state}" + (f" ({stage})" if stage else "")
    if one.decision is None or one.decision.due_at is None:
        return "none, until something changes"
    left = (one.decision.due_at - store.now()).total_seconds()
    return "due now" if left <= 0 else f"in {format_duration(left)}"


def _policy(one: Standing) -> Iterator[tuple[str, str]]:
    if one.document is None:
        return
    retrain = one.document.retrain
    parts = [
        f"min_changes {retrain.min_changes}",
        f"quiet {format_duration(retrain.quiet)}",
        f"max_wait {format_duration(retrain.max_wait)}",
        f"cooldown {format_duration(retrain.cooldown)}",
    ]
    if not retrain.on_change:
        parts = ["on_change false"]
    if retrain.schedule:
        parts.append(f"schedule {retrain.schedule}")
    yield "policy", ", ".join(parts)
