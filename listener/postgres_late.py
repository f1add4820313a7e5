"""What transactions told of documents and versions before others can read what they wrote.

A commit is in the log, and sent, before it is visible: a moment, or with synchronous replication for as long as its
standby is away. Who read a document then would read the old one, and never again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from listener.postgres_changes import Taken
from registry.postgres.stamps import Snapshot

Told = tuple[frozenset[Any] | None, frozenset[str] | None]


@dataclass(frozen=True, slots=True)
class Late:
    """Transactions, and the models whose documents they wrote or that they gave a version; None: any."""

    xids: frozenset[int] = frozenset()
    documents: frozenset[Any] | None = frozenset()
    versions: frozenset[str] | None = frozenset()

    @classmethod
    def of(cls, xids: Iterable[int]) -> Late:
        """Transactions of which nobody remembers what they told."""
        known = frozenset(xids)
        return cls(known, None, None) if known else cls()

    def with_more(self, taken: Taken) -> Late:
        """These and what was taken in now."""
        documents = None if self.documents is None or taken.documents is None else self.documents | taken.documents
        versions = None if self.versions is None else self.versions | taken.versions
        return Late(self.xids | taken.tellers, documents, versions)

    def told(self, now: Snapshot) -> Told | None:
        """What can be told when all of it can be read; None before."""
        return (self.documents, self.versions) if all(now.shows(xid) for xid in self.xids) else None
