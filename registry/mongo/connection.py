"""One connection to a MongoDB datastore: its database, its clock, its transactions, and its errors as ours."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

import pymongo
from bson import CodecOptions
from pymongo import ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConfigurationError, DocumentTooLarge, InvalidURI, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from registry.errors import DatastoreUnavailable, DatastoreUnsuitable, SettingsInvalid
from registry.mongo.orphans import app_name

Row = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

#: All our collections begin with this.
PREFIX = "refitd."

MAJORITY = WriteConcern("majority", j=True)
_CLOCK_GOOD_FOR_S = 30.0
_UNKNOWN_LOGIN = {18, 8000}
_FORBIDDEN = {13}
#: A row that would be too large: no use in trying again.
_TOO_LARGE = {10334, 17419, 17420}


class Connection:
    """Shared by the parts of a `MongoStore`. Thread-safe."""

    def __init__(self, uri: str, *, timeout_s: float = 10.0) -> None:
        """Connects lazily.

        Raises:
            SettingsInvalid: the URI can't be read or names no database.
        """
        options = CodecOptions[Row](tz_aware=True, tzinfo=UTC)
        try:
            self.client: pymongo.MongoClient[Row] = pymongo.MongoClient(
                uri, appname=app_name(), serverSelectionTimeoutMS=int(timeout_s * 1000), tz_aware=True
            )
            self.database: Database[Row] = self.client.get_default_database().with_options(
                codec_options=options, write_concern=MAJORITY, read_preference=ReadPreference.PRIMARY
            )
        except (InvalidURI, ConfigurationError) as error:
            raise SettingsInvalid(
                f"the datastore's URI can't be used: {error}; write mongodb://HOST:PORT/DATABASE?replicaSet=NAME"
            ) from None
        self._offset = timedelta()
        self._read_at = -_CLOCK_GOOD_FOR_S * 2
        self._lock = threading.Lock()

    def collection(self, name: str) -> Collection[Row]:
        """One of our own collections, by its name without the prefix."""
        return self.database[PREFIX + name]

    def now(self) -> datetime:
        """The server's clock: measured at most every 30 s, and carried on by the local one between."""
        with self._lock:
            if time.monotonic() - self._read_at > _CLOCK_GOOD_FOR_S:
                before = datetime.now(UTC)
                server: datetime = self.database.command("hello", codec_options=self.database.codec_options)[
                    "localTime"
                ]
                after = datetime.now(UTC)
                self._offset = server - (before + (after - before) / 2)
                self._read_at = time.monotonic()
            return datetime.now(UTC) + self._offset

    def transaction(self, work: Callable[[ClientSession], T]) -> T:
        """Run `work` in one transaction: snapshot reads, majority and journaled writes, retried as drivers should.

        `work` can run more than once, so it has no effect but its writes.
        """
        with self.client.start_session() as session:
            return session.with_transaction(
                work,
                read_concern=ReadConcern("snapshot"),
                write_concern=MAJORITY,
                read_preference=ReadPreference.PRIMARY,
            )

    def close(self) -> None:
        """Give connections back. Twice is safe."""
        self.client.close()


def translated(method: Callable[P, T]) -> Callable[P, T]:
    """Turn the driver's errors into ours: refused → `DatastoreUnsuitable`, all else → `DatastoreUnavailable`."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except PyMongoError as error:
            raise translate(error) from error

    return wrapper


def translate(error: PyMongoError) -> DatastoreUnavailable | DatastoreUnsuitable:
    """The driver's error as one of ours."""
    if isinstance(error, OperationFailure):
        if error.code in _UNKNOWN_LOGIN:
            return DatastoreUnsuitable(
                f"MongoDB refuses the login: {_text(error)}; check user, password and authSource in the datastore's URI"
            )
        if error.code in _FORBIDDEN:
            return DatastoreUnsuitable(
                f"MongoDB refuses: {_text(error)}; grant the login the role in deploy/mongo/ on this database"
            )
        if error.code in (20, 263) or "replica set" in str(error):
            return DatastoreUnsuitable(
                f"MongoDB refuses: {_text(error)}; refitd needs a replica set: start mongod with --replSet rs0 and run "
                "rs.initiate() once"
            )
        if error.code not in _TOO_LARGE:
            return DatastoreUnavailable(f"MongoDB failed: {_text(error)}")
    if isinstance(error, OperationFailure | DocumentTooLarge):
        return DatastoreUnsuitable(
            f"MongoDB refuses: {error}; a model document needs room for its status: make it smaller"
        )
    return DatastoreUnavailable(f"MongoDB does not answer: {str(error).split(', Timeout:')[0]}")


def _text(error: OperationFailure) -> str:
    details: Mapping[str, Any] = error.details or {}
    return str(details.get("errmsg") or error).split(", full error:")[0]
