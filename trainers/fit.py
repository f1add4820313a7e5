"""One fit, from its claim to its published version. Runs wherever an executor put it."""

from __future__ import annotations

import hashlib
import os
import secrets
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from registry.document import Gate, ModelDocument, Validation
from registry.errors import Cancelled, DatastoreUnavailable, Fenced, FitError, NoRows, NotFound, RefitdError
from registry.records import Counts, Fit, FitState, Version, VersionDraft
from registry.store import Store
from registry.stores import open_store
from trainers.capture import captured
from trainers.catalog import trainer
from trainers.evaluation import gate, split
from trainers.executor import FitOrder
from trainers.readers import open_reader
from trainers.report import FitReport, Watch
from trainers.rows import KEY, Cut
from trainers.trainer import Fitted, Trainer

if TYPE_CHECKING:
    import pyarrow as pa

#: A read that outlives the datastore's snapshot history is begun again with a fresh cut, this often.
_READS = 3


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
    fit = order.fit
    try:
        document = ModelDocument.parse(fit.document)
        with (
            FitReport(store, fit, document.timeout, watch) as report,
            captured(report.line) if capture else nullcontext(),
        ):
            draft = _Run(order, store, document, report).draft()
        return store.fits.publish(fit.id, fit.token, draft)
    except (Fenced, DatastoreUnavailable):
        raise
    except RefitdError as error:
        state = FitState.CANCELLED if isinstance(error, Cancelled) else FitState.FAILED
        store.fits.end(fit.id, state, str(error), token=fit.token)
        raise
    except Exception as error:  # the edge of a fit: whatever broke becomes its status, and a retry
        text = "".join(traceback.format_exception(error)[-3:]).strip()
        store.fits.end(fit.id, FitState.FAILED, f"{type(error).__name__}: {error}\n{text}", token=fit.token)
        raise FitError(str(error)) from error


class _Run:
    """The stages of one fit."""

    def __init__(self, order: FitOrder, store: Store, document: ModelDocument, report: FitReport) -> None:
        self._order, self._store, self._document, self._report = order, store, document, report
        self._trainer: Trainer = trainer(document.trainer)

    def draft(self) -> VersionDraft:
        """Load, fit, evaluate, save, upload."""
        report = self._report
        with report.stage("load"):
            stamp, train, held = self._load()
            report.line(
                f"loaded {train.num_rows} rows to train on" + (f", {held.num_rows} to judge on" if held else "")
            )
        with report.stage("fit"):
            fitted = self._trainer.fit(self._document, train.to_batches(), self._order.trust, report)
        with report.stage("evaluate"):
            metrics = self._evaluate(fitted, held)
        with report.stage("save"):
            data = self._trainer.save(fitted)
        with report.stage("upload"):
            digest = self._store.artifacts.put(data)
        return self._describe(digest, stamp, train, held, fitted, metrics)

    def _load(self) -> tuple[Any, pa.Table, pa.Table | None]:
        for attempt in range(_READS):
            try:
                return self._load_once()
            except DatastoreUnavailable:
                if attempt == _READS - 1:
                    raise
                self._report.line("the datastore gave the rows up half way; reading them again from a fresh cut")
        raise AssertionError("unreachable")

    def _load_once(self) -> tuple[Any, pa.Table, pa.Table | None]:
        document, validation = self._document, self._document.validation
        with open_reader(self._store) as reader, reader.cut(self._order.fit.need) as cut:
            rows = self._table(cut, document.training_select, "training_select")
            if validation is None:
                return cut.stamp, rows, None
            if validation.select is not None:
                return cut.stamp, rows, self._table(cut, validation.select, "validation.select")
            train, held = split(rows.column(KEY).to_numpy(), validation.split or 0.0)
            return cut.stamp, rows.take(train), rows.take(held)

    def _table(self, cut: Cut, select: Any, path: str) -> pa.Table:
        import pyarrow as pa

        batches = []
        for batch in cut.rows(select, self._trainer.fields(self._document)):
            batches.append(batch)
            self._report.progress(None, f"{sum(one.num_rows for one in batches)} rows")
        if not sum(batch.num_rows for batch in batches):
            raise NoRows(f"{path} finds no rows to train on; it is fitted when matching rows come")
        return pa.Table.from_batches(batches)

    def _evaluate(self, fitted: Fitted, held: pa.Table | None) -> dict[str, float]:
        if held is None or self._document.validation is None:
            return {}
        metrics = metrics_of(self._document.validation)
        return self._trainer.evaluate(self._document, fitted, held.to_batches(), metrics)

    def _describe(
        self, digest: str, stamp: Any, train: pa.Table, held: pa.Table | None, fitted: Fitted, metrics: dict[str, float]
    ) -> VersionDraft:
        validation = self._document.validation
        decision = gate(validation.promote if validation else "always", metrics, self._live_metrics())
        if not decision.promoted:
            self._report.line(f"not promoted: {decision.why}")
        return VersionDraft(
            digest=digest,
            format=self._trainer.format,
            rows=train.num_rows + (held.num_rows if held is not None else 0),
            rows_digest=rows_digest([train] if held is None else [train, held]),
            metrics=metrics,
            cut=stamp,
            select_hash=self._document.select_hash(),
            promoted=decision.promoted,
            gate=decision.why,
            parts=dict(self._report.parts),
            detail={**fitted.detail, "host_pid": os.getpid()},
        )

    def _live_metrics(self) -> Mapping[str, float] | None:
        try:
            return self._store.versions.live(self._document.id).draft.metrics
        except NotFound:
            return None


def metrics_of(validation: Validation) -> list[str]:
    """The metrics to compute: those named, and the gate's."""
    named = list(validation.metrics)
    promote = validation.promote
    if isinstance(promote, Gate) and promote.metric not in named:
        named.append(promote.metric)
    return named


def rows_digest(tables: Sequence[pa.Table]) -> str:
    """SHA-256 over the Arrow buffers of the rows as they were read: equal rows in equal order, equal digest."""
    digest = hashlib.sha256()
    for table in tables:
        for column in table.combine_chunks().columns:
            for chunk in column.chunks:
                for buffer in chunk.buffers():
                    digest.update(memoryview(buffer) if buffer is not None else b"-")
    return digest.hexdigest()
