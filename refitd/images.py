"""Pre- and post-images: whether MongoDB keeps a collection's rows as they were before and after a change.

With them a change that doesn't matter to a model is told apart; without them every update and delete counts.
https://www.mongodb.com/docs/manual/changeStreams/#change-streams-with-document-pre--and-post-images
"""

from __future__ import annotations

from collections.abc import Iterable

from registry.store import Store


def enable_line(collection: str) -> str:
    """What a person types into mongosh to enable them."""
    return f'db.runCommand({{collMod: "{collection}", changeStreamPreAndPostImages: {{enabled: true}}}})'


def enabled(store: Store, collections: Iterable[str]) -> dict[str, bool]:
    """Whether each has them; a collection that isn't there yet has not.

    Raises:
        DatastoreUnsuitable: the login may not list collections.
        DatastoreUnavailable: the server does not answer.
    """
    from registry.mongo.connection import translated
    from registry.mongo.store import MongoStore

    wanted = sorted(set(collections))
    if not isinstance(store, MongoStore):
        return dict.fromkeys(wanted, True)
    listed = translated(store.connection.database.list_collections)(filter={"name": {"$in": wanted}})
    found = {one["name"]: one.get("options", {}).get("changeStreamPreAndPostImages", {}) for one in listed}
    return {name: bool(found.get(name, {}).get("enabled")) for name in wanted}


def enable(store: Store, collections: Iterable[str]) -> list[str]:
    """Enable them, making collections that are missing; those that did not have them.

    Raises:
        DatastoreUnsuitable: the login may not (it needs `collMod` and `createCollection`: the role dbAdmin).
        DatastoreUnavailable: the server does not answer.
    """
    from registry.mongo.connection import translated
    from registry.mongo.store import MongoStore

    missing = [name for name, has in enabled(store, collections).items() if not has]
    if not missing or not isinstance(store, MongoStore):
        return []
    database = store.connection.database
    there = set(translated(database.list_collection_names)())
    for name in missing:
        if name not in there:
            translated(database.create_collection)(name, changeStreamPreAndPostImages={"enabled": True})
        else:
            translated(database.command)("collMod", name, changeStreamPreAndPostImages={"enabled": True})
    return missing
