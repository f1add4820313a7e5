"""Fits in `refitd.fits`, pending work in `refitd.pending`, log lines in `refitd.logs`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from registry.errors import Fenced, FitBusy, NotFound, NotVisible
from registry.postgres import work
from registry.postgres.connection import Connection
from registry.postgres.pending import after_failure, claimed, invisible, with_delta
from registry.postgres.publish import keep, publish
from registry.postgres.rows import fit_of, jsonb, listed, pending_of, row_of, text
from registry.postgres.schema import sweep
from registry.postgres.session import Row, Session
from registry.records import Counts, Delta, Fit, FitState, Pending, Version, VersionDraft, sources
from registry.redaction import redact, shortened

_SWEEP_EVERY_S = 3600.0
_SELECT = f"SELECT {listed(Fit)} FROM refitd.fits"
_UNDER_WAY = "state IN ('queued', 'running')"
_INSERT = (
    f"INSERT INTO refitd.fits ({listed(Fit)}) SELECT {listed(Fit)} FROM jsonb_populate_record(NULL::refitd.fits, %s)"
)
_BEAT = f"""
WITH beat AS (
    UPDATE refitd.fits
    SET progress = %(progress)s, heartbeat = clock_timestamp(), lines = lines + cardinality(%(lines)s::text[])
    WHERE id = %(fit)s AND token = %(token)s AND {_UNDER_WAY}
    RETURNING id, cancel, lines - cardinality(%(lines)s::text[]) AS before
), told AS (
    INSERT INTO refitd.logs (fit, n, at, line)
    SELECT beat.id, beat.before + one.n, clock_timestamp(), one.line
    FROM beat, unnest(%(lines)s::text[]) WITH ORDINALITY AS one (line, n)
)
SELECT cancel FROM beat
"""
_CANCEL = f"UPDATE refitd.fits SET cancel = %s WHERE id = %s AND {_UNDER_WAY}"
_END = f"""
UPDATE refitd.fits SET state = %(state)s, error = %(error)s, finished = clock_timestamp()
WHERE id = %(fit)s AND (%(token)s::text IS NULL OR token = %(token)s) AND state = ANY (%(sources)s)
RETURNING {listed(Fit)}
"""


class PostgresFits:
    """See `registry.store.Fits`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._swept = time.monotonic()  # `prepare` has

    def pending(self, models: Iterable[str] | None = None) -> dict[str, Pending]:
        """The rows of these models (of all, when None); a model without one has an empty row made for it."""
        if models is None:
            rows = self._connection.rows(f"SELECT {work.COLUMNS} FROM refitd.pending")
            return {row["model"]: pending_of(row) for row in rows}
        wanted = list(models)
        query = f"SELECT {work.COLUMNS} FROM refitd.pending WHERE model = ANY (%s)"
        found = {row["model"]: pending_of(row) for row in self._connection.rows(query, (wanted,))}
        missing = [model for model in wanted if model not in found]
        if missing:
            with self._connection.session() as session:
                work.make(session, missing)
                found |= {row["model"]: pending_of(row) for row in session.rows(query, (missing,))}
        return found

    def forget(self, model: str) -> None:
        """Drop a removed model's pending row and cancel its fit."""

        def forget(session: Session) -> None:
            row = session.row("DELETE FROM refitd.pending WHERE model = %s RETURNING fit", (model,))
            if row and row["fit"]:
                session.send(_CANCEL, ("the model was removed", row["fit"]))

        self._connection.transaction(forget)

    def watching(self, model: str, spec_hash: str | None, gap: str | None = None) -> None:
        """Store which form of the document changes are matched by; with a `gap`, mark the model pending for it."""

        def watch(session: Session) -> None:
            locked = session.send(work.LOCK, ([model],))
            moment = work.moment_of(session)
            row = locked.fetchone()
            if row is None:
                return
            now = replace(pending_of(row), watching=spec_hash)
            if gap:
                now = with_delta(now, Delta(Counts(resyncs=1), None, gap), moment.now, moment.visible)
            work.write(session, [now])

        self._connection.transaction(watch)

    def schedule(self, model: str, cron: str | None, due_at: datetime | None) -> None:
        """Store when the model is due by its schedule."""
        query = "UPDATE refitd.pending SET schedule = %s, due_at = %s WHERE model = %s"
        self._connection.run(query, (cron, due_at, model))

    def start(self, fit: Fit) -> Fit:
        """Insert a queued fit as the model's only one under way.

        Raises:
            FitBusy: it has one already.
            NotVisible: a cut taken now would not cover what is pending.
        """

        def start(session: Session) -> Fit:
            rows, moment = work.lock(session, [fit.model])
            row = rows[fit.model]
            if row.fit is not None:
                return _started(session, fit, row.fit)
            if invisible(row, moment.visible):
                raise NotVisible(_not_visible(row, moment))
            attempt = 1 + (row.failure.count if row.failure else 0)
            begun = replace(fit, seen=row.seen, need=row.need, generation=row.generation, attempt=attempt)
            work.write(session, [claimed(row, fit)])
            session.send(_INSERT, (jsonb(row_of(begun)),))
            return begun

        return self._connection.transaction(start)

    def run(self, fit: str, token: str) -> None:
        """queued → running; running stays so. Raises `Fenced`."""
        done = self._connection.run(
            "UPDATE refitd.fits SET state = 'running', started = coalesce(started, clock_timestamp()),"
            f" heartbeat = clock_timestamp() WHERE id = %s AND token = %s AND {_UNDER_WAY}",
            (fit, token),
        )
        if not done:
            raise Fenced(f"the fit {fit} has ended, or is somebody else's")

    def beat(self, fit: str, token: str, progress: Mapping[str, Any], lines: Sequence[str]) -> str | None:
        """Say that the fit lives, how far it is, and what it logged; why it should stop, if it should."""
        told = [text(redact(line)) for line in lines]
        values = {"fit": fit, "token": token, "progress": jsonb(progress), "lines": told}
        # A heartbeat or a log line that a crash takes back is no loss; waiting for disk or standby would be.
        row = self._connection.transaction(lambda session: session.row(_BEAT, values), durable=False)
        if row is None:
            raise Fenced(f"the fit {fit} has ended, or is somebody else's")
        cancel: str | None = row["cancel"]
        return cancel

    def end(self, fit: str, state: FitState, error: str | None, *, token: str | None = None) -> bool:
        """Move to failed, cancelled or lost; a failure is counted. False when it had ended already."""
        error = error if error is None else shortened(text(redact(error)))
        values = {"fit": fit, "state": str(state), "error": error, "token": token, "sources": sources(state)}

        def end(session: Session) -> bool:
            ended = session.row(_END, values)
            if ended is None:
                return False
            record = fit_of(ended)
            locked = session.send(work.LOCK, ([record.model],))
            moment = work.moment_of(session)
            row = locked.fetchone()
            if row is not None and row["fit"] == fit:
                work.write(session, [after_failure(pending_of(row), record, error, moment.now)])
            return True

        ended = self._connection.transaction(end)
        if not ended and token is not None and not self._is_mine(fit, token):
            raise Fenced(f"the fit {fit} is somebody else's")
        return ended

    def cancel(self, fit: str, reason: str) -> bool:
        """Ask a fit to stop. False when it had ended already."""
        return self._connection.run(_CANCEL, (text(reason), fit)) == 1

    def publish(self, fit: str, token: str, draft: VersionDraft) -> Version:
        """Insert the version, clear what it covers, end the fit: one transaction."""
        return publish(self._connection, fit, token, draft)

    def keep(self, fit: str, token: str, draft: VersionDraft) -> Version:
        """Insert what a fit had when it was asked to stop, as a version that covers nothing."""
        return keep(self._connection, fit, token, draft)

    def get(self, fit: str) -> Fit:
        """One fit. Raises `NotFound`."""
        row = self._connection.row(f"{_SELECT} WHERE id = %s", (fit,))
        if not row:
            raise NotFound(f"there is no fit {fit!r}; `refitd fits` lists them")
        return fit_of(row)

    def recent(self, model: str | None = None, limit: int = 50) -> list[Fit]:
        """The newest fits first."""
        where, values = ("", ()) if model is None else (" WHERE model = %s", (model,))
        rows = self._connection.rows(f"{_SELECT}{where} ORDER BY id DESC LIMIT %s", (*values, limit))
        return [fit_of(row) for row in rows]

    def active(self) -> list[Fit]:
        """All that are queued or running. Who asks for long sweeps away, once an hour, what is old enough."""
        if time.monotonic() - self._swept > _SWEEP_EVERY_S:
            self._swept = time.monotonic()
            sweep(self._connection)
        return [fit_of(row) for row in self._connection.rows(f"{_SELECT} WHERE {_UNDER_WAY} ORDER BY id")]

    def lines(self, fit: str, after: int = 0) -> list[tuple[int, datetime, str]]:
        """Log lines with a number above `after`, in order: number, time, text."""
        query = "SELECT n, at, line FROM refitd.logs WHERE fit = %s AND n > %s ORDER BY n"
        return [(row["n"], row["at"], row["line"]) for row in self._connection.rows(query, (fit, after))]

    def _is_mine(self, fit: str, token: str) -> bool:
        return self._connection.row("SELECT 1 FROM refitd.fits WHERE id = %s AND token = %s", (fit, token)) is not None


def _started(session: Session, fit: Fit, under_way: str) -> Fit:
    """The same fit, when this call is repeated because the first one's end was not heard of. Raises `FitBusy`."""
    row: Row | None = None
    if under_way == fit.id:
        row = session.row(f"{_SELECT} WHERE id = %s AND token = %s AND state = 'queued'", (fit.id, fit.token))
    if row is None:
        raise FitBusy(f"{fit.model} has a fit under way already; `refitd fits {fit.model}` shows it")
    return fit_of(row)


def _not_visible(row: Pending, moment: work.Moment) -> str:
    need, shown = row.need, moment.visible.snapshot
    assert shown is not None
    assert need is not None
    hidden = sorted(xid for xid in need.xids if not shown.shows(xid))
    named = ", ".join(map(str, hidden[:5])) + (", …" if len(hidden) > 5 else "")
    what = f"the transactions {named}" if hidden else "some transactions"
    return (
        f"{row.model} has to be fitted on what {what} wrote, which is in PostgreSQL's log but which it does not show "
        "yet: as a rule synchronous replication waits for a standby (pg_stat_activity: SyncRep), or the commit still "
        "runs; looked at again soon"
    )
