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
#: One that was cancelled, and hears of it by itself, gets so long to keep what it has.
STOPPING_S = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How to end a fit. Without an error it counts as if it had not been."""

    state: FitState
    error: str | None


def judge(fit: Fit, *, ours: bool, owner_dead: bool, now: datetime, asked: datetime | None = None) -> Verdict | None:
    """Whether a fit under way is to be ended, and how: pure.

    Args:
        ours: whether this daemon's executor runs it now.
        owner_dead: whether the process that started it is surely gone.
        asked: when it was first seen that somebody had asked for its end; None: now.
    """
    if fit.cancel and not (_stops_by_itself(fit) and now - (asked or now) < timedelta(seconds=STOPPING_S)):
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


def _stops_by_itself(fit: Fit) -> bool:
    """Whether its trainer hears of a cancel, and may have something to keep: scikit-learn's doesn't listen."""
    return fit.state is FitState.RUNNING and fit.document.get("trainer") != "sklearn"


def _timeout(fit: Fit) -> float:
    """The document's `timeout`; one that an older release wrote, and this one can't read, has none."""
    try:
        return ModelDocument.parse(fit.document).timeout
    except DocumentInvalid:
        return float("inf")


class Reaper:
    """Judges every fit under way, again and again."""

    def __init__(self, store: Store, executor: Executor, look: Callable[[list[str]], None]) -> None:
        """`look`: has models looked at again."""
        self._store, self._executor, self._look = store, executor, look
        self._asked: dict[str, datetime] = {}

    def step(self) -> None:
        """Look at all of them once."""
        now, running, active = self._store.now(), self._executor.running(), self._store.fits.active()
        self._asked = {fit.id: self._asked.get(fit.id, now) for fit in active if fit.cancel}
        for fit in active:
            asked = self._asked.get(fit.id)
            verdict = judge(fit, ours=fit.id in running, owner_dead=is_dead(fit.owner), now=now, asked=asked)
            if verdict and self._store.fits.end(fit.id, verdict.state, verdict.error):
                log.warning("fit ended", model=fit.model, fit=fit.id, state=str(verdict.state), error=verdict.error)
                self._executor.cancel(fit.id, 0.0)
                self._look([fit.model])
