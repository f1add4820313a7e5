"""The model documents as the daemon knows them: validated, and what they watch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from listener.feed import Origin, Untold
from listener.matching import WatchTable
from registry.canonical import key_of
from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Fault
from registry.store import RawDocument, Store
from registry.trust import Trust
from registry.watch import UNKNOWN, Watch
from trainers.catalog import trainer
from trainers.check import check_document

#: A model's name, or a stand-in for an `_id` that is none.
Key = str | tuple[str, str]
Origins = Callable[[Collection[str]], Mapping[str, Origin | Untold]]

log: Any = structlog.get_logger("refitd.catalogue")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model document: valid with what it reads and watches, or invalid with its faults.

    It watches what it reads, but where that is a view, what the view is made of. `checked` is the document that is
    valid by itself; `document` the same, unless the datastore can't tell it what changes.
    """

    name: Key
    raw: RawDocument
    checked: ModelDocument | None
    document: ModelDocument | None
    faults: tuple[Fault, ...]
    reads: Mapping[str, Watch]
    watches: Mapping[str, Watch]

    @property
    def spec_hash(self) -> str | None:
        """The spec hash of a valid document."""
        return self.document.spec_hash() if self.document else None


class Catalogue:
    """Every entry, and the watch table of the valid ones. Read from any thread; reloaded by the feed's alone."""

    def __init__(self, store: Store, trust: Trust, origins: Origins) -> None:
        """`origins`: the feed's, see `listener.feed.Feed.origins`."""
        self._store, self._trust, self._origins = store, trust, origins
        self._entries: Mapping[Key, Entry] = {}
        self.table = WatchTable({})

    @property
    def entries(self) -> Mapping[Key, Entry]:
        """By name; a document whose `_id` can't be one has a stand-in for it."""
        return self._entries

    def reload(self, names: Collection[Key] | None = None) -> set[Key]:
        """Read these documents again (all, when None); the names whose entry changed, came or went."""
        wanted, fresh = self._read(names)
        entries = dict(self._entries)
        for name in wanted:
            old, raw = entries.pop(name, None), fresh.get(name)
            if raw is not None:
                entries[name] = old if old and _same(old.raw, raw) else self._judge(name, raw)
        self._trace(entries, wanted if names is None else [one for one in wanted if self._is_new(one, entries)])
        changed = {name for name in wanted if self._is_new(name, entries)}
        if changed:
            self._entries = entries
            self.table = WatchTable({str(name): entry.watches for name, entry in entries.items() if entry.document})
        return changed

    def _read(self, names: Collection[Key] | None) -> tuple[set[Key], dict[Key, RawDocument]]:
        if names is None or not all(isinstance(name, str) for name in names):
            fresh = {key_of(raw["_id"]): raw for raw in self._store.documents.all()}
            return set(fresh) | set(self._entries), fresh
        found = ((name, self._store.documents.get(str(name))) for name in names)
        return set(names), {name: raw for name, raw in found if raw is not None}

    def _is_new(self, name: Key, entries: Mapping[Key, Entry]) -> bool:
        return entries.get(name) is not self._entries.get(name)

    def _trace(self, entries: dict[Key, Entry], names: Collection[Key]) -> None:
        """Watch what views are made of. Any change of that counts: what a view makes of it is the server's business.

        A view can be made anew without its model's document changing: each reload of all documents looks again.
        """
        some = [entries[name] for name in names if name in entries and entries[name].reads]
        if some:
            origins = self._origins({relation for entry in some for relation in entry.reads})
            for entry in some:
                traced = _traced(entry, origins)
                entries[entry.name] = entry if traced == entry else traced

    def _judge(self, name: Key, raw: RawDocument) -> Entry:
        try:
            document = check_document(raw, self._trust, self._store.selects)
            reads = self._reads(document)
            return Entry(name, raw, document, document, (), reads, reads)
        except DocumentInvalid as error:
            return Entry(name, raw, None, None, error.faults, {}, {})
        except Exception as error:  # the edge: one document that breaks its judge must not hold up the others
            log.exception("a document could not be checked", model=str(name))
            fault = Fault("", f"this document could not be checked: {type(error).__name__}: {error}")
            return Entry(name, raw, None, None, (fault,), {}, {})

    def _reads(self, document: ModelDocument) -> Mapping[str, Watch]:
        fields = trainer(document.trainer).fields(document)
        return self._store.selects.watches(document.training_select, fields)


def _traced(entry: Entry, origins: Mapping[str, Origin | Untold]) -> Entry:
    """The entry with its views' origins watched; with a fault where changes are needed and never told."""
    watched: dict[str, Watch] = {}
    faults: list[Fault] = []
    for relation, watch in entry.reads.items():
        origin = origins[relation]
        if isinstance(origin, Untold):
            faults.append(Fault("training_select", origin.reason))
            continue
        for name in origin.relations:
            exact = name == origin.itself and name not in watched
            watched[name] = _told(watch, origin) if exact else UNKNOWN
    if faults and entry.checked and entry.checked.retrain.on_change:
        return replace(entry, document=None, watches={}, faults=tuple(faults))
    return replace(entry, document=entry.checked, watches=watched, faults=())


def _told(watch: Watch, origin: Origin) -> Watch:
    """With any field as a used one, where some of them is no column whose changes are told: computed by the server."""
    if origin.columns is None or watch.used_fields is None or watch.used_fields <= origin.columns:
        return watch
    return replace(watch, used_fields=None)


def _same(one: RawDocument, other: RawDocument) -> bool:
    """Alike but for `status`, which is ours. Without one it was written anew, and has to be told again."""
    return "status" in other and {**one, "status": None} == {**other, "status": None}
