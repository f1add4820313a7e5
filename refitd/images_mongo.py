"""MongoDB's pre- and post-images, collection by collection.

https://www.mongodb.com/docs/manual/changeStreams/#change-streams-with-document-pre--and-post-images
"""

from __future__ import annotations

from collections.abc import Iterable

from registry.mongo.connection import translated
from registry.mongo.store import MongoStore
from registry.store import Store


def enable_line(collection: str) -> str:
    """What a person types into mongosh to enable them."""
    return f'db.runCommand({{collMod: "{collection}", changeStreamPreAndPostImages: {{enabled: true}}}})'


def enabled(store: Store, collections: Iterable[str]) -> dict[str, bool]:
    """See `refitd.images.enabled`."""
    wanted = sorted(set(collections))
    if not isinstance(store, MongoStore):
        return dict.fromkeys(wanted, True)
    listed = translated(store.connection.database.list_collections)(filter={"name": {"$in": wanted}})
    found = {one["name"]: one.get("options", {}).get("changeStreamPreAndPostImages", {}) for one in listed}
    return {name: bool(found.get(name, {}).get("enabled")) for name in wanted}


def enable(store: Store, collections: Iterable[str]) -> list[str]:
    """See `refitd.images.enable`."""
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


def cost(collections: Iterable[str]) -> str:
    """See `refitd.images.cost`."""
    return (
        f"{', '.join(collections)}: MongoDB keeps no rows as they were before a change, so deletes and updates of rows "
        "that don't match cost a fit as well"
    )
