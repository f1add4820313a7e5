"""The transaction that turns a fit into a version."""

from __future__ import annotations

from datetime import datetime

from registry.errors import Fenced
from registry.postgres import work
from registry.postgres.connection import Connection
from registry.postgres.pending import covered_by, is_older
from registry.postgres.rows import fit_of, jsonb, listed, pending_of, row_of, version_of
from registry.postgres.session import Row, Session
from registry.records import Fit, FitState, Pending, Version, VersionDraft, sources

_CLAIM = f"SELECT {listed(Fit)} FROM refitd.fits WHERE id = %s AND token = %s FOR UPDATE"
_PENDING = (
    f"SELECT {work.COLUMNS} FROM refitd.pending WHERE fit = %(fit)s"
    " AND model = (SELECT model FROM refitd.fits WHERE id = %(fit)s) FOR UPDATE"
)
# After the pending row is locked: nobody else can make the next number then.
_BESIDE = """
SELECT EXISTS (SELECT FROM refitd.models WHERE id = fit.model) AS known,
       (SELECT coalesce(max(number), 0) + 1 FROM refitd.versions WHERE model = fit.model) AS next
FROM refitd.fits AS fit WHERE fit.id = %s
"""
_INSERT = (
    f"INSERT INTO refitd.versions ({listed(Version)})"
    f" SELECT {listed(Version)} FROM jsonb_populate_record(NULL::refitd.versions, %s)"
)
_PUBLISHED = f"SELECT {listed(Version)} FROM refitd.versions WHERE fit = %s"


def publish(connection: Connection, fit: str, token: str, draft: VersionDraft) -> Version:
    """Insert the version, clear what its cut covers, end the fit. See `registry.store.Fits.publish`.

    Called again after it was published, it gives that version.
    """

    def work_on(session: Session) -> Version:
        claimed, row, said, moment = _asked(session, fit, token)
        if claimed is not None and claimed.state is FitState.PUBLISHED and (before := session.row(_PUBLISHED, (fit,))):
            return version_of(before)
        state = pending_of(row) if row else None
        claimed, state = _checked(fit, claimed, state, draft, known=bool(said and said["known"]))
        assert said is not None
        version = _version(claimed, said["next"], moment.now, draft)
        session.send(_INSERT, (jsonb(row_of(version)),))
        work.write(session, [covered_by(state, claimed, version, moment.now)])
        session.send(
            "UPDATE refitd.fits SET state = %s, version = %s, finished = %s WHERE id = %s",
            (str(FitState.PUBLISHED), version.number, moment.now, fit),
        )
        return version

    return connection.transaction(work_on)


def keep(connection: Connection, fit: str, token: str, draft: VersionDraft) -> Version:
    """Insert the version, and nothing else. See `registry.store.Fits.keep`."""

    def work_on(session: Session) -> Version:
        claimed, row, said, moment = _asked(session, fit, token)
        if claimed is None or str(claimed.state) not in sources(FitState.PUBLISHED) or row is None:
            raise Fenced(f"the fit {fit} has ended, or is somebody else's: nothing of it is kept")
        if not (said and said["known"]):
            raise Fenced(f"the model {claimed.model} was removed: nothing of its fit {fit} is kept")
        if claimed.version is not None and (before := session.row(_PUBLISHED, (fit,))):
            return version_of(before)
        version = _version(claimed, said["next"], moment.now, draft)
        session.send(_INSERT, (jsonb(row_of(version)),))
        session.send("UPDATE refitd.fits SET version = %s WHERE id = %s", (version.number, fit))
        return version

    return connection.transaction(work_on)


def _asked(session: Session, fit: str, token: str) -> tuple[Fit | None, Row | None, Row | None, work.Moment]:
    """The fit, its model's pending row, what stands beside them, and when: one round trip, both rows locked."""
    claim, pending, beside = (
        session.send(_CLAIM, (fit, token)),
        session.send(_PENDING, {"fit": fit}),
        session.send(_BESIDE, (fit,)),
    )
    moment = work.moment_of(session)
    found, row, said = claim.fetchone(), pending.fetchone(), beside.fetchone()
    return (fit_of(found) if found else None), row, said, moment


def _version(claimed: Fit, number: int, now: datetime, draft: VersionDraft) -> Version:
    return Version(
        model=claimed.model, number=number, fit=claimed.id, created=now, generation=claimed.generation,
        spec_hash=claimed.spec_hash, reason=claimed.reason, document=claimed.document, draft=draft,
    )  # fmt: skip


def _checked(
    fit: str, claimed: Fit | None, state: Pending | None, draft: VersionDraft, *, known: bool
) -> tuple[Fit, Pending]:
    """The fit and its model's row, if it may publish. Raises `Fenced`."""
    if claimed is None or str(claimed.state) not in sources(FitState.PUBLISHED) or claimed.cancel is not None:
        raise Fenced(f"the fit {fit} has ended, was cancelled, or is somebody else's: not published")
    if not known:
        raise Fenced(f"the model {claimed.model} was removed: its fit {fit} is not published")
    if state is None or is_older(draft.cut, state.published):
        raise Fenced(f"the fit {fit} read older rows than the newest version did, or was given up: not published")
    return claimed, state
