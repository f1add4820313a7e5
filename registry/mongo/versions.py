"""Versions in `refitd.versions`."""

from __future__ import annotations

from collections.abc import Iterable

from registry.errors import NotFound
from registry.mongo.connection import Connection, translated
from registry.mongo.rows import version_of
from registry.records import Version


class MongoVersions:
    """See `registry.store.Versions`."""

    def __init__(self, connection: Connection) -> None:
        self._versions = connection.collection("versions")
        self._models = connection.collection("models")

    @translated
    def of(self, model: str) -> list[Version]:
        """The newest first."""
        return [version_of(row) for row in self._versions.find({"model": model}).sort("number", -1)]

    @translated
    def get(self, model: str, number: int) -> Version:
        """One version. Raises `NotFound`."""
        row = self._versions.find_one({"model": model, "number": number})
        if not row:
            raise NotFound(f"{model} has no version {number}; `refitd versions {model}` lists them")
        return version_of(row)

    @translated
    def live(self, model: str) -> Version:
        """The version that `load` and `predict` use. Raises `NotFound`, saying why there is none."""
        document = self._models.find_one({"_id": model}, {"live": 1})
        if document is None:
            raise NotFound(f"there is no model {model!r}; `refitd status` lists them")
        pinned = document.get("live", "latest")
        if pinned != "latest":
            return self.get(model, pinned)
        row = self._versions.find_one({"model": model, "draft.promoted": True}, sort=[("number", -1)])
        if not row:
            raise NotFound(f"{model} has no live version yet; `refitd why {model}` says why")
        return version_of(row)

    @translated
    def remove(self, model: str, numbers: Iterable[int]) -> None:
        """Forget versions (for `gc`)."""
        self._versions.delete_many({"model": model, "number": {"$in": list(numbers)}})

    @translated
    def models(self) -> list[str]:
        """Every model that has versions, also those whose document is gone."""
        return sorted(self._versions.distinct("model"))
