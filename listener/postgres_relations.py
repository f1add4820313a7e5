"""The relations that selects name, as the feed sees them: looked up, published, looked at again for what changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psycopg

from listener import postgres_catalog
from listener.feed import Origin, Untold
from listener.postgres_catalog import TABLES, Found, Relation
from listener.postgres_publication import OUR_SCHEMA, OWN, PUBLICATION, Publication, Refused
from listener.postgres_session import PgSession


class Relations:
    """Everything that was asked for, as of the last look. Errors are psycopg's."""

    def __init__(self, session: PgSession, publication: Publication, user: str) -> None:
        """`user`: whom the server knows the session as, for messages."""
        self._session, self._publication, self._user = session, publication, user
        self._asked: set[str] = set(OWN)
        self._found = Found({})
        self._hidden: dict[str, str] = {}
        self._refused: Mapping[str, Refused] = {}

    def ask(self, names: Collection[str]) -> None:
        """Look at these too from now on, and have the tables among them published."""
        self._asked |= set(names)
        self.look()
        self.publish()

    def look(self) -> bool:
        """Look at all of them; whether anything differs from the last look."""
        before, hidden = self._found, dict(self._hidden)
        self._hidden = {name: why for name in self._hidden if (why := self._why_hidden(name))}
        try:
            self._found = self._look()
        except psycopg.errors.InsufficientPrivilege:
            self._hidden = {name: why for name in self._asked if (why := self._why_hidden(name))}
            self._found = self._look()
        if any(one.passing for one in self._refused.values()) or self._broken():
            self.publish()
        return before != self._found or hidden != self._hidden

    def publish(self) -> None:
        """Have those published that can be. One that lost its key leaves: its updates would be refused."""
        broken = self._broken()
        self._publication.drop([one.name for one in broken])
        missing = [
            one for one in self._found.relations().values()
            if one.published is None and not one.is_view and one.untold is None and one.root is None
        ]  # fmt: skip
        self._refused = self._publication.add(missing)
        if missing or broken:
            self._found = self._look()

    def origin(self, name: str) -> Origin | Untold:
        """Where the changes of a relation are told; why they aren't."""
        if name in self._hidden:
            return Untold(self._hidden[name])
        behind = self._found.behind.get(name, ())
        if not behind:
            return Origin(frozenset({name}), name)
        for one in behind:
            if one.schema == OUR_SCHEMA:
                return Untold(f"`{name}` reads `{one.name}`, which is refitd's own: a fit would make the next due")
            if one.untold:
                return Untold(one.untold)
            if one.published is None and one.name in self._refused:
                return Untold(self._refused[one.name].reason)
        own = behind[0]
        itself = None if own.is_view or own.root else own.name
        return Origin(frozenset(one.name for one in behind), itself, own.columns)

    def among(self, names: Collection[str]) -> list[Relation]:
        """Those of these names that are there."""
        return [one for name, one in self._found.relations().items() if name in names]

    def fingerprints(self, names: Collection[str]) -> dict[str, str]:
        """How each looks; empty for what isn't there."""
        known = self._found.relations()
        return {name: known[name].fingerprint if name in known else "" for name in names}

    def turned_up(self, names: Collection[str]) -> set[str]:
        """Names that were nobody's, so that they were followed as they are written, and that now are somebody's."""
        known = self._found.relations()
        return {name for name in names if self._found.behind.get(name) and name not in known}

    def _broken(self) -> list[Relation]:
        known = self._found.relations().values()
        return [one for one in known if one.published is not None and not one.identified and one.kind in TABLES]

    def _look(self) -> Found:
        return postgres_catalog.look(self._session.rows, self._asked - self._hidden.keys(), PUBLICATION)

    def _why_hidden(self, name: str) -> str | None:
        """Why a name can't even be looked up: one that the login may not see must not hide the others."""
        try:
            postgres_catalog.look(self._session.rows, [name], PUBLICATION)
        except psycopg.errors.InsufficientPrivilege as error:
            said = error.diag.message_primary
            return f"`{name}` can't be looked up: {said}; GRANT USAGE ON SCHEMA …, and SELECT on it, TO {self._user}"
        return None
