"""One change stream's cursor: `getMore` after `getMore`, the next one under way while the last is worked on.

https://github.com/mongodb/specifications/blob/master/source/change-streams/change-streams.md
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from bson import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from listener.bson_bytes import documents, elements
from listener.mongo_events import Event, place_of, token_at
from registry.errors import DatastoreUnavailable
from registry.mongo.connection import Connection

_RAW = CodecOptions(document_class=RawBSONDocument)
#: Events in one reply: the first of a backlog comes soon, those after it are large and come meanwhile.
_BATCH, _BATCH_AHEAD = 1000, 4000
#: A reply of so many bytes comes from a backlog: more is there already.
_BACKLOG = 100_000
#: How long a `getMore` ahead waits: whoever has to end it waits no longer.
_AHEAD_MS = 20
_JOIN_S = 5.0
#: The name of the thread that asks for it.
AHEAD = "refitd-feed-ahead"
_INT64 = struct.Struct("<q")


class _Ahead(threading.Thread):
    """One `getMore` beside the feed's thread. Until it is joined nothing else may use its session."""

    def __init__(self, stream: MongoStream) -> None:
        super().__init__(name=AHEAD, daemon=True)
        self._stream = stream
        self.reply: RawBSONDocument | None = None
        self.error: PyMongoError | InvalidBSON | DatastoreUnavailable | None = None

    def run(self) -> None:
        """The `getMore`; its error is raised where its reply is taken."""
        try:
            self.reply = self._stream.get_more(_AHEAD_MS, _BATCH_AHEAD)
        except (PyMongoError, InvalidBSON, DatastoreUnavailable) as error:
            self.error = error

    def taken(self) -> RawBSONDocument:
        """Its reply, or its error raised."""
        self.join()
        if self.reply is None:
            raise self.error or DatastoreUnavailable("the change stream is closed")
        return self.reply


class MongoStream:
    """One cursor in one session. Used by one thread, but for `close`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: ClientSession | None = None
        self._cursor = 0
        self._ahead: _Ahead | None = None

    @property
    def is_open(self) -> bool:
        """Whether the server has more to give by this cursor."""
        return self._cursor != 0

    def open(self, stage: Mapping[str, Any], events: Mapping[str, Any]) -> str:
        """Begin a stream, and end the one before; the resume token where it begins.

        Raises:
            OperationFailure, PyMongoError.
        """
        self._kill()
        self._session = self._session or self._connection.client.start_session()
        command = {
            "aggregate": 1,
            "pipeline": [{"$changeStream": stage}, {"$match": events}],
            "cursor": {"batchSize": 0},
            "readConcern": {"level": "majority"},
        }
        cursor = self._connection.database.command(command, session=self._session)["cursor"]
        self._cursor = cursor["id"]
        token: str = cursor["postBatchResumeToken"]["_data"]
        return token

    def more(self, timeout_s: float, ahead: bool) -> tuple[Iterator[Event], str]:
        """The next events and the token after them, waiting so long for one.

        `ahead`: of a backlog, ask for those after them at once.

        Raises:
            OperationFailure, PyMongoError, InvalidBSON, DatastoreUnavailable: the stream is closed.
        """
        under_way, self._ahead = self._ahead, None
        reply = under_way.taken() if under_way else self.get_more(max(1, round(timeout_s * 1000)), _BATCH)
        cursor = bytes(reply["cursor"].raw)  # looking into it would make an object of each event
        found = elements(cursor)
        self._cursor = _INT64.unpack_from(cursor, place_of(found, b"id")[1])[0]
        if ahead and self._cursor and len(cursor) >= _BACKLOG:
            self._ahead = _Ahead(self)
            self._ahead.start()
        _, start, end = place_of(found, b"nextBatch")
        events = (Event(cursor, first, behind) for first, behind in documents(cursor, start, end))
        return events, token_at(cursor, found, b"postBatchResumeToken")

    def get_more(self, wait_ms: int, events: int) -> RawBSONDocument:
        """One `getMore`, not looked into."""
        if not self._cursor or self._session is None:
            raise DatastoreUnavailable("the change stream is closed")
        command = {"getMore": self._cursor, "collection": "$cmd.aggregate", "batchSize": events, "maxTimeMS": wait_ms}
        reply: RawBSONDocument = self._connection.database.command(command, session=self._session, codec_options=_RAW)
        return reply

    def close(self) -> None:
        """End the session, and with it the cursor. Twice is safe."""
        self._settle()
        session, self._session, self._cursor = self._session, None, 0
        if session:
            session.end_session()

    def _settle(self) -> None:
        """Wait for what is under way, and drop it: its events come again from the last position."""
        under_way, self._ahead = self._ahead, None
        if under_way:
            under_way.join(_JOIN_S)
            if under_way.is_alive():  # the server hangs: the session stays with the thread that waits for it
                self._session, self._cursor = None, 0

    def _kill(self) -> None:
        self._settle()
        cursor, self._cursor = self._cursor, 0
        if not cursor:
            return
        try:
            self._connection.database.command(
                {"killCursors": "$cmd.aggregate", "cursors": [cursor]}, session=self._session
            )
        except PyMongoError:  # it ends with its session, or has ended
            self.close()
