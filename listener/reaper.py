"""Ends fits that nobody else will: their worker is gone, their time is up, or somebody asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from registry.document import ModelDocument
from registry.errors import DocumentInvalid
from registry.owner import is_dead
from registry.records import Fit, FitState
from registry.store import Store
from trainers.executor import Executor

log: Any = structlog.get_logger("refitd.reaper")

#: A running fit that has not been heard of for so long is given up; it could not publish any more.
SILENT_S = 15.0
#: A fit whose time is up gets so long to say so by itself.
GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How to end a fit. Without an error it counts as if it had not been."""

    state: FitState
    error: str | None


def judge(fit: Fit, *, ours: bool, owner_dead: bool, now: datetime) -> Verdict | None:
    """Whether a fit under way is to be ended, and how: pure.

    Args:
        ours: whether this daemon's executor runs it now.
        owner_dead: whether the process that started it is surely gone.
    """
    if fit.cancel:
        return Verdict(FitState.CANCELLED, f"cancelled: {fit.cancel}")
    timeout = _timeout(fit)
    if fit.started and (now - fit.started).total_seconds() > timeout + GRACE_S:
        error = f"stopped after {timeout:g} s, the document's `timeout`; raise it, or select fewer rows"
        return Verdict(FitState.FAILED, error)
    if ours:
        return None
    if fit.bound and owner_dead:
        return Verdict(FitState.LOST, None)
    heard = fit.heartbeat or fit.created
    if (fit.started or owner_dead) and now > heard + timedelta(seconds=SILENT_S):
        return Verdict(FitState.LOST, f"its worker was not heard of for {SILENT_S:g} s: it was killed, or cut off")
    return None


def _timeout(fit: Fit) -> float:
    """The document's `timeout`; one that an older release wrote, and this one can't read, has none."""
    try:
        return ModelDocument.parse(fit.document).timeout
    except DocumentInvalid:
        return float("inf")


def reap(store: Store, executor: Executor, look: Callable[[list[str]], None]) -> None:
    """Judge every fit under way. Its models are looked at again."""
    now, running = store.now(), executor.running()
    for fit in store.fits.active():
        verdict = judge(fit, ours=fit.id in running, owner_dead=is_dead(fit.owner), now=now)
        if verdict and store.fits.end(fit.id, verdict.state, verdict.error):
            log.warning("fit ended", model=fit.model, fit=fit.id, state=str(verdict.state), error=verdict.error)
            executor.cancel(fit.id, 0.0)
            look([fit.model])
