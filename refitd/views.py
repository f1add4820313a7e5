"""The rows that the command prints, in the shapes its `--json` promises. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from refitd.standing import Standing, document, holds_lease
from registry.errors import NotFound
from registry.owner import short
from registry.records import FeedRow, Fit, Version
from registry.redaction import redact
from registry.store import Store

Row = dict[str, Any]


def model_row(one: Standing) -> Row:
    """`status`: one model."""
    metric = one.metric
    return {
        "model": one.model,
        "state": one.state,
        "fresh": one.fresh,
        "live": one.live.number if one.live else None,
        "pending": one.pending.outstanding.total,
        "metric": metric[1] if metric else None,
        "error": _said(one.error),
    }


def version_row(version: Version, live: int | None, store: Store) -> Row:
    """`versions`: one version. `rows` counts what it was trained and validated on together."""
    draft = version.draft
    return {
        "version": version.number,
        "created": version.created,
        "live": version.number == live,
        "rows": draft.rows,
        "metrics": dict(draft.metrics),
        "reason": dict(version.reason),
        "cut": store.show_stamp(draft.cut),
        "digest": draft.digest,
        "parts": dict(draft.parts),
    }


def version_detail(version: Version, live: int | None, store: Store) -> Row:
    """`show`: all there is to say of one version."""
    draft = version.draft
    more = {"promoted": draft.promoted, "gate": draft.gate, "fit": version.fit, "format": draft.format}
    return {**version_row(version, live, store), **more, "detail": dict(draft.detail)}


def fit_row(fit: Fit) -> Row:
    """`fits`: one fit."""
    return {
        "fit": fit.id,
        "model": fit.model,
        "state": str(fit.state),
        "attempt": fit.attempt,
        "version": fit.version,
        "progress": dict(fit.progress),
        "error": _said(fit.error),
        "reason": dict(fit.reason),
        "owner": short(fit.owner),
        "created": fit.created,
        "started": fit.started,
        "heartbeat": fit.heartbeat,
        "finished": fit.finished,
        "seconds": seconds(fit),
    }


def feed_row(row: FeedRow, store: Store, retained: int | None = None) -> Row:
    """`feeds`: one feed. `retained_bytes` is what the source keeps for us alone; null where it keeps nothing so."""
    now = store.now()
    return {
        "feed": row.id,
        "kind": row.kind,
        "position": store.show_stamp(store.position_stamp(row.position)) or _plain(row.position),
        "lag_s": round(max(0.0, (now - row.recorded).total_seconds()), 3) if row.recorded else None,
        "retained_bytes": retained,
        "resyncs": row.resyncs,
        "dead_letters": row.dead_letters,
        "owner": short(row.owner) if holds_lease(row, now) else None,
    }


def seconds(fit: Fit) -> float | None:
    """How long a fit ran, or has run by its last heartbeat; None before it started."""
    until = fit.finished or fit.heartbeat
    return round((until - fit.started).total_seconds(), 3) if fit.started and until else None


def describe_reason(reason: Mapping[str, Any]) -> str:
    """`2 inserts, 1 delete`, or why else a fit ran."""
    kind = str(reason.get("kind", ""))
    counts = [
        f"{reason[name]} {name if reason[name] != 1 or name == 'other' else name[:-1]}"
        for name in ("inserts", "updates", "deletes", "other", "resyncs")
        if reason.get(name)
    ]
    words = {
        "added": "new model", "edited": "document edited", "requested": "asked for", "schedule": "schedule",
        "resync": "resync",
    }  # fmt: skip
    if kind == "changes":
        return ", ".join(counts) or "changes"
    said = words.get(kind, kind)
    return f"{said} ({', '.join(counts)})" if counts else said


def size(count: int | None) -> str | None:
    """`12.3 MB`, for people."""
    if count is None:
        return None
    shown, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if shown < 1000:
            break
        shown, unit = shown / 1000, larger
    return f"{count} B" if unit == "B" else f"{shown:.1f} {unit}"


def _plain(position: Mapping[str, Any] | None) -> Row | None:
    """A position that stands for no place that the store knows, as it is."""
    return dict(position) if position else None


def _said(error: str | None) -> str | None:
    return redact(error) if error else None


def ago(moment: datetime | None, now: datetime) -> str:
    """`3s ago`, for people."""
    if moment is None:
        return "-"
    passed = max(0.0, (now - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if passed >= size:
            return f"{int(passed // size)}{unit} ago"
    return f"{int(passed)}s ago"


def version_rows(store: Store, model: str) -> list[Row]:
    """`versions`: all of a model. Raises `NotFound` as `versions_of` does."""
    found = versions_of(store, model)
    live = live_number(store, model)
    return [version_row(one, live, store) for one in found]


def versions_of(store: Store, model: str) -> list[Version]:
    """All versions of a model, the newest first; also of one that was removed.

    Raises:
        NotFound: there is neither such a model nor a version of one.
    """
    found = store.versions.of(model)
    if not found:
        document(store, model)
    return found


def live_number(store: Store, model: str) -> int | None:
    """The live version's number; None when there is none."""
    try:
        return store.versions.live(model).number
    except NotFound:
        return None
