"""What the demo's story writes, for every kind of datastore: as any client of it would, by its plain driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from refitd.demo_data import Scan


class Writer(Protocol):
    """Writes to one running datastore. Each call is committed when it returns."""

    @property
    def uri(self) -> str:
        """The datastore's address."""

    def make_tables(self) -> None:
        """`scans` and `held_out`, with old rows kept: so the daemon tells changes that matter from others."""

    def insert(self, table: str, scans: Sequence[Scan]) -> None:
        """Add rows."""

    def label(self, labels: Mapping[int, int]) -> None:
        """Set the label of scans, by number."""

    def insert_document(self) -> None:
        """Add the model. The registry must be there: the daemon makes it."""

    def shown(self) -> Sequence[str]:
        """How the document is written, in lines."""


def writer_started(kind: str, folder: Path) -> AbstractContextManager[Writer]:
    """A datastore of that kind with its data in the folder, ended with the context; its driver is imported now.

    Raises:
        DatastoreUnavailable, DatastoreUnsuitable: it can't be started; says why.
    """
    if kind == "postgresql":
        from refitd.demo_postgres import postgres_started

        return postgres_started(folder)
    from refitd.demo_mongo import mongo_started

    return mongo_started(folder)
