"""Must show 3: a document by plain pymongo is fitted, and again when its rows change; nothing else makes it fit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.subject import Act, Subject, row


def replace(subject: Subject, number: int, **fields: Any) -> None:
    """Replace a whole row by itself with some fields changed."""
    before = subject.rows.find_one({"_id": number}) or {}
    subject.rows.replace_one({"_id": number}, {**before, **fields})


#: What is done to the nine rows of `Subject.fill`, and what the next version counts. Each touches a row of its own.
MATTERS: dict[str, tuple[Act, dict[str, int]]] = {
    "a matching insert": (lambda it: it.rows.insert_one(row(20)), {"inserts": 1}),
    "a trained field updated": (lambda it: it.rows.update_one({"_id": 0}, {"$inc": {"v": 5}}), {"updates": 1}),
    "a trained field removed": (lambda it: it.rows.update_one({"_id": 1}, {"$unset": {"v": 1}}), {"updates": 1}),
    "a row moved out": (lambda it: it.rows.update_one({"_id": 2}, {"$set": {"country": "FR"}}), {"updates": 1}),
    "a row replaced": (lambda it: replace(it, 3, v=-1), {"updates": 1}),
    "a row moved out by replacing": (lambda it: replace(it, 4, country="FR"), {"updates": 1}),
    "a row deleted": (lambda it: it.rows.delete_one({"_id": 5}), {"deletes": 1}),
    "a row moved in": (lambda it: it.rows.update_one({"_id": 6}, {"$set": {"country": "DE"}}), {"updates": 1}),
    "a row moved in by replacing": (lambda it: replace(it, 7, country="DE"), {"updates": 1}),
    "many rows": (lambda it: it.rows.update_many({"country": "DE"}, {"$inc": {"v": 1}}), {"updates": 6}),
}

MATTERS_NOT: dict[str, Act] = {
    "an insert that doesn't match": lambda it: it.rows.insert_one(row(30, country="FR")),
    "an unused field updated": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"note": "new"}}),
    "an unused field added": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"more.of": {"it": 1}}}),
    "an unused field removed": lambda it: it.rows.update_one({"_id": 0}, {"$unset": {"note": 1}}),
    "an update that changes nothing": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"country": "DE"}}),
    "a row of another collection": lambda it: it.mongo["elsewhere"].insert_one({"country": "DE"}),
    "another field of the document": lambda it: it.edit(**{"retrain.max_wait": "20s"}),
}

#: Without images these can't be told from changes that matter, and cost a fit.
ONLY_WITH_IMAGES: dict[str, Act] = {
    "an unused field replaced": lambda it: replace(it, 0, note="newer"),
    "a row updated that doesn't match": lambda it: it.rows.update_one({"_id": 8}, {"$inc": {"v": 1}}),
    "a row replaced that doesn't match": lambda it: replace(it, 8, v=-2),
    "a row deleted that doesn't match": lambda it: it.rows.delete_one({"_id": 8}),
}


@pytest.mark.parametrize("images", [False, True], ids=["without images", "with images"])
def test_what_matters_makes_a_version_and_nothing_else_does(subject: Subject, images: bool) -> None:
    first = subject.fill(images=images).add()
    assert (first["draft"]["rows"], subject.status["live"]) == (6, 1)
    for act, counts in MATTERS.values():
        act(subject)
        subject.refitted(**counts)
    for act in {**MATTERS_NOT, **(ONLY_WITH_IMAGES if images else {})}.values():
        act(subject)
    subject.unmoved()


def test_what_can_not_be_known_counts(subject: Subject) -> None:
    subject.fill().add()
    for act in ONLY_WITH_IMAGES.values():
        act(subject)
        kind = "deletes" if act is ONLY_WITH_IMAGES["a row deleted that doesn't match"] else "updates"
        subject.refitted(**{kind: 1})
