"""One MongoDB change stream over the watched collections and our own model documents and versions.

Following the model documents in the same stream gives their edits a place among the rows' changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bson import Timestamp
from bson.errors import InvalidBSON
from pymongo.errors import OperationFailure, PyMongoError

from listener.feed import Batch, Change, Origin, Position, Untold
from listener.mongo_events import ROWS, Event, changes_of, row_change, token_time
from listener.mongo_origins import origins_of
from listener.mongo_stream import MongoStream
from registry.canonical import key_of
from registry.errors import DatastoreUnavailable, PositionLost
from registry.mongo.connection import PREFIX, Connection, translate, translated

_MODELS, _VERSIONS = PREFIX + "models", PREFIX + "versions"

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
        self._stream = MongoStream(connection)
        self._token = ""
        self._relations: frozenset[str] = frozenset()
        self._images = True
        self._since = Timestamp(0, 0)

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
    def origins(self, relations: Collection[str]) -> Mapping[str, Origin | Untold]:
        """For each collection those whose changes change it."""
        return origins_of(self._connection.database, relations)

    @translated
    def start(self, relations: frozenset[str]) -> Position:
        """Follow these relations from now on; the position to store."""
        self._images = True
        self._open(relations, {})
        self._since = token_time(self._token)
        return {"token": self._token, "time": self._since}

    @translated
    def resume(self, position: Position, relations: frozenset[str], followed: frozenset[str]) -> Position:
        """Follow these relations from a stored position.

        With the same relations the token says where. With others the server may refuse it (the token's own event can
        be one that is no longer followed), so the stream begins at its cluster time, and what came up to the token is
        dropped here.
        """
        token, time = self._check(position)
        self._token = token
        self._images = True
        self._open(relations, _from(token) if relations == followed else {"startAtOperationTime": time})
        self._since = time
        return position

    def next(self, timeout_s: float) -> Batch | None:
        """The next batch, waiting so long for one."""
        try:
            return self._batch(*self._stream.more(timeout_s, ahead=self._images))
        except OperationFailure as error:
            if error.code == _TOO_LARGE and self._images:
                self._images = False  # this event only fits without its images: unknown, so it counts as a match
                self._reopen()
                return None
            raise _failed(error) from error
        except PyMongoError as error:
            raise translate(error) from error
        except InvalidBSON as error:
            self._stream.close()  # its cursor is past these events
            raise DatastoreUnavailable(f"MongoDB sent what can't be read: {error}") from error

    def since(self) -> Timestamp:
        """The cluster time of the position that it was opened at: other relations are followed from there on too."""
        return self._since

    def stored(self, position: Position) -> None:
        """Nothing: the server keeps its log whoever reads it."""

    def close(self) -> None:
        """End the session, and with it the cursor. Twice is safe."""
        self._stream.close()

    def _check(self, position: Position) -> tuple[str, Timestamp]:
        """Its token and time. A position in the future is another history's: the server would silently wait for it."""
        try:
            token, time = position["token"], position["time"]
        except (KeyError, TypeError):
            raise PositionLost("the stored position can't be read: it has no token and time") from None
        if not isinstance(token, str) or token_time(token) != time:
            raise PositionLost(f"the stored position is damaged: its token is not of its time ({time})")
        now: Any = self._connection.client.admin.command("ping").get("operationTime", time)
        if time > now:
            raise PositionLost(
                f"the stored position ({time}) is after the server's newest operation ({now}): restored?"
            )
        return token, time

    @translated
    def _reopen(self) -> None:
        self._open(self._relations, _from(self._token))

    def _open(self, relations: frozenset[str], where: Mapping[str, Any]) -> None:
        self._relations = relations
        images = {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"}
        try:
            token = self._stream.open({**(images if self._images else {}), **where}, _followed(relations))
        except OperationFailure as error:
            if where and error.code not in _NOT_THE_POSITION:  # a damaged token is refused in many ways
                raise _lost(error) from error
            raise _failed(error) from error
        self._token = max(self._token, token) if where else token

    def _batch(self, events: Iterable[Event], token: str) -> Batch | None:
        found, event = _Found(self._relations), None
        for event in events:
            if event.token > self._token:
                found.add(event)
        moved, self._token = token > self._token, max(self._token, token)
        if (event and event.operation == "invalidate") or not self._stream.is_open:
            self._reopen()
        if event and not self._images:
            self._images = True
            self._reopen()
        if not moved and not event:
            return None
        return found.batch({"token": self._token, "time": token_time(self._token)})


class _Found:
    """What the events of one batch tell."""

    def __init__(self, relations: frozenset[str]) -> None:
        self._relations = relations - {_MODELS, _VERSIONS}
        self._changes: list[Change] = []
        self._documents: set[Any] | None = set()
        self._versions: set[str] = set()

    def add(self, event: Event) -> None:
        """One event more."""
        collection = event.collection
        if collection in self._relations and event.operation in ROWS:
            self._changes.append(row_change(event, collection))
        elif collection == _VERSIONS:
            self._versions.add(event.row["model"])
        elif collection == _MODELS and event.has_key:
            if self._documents is not None:
                self._documents.add(key_of(event.key["_id"]))
        else:
            if collection == _MODELS or event.operation in ("dropDatabase", "invalidate"):
                self._documents = None
            self._changes += (one for one in changes_of(event, self._relations) if one.relation in self._relations)

    def batch(self, position: Position) -> Batch:
        """All of it."""
        documents = None if self._documents is None else frozenset(self._documents)
        return Batch(tuple(self._changes), position, documents, frozenset(self._versions))


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
