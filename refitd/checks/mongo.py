"""MongoDB itself: reachable, new enough, a replica set, and able to do what refitd does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from refitd.checks.check import Check, bad, doubtful, good
from registry.durations import format_duration
from registry.mongo.connection import PREFIX, translate
from registry.mongo.store import MongoStore
from registry.store import Store

LEAST_VERSION = (6, 0)
#: A daemon that is down for longer than the oplog reaches back finds its position gone.
_SHORT_OPLOG_S = 3600.0
_SHORT_SNAPSHOTS_S = 300


def server_checks(store: Store) -> Iterator[Check]:
    """Whether there is a server that can do the work at all. Nothing else makes sense after a failure."""
    if not isinstance(store, MongoStore):
        return
    client = store.connection.client
    began = time.monotonic()
    try:
        hello = client.admin.command("hello")
        version = str(client.server_info()["version"])
    except PyMongoError as error:
        fix = "start MongoDB, or correct the datastore's URI (host, port, login, replicaSet); `refitd up` starts one"
        yield bad("datastore", str(translate(error)), fix)
        return
    took = (time.monotonic() - began) * 1000
    address = ":".join(str(part) for part in client.address or ())
    yield good("datastore", f"MongoDB {version} at {address}, database {store.connection.database.name}, {took:.0f} ms")
    yield _version(version)
    yield _replica_set(hello)


def work_checks(store: Store) -> Iterator[Check]:
    """The two things that everything rests on, really tried."""
    if not isinstance(store, MongoStore):
        return
    yield _transaction(store)
    yield _change_stream(store)
    yield from _misplaced(store)


def history_checks(store: Store) -> Iterator[Check]:
    """How far back the datastore remembers."""
    if not isinstance(store, MongoStore):
        return
    yield _oplog(store)
    yield _snapshots(store)


def _version(version: str) -> Check:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < LEAST_VERSION:
        return bad("version", f"MongoDB {version}", "upgrade to MongoDB 6.0 or newer: pre-images came with it")
    return good("version", f"MongoDB {version}")


def _replica_set(hello: dict[str, Any]) -> Check:
    if hello.get("msg") == "isdbgrid":
        return good("replica set", "a sharded cluster")
    if not hello.get("setName"):
        fix = "start mongod with --replSet rs0 and run rs.initiate() once: change streams and transactions need it"
        return bad("replica set", "a single server", fix)
    return good("replica set", f"{hello['setName']}, {len(hello.get('hosts', []))} member(s)")


def _transaction(store: MongoStore) -> Check:
    meta = store.connection.collection("meta")
    row = {"_id": "doctor"}
    try:
        store.connection.transaction(lambda session: meta.replace_one(row, row, upsert=True, session=session))
        store.connection.transaction(lambda session: meta.delete_one(row, session=session))
    except PyMongoError as error:
        return bad(
            "transactions",
            str(translate(error)),
            "grant the login the role refitdDaemon of deploy/mongo/role.js, or readWrite",
        )
    return good("transactions", "a transaction with majority and journaled writes was committed")


def _change_stream(store: MongoStore) -> Check:
    try:
        with store.connection.database.watch(max_await_time_ms=1) as stream:
            stream.try_next()
    except PyMongoError as error:
        fix = "grant the login changeStream and find on the database: the role `read` has both"
        return bad("change streams", str(translate(error)), fix)
    return good("change streams", "one was opened over the database")


def _misplaced(store: MongoStore) -> Iterator[Check]:
    """A collection `models` in a database `refitd`: an easy slip for the collection `refitd.models`."""
    name = store.connection.database.name
    try:
        count = store.connection.client["refitd"]["models"].count_documents({"trainer": {"$exists": True}}, limit=100)
    except OperationFailure:  # the login sees its own database alone, as it should
        return
    if count:
        yield doubtful(
            "misplaced models",
            f"{count} documents that look like models lie in the collection `models` of a database `refitd`",
            f"the registry is the collection `{PREFIX}models` of the database {name}: in mongosh, `use {name}`, then "
            f'db.getCollection("{PREFIX}models").insertOne(…)',
        )


def _oplog(store: MongoStore) -> Check:
    """Whether what comes after the stored position is still there, and for how long it would be."""
    oplog: Any = store.connection.client["local"]["oplog.rs"]
    try:
        first = oplog.find_one({}, {"ts": 1}, sort=[("$natural", 1)])["ts"]
        last = oplog.find_one({}, {"ts": 1}, sort=[("$natural", -1)])["ts"]
        size = store.connection.client["local"].command("collStats", "oplog.rs")
    except (OperationFailure, TypeError):
        fix = "to have it checked, grant find and collStats on local.oplog.rs (deploy/mongo/role.js: refitdSees)"
        return doubtful("oplog", "this login may not read it", fix)
    window = (last.as_datetime() - first.as_datetime()).total_seconds()
    resize = "make it larger: db.adminCommand({replSetResizeOplog: 1, size: Double(SIZE_IN_MB)})"
    stored = [store.position_stamp(row.position) for row in store.feeds.all()]
    lost = [stamp for stamp in stored if stamp is not None and stamp < first]
    since = datetime.now(UTC) - first.as_datetime()
    said = f"it reaches back {format_duration(max(since.total_seconds(), 1.0))}"
    if lost:
        fix = f"start the daemon: it finds this out, fits every model again and goes on; {resize}"
        return bad("oplog", f"{said}, but the feed stands before that: what came between is gone", fix)
    full = size.get("size", 0) > 0.9 * size.get("maxSize", 1)
    if full and window < _SHORT_OPLOG_S:
        return doubtful("oplog", f"{said}: a daemon that is down for longer must fit every model again", resize)
    return good("oplog", f"{said}, the feed's position lies within" if stored else said)


def _snapshots(store: MongoStore) -> Check:
    name = "minSnapshotHistoryWindowInSeconds"
    try:
        value = int(store.connection.client.admin.command({"getParameter": 1, name: 1})[name])
    except OperationFailure:
        return doubtful("snapshots", f"this login may not read {name}; MongoDB's default is 300", None)
    if value < _SHORT_SNAPSHOTS_S:
        fix = f"db.adminCommand({{setParameter: 1, {name}: {_SHORT_SNAPSHOTS_S}}})"
        return doubtful("snapshots", f"{name} is {value}: reading many rows must end within that time", fix)
    return good("snapshots", f"a read of rows may take {format_duration(value)}")
