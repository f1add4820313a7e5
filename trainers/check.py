"""A model document judged whole: its shape, its selects, and what its trainer says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Fault, NotFound
from registry.selects import Selects
from registry.trust import Trust
from trainers.catalog import trainer


def check_document(raw: Mapping[str, Any], trust: Trust, selects: Selects) -> ModelDocument:
    """The validated document.

    Args:
        selects: how selects are written for the datastore that holds the rows.

    Raises:
        DocumentInvalid: it has faults. All of them are named, each with its path; what can only be judged in a
            document of the right shape is judged once it has that.
    """
    faults: list[Fault] = []
    document: ModelDocument | None
    try:
        document = ModelDocument.parse(raw)
    except DocumentInvalid as error:
        faults += error.faults
        document = _without(raw, error)
    if document is not None:
        faults += [fault for fault in _deep_faults(document, trust, selects) if not _told(fault, faults)]
    if faults:
        raise DocumentInvalid(faults)
    assert document is not None  # no faults, so it was parsed
    return document


def _deep_faults(document: ModelDocument, trust: Trust, selects: Selects) -> Iterator[Fault]:
    yield from _select_faults(document, selects)
    yield from _field_faults(document, selects)
    try:
        judge = trainer(document.trainer)
    except NotFound as error:
        yield Fault("trainer", str(error))
        return
    yield from judge.check(document, trust)


def _select_faults(document: ModelDocument, selects: Selects) -> Iterator[Fault]:
    given = {"training_select": document.training_select}
    if document.validation and document.validation.select is not None:
        given["validation.select"] = document.validation.select
    for path, select in given.items():
        yield from (fault.under(path) for fault in selects.faults(select, scheduled=bool(document.retrain.schedule)))


def _field_faults(document: ModelDocument, selects: Selects) -> Iterator[Fault]:
    """Names of fields that no select can give."""
    for path, fields in (("train_X", document.fields_X), ("train_y", document.fields_y)):
        for at, name in enumerate(fields):
            said = selects.field_fault(name)
            if said:
                yield Fault(path if len(fields) == 1 else f"{path}.{at}", said)


def _told(fault: Fault, faults: list[Fault]) -> bool:
    return any(fault.path == one.path or fault.path.startswith(f"{one.path}.") for one in faults)


#: Stand-ins for faulty fields, so that the others can still be judged in depth.
_PLACEHOLDERS: Mapping[str, Any] = {
    "_id": "placeholder",
    "train_X": "_base",
    "retrain": {"schedule": "0 0 * * *"},
}


def _without(raw: Mapping[str, Any], error: DocumentInvalid) -> ModelDocument | None:
    """The document without its faulty fields; None when too little is left to judge the rest."""
    faulty = {fault.path.partition(".")[0] for fault in error.faults}
    rest = {key: value for key, value in raw.items() if key not in faulty}
    filled = {name: value for name, value in _PLACEHOLDERS.items() if name in faulty}
    try:
        return ModelDocument.parse(rest | filled)
    except DocumentInvalid:
        return None
