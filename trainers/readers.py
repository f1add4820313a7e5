"""Which reader belongs to which store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import DatastoreUnsuitable
from registry.store import Store
from trainers.rows import Reader


@contextmanager
def open_reader(store: Store) -> Iterator[Reader]:
    """A reader of the datastore that holds this registry; it shares the store's connection."""
    from registry.mongo.store import MongoStore

    if not isinstance(store, MongoStore):
        raise DatastoreUnsuitable(f"there is no reader for {type(store).__name__}")
    from trainers.mongo_rows import MongoReader

    reader = MongoReader(store.connection.database)
    try:
        yield reader
    finally:
        reader.close()
