"""Which store a datastore's URI means. Drivers are imported only when their store is opened."""

from __future__ import annotations

from registry.errors import SettingsInvalid
from registry.store import Store


def open_store(datastore: str, *, artifacts_url: str | None = None, timeout_s: float = 10.0) -> Store:
    """The registry in the datastore; connects lazily.

    Args:
        datastore: `mongodb://…/DATABASE` or `mongodb+srv://…/DATABASE`.
        artifacts_url: an fsspec URL for artifacts; None keeps them in the datastore.
        timeout_s: how long to look for a server that answers.

    Raises:
        SettingsInvalid: no store knows such a URI.
    """
    scheme = datastore.partition("://")[0]
    if scheme in ("mongodb", "mongodb+srv"):
        from registry.mongo.store import MongoStore

        return MongoStore(datastore, artifacts_url=artifacts_url, timeout_s=timeout_s)
    raise SettingsInvalid(
        f"the datastore's URI begins with {scheme!r}; write mongodb://HOST:PORT/DATABASE?replicaSet=NAME"
    )
