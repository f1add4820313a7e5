"""`model.fit(…, db=db)`: the document written and a fit of it run now, by the daemon's own code path."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from listener.reaper import judge
from refitd import merging
from refitd.progress import Watch, shown_progress
from refitd.session import Session
from refitd.settings import load_settings
from refitd.signals import until
from refitd.signing import signed
from registry.document import ModelDocument
from registry.errors import Cancelled, FitBusy, FitError, NotVisible, RefitdError, WorkerLost
from registry.owner import is_dead, this_process
from registry.records import Fit, FitState, Version
from registry.store import RawDocument, Store
from trainers.check import check_document
from trainers.executor import FitOrder
from trainers.fit import new_fit, run_fit
from trainers.predict import LoadedModel, load_version

_LOOK_S = 0.1


@contextmanager
def opened(db: Session | str) -> Iterator[Session]:
    """The session itself, or one of this call's own where its address was given."""
    if isinstance(db, Session):
        yield db
        return
    with Session(load_settings(datastore=db)) as session:
        yield session


def fit_now(session: Session, document: RawDocument, *, named: bool) -> LoadedModel:
    """Write the document, fit it, publish, and load the version. See `refitd.Model.fit`.

    Args:
        document: what the caller says; other fields of a document of the same model stay.
        named: whether its user gave the model its name.
    """
    store = session.store
    document = signed(document, session.trust, session.keep, for_daemon=False)
    old = store.documents.get(document["_id"])
    merging.refuse_clash(document, old, given=named)
    said = {key: value for key, value in merging.over(document, old).items() if value is not None}
    checked = check_document(said, session.trust, store.selects)
    session.prepare()
    # The claim comes before the document: from then on the model has a fit under way, so the daemon, which hears of
    # the document a moment later, leaves it to us instead of starting a fit of its own. Both are keyed by the name,
    # and publishing looks whether the document is there. Were we to die between the two, the reaper would take the
    # claim away, and the old document, or none, would be what counts.
    fit = _claim(session, checked, said)
    try:
        if not merging.same(said, old):
            store.documents.put(said)
        with shown_progress(checked.id) as watch:
            version = _run(session, fit, watch)
    except BaseException:  # Ctrl-C too: a claim that nobody works on would hold the model up
        with suppress(RefitdError):  # then the reaper ends it; what went wrong first is what counts
            store.fits.end(fit.id, FitState.CANCELLED, None)
        raise
    return load_version(store, version, session.trust)


def _claim(session: Session, document: ModelDocument, raw: RawDocument) -> Fit:
    """The model's only fit under way, ours; whoever has one now is waited for."""
    store = session.store
    while True:
        counts = store.fits.pending([document.id])[document.id].outstanding.as_dict()
        reason = {"kind": "requested", "by": "fit()", **counts}
        try:
            return store.fits.start(new_fit(store, document, raw, reason, this_process(), bound=session.bound))
        except FitBusy:
            _wait_for_other(store, document.id)
        except NotVisible:
            time.sleep(_LOOK_S)  # nothing tells when others see a commit


def _wait_for_other(store: Store, model: str) -> None:
    """Wait until the fit that is in our way has ended, or its owner is dead and nobody else would end it."""

    def gone() -> bool:
        busy = store.fits.pending([model])[model].fit
        if busy is None:
            return True
        fit = store.fits.get(busy)
        verdict = None if fit.state.ended else judge(fit, ours=False, owner_dead=is_dead(fit.owner), now=store.now())
        if verdict:
            store.fits.end(fit.id, verdict.state, verdict.error)
        return fit.state.ended

    until(store, gone, None)


def _run(session: Session, fit: Fit, watch: Watch) -> Version:
    order = FitOrder(fit, session.datastore, session.settings.artifacts, session.trust).carrying(fit)
    executor = session.executor
    if executor is None:
        return run_fit(order, store=session.store, watch=watch)
    ended, said = threading.Event(), []

    def tell(_fit: str, error: str | None) -> None:
        said.append(error)
        ended.set()

    executor.start(order, tell)
    try:
        done = _follow(session.store, fit.id, ended, watch)
    except BaseException:
        executor.cancel(fit.id, 0.0)
        raise
    if done.state is FitState.PUBLISHED and done.version is not None:
        return session.store.versions.get(fit.model, done.version)
    lost = next((error for error in said if error), "the worker is gone")
    if not done.state.ended:
        session.store.fits.end(fit.id, FitState.LOST, lost)
        raise WorkerLost(lost)
    kind: type[FitError] = Cancelled if done.state is FitState.CANCELLED else FitError
    raise kind(done.error or done.cancel or lost)


def _follow(store: Store, fit: str, ended: threading.Event, watch: Watch) -> Fit:
    """The fit's row when it, or the worker's task, has ended."""
    newest: list[Fit] = []

    def look() -> bool:
        over = ended.is_set()  # asked first: what the worker wrote last is then in the row
        newest[:] = [store.fits.get(fit)]
        watch(newest[0].progress)
        return over or newest[0].state.ended

    until(store, look, None)
    return newest[0]
