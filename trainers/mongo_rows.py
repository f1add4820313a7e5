"""Training rows from MongoDB: everything read through one cut is the state at one cluster time.

A cut is a number, not a session: `readConcern: {level: snapshot, atClusterTime: T}`, with a T that the server has
reached and that is not before what must be covered. So readers in several processes can share one. The server
keeps T readable for `minSnapshotHistoryWindowInSeconds` (300 s unless set).

Capped collections can't be read at a cluster time. They are read with `readConcern: {level: majority,
afterClusterTime: T}`: that covers everything up to T too, but two such reads may see different states.

Source: https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from bson.errors import BSONError
from bson.timestamp import Timestamp
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from registry.errors import DatastoreUnavailable, DatastoreUnsuitable, RefitdError, RowsUnusable
from registry.mongo_select import MongoSelect, parse_mongo_select
from trainers.mongo_columns import MongoColumns

_TOO_OLD, _NO_SNAPSHOT, _TIME_LIMIT, _UNAUTHORIZED = 239, 246, 50, 13
#: Elections, shutdowns, killed cursors, an index built or a collection renamed during the read: all pass.
_PASSING = frozenset({6, 7, 43, 63, 64, 72, 89, 91, 112, 133, 134, 175, 189, 202, 211, 237, 246, 262, 317}) | {
    10058, 10107, 11600, 11602, 13435, 13436,
}  # fmt: skip
_WAIT = 30.0
_POLL = 0.05

Document = Mapping[str, Any]


class MongoReader:
    """Reads rows from the selects' database. Safe to share between threads; a cut is too."""

    def __init__(self, database: Database[Any], *, statement_limit: float | None = None) -> None:
        """`statement_limit`: seconds of the server's time that one read may take; None: no limit."""
        self._database, self._limit = database, statement_limit

    @contextmanager
    def cut(self, need: Timestamp | None) -> Iterator[MongoCut]:
        """A cut at a cluster time that the server has reached, and that is not before `need`.

        Raises:
            DatastoreUnavailable: no answer, or the server's cluster time stays behind `need`.
            DatastoreUnsuitable: it keeps no cluster time: no replica set.
        """
        yield MongoCut(self._database, self._reached(need), self._limit)

    def close(self) -> None:
        """Nothing to give back: the connection is its owner's."""

    def _reached(self, need: Timestamp | None) -> Timestamp:
        deadline = time.monotonic() + _WAIT
        while True:
            now = self._operation_time()
            if need is None or now >= need:
                return now
            if time.monotonic() > deadline:
                raise DatastoreUnavailable(
                    f"the server's cluster time {now} stays behind {need}, which a change was seen at; "
                    "was it restored from a backup, or is its replication delayed?"
                )
            time.sleep(_POLL)

    def _operation_time(self) -> Timestamp:
        try:
            reply = self._database.command("ping", read_preference=self._database.read_preference)
        except PyMongoError as error:
            raise _translated(error, "ping") from error
        if "operationTime" not in reply:
            raise DatastoreUnsuitable(
                "this MongoDB server is no replica set; restart it with --replSet, then initiate it"
            )
        reached: Timestamp = reply["operationTime"]
        return reached


