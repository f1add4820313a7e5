"""The model documents as the daemon knows them: validated, and what they watch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from listener.matching import WatchTable
from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Fault
from registry.mongo_select import parse_mongo_select
from registry.mongo_watch import Watch, watches
from registry.store import RawDocument, Store
from registry.trust import Trust
from trainers.catalog import trainer
from trainers.check import check_document


@dataclass(frozen=True, slots=True)
class Entry:
    """One model document: valid with what it watches, or invalid with its faults."""

    name: Any
    raw: RawDocument
    document: ModelDocument | None
    faults: tuple[Fault, ...]
    watches: Mapping[str, Watch]

    @property
    def spec_hash(self) -> str | None:
        """The spec hash of a valid document."""
        return self.document.spec_hash() if self.document else None


class Catalogue:
    """Every entry, and the watch table of the valid ones. Read from any thread; reloaded by the feed's alone."""

    def __init__(self, store: Store, trust: Trust) -> None:
        self._store, self._trust = store, trust
        self._entries: Mapping[Any, Entry] = {}
        self.table = WatchTable({})

    @property
    def entries(self) -> Mapping[Any, Entry]:
        """By the documents' `_id`, of whatever type."""
        return self._entries

    def reload(self, names: Iterable[Any] | None = None) -> set[Any]:
        """Read these documents again (all, when None); the names whose entry changed, came or went."""
        if names is None:
            fresh = {raw["_id"]: raw for raw in self._store.documents.all()}
            wanted = set(fresh) | set(self._entries)
        else:
            wanted = set(names)
            found = ((name, self._store.documents.get(name)) for name in wanted)
            fresh = {name: raw for name, raw in found if raw is not None}
        entries = dict(self._entries)
        changed = set()
        for name in wanted:
            old, raw = entries.pop(name, None), fresh.get(name)
            if raw is not None:
                entries[name] = old if old and _same(old.raw, raw) else self._judge(name, raw)
            if entries.get(name) is not old:
                changed.add(name)
        if changed:
            self._entries = entries
            self.table = WatchTable({name: entry.watches for name, entry in entries.items() if entry.document})
        return changed

    def trainers(self) -> frozenset[str]:
        """The trainers that valid documents name."""
        return frozenset(entry.document.trainer for entry in self._entries.values() if entry.document)

    def _judge(self, name: Any, raw: RawDocument) -> Entry:
        try:
            document = check_document(raw, self._trust)
        except DocumentInvalid as error:
            return Entry(name, raw, None, error.faults, {})
        return Entry(name, raw, document, (), _watches(document))


def _watches(document: ModelDocument) -> Mapping[str, Watch]:
    fields = trainer(document.trainer).fields(document)
    return watches(parse_mongo_select(document.training_select), fields)


def _same(one: RawDocument, other: RawDocument) -> bool:
    """Alike but for `status`, which is ours."""
    return {**one, "status": None} == {**other, "status": None}
