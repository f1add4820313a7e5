"""Signals that the registry changed: by a change stream where the login may open one, else by looking again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from registry.store import Store

#: Without a signal we look again after this long: it bounds what a lost one costs.
LOOK_S = 1.0
_POLL_S = 0.1
_WATCHED = ("models", "pending", "fits", "versions", "feeds")


class Signal(Protocol):
    """Told when the registry changed."""

    def wait(self, timeout_s: float) -> None:
        """Return when something changed, or after the time; sooner does no harm."""


@contextlib.contextmanager
def registry_changes(store: Store) -> Iterator[Signal]:
    """Signals from now on: a change between entering and the first `wait` is not missed."""
    if store.kind != "mongodb":  # PostgreSQL has no such signal without a trigger of ours on each table
        yield _Poll()
        return
    from pymongo.errors import PyMongoError

    known: Any = store
    with known.connection.client.start_session() as session:
        try:
            signal: Signal = _Stream(store, session)
        except PyMongoError:
            signal = _Poll()  # a login without the right to open a stream: looking again is all we need
        yield signal


class _Poll:
    def wait(self, timeout_s: float) -> None:
        time.sleep(max(0.0, min(timeout_s, _POLL_S)))


class _Stream:
    """A change stream of which only its stirring counts: all that came at once is one signal.

    So it is read by raw `getMore`, a batch at a time; the session's end closes it. When it breaks it is a poll.
    """

    def __init__(self, store: Any, session: Any) -> None:
        from registry.mongo.connection import PREFIX

        self._database, self._session = store.connection.database, session
        watched = {"$match": {"ns.coll": {"$in": [PREFIX + name for name in _WATCHED]}}}
        pipeline = [{"$changeStream": {}}, watched, {"$project": {"_id": 1}}]
        command = {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": 0}}
        self._cursor = self._database.command(command, session=session)["cursor"]["id"]

    def wait(self, timeout_s: float) -> None:
        from pymongo.errors import PyMongoError

        more = {
            "getMore": self._cursor,
            "collection": "$cmd.aggregate",
            "maxTimeMS": max(1, round(timeout_s * 1000)),
        }
        try:
            if self._cursor:
                self._cursor = self._database.command(more, session=self._session)["cursor"]["id"]
                return
        except PyMongoError:
            self._cursor = 0
        _Poll().wait(timeout_s)


def until(store: Store, happened: Callable[[], bool], timeout_s: float | None) -> bool:
    """Wait until something holds, looking whenever the registry changed. False when the time is over first."""
    limit = None if timeout_s is None else time.monotonic() + timeout_s
    with registry_changes(store) as signal:
        while not happened():
            left = LOOK_S if limit is None else limit - time.monotonic()
            if left <= 0:
                return False
            signal.wait(min(left, LOOK_S))
    return True
