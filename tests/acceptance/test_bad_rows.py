"""Must show 5: rows that can't be trained on, and estimators that go wrong, are told; mended, they are fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from bson import Regex
from pymongo.collection import Collection

from tests.fixtures.daemon import Daemons, document, sklearn
from tests.fixtures.remembering import MODULE
from tests.fixtures.subject import Mongo, Subject, row
from tests.fixtures.waiting import counted, wait_for, wait_fresh, wait_state

ABSENT = object()


@dataclass(frozen=True, slots=True)
class BadRows:
    """Rows that can't be trained on as the document says: how it is told, and what mends them."""

    rows: list[dict[str, Any]]
    words: tuple[str, ...]
    mend: Callable[[Collection[dict[str, Any]]], object] | None
    fields: dict[str, Any] = field(default_factory=dict)


def numbered(*values: Any, name: str = "v") -> list[dict[str, Any]]:
    return [{"_id": n, "id": n, name: value} for n, value in enumerate(values) if value is not ABSENT]


SVC = {"object": sklearn("svm.SVC"), "train_X": ["id"], "train_y": "v"}

ROWS: dict[str, BadRows] = {
    "no collection": BadRows([], ("there is no collection",), lambda it: it.insert_one(row(1))),
    "no rows": BadRows(
        numbered(1, 2),
        ("finds no rows", "matching rows come"),
        lambda it: it.insert_one({"id": 1, "v": 2, "a": 1}),
        {"training_select": {"filter": {"a": 1}}},
    ),
    "mixed types": BadRows(
        numbered(1, "two", 3),
        ("`v` holds mixed types", "int", "string"),
        lambda it: it.update_one({"_id": 1}, {"$set": {"v": 2}}),
    ),
    "text for numbers": BadRows(
        numbered("a", "b"), ("could not convert string to float",), lambda it: it.update_many({}, {"$set": {"v": 2}})
    ),
    "no such field": BadRows(
        numbered(1, 2, name="w"),
        ("no row has a field `v`", "check its spelling"),
        lambda it: it.insert_one({"id": 1, "v": 2}),
    ),
    "targets missing": BadRows(
        [*numbered("a", "b", "a", "b"), {"_id": 9, "id": 3}],
        ("`v` is missing in 1 of 5 rows",),
        lambda it: it.delete_one({"_id": 9}),
        SVC,
    ),
    "values missing": BadRows(
        [*numbered("a", "b"), {"_id": 9, "v": "a"}],
        ("`id` is missing in 1 of 3 rows", "NaN"),
        lambda it: it.update_one({"_id": 9}, {"$set": {"id": 7}}),
        SVC,
    ),
    "vectors of different lengths": BadRows(
        numbered([1, 2], [1, 2, 3]),
        ("`v` holds vectors of different lengths", "2", "3"),
        lambda it: it.update_one({"_id": 1}, {"$pop": {"v": 1}}),
        {"train_X": "v"},
    ),
    "one class": BadRows(
        numbered("a", "a"), ("SVC.fit raised ValueError", "classes"), lambda it: it.insert_one({"id": 3, "v": "b"}), SVC
    ),
    "infinite": BadRows(
        [*numbered("a", "b"), {"_id": 9, "id": float("inf"), "v": "a"}],
        ("infinity",),
        lambda it: it.delete_one({"_id": 9}),
        SVC,
    ),
    "too few to split": BadRows(
        numbered("a"),
        ("`validation.split` needs at least 2 rows",),
        lambda it: it.insert_many(numbered(*"abababab")[1:]),
        {**SVC, "object": sklearn("dummy.DummyClassifier"), "validation": {"split": 0.5}},
    ),
    "a metric that can't be computed": BadRows(
        numbered(*"ababab"),
        ("`roc_auc`", "rows held out"),
        lambda it: it.insert_many(numbered(*"ab" * 20)[6:]),
        {
            **SVC,
            "object": sklearn("linear_model.LogisticRegression"),
            "validation": {"split": 0.1, "metrics": ["roc_auc"]},
        },
    ),
    "numbers too large": BadRows(
        numbered(2**53 + 1, 0.5),
        ("`v` holds numbers that no 64-bit column holds exactly",),
        lambda it: it.delete_one({"_id": 0}),
    ),
    "a name of our own": BadRows(
        [{"_id": 1, "id": 1, "__key": "mine"}],
        ("`__key` is a name of refitd's own",),
        lambda it: it.update_one({}, {"$unset": {"__key": 1}}),
        {"train_X": "_base"},
    ),
    "objects for numbers": BadRows(
        numbered({"$a": 1}, {"b": 2}), ("not 'dict'",), lambda it: it.update_many({}, {"$set": {"v": 2}})
    ),
    "a value of a strange type": BadRows(
        numbered(Regex("a")), ("`v` holds a", "can't be trained on"), lambda it: it.update_many({}, {"$set": {"v": 2}})
    ),
    "an estimator that raises": BadRows(
        numbered(1), ("the answer is not in these rows", "in fit"), None, {"object": {"class": f"{MODULE}.Faulty"}}
    ),
    "an estimator that shouts": BadRows(
        numbered(1), ("xxx",), None, {"object": {"class": f"{MODULE}.Faulty", "params": {"how": "shout"}}}
    ),
    "an estimator that quits": BadRows(
        numbered(1), ("SystemExit",), None, {"object": {"class": f"{MODULE}.Faulty", "params": {"how": "quit"}}}
    ),
    "an estimator that dies": BadRows(
        numbered(1), ("ended with code 3",), None, {"object": {"class": f"{MODULE}.Faulty", "params": {"how": "die"}}}
    ),
    "an estimator that takes too long": BadRows(
        numbered(1),
        ("stopped after 1 s", "`timeout`"),
        None,
        {"object": {"class": f"{MODULE}.Remembering", "params": {"hold": "/dev/null"}}, "timeout": "1s"},
    ),
}


