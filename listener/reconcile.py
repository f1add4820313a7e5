"""The reconcile loop: for every model that something happened to, decide, act, and say so. Runs in one thread.

Level triggered: a model is looked at again whenever its rows may have changed, and at the time its decision names.
Looking once too often costs a read.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import structlog

from listener.catalogue import Catalogue, Entry, Key
from listener.policy import Decision, decide, next_schedule
from listener.status import differs, invalid_status, model_status, only_counts_differ
from registry.document import ModelDocument
from registry.errors import DatastoreUnavailable, FitBusy, NotFound, NotVisible, RefitdError, WorkerLost
from registry.records import Fit, FitState, Pending
from registry.store import Store
from trainers.executor import Executor, FitOrder
from trainers.fit import new_fit

log: Any = structlog.get_logger("refitd.reconcile")

#: Fits handed to the executor at once; more stay in the registry, due.
IN_FLIGHT = 64
#: A fit's own progress from queued to running is looked at this long after it began.
_LOOK_AGAIN_S = 0.3
_LONGEST_WAIT_S = 5.0
#: A burst of changes raises the counts of a status all the time: they are told this often.
_COUNTS_TOLD_S = 1.0


class Reconciler:
    """Turns pending work into fits, and rows into statuses."""

    def __init__(self, store: Store, catalogue: Catalogue, executor: Executor, order: FitOrder, owner: str) -> None:
        """`order` is the pattern of every order: its fit is replaced."""
        self._store, self._catalogue, self._executor = store, catalogue, executor
        self._order, self._owner = order, owner
        self._wake = threading.Condition()
        self._dirty: set[Key] = set()
        self._rows: dict[str, Pending] = {}
        self._due: list[tuple[datetime, int, Key]] = []
        self._pushed = count()
        self._due_at: dict[Key, datetime] = {}
        self._told: dict[Key, tuple[Entry, Mapping[str, Any]]] = {}
        self._waiting_for_slot: set[str] = set()

    def look(self, models: Iterable[Key], rows: Mapping[str, Pending] | None = None) -> None:
        """Have these models looked at soon. From any thread."""
        with self._wake:
            self._dirty.update(models)
            self._rows.update(rows or {})
            self._wake.notify()

    def ended(self, fit: str, model: str, error: str | None) -> None:
        """A task of the executor has ended; `error` if the worker itself could not say how. From any thread."""
        try:
            if error is not None:
                self._store.fits.end(fit, FitState.LOST, error)
            _log_end(self._store.fits.get(fit))
        except (DatastoreUnavailable, NotFound) as failed:
            log.warning("how a fit ended is not known yet", fit=fit, model=model, reason=str(failed))
        with self._wake:
            waiting = [*self._waiting_for_slot]
        self.look([model, *waiting])

    def step(self) -> None:
        """Wait until something is to do, and do it.

        Raises:
            DatastoreUnavailable: what was to do is still marked so.
        """
        models, rows = self._next()
        try:
            self._reconcile(models, rows)
        except BaseException:
            self.look(models)
            raise

    def _next(self) -> tuple[set[Key], dict[str, Pending]]:
        with self._wake:
            if not self._dirty:
                self._wake.wait(self._seconds_to_next())
            models, self._dirty = self._dirty, set()
            rows, self._rows = self._rows, {}
        if not self._due:
            return models, rows
        now = self._store.now()
        while self._due and self._due[0][0] <= now:
            at, _, model = heapq.heappop(self._due)
            if self._due_at.get(model) == at:
                del self._due_at[model]
                models.add(model)
                rows.pop(str(model), None)
        return models, rows

    def _seconds_to_next(self) -> float:
        if not self._due:
            return _LONGEST_WAIT_S
        wait = (self._due[0][0] - self._store.now()).total_seconds()
        return min(max(wait, 0.0), _LONGEST_WAIT_S)

    def _reconcile(self, models: set[Key], known: Mapping[str, Pending]) -> None:
        entries = self._catalogue.entries
        for gone in [model for model in models if model not in entries]:
            self._forget(gone)
        present = [entries[model] for model in models if model in entries]
        missing = [one.name for one in present if isinstance(one.name, str) and one.name not in known]
        rows = {**known, **(self._store.fits.pending(missing) if missing else {})}
        for entry in present:
            try:
                self._settle(entry, rows.get(str(entry.name)))
            except DatastoreUnavailable:
                raise
            except RefitdError as error:  # the edge: one model must not hold up the others
                log.warning("a model could not be reconciled", model=str(entry.name), reason=str(error))
                self._push(entry.name, self._store.now() + timedelta(seconds=_LONGEST_WAIT_S))
            except Exception:
                log.exception("a model could not be reconciled", model=str(entry.name))
                self._push(entry.name, self._store.now() + timedelta(seconds=_LONGEST_WAIT_S))

    def _settle(self, entry: Entry, state: Pending | None) -> None:
        if entry.document is None:
            self._tell(entry, invalid_status(entry.faults, state))
        elif state is not None:
            self._settle_valid(entry, state)

    def _settle_valid(self, entry: Entry, state: Pending) -> None:
        """Decide about one valid model, and act."""
        document = _document(entry)
        now = self._store.now()
        state = self._scheduled(entry, state, now)
        decision = decide(document, state, now)
        if decision.due(now):
            try:
                if self._start(entry, state, decision, now) is not None:
                    self._look_at(entry.name, now, _LOOK_AGAIN_S)
                    return
            except NotVisible as error:
                decision = replace(decision, why=f"{decision.why}; {error}")
                self._look_at(entry.name, now, _LOOK_AGAIN_S)
        elif decision.due_at is not None:
            self._push(entry.name, decision.due_at)
        if state.fit:
            self._look_at(entry.name, now, _LONGEST_WAIT_S)
        self._tell(entry, self._status(entry, state, decision))

    def _scheduled(self, entry: Entry, state: Pending, now: datetime) -> Pending:
        """The pending row with the due time of the document's schedule: a row, so that none is forgotten."""
        document = _document(entry)
        cron = document.retrain.schedule
        if state.schedule == cron:
            return state
        due_at = next_schedule(document, now)
        self._store.fits.schedule(document.id, cron, due_at)
        return replace(state, schedule=cron, due_at=due_at)

    def _start(self, entry: Entry, state: Pending, decision: Decision, now: datetime) -> Fit | None:
        """Claim a fit and hand it to the executor; None when another one was faster, or there is no room now.

        Raises:
            NotVisible: what it has to cover can't be read yet.
        """
        document = _document(entry)
        if not self._has_room(document.id):
            return None
        reason = {"kind": decision.kind, **state.outstanding.as_dict(), "why": decision.why}
        draft = new_fit(self._store, document, entry.raw, reason, self._owner, bound=self._executor.bound)
        order = self._order.carrying(draft)  # before the claim: what goes wrong here must not hold the model up
        try:
            fit = self._store.fits.start(replace(draft, next_due=next_schedule(document, now)))
        except FitBusy:  # a fit() of somebody's; whether it ends well or not, nothing else tells us
            self._look_at(entry.name, now, _LOOK_AGAIN_S)
            return None
        log.info("fit", model=fit.model, fit=fit.id, why=decision.why, attempt=fit.attempt)
        try:
            self._executor.start(replace(order, fit=fit), lambda id_, error: self.ended(id_, fit.model, error))
        except WorkerLost as error:
            self._store.fits.end(fit.id, FitState.FAILED, str(error))
            self.look([entry.name])
        return fit

    def _has_room(self, model: str) -> bool:
        """Whether the executor takes another fit; a model that must wait is looked at when one ends."""
        full = len(self._executor.running()) >= IN_FLIGHT
        with self._wake:
            if full:
                self._waiting_for_slot.add(model)
            else:
                self._waiting_for_slot.discard(model)
        return not full

    def _status(self, entry: Entry, state: Pending, decision: Decision) -> dict[str, Any]:
        document = _document(entry)
        fit_state = self._store.fits.get(state.fit).state if state.fit else None
        try:
            live = self._store.versions.live(document.id).number
        except NotFound as error:
            status = model_status(document, state, decision, fit_state, None)
            pinned = document.live != "latest"
            return {**status, "error": status["error"] or f"live: {error}"} if pinned else status
        return model_status(document, state, decision, fit_state, live)

    def _tell(self, entry: Entry, status: Mapping[str, Any]) -> None:
        seen, told = self._told.get(entry.name, (None, None))
        if seen is not entry:  # read anew: what stands in the document now is what was told
            told = entry.raw.get("status")
        told = told if isinstance(told, Mapping) else None
        now = self._store.now()
        if told is not None and only_counts_differ(told, status) and not _long_ago(told.get("at"), now):
            self._look_at(entry.name, now, _COUNTS_TOLD_S)
            return
        status = {**status, "at": now}
        if differs(told, status):
            self._store.documents.set_status(entry.raw["_id"], status)
        self._told[entry.name] = (entry, status)

    def _forget(self, model: Key) -> None:
        self._told.pop(model, None)
        self._due_at.pop(model, None)
        if isinstance(model, str):
            self._store.fits.forget(model)

    def _look_at(self, model: Key, now: datetime, after_s: float) -> None:
        self._push(model, now + timedelta(seconds=after_s))

    def _push(self, model: Key, at: datetime) -> None:
        self._due_at[model] = at
        heapq.heappush(self._due, (at, next(self._pushed), model))


def _log_end(fit: Fit) -> None:
    said = log.info if fit.state is FitState.PUBLISHED else log.warning
    error = fit.error.split("\n")[0] if fit.error else None
    said(str(fit.state), model=fit.model, fit=fit.id, version=fit.version, error=error)


def _long_ago(at: Any, now: datetime) -> bool:
    return not isinstance(at, datetime) or now - at > timedelta(seconds=_COUNTS_TOLD_S)


def _document(entry: Entry) -> ModelDocument:
    """The document of an entry that is known to be valid."""
    assert entry.document is not None
    return entry.document
