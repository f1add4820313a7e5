"""Which reader belongs to which store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import DatastoreUnsuitable
from registry.store import Store
from trainers.rows import Reader


@contextmanager
def open_reader(store: Store) -> Iterator[Reader]:
    """A reader of the datastore that holds this registry. Raises DatastoreUnsuitable: there is none for it."""
    reader = _mongo_reader(store) or _postgres_reader(store)
    if reader is None:
        raise DatastoreUnsuitable(f"there is no reader for {type(store).__name__}")
    try:
        yield reader
    finally:
        reader.close()


def _mongo_reader(store: Store) -> Reader | None:
    """It shares the store's connection."""
    from registry.mongo.store import MongoStore

    if not isinstance(store, MongoStore):
        return None
    from trainers.mongo_rows import MongoReader

    return MongoReader(store.connection.database)


def _postgres_reader(store: Store) -> Reader | None:
    """It connects by itself, with the store's parameters: each cut and each read is a transaction of its own."""
    try:
        from registry.postgres.store import PostgresStore
    except ModuleNotFoundError:  # no driver, so no such store
        return None
    if not isinstance(store, PostgresStore):
        return None
    from trainers.postgres_rows import PostgresReader

    return PostgresReader(store.connection)
