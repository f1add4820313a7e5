"""Which reader belongs to which store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from registry.errors import DatastoreUnsuitable
from registry.store import Store
from trainers.rows import Reader

_MODULES = {
    "mongodb": ("registry.mongo.store", "trainers.mongo_rows"),
    "postgresql": ("registry.postgres.store", "trainers.postgres_rows"),
}


def modules_for(datastore: str) -> tuple[str, ...]:
    """What a process that fits on this datastore imports, by the datastore's URI."""
    scheme = datastore.partition("://")[0].partition("+")[0]
    return _MODULES.get("postgresql" if scheme == "postgres" else scheme, ())


@contextmanager
def open_reader(store: Store) -> Iterator[Reader]:
    """A reader of the datastore that holds this registry. Raises DatastoreUnsuitable: there is none for it."""
    reader = _reader(store)
    try:
        yield reader
    finally:
        reader.close()


def _reader(store: Store) -> Reader:
    known: Any = store
    if store.kind == "mongodb":  # it shares the store's connection
        from trainers.mongo_rows import MongoReader

        return MongoReader(known.connection.database)
    if store.kind == "postgresql":  # each cut and each read is a transaction of its own, so it connects by itself
        from trainers.postgres_rows import PostgresReader

        return PostgresReader(known.connection)
    raise DatastoreUnsuitable(f"there is no reader for {type(store).__name__}")
