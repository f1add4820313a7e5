"""One fit, from its claim to its published version. Runs wherever an executor put it."""

from __future__ import annotations

import os
import secrets
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from registry.code import CodeLoader
from registry.document import Gate, ModelDocument, Validation
from registry.errors import (
    Cancelled,
    DatastoreUnavailable,
    Fenced,
    FitError,
    NotFound,
    RefitdError,
    TrainingFailed,
    Untrusted,
)
from registry.records import Counts, Fit, FitState, Version, VersionDraft
from registry.store import Store
from registry.stores import open_store
from trainers.capture import captured
from trainers.catalog import trainer
from trainers.checkpoints import FitCheckpoints
from trainers.evaluation import LEARNS, Decision, gate, turned
from trainers.executor import FitOrder
from trainers.loading import Read, load
from trainers.predict import load_version
from trainers.report import FitReport, Watch
from trainers.spool import Rows
from trainers.trainer import Fitted, Interrupted, Trainer, Training

if TYPE_CHECKING:
    pass


def new_fit(
    store: Store, document: ModelDocument, raw: Mapping[str, Any], reason: Mapping[str, Any], owner: str, *, bound: bool
) -> Fit:
    """The row for `store.fits.start`: a queued fit of this document.

    Args:
        bound: whether it dies with its owner's process.
    """
    return Fit(
        id=str(ObjectId()),
        model=document.id,
        state=FitState.QUEUED,
        attempt=1,
        token=secrets.token_hex(16),
        document={key: value for key, value in raw.items() if key != "status"},
        spec_hash=document.spec_hash(),
        reason=reason,
        generation=0,
        seen=Counts(),
        need=None,
        owner=owner,
        bound=bound,
        created=store.now(),
    )


def run_fit(
    order: FitOrder, *, store: Store | None = None, watch: Watch | None = None, capture: bool = False
) -> Version:
    """Run a claimed fit to its end, and say in the registry how it ended.

    Args:
        watch: called with `stage`, `fraction` and `message` when they change.
        capture: whether what this process prints meanwhile is the fit's log.

    Raises:
        FitError: it ended without a version; the registry says why.
        Fenced: it was somebody else's turn; nothing was written.
        DatastoreUnavailable: the registry did not answer, so its end isn't written: the reaper will.
    """
    opened = store or open_store(order.datastore, artifacts_url=order.artifacts_url)
    try:
        return _run_and_tell(order, opened, watch, capture)
    finally:
        if store is None:
            opened.close()


def _run_and_tell(order: FitOrder, store: Store, watch: Watch | None, capture: bool) -> Version:
    fit, run = order.fit, None
    try:
        document = ModelDocument.parse(fit.document)
        with (
            FitReport(store, fit, document.timeout, watch) as report,
            captured(report.line) if capture else nullcontext(),
        ):
            run = _Run(order, store, document, report)
            draft = run.draft()
        version = store.fits.publish(fit.id, fit.token, draft)
    except (Fenced, DatastoreUnavailable):
        raise
    except RefitdError as error:
        state = FitState.CANCELLED if isinstance(error, Cancelled) else FitState.FAILED
        _end(store, fit, state, str(error), run)
        raise
    except Exception as error:  # the edge of a fit: whatever broke becomes its status, and a retry
        text = "".join(traceback.format_exception(error)[-3:]).strip()
        _end(store, fit, FitState.FAILED, f"{type(error).__name__}: {error}\n{text}", run)
        raise FitError(str(error)) from error
    run.forget_checkpoints()
    return version


def _end(store: Store, fit: Fit, state: FitState, error: str, run: _Run | None) -> None:
    store.fits.end(fit.id, state, error, token=fit.token)
    if run is not None:
        run.forget_checkpoints()


