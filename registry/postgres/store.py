"""The registry in one PostgreSQL database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from registry.artifacts import UrlArtifacts
from registry.postgres import stamps
from registry.postgres.artifacts import PostgresArtifacts
from registry.postgres.connection import Connection
from registry.postgres.documents import PostgresDocuments
from registry.postgres.feeds import PostgresFeeds
from registry.postgres.fits import PostgresFits
from registry.postgres.schema import prepare
from registry.postgres.stamps import PgStamp, Snapshot
from registry.postgres.versions import PostgresVersions
from registry.records import Stamp
from registry.selects import Selects
from registry.store import Artifacts

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
#: So many transactions are shown by number.
_SHOWN = 3

# A page of the log begins with a header, a long one in a file's first page: src/include/access/xlog_internal.h.
_PAGE_HEADER = 24
_FILE_HEADER = 40


class PostgresStore:
    """See `registry.store.Store`. Stamps are `registry.postgres.stamps.PgStamp`."""

    kind = "postgresql"

    def __init__(self, uri: str, *, artifacts_url: str | None = None, timeout_s: float = 10.0) -> None:
        """Connects lazily. Raises `SettingsInvalid` when the URI can't be used."""
        from registry.sql_selects import SqlSelects

        self.connection = Connection(uri, timeout_s=timeout_s)
        self.documents = PostgresDocuments(self.connection)
        self.feeds = PostgresFeeds(self.connection)
        self.fits = PostgresFits(self.connection)
        self.versions = PostgresVersions(self.connection)
        self.selects: Selects = SqlSelects()
        self.artifacts: Artifacts = UrlArtifacts(artifacts_url) if artifacts_url else PostgresArtifacts(self.connection)

    def prepare(self) -> None:
        """Make the schema and its tables, where they are missing. Idempotent."""
        prepare(self.connection)

    def now(self) -> datetime:
        """The datastore's clock, good to some milliseconds without a round trip."""
        return self.connection.now()

    def newest(self) -> Stamp:
        """What is visible now, and a place in the log after all of it: the snapshot is taken before the place is."""
        query = "SELECT pg_current_snapshot()::text AS snapshot, pg_current_wal_insert_lsn()::text AS lsn"
        with self.connection.session() as session:
            row = session.row(query)
            assert row is not None
            lsn = end_of_records(parse_lsn(row["lsn"]), session.block, session.segment)
            return PgStamp(session.history, Snapshot.parse(row["snapshot"]), lsn=lsn)

    def position_stamp(self, position: Mapping[str, Any] | None) -> Stamp | None:
        """The position's place in the log."""
        if not isinstance(position, Mapping):
            return None
        history, lsn = position.get("history"), position.get("lsn")
        if not isinstance(history, str) or not isinstance(lsn, str) or not _LSN.fullmatch(lsn):
            return None
        return PgStamp(history, lsn=parse_lsn(lsn))

    def newer(self, one: Stamp | None, other: Stamp | None) -> bool:
        """Whether a cut at `one` does not cover a change at `other`."""
        return other is not None and (one is None or not one.covers(other))

    def join(self, stamps_: Iterable[Stamp]) -> Stamp:
        """Both snapshots and all transactions; of several histories the last one's."""
        return stamps.join(stamps_)

    def show_stamp(self, stamp: Stamp | None) -> str | None:
        """`transactions before 742 but for 740`, `742, 743`, or a place in the log as `0/16B3748`."""
        return shown(stamp) if isinstance(stamp, PgStamp) else None

    def close(self) -> None:
        """Give connections back. Twice is safe."""
        self.connection.close()


def parse_lsn(lsn: str) -> int:
    """`0/16B3748` as a number. Raises ValueError."""
    found = _LSN.fullmatch(lsn)
    if not found:
        raise ValueError(f"{lsn!r} is no LSN: it looks like 0/16B3748")
    return int(found[1], 16) << 32 | int(found[2], 16)


def show_lsn(lsn: int) -> str:
    """A number as `0/16B3748`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def end_of_records(lsn: int, block: int, segment: int) -> int:
    """Where the last record ends, if the next one would begin here.

    At the border of two pages the next one begins after the second one's header, while a feed only ever gets to the
    border itself.
    """
    if lsn % segment == _FILE_HEADER:
        return lsn - _FILE_HEADER
    return lsn - _PAGE_HEADER if lsn % block == _PAGE_HEADER else lsn


def shown(stamp: PgStamp) -> str:
    """A stamp in few words, for people."""
    parts = []
    if stamp.snapshot is not None:
        but = _some(stamp.snapshot.running)
        parts.append(f"transactions before {stamp.snapshot.xmax}" + (f" but for {but}" if but else ""))
    if stamp.xids:
        parts.append(_some(stamp.xids))
    if not parts and stamp.lsn is not None:
        parts.append(show_lsn(stamp.lsn))
    return " and ".join(parts) or "nothing"


def _some(xids: Iterable[int]) -> str:
    listed = sorted(xids)
    more = [f"{len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return ", ".join([*map(str, listed[:_SHOWN]), *more])
