"""One MongoDB change stream over the watched collections and our own model documents and versions.

Following the model documents in the same stream gives their edits a place among the rows' changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bson import CodecOptions, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from listener.feed import Batch, Change, Position
from listener.mongo_events import changes_of, token_time
from listener.mongo_origins import origins_of
from registry.canonical import key_of
from registry.errors import DatastoreUnavailable, PositionLost
from registry.mongo.connection import PREFIX, Connection, translate, translated

_RAW = CodecOptions(document_class=RawBSONDocument)
_MODELS, _VERSIONS = PREFIX + "models", PREFIX + "versions"
_BATCH = 1000

#: InvalidResumeToken, ChangeStreamFatalError, ChangeStreamHistoryLost.
_LOST = {260, 280, 286}
#: Refused for what the login may do, or for a server that is busy, moving or going: the position is as good as before.
_NOT_THE_POSITION = {6, 7, 13, 18, 50, 63, 89, 91, 133, 150, 189, 234, 262, 8000, 9001, 10107, 11600, 11602, 13388}
_NOT_THE_POSITION |= {13435, 13436}
_TOO_LARGE = 10334


class MongoFeed:
    """See `listener.feed.Feed`. A position is `{token, time}`: a resume token and its cluster time."""

    kind = "mongodb"

    def __init__(self, connection: Connection) -> None:
        self.name = f"mongodb:{connection.database.name}"
        self._connection = connection
        self._session: ClientSession | None = None
        self._cursor = 0
        self._token = ""
        self._relations: frozenset[str] = frozenset()
        self._images = True

    @translated
    def identity(self) -> str:
        """The replica set's id, where the login may read it; otherwise its name."""
        try:
            config = self._connection.client.admin.command("replSetGetConfig")["config"]
            return str(config["settings"]["replicaSetId"])
        except OperationFailure:
            hello = self._connection.client.admin.command("hello")
            return f"name:{hello.get('setName') or hello.get('msg')}"

    @translated
    def origins(self, relations: Collection[str]) -> Mapping[str, frozenset[str] | None]:
        """For each collection those whose changes change it; None for a time-series collection."""
        return origins_of(self._connection.database, relations)

    @translated
    def start(self, relations: frozenset[str]) -> Position:
        """Follow these relations from now on; the position to store."""
        self._images = True
        self._open(relations, {})
        return {"token": self._token, "time": token_time(self._token)}

    @translated
    def resume(self, position: Position, relations: frozenset[str], followed: frozenset[str]) -> None:
        """Follow these relations from a stored position.

        With the same relations the token says where. With others the server may refuse it (the token's own event can
        be one that is no longer followed), so the stream begins at its cluster time, and what came up to the token is
        dropped here.
        """
        token, time = position["token"], position["time"]
        self._check(token, time)
        self._token = token
        self._images = True
        self._open(relations, _from(token) if relations == followed else {"startAtOperationTime": time})

    def next(self, timeout_s: float) -> Batch | None:
        """The next batch, waiting so long for one."""
        try:
            events, token = self._get_more(timeout_s)
        except OperationFailure as error:
            if error.code == _TOO_LARGE and self._images:
                self._images = False  # this event only fits without its images: unknown, so it counts as a match
                self._reopen()
                return None
            raise _failed(error) from error
        except PyMongoError as error:
            raise translate(error) from error
        return self._batch(events, token)

    def stamp(self, position: Position) -> Timestamp:
        """The position's cluster time."""
        time: Timestamp = position["time"]
        return time

    def close(self) -> None:
        """End the session, and with it the cursor. Twice is safe."""
        session, self._session, self._cursor = self._session, None, 0
        if session:
            session.end_session()

    def _check(self, token: str, time: Timestamp) -> None:
        """A position in the future is another history's: the server would silently wait for it."""
        if token_time(token) != time:
            raise PositionLost(f"the stored position is damaged: its token is not of its time ({time})")
        now: Timestamp = self._connection.client.admin.command("ping").get("operationTime", time)
        if time > now:
            raise PositionLost(
                f"the stored position ({time}) is after the server's newest operation ({now}): restored?"
            )

    @translated
    def _reopen(self) -> None:
        self._open(self._relations, _from(self._token))

    def _open(self, relations: frozenset[str], where: Mapping[str, Any]) -> None:
        self._kill_cursor()
        self._relations = relations
        self._session = self._session or self._connection.client.start_session()
        images = {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"}
        stage = {**(images if self._images else {}), **where}
        command = {
            "aggregate": 1,
            "pipeline": [{"$changeStream": stage}, {"$match": _followed(relations)}],
            "cursor": {"batchSize": 0},
            "readConcern": {"level": "majority"},
        }
        try:
            cursor = self._connection.database.command(command, session=self._session)["cursor"]
        except OperationFailure as error:
            if where and error.code not in _NOT_THE_POSITION:  # a damaged token is refused in many ways
                raise _lost(error) from error
            raise _failed(error) from error
        self._cursor = cursor["id"]
        token: str = cursor["postBatchResumeToken"]["_data"]
        self._token = max(self._token, token) if where else token

    def _get_more(self, timeout_s: float) -> tuple[list[RawBSONDocument], str]:
        if not self._cursor or self._session is None:
            raise DatastoreUnavailable("the change stream is closed")
        reply = self._connection.database.command(
            {
                "getMore": self._cursor,
                "collection": "$cmd.aggregate",
                "batchSize": _BATCH,
                "maxTimeMS": max(1, round(timeout_s * 1000)),
            },
            session=self._session,
            codec_options=_RAW,
        )
        cursor = reply["cursor"]
        self._cursor = cursor["id"]
        return list(cursor["nextBatch"]), cursor["postBatchResumeToken"]["_data"]

    def _batch(self, events: list[RawBSONDocument], token: str) -> Batch | None:
        changes: list[Change] = []
        documents: set[Any] | None = set()
        versions: set[str] = set()
        for event in events:
            if event["_id"]["_data"] <= self._token:
                continue
            collection = event["ns"].get("coll") if "ns" in event else None
            if collection == _VERSIONS:
                versions.add(event["fullDocument"]["model"])
            elif collection == _MODELS and "documentKey" in event:
                documents = None if documents is None else documents | {key_of(event["documentKey"]["_id"])}
            elif collection == _MODELS or event["operationType"] in ("dropDatabase", "invalidate"):
                documents = None
                changes += changes_of(event, self._relations)
            else:
                changes += (one for one in changes_of(event, self._relations) if one.relation in self._relations)
        moved, self._token = token > self._token, max(self._token, token)
        if any(event["operationType"] == "invalidate" for event in events) or not self._cursor:
            self._reopen()
        if events and not self._images:
            self._images = True
            self._reopen()
        if not moved and not events:
            return None
        position = {"token": self._token, "time": token_time(self._token)}
        told = None if documents is None else frozenset(documents)
        return Batch(tuple(one for one in changes if one.relation != _MODELS), position, told, frozenset(versions))

    def _kill_cursor(self) -> None:
        cursor, self._cursor = self._cursor, 0
        if not cursor:
            return
        try:
            self._connection.database.command(
                {"killCursors": "$cmd.aggregate", "cursors": [cursor]}, session=self._session
            )
        except PyMongoError:  # it ends with its session, or has ended
            self.close()


def _from(token: str) -> dict[str, Any]:
    """`startAfter`, which also goes on after an invalidate event, where `resumeAfter` can't."""
    return {"startAfter": {"_data": token}}


def _names(document: str) -> dict[str, Any]:
    """The expression for a document's field names, in order."""
    return {"$map": {"input": {"$objectToArray": {"$ifNull": [document, {}]}}, "in": "$$this.k"}}


#: An update of `status` and nothing else. One that moves `status` within the document names it beside what changed.
_ONLY_STATUS = {
    "$and": [
        {"$eq": ["$operationType", "update"]},
        {"$eq": [_names("$updateDescription.updatedFields"), ["status"]]},
        {"$eq": [{"$ifNull": ["$updateDescription.removedFields", []]}, []]},
    ]
}


def _followed(relations: frozenset[str]) -> dict[str, Any]:
    """Which events to send. Nothing about the rows' images: an absent image would hide its change.

    Our own status updates are left out here, so that they don't even wake the daemon.
    """
    watched = sorted(relations)
    return {
        "$or": [
            {"ns.coll": {"$in": watched}},
            {"to.coll": {"$in": watched}},
            {"ns.coll": _MODELS, "$expr": {"$not": [_ONLY_STATUS]}},
            {"ns.coll": _VERSIONS, "operationType": "insert"},
            {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
        ]
    }


def _failed(error: OperationFailure) -> Exception:
    return _lost(error) if error.code in _LOST else translate(error)


def _lost(error: OperationFailure) -> PositionLost:
    return PositionLost(f"MongoDB can't go on from the stored position: {str(error).split(', full error:')[0]}")
