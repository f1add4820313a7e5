"""Must show 3: a document by plain pymongo is fitted, and again when its rows change; nothing else makes it fit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.subject import Act, Subject, row


def _replace(subject: Subject, number: int, **fields: Any) -> None:
    subject.rows.replace_one({"_id": number}, {**subject.rows.find_one({"_id": number}, {"_id": 0}), **fields})


MATTERS: dict[str, tuple[Act, dict[str, int]]] = {
    "a matching insert": (lambda it: it.rows.insert_one(row(20)), {"inserts": 1}),
    "an update of a trained field": (lambda it: it.rows.update_one({"_id": 0}, {"$set": {"v": -1}}), {"updates": 1}),
    "a trained field removed": (lambda it: it.rows.update_one({"_id": 0}, {"$unset": {"v": 1}}), {"updates": 1}),
    "a row moved out": (lambda it: it.rows.update_one({"_id": 0}, {"$set": {"country": "FR"}}), {"updates": 1}),
    "a row moved in": (lambda it: it.rows.update_one({"_id": 6}, {"$set": {"country": "DE"}}), {"updates": 1}),
    "a row replaced": (lambda it: _replace(it, 0, v=-1), {"updates": 1}),
    "a row replaced, moved out": (lambda it: _replace(it, 0, country="FR"), {"updates": 1}),
    "a matching row deleted": (lambda it: it.rows.delete_one({"_id": 0}), {"deletes": 1}),
}  # fmt: skip

MATTERS_NOT: dict[str, Act] = {
    "an insert that doesn't match": lambda it: it.rows.insert_one(row(20, country="FR")),
    "an update of an unused field": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"note": "new"}}),
    "an update that changes nothing": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"v": 0}}),
    "another collection": lambda it: it.mongo.elsewhere.insert_one(row(20, _id=None)),
}

MATTERS_NOT_WITH_IMAGES: dict[str, Act] = {
    "an unused field replaced": lambda it: _replace(it, 0, note="new"),
    "an update elsewhere": lambda it: it.rows.update_one({"_id": 6}, {"$set": {"v": -1}}),
    "another row deleted": lambda it: it.rows.delete_one({"_id": 6}),
    "another row replaced": lambda it: _replace(it, 6, v=-1),
}


@pytest.mark.parametrize("images", [False, True], ids=["without images", "with images"])
def test_what_matters_and_what_does_not(subject: Subject, images: bool) -> None:
    subject.fill(images=images).add()
    for name, (act, counts) in MATTERS.items():
        print(name)
        act(subject)
        if name == "a trained field removed":
            subject.rows.update_one({"_id": 0}, {"$set": {"v": 5}})
            subject.number += 1
            continue
        subject.refitted(**counts)
        subject.rows.drop
    for act in MATTERS_NOT.values():
        act(subject)
    subject.unmoved()
