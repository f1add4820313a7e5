"""Versions in `refitd.versions`."""

from __future__ import annotations

from collections.abc import Iterable

from registry.errors import NotFound
from registry.postgres.connection import Connection
from registry.postgres.rows import listed, version_of
from registry.records import Version

_SELECT = f"SELECT {listed(Version)} FROM refitd.versions"


class PostgresVersions:
    """See `registry.store.Versions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, model: str) -> list[Version]:
        """The newest first."""
        rows = self._connection.rows(f"{_SELECT} WHERE model = %s ORDER BY number DESC", (model,))
        return [version_of(row) for row in rows]

    def get(self, model: str, number: int) -> Version:
        """One version. Raises `NotFound`."""
        known = isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 63
        query = f"{_SELECT} WHERE model = %s AND number = %s"
        row = self._connection.row(query, (model, number)) if known else None
        if not row:
            raise NotFound(f"{model} has no version {number}; `refitd versions {model}` lists them")
        return version_of(row)

    def live(self, model: str) -> Version:
        """The version that `load` and `predict` use. Raises `NotFound`, saying why there is none."""
        document = self._connection.row("SELECT spec -> 'live' AS live FROM refitd.models WHERE id = %s", (model,))
        if document is None:
            raise NotFound(f"there is no model {model!r}; `refitd status` lists them")
        if document["live"] not in (None, "latest"):
            return self.get(model, document["live"])
        row = self._connection.row(f"{_SELECT} WHERE model = %s AND promoted ORDER BY number DESC LIMIT 1", (model,))
        if not row:
            raise NotFound(f"{model} has no live version yet; `refitd why {model}` says why")
        return version_of(row)

    def remove(self, model: str, numbers: Iterable[int]) -> None:
        """Forget versions (for `gc`)."""
        query = "DELETE FROM refitd.versions WHERE model = %s AND number = ANY (%s::bigint[])"
        self._connection.run(query, (model, list(numbers)))

    def models(self) -> list[str]:
        """Every model that has versions, also those whose document is gone."""
        return sorted(row["model"] for row in self._connection.rows("SELECT DISTINCT model FROM refitd.versions"))
