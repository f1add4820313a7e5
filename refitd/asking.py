"""Asking PostgreSQL as the daemon's login: names mean what they mean to selects and to the feed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from listener.postgres_session import PgSession
from registry.errors import DatastoreUnsuitable
from registry.postgres.connection import Connection
from registry.postgres.failures import translate
from registry.postgres.store import PostgresStore
from registry.store import Store

#: A lock that others hold is not waited for longer: whoever comes meanwhile waits behind us.
_LIMITS = {"statement_timeout": "15s", "lock_timeout": "3s"}


def connection_of(store: Store) -> Connection:
    """The store's connection. Raises `DatastoreUnsuitable` when it is no PostgreSQL."""
    if not isinstance(store, PostgresStore):
        raise DatastoreUnsuitable(f"{type(store).__name__} is no PostgreSQL")
    return store.connection


@contextmanager
def asking(connection: Connection, **parameters: str) -> Iterator[PgSession]:
    """A connection for the caller alone, each statement a transaction of its own. Errors are ours.

    Args:
        parameters: libpq's, over those of the datastore's URI.
    """
    session = PgSession({**connection.parameters, **parameters}, **_LIMITS)
    try:
        yield session
    except psycopg.Error as error:
        raise translate(error, connection.login) from error
    finally:
        session.close()


def is_made(connection: Connection) -> bool:
    """Whether the registry's tables are there.

    Raises:
        DatastoreUnavailable, DatastoreUnsuitable.
    """
    query = (
        "SELECT EXISTS (SELECT FROM pg_class AS one JOIN pg_namespace AS its ON its.oid = one.relnamespace"
        " WHERE its.nspname = 'refitd' AND one.relname = 'models') AS made"
    )
    (found,) = connection.rows(query)
    return bool(found["made"])


def row(session: PgSession, statement: str, values: tuple[Any, ...] = ()) -> Mapping[str, Any]:
    """The columns of a statement's only row, by name; empty where it has none."""
    found = session.rows(f"SELECT to_jsonb(found) FROM ({statement}) AS found", values)
    return dict(found[0][0]) if found else {}


def quoted(name: str) -> str:
    """A name as SQL, in quotes where it needs them."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def shown(relation: str) -> str:
    """A relation as a select names it, for people: without the quotes that it doesn't need."""
    return re.sub(r'"([a-z_][a-z0-9_]*)"', r"\1", relation)