class MongoCut:
    """The state of a database at the cluster time `stamp`."""

    def __init__(self, database: Database[Any], stamp: Timestamp, statement_limit: float | None) -> None:
        self.stamp = stamp
        self._database, self._limit = database, statement_limit

    def rows(self, select: Any, fields: tuple[str, ...] | None) -> Iterator[pa.RecordBatch]:
        """See `trainers.rows.Cut`. All is read before the first batch is given: the types of a column are known
        only then. Holds the columns in memory, but never more than one batch of the server's documents (16 MB).

        A row's `KEY` comes from its `_id`; where a pipeline drops that, from its position.

        Raises:
            RowsUnusable: see `trainers.rows.Cut`; also a read that the server refuses, or one beyond the limit.
            DatastoreUnavailable: no answer, or the cut is too old by now: try again with a fresh one.
            DocumentInvalid: the select itself.
        """
        parsed = parse_mongo_select(select)
        columns = MongoColumns(fields)
        try:
            for raw in self._batches(parsed, fields):
                columns.add(raw)
            if not columns.rows:
                self._check_exists(parsed.collection)
        except (PyMongoError, BSONError) as error:
            raise _translated(error, parsed.collection) from error
        yield from columns.finish()

    def _batches(self, select: MongoSelect, fields: tuple[str, ...] | None) -> Iterator[bytes]:
        begun = False
        try:
            for raw in self._read(select, fields, _AtClusterTime(self.stamp)):
                begun = True
                yield raw
        except OperationFailure as error:
            if begun or error.code != _NO_SNAPSHOT or "capped" not in str(error.details):
                raise
            yield from self._read(select, fields, _AfterClusterTime(self.stamp))

    def _read(self, select: MongoSelect, fields: tuple[str, ...] | None, concern: ReadConcern) -> Iterator[bytes]:
        collection: Collection[Any] = self._database.get_collection(select.collection, read_concern=concern)
        limit = None if self._limit is None else max(1, int(self._limit * 1000))
        if select.pipeline is not None:
            pipeline = [*select.pipeline, *([{"$project": _projection(fields)}] if fields else [])]
            options: dict[str, Any] = {} if limit is None else {"maxTimeMS": limit}
            return iter(collection.aggregate_raw_batches(pipeline, **options))
        return iter(
            collection.find_raw_batches(
                select.filter,
                _with_id(select.projection) if select.projection else fields and _projection(fields),
                sort=list(select.sort) or None,
                skip=select.skip,
                limit=select.limit,
                max_time_ms=limit,
            )
        )

    def _check_exists(self, collection: str) -> None:
        """A collection that isn't there looks like an empty one."""
        try:
            names = self._database.list_collection_names()
        except OperationFailure as error:
            if error.code == _UNAUTHORIZED:
                return  # a login that may only read can't tell
            raise
        if collection in names:
            return
        names = [name for name in names if not name.startswith(("refitd.", "system."))]
        near = difflib.get_close_matches(collection, names, 3, 0.5) or sorted(names)[:5]
        known = f"; nearest: {', '.join(near)}" if near else "; it has no collections"
        raise RowsUnusable(f"there is no collection `{collection}` in the database `{self._database.name}`{known}")


class _AtClusterTime(ReadConcern):
    """The driver has no public way to set `atClusterTime`, but sends whatever document a read concern gives."""

    def __init__(self, stamp: Timestamp) -> None:
        super().__init__("snapshot")
        self._document = {"level": "snapshot", "atClusterTime": stamp}

    @property
    def document(self) -> dict[str, Any]:
        return dict(self._document)


class _AfterClusterTime(_AtClusterTime):
    def __init__(self, stamp: Timestamp) -> None:
        ReadConcern.__init__(self, "majority")
        self._document = {"level": "majority", "afterClusterTime": stamp}


def _projection(fields: tuple[str, ...]) -> dict[str, Any]:
    """Only what is needed, and the key. A field within another that is needed too goes without saying; naming
    both would be an error."""
    wanted = [one for one in fields if not any(one.startswith(f"{outer}.") for outer in fields)]
    return {"_id": 1} | {one: 1 for one in wanted if one.split(".")[0] != "_id"}


def _with_id(projection: Document) -> Document:
    """The user's projection, but with `_id`: the key comes from it, and no column."""
    return {name: value for name, value in projection.items() if name != "_id" or value}


def _translated(error: PyMongoError | BSONError, collection: str) -> RefitdError:
    """What the driver raised, as what it means for a fit."""
    if isinstance(error, BSONError):
        return RowsUnusable(f"the select on `{collection}` holds what MongoDB has no type for: {error}")
    if not isinstance(error, OperationFailure):
        return DatastoreUnavailable(f"MongoDB does not answer: {error}")
    code, said = error.code or 0, (error.details or {}).get("errmsg", str(error))
    if code == _TOO_OLD:
        return DatastoreUnavailable(
            f"reading `{collection}` took longer than the server keeps a cut readable; take a fresh one, or raise "
            "minSnapshotHistoryWindowInSeconds on every member of the replica set (300 by default)"
        )
    if code in _PASSING or error.has_error_label("RetryableWriteError"):
        return DatastoreUnavailable(f"MongoDB gave up reading `{collection}`; try a fresh cut: {said} ({code})")
    if code == _TIME_LIMIT:
        return RowsUnusable(
            f"reading `{collection}` took longer than the statement limit; add an index for its filter and sort, or "
            "select less"
        )
    if code == _UNAUTHORIZED:
        return RowsUnusable(f"the login may not read `{collection}`: {said}; grant it the role `read` on the database")
    return RowsUnusable(f"MongoDB refuses the select on `{collection}`: {said} ({code})")
