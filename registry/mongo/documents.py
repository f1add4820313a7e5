"""Model documents in the collection `refitd.models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.mongo.connection import Connection, translated
from registry.store import RawDocument


class MongoDocuments:
    """See `registry.store.Documents`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._models = connection.collection("models")

    @translated
    def all(self) -> list[RawDocument]:
        """Every document as it stands, valid or not."""
        return list(self._models.find())

    @translated
    def get(self, model: str) -> RawDocument | None:
        """One document as it stands."""
        return self._models.find_one({"_id": model})

    @translated
    def put(self, document: RawDocument) -> None:
        """Write it whole, but for `status`, which stays as it is."""
        fields = {key: value for key, value in document.items() if key != "status"}
        keep = {"status": "$status"}
        self._models.update_one(
            {"_id": document["_id"]},
            [{"$replaceWith": {"$mergeObjects": [{"$literal": fields}, keep]}}],
            upsert=True,
        )

    @translated
    def change(self, model: str, fields: Mapping[str, Any]) -> bool:
        """Set some top-level fields. False when there is no such document."""
        return self._models.update_one({"_id": model}, {"$set": dict(fields)}).matched_count == 1

    @translated
    def remove(self, model: str) -> bool:
        """Remove it; its versions stay until `gc`. False when there was none."""
        return self._models.delete_one({"_id": model}).deleted_count == 1

    @translated
    def set_status(self, model: Any, status: Mapping[str, Any]) -> None:
        """Replace `status`, if the document is still there; `model` is its `_id`, of whatever type."""
        self._models.update_one({"_id": model}, {"$set": {"status": dict(status)}})
