"""The publication that says which tables PostgreSQL tells the changes of: made by us, kept in step with the selects.

It has to be there before the slot whose changes it filters: decoding looks at the catalogs as of each change.
https://www.postgresql.org/docs/current/logical-replication-publication.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import psycopg

from listener.postgres_catalog import Relation
from listener.postgres_session import PgSession
from registry.errors import DatastoreUnsuitable

PUBLICATION = "refitd"
OUR_SCHEMA = "refitd"
#: Ours, in it from the beginning.
OWN = ("refitd.models", "refitd.versions")

_OPTIONS = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
_MAKE = f"CREATE PUBLICATION {PUBLICATION} FOR TABLE {', '.join(OWN)} WITH ({_OPTIONS})"
_MEND = f"ALTER PUBLICATION {PUBLICATION} SET ({_OPTIONS})"
_STATE = """
SELECT oid::int8, puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND pubviaroot
FROM pg_catalog.pg_publication WHERE pubname = %s
"""
_MEMBERS = """
SELECT format('%%I.%%I', space.nspname, this.relname)
FROM pg_catalog.pg_publication_rel AS member
JOIN pg_catalog.pg_publication AS ours ON ours.oid = member.prpubid AND ours.pubname = %s
JOIN pg_catalog.pg_class AS this ON this.oid = member.prrelid
JOIN pg_catalog.pg_namespace AS space ON space.oid = this.relnamespace
"""


class Refused(NamedTuple):
    """Why a table is not in it, and whether that may pass by itself."""

    reason: str
    passing: bool


class Publication:
    """Makes it, mends it, and keeps its tables."""

    def __init__(self, session: PgSession) -> None:
        self._session = session

    def oid(self) -> int | None:
        """Which publication it is now: one made anew has another oid."""
        found = self._session.rows(_STATE, (PUBLICATION,))
        return int(found[0][0]) if found else None

    def prepare(self) -> int:
        """Have it there, with our own tables and the options that following needs; its oid.

        Raises:
            DatastoreUnsuitable: the login may not make or mend it; with the statement for somebody who may.
        """
        found = self._session.rows(_STATE, (PUBLICATION,))
        if not found:
            self._say(_MAKE)
        elif not found[0][2]:
            self._say(_MEND)
        missing = set(OWN) - self.members() if not (found and found[0][1]) else set()
        if missing:
            self._say(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {', '.join(sorted(missing))}")
        oid = self.oid()
        assert oid is not None
        return oid

    def members(self) -> set[str]:
        """The tables that are named in it."""
        return {name for (name,) in self._session.rows(_MEMBERS, (PUBLICATION,))}

    def add(self, relations: Collection[Relation]) -> Mapping[str, Refused]:
        """Add tables; why, and what to do, for each that could not be."""
        refused: dict[str, Refused] = {}
        for one in relations:
            statement = f"ALTER PUBLICATION {PUBLICATION} ADD TABLE ONLY {one.name}"
            try:
                self._session.rows(statement)
            except psycopg.errors.DuplicateObject:  # another daemon, or a person, was faster
                continue
            except psycopg.errors.UndefinedTable:  # gone since: whoever looks next sees that
                continue
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType) as error:
                reason = (
                    f"PostgreSQL can't be asked to tell the changes of `{one.name}` ({error.diag.message_primary}): as "
                    f"its owner, who also owns the publication, run: {statement}"
                )
                refused[one.name] = Refused(reason, passing=False)
            except psycopg.errors.LockNotAvailable:
                reason = f"`{one.name}` is locked by somebody; as soon as it isn't, its changes are followed"
                refused[one.name] = Refused(reason, passing=True)
        return refused

    def drop(self, names: Collection[str]) -> None:
        """Take tables out that nobody follows any more, where the login may."""
        for name in sorted(set(names) & self.members()):
            try:
                self._session.rows(f"ALTER PUBLICATION {PUBLICATION} DROP TABLE ONLY {name}")
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
                continue
            except psycopg.errors.UndefinedTable:
                continue

    def _say(self, statement: str) -> None:
        try:
            self._session.rows(statement)
        except psycopg.errors.DuplicateObject:
            return
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatastoreUnsuitable(
                f"PostgreSQL refuses: {error.diag.message_primary}; have somebody who may run: {statement}; or grant "
                "the daemon's login CREATE on the database"
            ) from None
