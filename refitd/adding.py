"""Adding model documents: all judged first, and written only when none has a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refitd import merging
from refitd.reading import read_documents
from refitd.signing import judging
from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Fault
from registry.selects import Selects
from registry.store import RawDocument, Store
from registry.trust import Trust


@dataclass(frozen=True, slots=True)
class Added:
    """One document that was written, or was there already as it is."""

    model: str
    change: Literal["added", "changed", "unchanged"]
    relations: tuple[str, ...]


def read_files(paths: Iterable[Path]) -> list[RawDocument]:
    """The documents of all files.

    Raises:
        DocumentInvalid: files that can't be read; all of them.
    """
    found: list[RawDocument] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            found += read_documents(path)
        except DocumentInvalid as error:
            faults += error.faults
    if faults:
        raise DocumentInvalid(faults)
    return found


def add_documents(
    store: Store, documents: Sequence[RawDocument], trust: Trust, *, enable_images: bool = False
) -> list[Added]:
    """Judge all, then write all.

    Raises:
        DocumentInvalid: some have faults, each named by model and path; nothing was written.
    """
    judged = judge(documents, trust, store.selects)
    if enable_images:
        from refitd.images import enable

        enable(store, {name for document in judged for name in relations_of(document, store.selects)})
    return [_write(store, raw, document) for raw, document in zip(documents, judged, strict=True)]


def judge(documents: Sequence[RawDocument], trust: Trust, selects: Selects) -> list[ModelDocument]:
    """All documents, validated. Raises `DocumentInvalid` with the faults of all."""
    from trainers.check import check_document

    judged: list[ModelDocument] = []
    faults: list[Fault] = []
    several = len(documents) > 1
    for at, raw in enumerate(documents, 1):
        try:
            judged.append(check_document(raw, judging(trust), selects))
        except DocumentInvalid as error:
            name = str(raw.get("_id") or f"document {at}")
            faults += [Fault(f"{name}: {one.path}", one.message) if several else one for one in error.faults]
    counted = Counter(document.id for document in judged)
    faults += [Fault(name, f"is given {count} times") for name, count in counted.items() if count > 1]
    if faults:
        raise DocumentInvalid(faults)
    return judged


def relations_of(document: ModelDocument, selects: Selects) -> tuple[str, ...]:
    """The collections, tables or views whose changes can make the model pending."""
    return tuple(selects.watches(document.training_select, None))


def _write(store: Store, raw: RawDocument, document: ModelDocument) -> Added:
    old = store.documents.get(document.id)
    new = merging.with_controls(raw, old)
    relations = relations_of(document, store.selects)
    if merging.same(new, old):
        return Added(document.id, "unchanged", relations)
    store.documents.put(new)
    return Added(document.id, "changed" if old else "added", relations)
