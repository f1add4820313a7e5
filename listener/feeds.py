"""Which feed and which evaluator belong to a store."""

from __future__ import annotations

from listener.feed import Feed
from listener.matching import Evaluator
from registry.errors import DatastoreUnsuitable
from registry.store import Store


def native_feed(store: Store) -> tuple[Feed, Evaluator]:
    """The feed of the datastore's own change log, and the datastore as judge of rows."""
    from registry.mongo.store import MongoStore

    if not isinstance(store, MongoStore):
        raise DatastoreUnsuitable(f"there is no feed for {type(store).__name__}")
    from listener.mongo_feed import MongoFeed
    from listener.mongo_matching import MongoEvaluator

    return MongoFeed(store.connection), MongoEvaluator(store.connection)
