"""What transactions told of documents and versions before others can read what they wrote.

A commit is in the log, and sent, before it is visible: a moment, or with synchronous replication for as long as its
standby is away. Who read a document then would read the old one, and never again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.postgres.stamps import Snapshot


@dataclass(frozen=True, slots=True)
class News:
    """Models whose documents changed, and those that published a version; None: any may have."""

    documents: frozenset[Any] | None = frozenset()
    versions: frozenset[str] | None = frozenset()

    def __bool__(self) -> bool:
        return self != News()

    def __or__(self, other: News) -> News:
        return News(_both(self.documents, other.documents), _both(self.versions, other.versions))


@dataclass(frozen=True, slots=True)
class Late:
    """News by the transactions that told them, as xid8."""

    news: Mapping[int, News] = field(default_factory=dict)

    @classmethod
    def of(cls, xids: Iterable[int]) -> Late:
        """Transactions of which nobody remembers what they told."""
        return cls(dict.fromkeys(xids, News(None, None)))

    def __or__(self, more: Mapping[int, News]) -> Late:
        found = dict(self.news)
        for xid, news in more.items():
            found[xid] = found.get(xid, News()) | news
        return Late(found)

    def parted(self, now: Snapshot) -> tuple[News, Late]:
        """What can be read by now, and what is still to come."""
        told = News()
        for xid, news in self.news.items():
            if now.shows(xid):
                told |= news
        return told, Late({xid: news for xid, news in self.news.items() if not now.shows(xid)})


def _both(one: frozenset[Any] | None, other: frozenset[Any] | None) -> frozenset[Any] | None:
    return None if one is None or other is None else one | other
