"""The transaction that turns a fit into a version."""

from __future__ import annotations

from typing import Any

from pymongo.client_session import ClientSession

from registry.errors import Fenced
from registry.mongo.connection import Connection, Row
from registry.mongo.rows import encode, version_of
from registry.records import FitState, Version, VersionDraft, sources

_NOT_CANCELLED: Row = {"cancel": None}


def publish(connection: Connection, fit: str, token: str, draft: VersionDraft) -> Version:
    """Insert the version, clear what its cut covers, end the fit. See `registry.store.Fits.publish`."""

    def work(session: ClientSession) -> Row:
        claimed = _claim(connection, session, fit, token)
        number = _next_number(connection, session, claimed["model"])
        version = _version_row(claimed, number, draft, connection)
        connection.collection("versions").insert_one(version, session=session)
        done = connection.collection("pending").update_one(
            {"_id": claimed["model"], "fit": fit, "$expr": _not_older(draft.cut)},
            _cover(claimed, version),
            session=session,
        )
        if done.matched_count != 1:
            raise Fenced(f"the fit {fit} read older rows than the newest version did, or was given up: not published")
        ended = {"state": str(FitState.PUBLISHED), "version": number, "finished": "$$NOW"}
        connection.collection("fits").update_one({"_id": fit}, [{"$set": ended}], session=session)
        return version

    return version_of(connection.transaction(work))


def keep(connection: Connection, fit: str, token: str, draft: VersionDraft) -> Version:
    """Insert the version, and nothing else. See `registry.store.Fits.keep`."""

    def work(session: ClientSession) -> Row:
        claimed = _claim(connection, session, fit, token, {})
        if not connection.collection("pending").find_one({"_id": claimed["model"], "fit": fit}, session=session):
            raise Fenced(f"the fit {fit} was given up: nothing of it is kept")
        before = connection.collection("versions").find_one({"fit": fit}, session=session)
        if before:
            return before
        version = _version_row(claimed, _next_number(connection, session, claimed["model"]), draft, connection)
        connection.collection("versions").insert_one(version, session=session)
        connection.collection("fits").update_one(
            {"_id": fit}, {"$set": {"version": version["number"]}}, session=session
        )
        return version

    return version_of(connection.transaction(work))


def _claim(connection: Connection, session: ClientSession, fit: str, token: str, more: Row = _NOT_CANCELLED) -> Row:
    """The fit's row, if it may publish: a real write, so that whoever ends it meanwhile conflicts with us."""
    row = connection.collection("fits").find_one_and_update(
        {"_id": fit, "token": token, "state": {"$in": sources(FitState.PUBLISHED)}, **more},
        {"$inc": {"claims": 1}},
        session=session,
    )
    if not row:
        raise Fenced(f"the fit {fit} has ended, was cancelled, or is somebody else's: not published")
    if not connection.collection("models").find_one({"_id": row["model"]}, {"_id": 1}, session=session):
        raise Fenced(f"the model {row['model']} was removed: its fit {fit} is not published")
    return row


def _next_number(connection: Connection, session: ClientSession, model: str) -> int:
    newest = connection.collection("versions").find_one(
        {"model": model}, {"number": 1}, sort=[("number", -1)], session=session
    )
    return int(newest["number"]) + 1 if newest else 1


def _version_row(fit: Row, number: int, draft: VersionDraft, connection: Connection) -> Row:
    version = Version(
        model=fit["model"],
        number=number,
        fit=fit["_id"],
        created=connection.now(),
        generation=fit["generation"],
        spec_hash=fit["spec_hash"],
        reason=fit["reason"],
        document=fit["document"],
        draft=draft,
    )
    row: Row = encode(version)
    return row


def _not_older(cut: Any) -> Row:
    return {"$lte": [{"$ifNull": ["$published.cut", cut]}, cut]}


def _cover(fit: Row, version: Row) -> list[Row]:
    """How the pending row changes: all of it is covered when its newest change lies within the cut.

    Otherwise what the fit saw when it was claimed is; the rest stays pending.
    """
    cut = version["draft"]["cut"]
    whole = {"$and": [{"$not": ["$blind"]}, {"$lte": [{"$ifNull": ["$need", cut]}, cut]}]}
    published = {
        "number": version["number"],
        "generation": version["generation"],
        "spec_hash": version["spec_hash"],
        "cut": cut,
        "at": "$$NOW",
    }
    return [
        {
            "$set": {
                "covered": {"$cond": [whole, "$seen", {"$literal": fit["seen"]}]},
                "since": {"$cond": [whole, None, "$since_claim"]},
                "since_claim": {"$cond": [whole, None, "$since_claim"]},
                "need": {"$cond": [whole, None, "$need"]},
                "resync": {"$cond": [whole, None, "$resync"]},
                "published": published,
                "failure": None,
                "fit": None,
                "finished": "$$NOW",
                "retrain_now": {"$literal": fit["document"].get("retrain_now")},
                "due_at": {"$ifNull": [{"$literal": fit.get("next_due")}, "$due_at"]},
            }
        }
    ]
