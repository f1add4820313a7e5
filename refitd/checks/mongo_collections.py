"""The collections that models select from: there, of a kind that can be followed, with images."""

from __future__ import annotations

from collections.abc import Iterator

from refitd.checks.check import Check, bad, doubtful, good
from refitd.checks.watched import watched
from refitd.images import enable_line, enabled
from refitd.session import Session
from registry.errors import DatastoreUnsuitable
from registry.mongo.connection import translated
from registry.mongo.store import MongoStore


def collection_checks(session: Session) -> Iterator[Check]:
    """One check a collection that is wrong, one for the images of all."""
    store = session.store
    if not isinstance(store, MongoStore):
        return
    models = watched(store)
    if not models:
        return
    try:
        listed = {one["name"]: one for one in translated(store.connection.database.list_collections)()}
    except DatastoreUnsuitable:  # `login` says so
        return
    for name, users in sorted(models.items()):
        yield from _kind(name, ", ".join(users), listed.get(name))
    yield from _images(store, models)


def _kind(name: str, users: str, found: object) -> Iterator[Check]:
    check = f"collection {name}"
    if not isinstance(found, dict):
        yield doubtful(check, f"is not there yet; {users} selects from it", "insert rows, or correct the select")
        return
    kind, options = found.get("type", "collection"), found.get("options", {})
    if kind != "collection":
        fix = "select from the collection below it, with a pipeline"
        yield bad(check, f"is a {kind}, which has no change stream of its own; {users} selects from it", fix)
    elif options.get("capped"):
        fix = "copy its rows to a collection that is not capped, and select from that"
        yield bad(check, f"is capped: MongoDB reads no snapshot of it; {users} selects from it", fix)


def _images(store: MongoStore, models: dict[str, list[str]]) -> Iterator[Check]:
    has = enabled(store, models)
    without = [name for name in has if not has[name]]
    if not without:
        yield good("images", f"MongoDB keeps them for {', '.join(sorted(has))}")
        return
    yield doubtful(
        "images",
        f"MongoDB keeps no rows as they were before a change for {', '.join(without)}: what can't be known counts as "
        "a match there (deletes, replaced rows, updates of rows that don't match)",
        "refitd doctor --fix, or in mongosh: " + "; ".join(enable_line(store, name) for name in without),
    )
