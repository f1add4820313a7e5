"""Images: whether the datastore keeps rows as they were before a change.

With them changes that don't matter are told apart; without them every update and delete of a followed row counts.
MongoDB has pre- and post-images, PostgreSQL has REPLICA IDENTITY FULL.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from registry.errors import DatastoreUnsuitable
from registry.store import Store


class _Images(Protocol):
    """What each datastore's module has."""

    def enabled(self, store: Store, relations: Iterable[str]) -> dict[str, bool]: ...

    def enable(self, store: Store, relations: Iterable[str]) -> list[str]: ...

    def enable_line(self, relation: str) -> str: ...

    def cost(self, relations: Iterable[str]) -> str: ...


def enabled(store: Store, relations: Iterable[str]) -> dict[str, bool]:
    """Whether all is kept that would help, for each relation as selects name it.

    MongoDB: a collection that isn't there yet has no images. PostgreSQL: what isn't there yet, and what no old row
    would help (views and single partitions, any change of which counts), has nothing to enable.

    Raises:
        DatastoreUnsuitable: the login may not look.
        DatastoreUnavailable: the server does not answer.
    """
    return _of(store).enabled(store, relations)


def enable(store: Store, relations: Iterable[str]) -> list[str]:
    """Enable what is missing; the collections (made where they are missing) or tables that were altered.

    Raises:
        DatastoreUnsuitable: the login may not: the role dbAdmin in MongoDB, the tables' owner in PostgreSQL. In
            PostgreSQL nothing was altered then, and the message has the statements for the owner.
        DatastoreUnavailable: the server does not answer, or somebody holds a lock on a table.
    """
    return _of(store).enable(store, relations)


def enable_line(store: Store, relation: str) -> str:
    """What a person types into mongosh or psql to enable them for a collection or table."""
    return _of(store).enable_line(relation)


def cost(store: Store, relations: Iterable[str]) -> str:
    """What it means that these relations have none, for people."""
    return _of(store).cost(relations)


def _of(store: Store) -> _Images:
    if store.kind == "mongodb":
        from refitd import images_mongo

        return images_mongo
    if store.kind == "postgresql":
        from refitd import images_postgres

        return images_postgres
    raise DatastoreUnsuitable(f"nothing is known of images in {store.kind}")
