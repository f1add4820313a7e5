"""The registry in one MongoDB database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from bson import Timestamp

from registry.artifacts import UrlArtifacts
from registry.mongo.artifacts import MongoArtifacts
from registry.mongo.connection import Connection, translated
from registry.mongo.documents import MongoDocuments
from registry.mongo.feeds import MongoFeeds
from registry.mongo.fits import MongoFits
from registry.mongo.schema import prepare
from registry.mongo.versions import MongoVersions
from registry.mongo_selects import MongoSelects
from registry.records import Stamp
from registry.store import Artifacts


class MongoStore:
    """See `registry.store.Store`. Stamps are cluster times (`bson.Timestamp`)."""

    kind = "mongodb"

    def __init__(self, uri: str, *, artifacts_url: str | None = None, timeout_s: float = 10.0) -> None:
        """Connects lazily. Raises `SettingsInvalid` when the URI can't be used."""
        self._connection = self.connection = Connection(uri, timeout_s=timeout_s)
        self.documents = MongoDocuments(self.connection)
        self.feeds = MongoFeeds(self.connection)
        self.fits = MongoFits(self.connection)
        self.versions = MongoVersions(self.connection)
        self.selects = MongoSelects()
        self.artifacts: Artifacts = UrlArtifacts(artifacts_url) if artifacts_url else MongoArtifacts(self.connection)

    @translated
    def prepare(self) -> None:
        """Make collections, validator and indexes, where they are missing. Idempotent."""
        prepare(self.connection)

    @translated
    def now(self) -> datetime:
        """The datastore's clock, good to some milliseconds without a round trip."""
        return self.connection.now()

    @translated
    def newest(self) -> Stamp:
        """The cluster time of the newest operation."""
        return self.connection.database.command("ping").get("operationTime")

    def position_stamp(self, position: Mapping[str, Any] | None) -> Stamp | None:
        """The position's cluster time."""
        time = position.get("time") if isinstance(position, Mapping) else None
        return time if isinstance(time, Timestamp) else None

    def newer(self, one: Stamp | None, other: Stamp | None) -> bool:
        """Whether a cut at `one` does not cover a change at `other`."""
        return other is not None and (one is None or other > one)

    def join(self, stamps: Iterable[Stamp]) -> Stamp:
        """The latest."""
        return max(stamps)

    def show_stamp(self, stamp: Stamp | None) -> str | None:
        """A cluster time as `2026-11-23T07:00:24Z#3`."""
        if not isinstance(stamp, Timestamp):
            return None
        return f"{stamp.as_datetime().strftime('%Y-%m-%dT%H:%M:%SZ')}#{stamp.inc}"

    def close(self) -> None:
        """Give connections back. Twice is safe."""
        self.connection.close()
