"""What the model documents select from."""

from __future__ import annotations

from refitd.adding import relations_of
from registry.document import ModelDocument
from registry.errors import DocumentInvalid
from registry.store import Store


def watched(store: Store) -> dict[str, list[str]]:
    """Every collection, table or view that a readable document selects from, and those models."""
    found: dict[str, list[str]] = {}
    for raw in store.documents.all():
        try:
            document = ModelDocument.parse(raw)
            relations = relations_of(document, store.selects)
        except DocumentInvalid:  # `models` says so
            continue
        for name in relations:
            found.setdefault(name, []).append(document.id)
    return found
