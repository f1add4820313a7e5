"""Fits in `refitd.fits`, pending work in `refitd.pending`, log lines in `refitd.logs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument, WriteConcern
from pymongo.client_session import ClientSession

from registry.errors import Fenced, FitBusy, NotFound
from registry.mongo.connection import Connection, Row, translated
from registry.mongo.feeds import add_delta, make_pending_rows
from registry.mongo.orphans import end_orphans
from registry.mongo.publish import keep, publish
from registry.mongo.rows import fit_of, pending_of, row_of
from registry.records import Counts, Delta, Fit, FitState, Pending, Version, VersionDraft, sources
from registry.redaction import redact, shortened

_ACTIVE = [str(state) for state in FitState if not state.ended]


class MongoFits:
    """See `registry.store.Fits`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._fits = connection.collection("fits")
        self._pending = connection.collection("pending")
        # A heartbeat or a log line that a failover takes back is no loss; waiting for a majority would be.
        self._beats = connection.collection("fits").with_options(write_concern=WriteConcern(1))
        self._logs = connection.collection("logs").with_options(write_concern=WriteConcern(1))

    @translated
    def pending(self, models: Iterable[str] | None = None) -> dict[str, Pending]:
        """The rows of these models (of all, when None); a model without one has an empty row made for it."""
        wanted = None if models is None else list(models)
        query = {} if wanted is None else {"_id": {"$in": wanted}}
        found = {row["_id"]: pending_of(row) for row in self._pending.find(query)}
        missing = [model for model in wanted or () if model not in found]
        if missing:
            make_pending_rows(self._connection, missing)
            found |= {row["_id"]: pending_of(row) for row in self._pending.find({"_id": {"$in": missing}})}
        return found

    @translated
    def forget(self, model: str) -> None:
        """Drop a removed model's pending row and cancel its fit."""
        row = self._pending.find_one_and_delete({"_id": model})
        if row and row.get("fit"):
            self.cancel(row["fit"], "the model was removed")

    @translated
    def watching(self, model: str, spec_hash: str | None, gap: str | None = None) -> None:
        """Store which form of the document changes are matched by; with a `gap`, mark the model pending for it."""
        update: list[Row] = [{"$set": {"watching": spec_hash}}]
        if gap:
            update += add_delta(Delta(Counts(resyncs=1), None, gap))
        self._pending.update_one({"_id": model}, update)

    @translated
    def schedule(self, model: str, cron: str | None, due_at: datetime | None) -> None:
        """Store when the model is due by its schedule."""
        self._pending.update_one({"_id": model}, {"$set": {"schedule": cron, "due_at": due_at}})

    @translated
    def start(self, fit: Fit) -> Fit:
        """Insert a queued fit as the model's only one under way."""
        claim = {"fit": fit.id, "since_claim": None, "blind": False, "retrain_tried": fit.document.get("retrain_now")}

        def work(session: ClientSession) -> Fit | None:
            row = self._pending.find_one_and_update(
                {"_id": fit.model, "fit": None},
                {"$set": claim},
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            if not row and not self._pending.find_one({"_id": fit.model}, session=session):
                return None
            if not row:
                raise FitBusy(f"{fit.model} has a fit under way already; `refitd fits {fit.model}` shows it")
            state = pending_of(row)
            attempt = 1 + (state.failure.count if state.failure else 0)
            begun = replace(fit, seen=state.seen, need=state.need, generation=state.generation, attempt=attempt)
            self._fits.insert_one(row_of(begun), session=session)
            return begun

        begun = self._connection.transaction(work)
        if begun is None:
            make_pending_rows(self._connection, [fit.model])
            return self.start(fit)
        return begun

    @translated
    def run(self, fit: str, token: str) -> None:
        """queued → running; running stays so. Raises `Fenced`."""
        done = self._fits.update_one(
            {"_id": fit, "token": token, "state": {"$in": _ACTIVE}},
            [
                {
                    "$set": {
                        "state": str(FitState.RUNNING),
                        "started": {"$ifNull": ["$started", "$$NOW"]},
                        "heartbeat": "$$NOW",
                    }
                }
            ],
        )
        if not done.matched_count:
            raise Fenced(f"the fit {fit} has ended, or is somebody else's")

    @translated
    def beat(self, fit: str, token: str, progress: Mapping[str, Any], lines: Sequence[str]) -> str | None:
        """Say that the fit lives, how far it is, and what it logged; why it should stop, if it should."""
        row = self._beats.find_one_and_update(
            {"_id": fit, "token": token, "state": {"$in": _ACTIVE}},
            {
                "$set": {"progress": dict(progress)},
                "$currentDate": {"heartbeat": True},
                "$inc": {"lines": len(lines)},
            },
            projection={"cancel": 1, "lines": 1},
        )
        if not row:
            raise Fenced(f"the fit {fit} has ended, or is somebody else's")
        if lines:
            first, now = row.get("lines", 0) + 1, self._connection.now()
            self._logs.insert_many(
                [{"fit": fit, "n": first + n, "at": now, "line": redact(line)} for n, line in enumerate(lines)]
            )
        cancel: str | None = row.get("cancel")
        return cancel

    @translated
    def end(self, fit: str, state: FitState, error: str | None, *, token: str | None = None) -> bool:
        """Move to failed, cancelled or lost; a failure is counted. False when it had ended already."""
        error = error if error is None else shortened(redact(error))

        def work(session: ClientSession) -> bool:
            mine = {"_id": fit} if token is None else {"_id": fit, "token": token}
            row = self._fits.find_one_and_update(
                {**mine, "state": {"$in": sources(state)}},
                [{"$set": {"state": str(state), "error": {"$literal": error}, "finished": "$$NOW"}}],
                session=session,
            )
            if row:
                self._pending.update_one({"_id": row["model"], "fit": fit}, _after_failure(row, error), session=session)
            return row is not None

        if state is FitState.LOST:  # its process may have died in the middle of publishing
            end_orphans(self._connection.client)
        ended = self._connection.transaction(work)
        if not ended and token is not None and not self._fits.count_documents({"_id": fit, "token": token}):
            raise Fenced(f"the fit {fit} is somebody else's")
        return ended

    @translated
    def cancel(self, fit: str, reason: str) -> bool:
        """Ask a fit to stop. False when it had ended already."""
        done = self._fits.update_one({"_id": fit, "state": {"$in": _ACTIVE}}, {"$set": {"cancel": reason}})
        return done.matched_count == 1

    @translated
    def publish(self, fit: str, token: str, draft: VersionDraft) -> Version:
        """Insert the version, clear what it covers, end the fit: one transaction."""
        return publish(self._connection, fit, token, draft)

    @translated
    def keep(self, fit: str, token: str, draft: VersionDraft) -> Version:
        """Insert what a fit had when it was asked to stop, as a version that covers nothing."""
        return keep(self._connection, fit, token, draft)

    @translated
    def get(self, fit: str) -> Fit:
        """One fit. Raises `NotFound`."""
        row = self._fits.find_one({"_id": fit})
        if not row:
            raise NotFound(f"there is no fit {fit!r}; `refitd fits` lists them")
        return fit_of(row)

    @translated
    def recent(self, model: str | None = None, limit: int = 50) -> list[Fit]:
        """The newest fits first."""
        query = {} if model is None else {"model": model}
        return [fit_of(row) for row in self._fits.find(query).sort("_id", -1).limit(limit)]

    @translated
    def active(self) -> list[Fit]:
        """All that are queued or running."""
        return [fit_of(row) for row in self._fits.find({"state": {"$in": _ACTIVE}})]

    @translated
    def lines(self, fit: str, after: int = 0) -> list[tuple[int, datetime, str]]:
        """Log lines with a number above `after`, in order: number, time, text."""
        found = self._logs.find({"fit": fit, "n": {"$gt": after}}).sort("n")
        return [(row["n"], row["at"], row["line"]) for row in found]


def _after_failure(fit: Row, error: str | None) -> list[Row]:
    """How the model's pending row changes when its fit ended without a version.

    Without an error it is as if the fit had not been: the daemon stopped, or gave the fit up by itself.
    """
    freed: Row = {"fit": None, "finished": "$$NOW"}
    if error is None:
        return [{"$set": {**freed, "retrain_tried": "$retrain_now"}}]
    failure = {
        "count": {"$add": [{"$ifNull": ["$failure.count", 0]}, 1]},
        "at": "$$NOW",
        "error": {"$literal": error},
        "spec_hash": fit["spec_hash"],
        "generation": fit["generation"],
    }
    return [{"$set": {**freed, "failure": failure}}]