@pytest.mark.parametrize("kind", ROWS)
def test_bad_rows_are_told_and_fitted_when_mended(subject: Subject, kind: str) -> None:
    bad = ROWS[kind]
    if bad.rows:
        subject.rows.insert_many(dict(one) for one in bad.rows)
    select = {**bad.fields.get("training_select", {}), "collection": subject.name}
    subject.models.insert_one(document(subject.name, **{**bad.fields, "training_select": select}))
    said = wait_state(subject.mongo, subject.name, "failing")
    assert all(words in said["error"] for words in bad.words), said["error"]
    assert len(said["error"]) < 10_000
    assert said["live"] is None
    if bad.mend:
        bad.mend(subject.rows)
    else:
        subject.edit(object={"class": f"{MODULE}.Remembering"})
    wait_fresh(subject.mongo, subject.name, 1)
    assert subject.status["error"] is None


def test_what_looks_bad_and_is_not(subject: Subject) -> None:
    """Rows of fifteen megabytes, names in any script and with dots in them, an estimator that prints a lot."""
    subject.mongo.create_collection(subject.name, changeStreamPreAndPostImages={"enabled": True})
    big = "x" * (15 << 20)
    subject.rows.insert_one({"_id": 1, "größe": 1.0, "数": 2, "a b": {"c.d": 1, "e": 3}, "big": big})
    subject.filter = {"数": {"$gte": 1}}
    subject.models.insert_one(
        subject.document(
            object={"class": f"{MODULE}.Faulty", "params": {"how": "print"}}, train_X=["größe", "数", "a b.e"]
        )
    )
    wait_fresh(subject.mongo, subject.name, 1)
    assert subject.mongo["refitd.logs"].count_documents({"fit": subject.fit()["_id"]}) < 100
    subject.rows.update_one({"_id": 1}, {"$set": {"big": big[1:]}})
    subject.rows.update_one({"_id": 1}, {"$set": {"数": 3}})
    # The first is too large for its images, but what it touched is told, and nobody uses that.
    assert counted(wait_fresh(subject.mongo, subject.name, 2)) == {"updates": 1}
    subject.rows.replace_one({"_id": 1}, {"größe": 1.5, "数": 2, "a b": {"e": 3}, "big": big})
    wait_fresh(subject.mongo, subject.name, 3)
    subject.rows.delete_one({"_id": 1})
    said = wait_state(subject.mongo, subject.name, "failing")
    assert "finds no rows" in said["error"]
    assert said["live"] == 3


@pytest.mark.timeout(300)
def test_resources_that_the_cluster_does_not_have(mongo: Mongo, daemons: Daemons, ray_address: str) -> None:
    daemon = daemons(compute=ray_address).start()
    subject = Subject(mongo, daemon, "greedy").fill()
    subject.models.insert_one(subject.document(resources={"num_gpus": 8}))
    wanting = wait_for(mongo, lambda: subject.status.get("error"), "the status says what is missing")
    assert "num_gpus" in wanting
    assert "8" in wanting
    subject.edit(resources={"num_gpus": 0})
    wait_fresh(mongo, subject.name, 1)
