"""Which feed and which evaluator belong to a store."""

from __future__ import annotations

from typing import Any

from listener.feed import Feed
from listener.matching import Evaluator
from registry.errors import DatastoreUnsuitable
from registry.store import Store


def native_feed(store: Store) -> tuple[Feed, Evaluator]:
    """The feed of the datastore's own change log, and the datastore as judge of rows."""
    known: Any = store
    if store.kind == "mongodb":
        from listener.mongo_feed import MongoFeed
        from listener.mongo_matching import MongoEvaluator

        return MongoFeed(known.connection), MongoEvaluator(known.connection)
    if store.kind == "postgresql":
        from listener.postgres_feed import PostgresFeed
        from listener.postgres_matching import PostgresEvaluator

        return PostgresFeed(known.connection), PostgresEvaluator(known.connection)
    raise DatastoreUnsuitable(f"there is no feed for {type(store).__name__}")
