"""Following one feed: match what comes, record it with the position, hand the models on. Runs in one thread.

The order that nothing may change: a batch's position is stored in the same transaction as what it made pending,
and only then does the feed go on.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import structlog

from listener.catalogue import Catalogue, Entry, Key
from listener.feed import Batch, Feed, Position
from listener.matching import Evaluator, add, match
from registry.errors import PositionLost
from registry.records import Counts, Delta, FeedRow, Pending, Stamp
from registry.store import Store

log: Any = structlog.get_logger("refitd.feed")

#: How long one wait for changes lasts; stopping takes at most this.
_WAIT_S = 0.5
#: A position that moved without a matching change is stored this often: going over such changes again is harmless.
_IDLE_STORE_S = 5.0
#: The `watching` of a document with faults.
NOT_WATCHED = "-"


class Recorded(Protocol):
    """Who wants to know what became pending."""

    def __call__(self, models: Iterable[Any], rows: Mapping[str, Pending]) -> None:
        """These models have something new; `rows` are those pending rows that are known already."""


class Follower:
    """One feed, from the lease that allows it to the models it makes pending."""

    def __init__(
        self, store: Store, feed: Feed, evaluator: Evaluator, catalogue: Catalogue, recorded: Recorded
    ) -> None:
        self._store, self._feed, self._evaluator = store, feed, evaluator
        self._catalogue, self._recorded = catalogue, recorded
        self._epoch = 0
        self._identity = ""
        self._followed: dict[str, Stamp] = {}
        self._position: Position = {}
        self._unfinished: dict[str, Delta] = {}
        self._stored = True
        self._stored_at = 0.0

    @property
    def followed(self) -> Mapping[str, Stamp]:
        """Each relation that is followed, and since when without a gap."""
        return self._followed

    def begin(self, row: FeedRow) -> None:
        """Open the feed where its row says it stood; where that is impossible, a resync.

        Raises:
            Fenced, DatastoreUnavailable, DatastoreUnsuitable.
        """
        self._epoch, self._identity = row.epoch, self._feed.identity()
        self._unfinished = {}
        self._followed = dict(row.relations)
        self._catalogue.reload()
        relations = self._catalogue.table.relations
        if row.position is None:
            self._start_anew(relations, None)
        elif row.identity != self._identity:
            self._start_anew(relations, f"the datastore is another one: {row.identity} became {self._identity}")
        else:
            self._open(row.position, relations)
        self._announce(list(self._catalogue.entries))

    def step(self) -> None:
        """One batch.

        Raises:
            Fenced, DatastoreUnavailable, DatastoreUnsuitable: begin again; nothing was lost.
        """
        try:
            batch = self._feed.next(_WAIT_S)
        except PositionLost as error:
            self._start_anew(self._catalogue.table.relations, str(error))
            self._announce(list(self._catalogue.entries))
            return
        if batch is not None:
            self._take(batch)
        if time.monotonic() - self._stored_at > _IDLE_STORE_S:
            self.store_position()

    def reload(self) -> None:
        """Read every document again, at a position between two batches."""
        self._documents_changed(None)

    def store_position(self) -> None:
        """Store where the feed stands, if that isn't stored yet."""
        if not self._stored:
            self._record({})

    def _take(self, batch: Batch) -> None:
        pending = self._match(batch)
        if batch.position is None:
            self._unfinished = pending
            return
        self._position, self._stored = batch.position, False
        if pending:
            self._recorded(pending, self._record(pending))
        if batch.documents is None or batch.documents:
            self._documents_changed(batch.documents)
        if batch.versions is None or batch.versions:
            self._announce(list(self._catalogue.entries) if batch.versions is None else batch.versions)

    def _match(self, batch: Batch) -> dict[str, Delta]:
        """What the batch makes pending, together with the earlier parts of its first transaction."""
        found, self._unfinished = self._unfinished, {}
        if batch.changes:
            join = self._store.join
            for model, delta in match(self._catalogue.table, batch.changes, self._evaluator, join).items():
                found[model] = add(found[model], delta, join) if model in found else delta
        return found

    def _record(self, pending: Mapping[str, Delta]) -> Mapping[str, Pending]:
        rows = self._store.feeds.record(self._feed.name, self._epoch, self._position, pending)
        self._was_stored()
        return rows

    def _was_stored(self) -> None:
        self._stored_at, self._stored = time.monotonic(), True
        self._feed.stored(self._position)

    def _documents_changed(self, names: Collection[Key] | None) -> None:
        changed = self._catalogue.reload(names)
        relations = self._catalogue.table.relations
        if relations != frozenset(self._followed):
            self._open(self._position, relations)
        if changed:
            log.info("documents changed", models=sorted(map(str, changed))[:10], count=len(changed))
            self._announce(changed)

    def _open(self, position: Position, relations: frozenset[str]) -> None:
        """Go on from a position, with relations that may be others than those followed there."""
        before = frozenset(self._followed)
        try:
            here = self._feed.resume(position, relations, before)
        except PositionLost as error:
            self._start_anew(relations, str(error))
            return
        since = self._feed.since()
        self._followed = {name: self._followed.get(name, since) for name in relations}
        self._position, self._stored = here, True
        if relations != before:
            self._store.feeds.begin(self._feed.name, self._epoch, self._identity, here, self._followed)
        self._was_stored()

    def _start_anew(self, relations: frozenset[str], reason: str | None) -> None:
        """Follow from now on. With a reason it is a resync: every model may have missed something."""
        position = self._feed.start(relations)
        since = self._feed.since()
        self._followed = dict.fromkeys(relations, since)
        self._position, self._unfinished = position, {}
        name = self._feed.name
        if reason is None:
            self._store.feeds.begin(name, self._epoch, self._identity, position, self._followed)
            self._was_stored()
            return
        models = [str(model) for model, one in self._catalogue.entries.items() if one.document]
        log.warning("resync", feed=name, reason=reason, models=len(models))
        self._store.feeds.resync(
            name, self._epoch, self._identity, position, self._followed, since, models, f"resync: {reason}"
        )
        self._was_stored()

    def _announce(self, models: Collection[Any]) -> None:
        """Close the gaps of these models, then tell the reconciler."""
        rows = self._store.fits.pending([model for model in models if isinstance(model, str)])
        gaps = {}
        for model, row in rows.items():
            entry = self._catalogue.entries.get(model)
            if entry is None:
                continue
            self._note_watching(entry, row)
            since = self._gap(entry, row)
            if since is not None:
                gaps[model] = Delta(Counts(resyncs=1), since, "its rows were not followed since the newest version")
        if gaps:
            self._record(gaps)
        self._recorded(models, {})

    def _note_watching(self, entry: Entry, row: Pending) -> None:
        """Store by which form of the document changes are matched from now on.

        A form that comes back, after another one or after faults, missed what changed meanwhile.
        """
        now = entry.spec_hash or NOT_WATCHED
        if row.watching == now:
            return
        back = row.watching is not None and row.published is not None and row.published.spec_hash == now
        self._store.fits.watching(row.model, now, "its document was another one meanwhile" if back else None)

    def _gap(self, entry: Entry, row: Pending) -> Stamp | None:
        """Since when the model's relations are all followed, if its newest version is older than that.

        Not when that is pending already.
        """
        since = [self._followed[name] for name in entry.watches if name in self._followed]
        if row.published is None or not since:
            return None
        newest = since[0]
        for one in since[1:]:
            newest = one if self._store.newer(newest, one) else newest
        covered = not self._store.newer(row.published.cut, newest)
        noted = row.need is not None and not self._store.newer(row.need, newest)
        return None if covered or noted else newest
