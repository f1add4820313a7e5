"""Which store a datastore's URI means. Drivers are imported only when their store is opened."""

from __future__ import annotations

from registry.errors import SettingsInvalid
from registry.store import Store


def open_store(datastore: str, *, artifacts_url: str | None = None, timeout_s: float = 10.0) -> Store:
    """The registry in the datastore; connects lazily.

    Args:
        datastore: `mongodb://…/DATABASE`, `mongodb+srv://…/DATABASE`, `postgresql://…/DATABASE` or
            `postgres://…/DATABASE`.
        artifacts_url: an fsspec URL for artifacts; None keeps them in the datastore.
        timeout_s: how long to look for a server that answers.

    Raises:
        SettingsInvalid: no store knows such a URI, or its driver is not installed.
    """
    scheme = datastore.partition("://")[0]
    if scheme in ("mongodb", "mongodb+srv"):
        from registry.mongo.store import MongoStore

        return MongoStore(datastore, artifacts_url=artifacts_url, timeout_s=timeout_s)
    if scheme in ("postgresql", "postgres"):
        try:
            from registry.postgres.store import PostgresStore
        except ModuleNotFoundError as error:
            raise SettingsInvalid(
                f"PostgreSQL needs packages that are not installed ({error}): pip install 'refitd[postgres]'"
            ) from error

        return PostgresStore(datastore, artifacts_url=artifacts_url, timeout_s=timeout_s)
    named = repr(scheme) if "://" in datastore else "no scheme"
    raise SettingsInvalid(
        f"the datastore's URI begins with {named}; write mongodb://HOST:PORT/DATABASE?replicaSet=NAME or "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    )
