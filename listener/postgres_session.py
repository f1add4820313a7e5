"""A connection of the feed's own, on which names mean what they mean to the daemon's login."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from registry.postgres.connection import PUBLIC_NAMES

#: A backslash in a text is one, as the reader of selects takes it to be.
_PLAIN_TEXTS = "set_config('standard_conforming_strings', 'on', false)"
_SET_UP = (
    f"SELECT set_config('jit', 'off', false), set_config('TimeZone', 'UTC', false), {_PLAIN_TEXTS}, {PUBLIC_NAMES}"
)
_TAKE = """
SELECT set_config('role', rolname, false) FROM pg_catalog.pg_roles
WHERE rolname = %(role)s AND pg_catalog.pg_has_role(current_user, oid, 'MEMBER')
"""


class PgSession:
    """Connects when it is first used, and again after it was lost. For one thread; errors are psycopg's."""

    def __init__(self, parameters: Mapping[str, Any], *, role: str | None = None, **settings: str) -> None:
        """`parameters` are libpq's, `settings` the server's, such as `statement_timeout="10s"`.

        Args:
            role: to be taken, where it exists and the login may.
        """
        self._parameters, self._settings, self._role = dict(parameters), settings, role
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, in a transaction of its own; its rows, if it gives any.

        Raises:
            psycopg.Error.
        """
        cursor = self._connected().execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Close it. Twice is safe."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(**self._parameters, autocommit=True)
            try:
                connection.execute(_SET_UP)
                for name, value in self._settings.items():
                    connection.execute("SELECT set_config(%s, %s, false)", (name, value))
                if self._role is not None:
                    connection.execute(_TAKE, {"role": self._role})
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection
