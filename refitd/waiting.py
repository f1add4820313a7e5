"""Waiting until a model is fresh, has a version, or a fit has ended."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

from refitd.signals import until
from refitd.signing import judging
from refitd.standing import Standing, following, stand
from registry.errors import DocumentInvalid, Fault, FitError, RefitdError, TimeLimit
from registry.records import Fit
from registry.store import Store
from registry.trust import Trust

#: A daemon judges a document that was changed within this.
_JUDGED_S = 5.0
#: How long nobody may follow the datastore before we say so.
_PATIENCE_S = 10.0


def wait_fresh(store: Store, trust: Trust, model: str, timeout_s: float | None) -> Standing:
    """Wait until the model's newest version covers every matching change that was committed before this call.

    Raises:
        DocumentInvalid: its document has faults.
        FitError: its fits fail; carries the error of the newest.
        TimeLimit: the time is over; says how it stands.
        RefitdError: it is paused, so that it would never be.
        NotFound: there is no such model, or it was removed meanwhile.
    """
    waiter = Fresh(store, trust, model)
    if until(store, waiter.look, timeout_s):
        return waiter.standing
    standing = waiter.standing
    hint = "" if following(store) else "; no daemon follows this datastore: start one with `refitd run`"
    said = f"it is {standing.state}: {standing.status.get('reason')}"
    if standing.fresh:
        said = "its feed has not gone over the newest changes yet"
    raise TimeLimit(f"{model} is not known to be fresh after {timeout_s:g} s: {said}{hint}")


class Fresh:
    """One look after another at a model that should become fresh."""

    def __init__(self, store: Store, trust: Trust, model: str) -> None:
        self._store, self._trust, self._model = store, trust, model
        self._asked = store.newest()
        self._began = store.now()
        self._since = time.monotonic()
        self._warned = False
        self.standing = stand(store, trust, model)

    def look(self) -> bool:
        """Whether it is fresh now. Raises what will keep it from that."""
        passed = self._feed_passed()  # first: what it made pending up to there is then in the row that is read next
        self.standing = one = stand(self._store, self._trust, self._model)
        self._refuse_hopeless(one, passed)
        self._warn()
        return self._settled(one) and (passed or self._read_later(one))

    def _refuse_hopeless(self, one: Standing, passed: bool) -> None:
        if one.state == "invalid" and self._still_invalid(one):
            raise DocumentInvalid(_faults_of(one))
        if one.state == "failing" and self._still_failing(one, passed):
            raise FitError(f"{one.model} is failing: {one.error}")
        if one.state == "paused" and not self._settled(one):
            raise RefitdError(f"{one.model} is paused and {one.status['pending']} changes are pending; resume it first")

    def _still_invalid(self, one: Standing) -> bool:
        """Whether it is now, and not only by what the daemon said of a document that was mended since."""
        from trainers.check import check_document

        if time.monotonic() - self._since > _JUDGED_S:
            return True
        try:
            check_document(one.raw, judging(self._trust), self._store.selects)
        except DocumentInvalid:
            return True
        return False

    def _still_failing(self, one: Standing, passed: bool) -> bool:
        """Whether the failure is newer than this call, or nothing has come since that could mend it."""
        failure = one.pending.failure
        if failure is None or failure.at >= self._began or following(self._store) is None:
            return True
        return passed and one.pending.generation <= failure.generation

    def _settled(self, one: Standing) -> bool:
        waiting = one.decision and one.decision.due_at and one.decision.kind != "schedule"
        return one.fresh and one.pending.fit is None and not waiting

    def _feed_passed(self) -> bool:
        """Whether the feed has gone over all that was committed before the call."""
        stamps = [self._store.position_stamp(row.position) for row in self._store.feeds.all()]
        return any(stamp is not None and not self._store.newer(stamp, self._asked) for stamp in stamps)

    def _read_later(self, one: Standing) -> bool:
        """Whether the newest version was trained on rows as they were at the call, or later."""
        published = one.pending.published
        return published is not None and not self._store.newer(published.cut, self._asked)

    def _warn(self) -> None:
        if not self._warned and time.monotonic() - self._since > _PATIENCE_S and following(self._store) is None:
            self._warned = True
            warnings.warn(f"{self._model} waits, but no daemon follows this datastore: start one with `refitd run`",
                          stacklevel=5)  # fmt: skip


def wait_published(store: Store, trust: Trust, model: str, timeout_s: float | None) -> Standing:
    """Wait until the model has a live version, fresh or not. Raises as `wait_fresh` does."""
    seen: list[Standing] = []

    def look() -> bool:
        one = stand(store, trust, model)
        seen[:] = [one]
        if one.live is None and one.state == "invalid":
            raise DocumentInvalid(_faults_of(one))
        if one.live is None and one.state == "failing":
            raise FitError(f"{one.model} is failing: {one.error}")
        return one.live is not None

    if until(store, look, timeout_s):
        return seen[0]
    raise TimeLimit(f"{model} has no live version after {timeout_s:g} s: it is {seen[0].state}")


def wait_ended(store: Store, fit: str, told: Callable[[Fit], None] | None = None) -> Fit:
    """Wait until a fit has ended; `told` sees it whenever something of it may have changed."""
    newest: list[Fit] = []

    def look() -> bool:
        newest[:] = [store.fits.get(fit)]
        if told:
            told(newest[0])
        return newest[0].state.ended

    until(store, look, None)
    return newest[0]


def _faults_of(one: Standing) -> list[Fault]:
    return [Fault(fault["path"], fault["message"]) for fault in one.status.get("faults", ())]