class _Run:
    """The stages of one fit."""

    def __init__(self, order: FitOrder, store: Store, document: ModelDocument, report: FitReport) -> None:
        self._order, self._store, self._document, self._report = order, store, document, report
        self._trainer: Trainer = trainer(document.trainer)
        self._checkpoints: FitCheckpoints | None = None

    def draft(self) -> VersionDraft:
        """Load, fit, evaluate, save, upload."""
        report = self._report
        with report.stage("load"):
            read = load(self._store, self._trainer, self._document, self._order.fit.need, report)
            report.line(f"loaded {read.train.num_rows} rows to train on" + _beside(read.held))
        fitted = self._fitted(read)
        try:
            with report.stage("evaluate"):
                metrics = self._evaluate(fitted, read.held)
            with report.stage("save"):
                data = self._trainer.save(fitted)
            with report.stage("upload"):
                digest = self._store.artifacts.put(data)
        except Cancelled:
            self._keep(fitted, read)
            raise
        return self._describe(digest, read, fitted, metrics, self._gate(fitted, metrics))

    def _fitted(self, read: Read) -> Fitted:
        """Trained; once more from the beginning, where what an earlier attempt left is of no use."""
        report, (number, start) = self._report, self._start()
        checkpoints = self._checkpoints = FitCheckpoints(
            self._store, self._order.fit, read.digest, report.note, report.line, number
        )
        training = self._training(read, checkpoints, start)
        try:
            with report.stage("fit"):
                try:
                    return self._trainer.fit(training)
                except TrainingFailed as error:
                    if not checkpoints.refuse():
                        raise
                    report.line(f"going on from a checkpoint failed, so beginning anew: {error}")
                    return self._trainer.fit(training)
        except Interrupted as interrupted:
            self._keep(interrupted.fitted, read)
            raise interrupted.__cause__ or Cancelled("cancelled") from None

    def forget_checkpoints(self) -> None:
        """The fit is over: nobody goes on from them."""
        if self._checkpoints is not None:
            self._checkpoints.forget()

    def _training(self, read: Read, checkpoints: FitCheckpoints, start: Fitted | None) -> Training:
        trust = self._order.trust
        return Training(
            document=self._document,
            rows=read.train,
            held=read.held,
            trust=trust,
            code=CodeLoader(trust.vouching, self._store.artifacts),
            report=self._report,
            checkpoints=checkpoints,
            start=start,
        )

    def _start(self) -> tuple[int | None, Fitted | None]:
        """The live version and its number, where the document says to go on from it, and it is of the same object."""
        if self._document.retrain.start_from == "scratch":
            return None, None
        try:
            live = self._store.versions.live(self._document.id)
        except NotFound:
            self._report.line("there is no live version to start from: starting from scratch")
            return None, None
        if live.document.get("object") != self._order.fit.document.get("object"):
            self._report.line(f"the live version {live.number} is of another `object`: starting from scratch")
            return None, None
        try:
            fitted = load_version(self._store, live, self._order.trust).fitted
        except (NotFound, Untrusted) as error:
            self._report.line(f"the live version {live.number} can't be loaded, so starting from scratch: {error}")
            return None, None
        self._report.line(f"starting from version {live.number}")
        return live.number, fitted

    def _keep(self, fitted: Fitted, read: Read) -> None:
        """What a cancelled fit has to show becomes a version that is live for nobody, unless somebody pins it."""
        decision = Decision(False, "its fit was cancelled: this is what it had learned by then")
        try:
            digest = self._store.artifacts.put(self._trainer.save(fitted))
            draft = self._describe(digest, read, fitted, {}, decision)
            version = self._store.fits.keep(self._order.fit.id, self._order.fit.token, draft)
        except (RefitdError, OSError) as error:
            self._report.line(f"what was trained so far could not be kept: {error}")
        else:
            self._report.line(f"what was trained so far is version {version.number}, which is not live")

    def _evaluate(self, fitted: Fitted, held: Rows | None) -> dict[str, float]:
        if held is None or self._document.validation is None:
            return {}
        return self._trainer.evaluate(self._document, fitted, held, metrics_of(self._document.validation))

    def _gate(self, fitted: Fitted, metrics: Mapping[str, float]) -> Decision:
        validation = self._document.validation
        live = self._live()
        decision = self._turned(fitted, live) or gate(
            validation.promote if validation else "always", metrics, live.draft.metrics if live else None
        )
        if not decision.promoted:
            self._report.line(f"not promoted: {decision.why}")
        return decision

    def _describe(
        self, digest: str, read: Read, fitted: Fitted, metrics: Mapping[str, float], decision: Decision
    ) -> VersionDraft:
        return VersionDraft(
            digest=digest,
            format=self._trainer.format,
            rows=read.count,
            rows_digest=read.digest,
            metrics=metrics,
            cut=read.stamp,
            select_hash=self._document.select_hash(),
            promoted=decision.promoted,
            gate=decision.why,
            parts=dict(self._report.parts),
            detail={**fitted.detail, "host_pid": os.getpid()},
        )

    def _turned(self, fitted: Fitted, live: Version | None) -> Decision | None:
        if live is None or live.spec_hash != self._order.fit.spec_hash:
            return None
        return turned(fitted.detail.get(LEARNS), live.draft.detail.get(LEARNS))

    def _live(self) -> Version | None:
        try:
            return self._store.versions.live(self._document.id)
        except NotFound:
            return None


def _beside(held: Rows | None) -> str:
    return "" if held is None else f", {held.num_rows} to judge on"


def metrics_of(validation: Validation) -> list[str]:
    """The metrics to compute: those named, and the gate's."""
    named = list(validation.metrics)
    promote = validation.promote
    if isinstance(promote, Gate) and promote.metric not in named:
        named.append(promote.metric)
    return named
