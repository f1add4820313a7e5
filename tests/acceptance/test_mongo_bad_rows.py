"""Must show 5, where MongoDB has ways of its own: fields of several types, rows as large as can be."""

from __future__ import annotations

import pytest
from bson import Regex

from tests.fixtures.bad_rows import SVC, BadRows, is_told_and_fitted_when_mended, numbered
from tests.fixtures.datastores import MONGODB
from tests.fixtures.remembering import MODULE
from tests.fixtures.subject import Subject, mongo_of
from tests.fixtures.waiting import counted, wait_fresh, wait_state

pytestmark = pytest.mark.parametrize("kind", MONGODB, indirect=True)


def all_two(subject: Subject) -> None:
    subject.rows.set({}, v=2)


def pop(subject: Subject) -> None:
    mongo_of(subject)[subject.name].update_one({"_id": 1}, {"$pop": {"v": 1}})


ROWS: dict[str, BadRows] = {
    "mixed types": BadRows(
        numbered(1, "two", 3), ("`v` holds mixed types", "int", "string"), lambda it: it.rows.set({"id": 1}, v=2)
    ),
    "text, then numbers": BadRows(numbered("a", "b"), ("could not convert string to float",), all_two),
    "no such field": BadRows(
        numbered(1, 2, name="w"),
        ("no row has a field `v`", "check its spelling"),
        lambda it: it.rows.insert({"id": 7, "v": 2}),
    ),
    "keys missing": BadRows(
        [*numbered("a", "b"), {"_id": 9, "v": "a"}],
        ("`id` is missing in 1 of 3 rows", "NaN"),
        lambda it: it.rows.set({"_id": 9}, id=7),
        SVC,
    ),
    "vectors of different lengths, one shortened": BadRows(
        numbered([1, 2], [1, 2, 3]), ("`v` holds vectors of different lengths", "2", "3"), pop, {"train_X": "v"}
    ),
    "an infinite key": BadRows(
        [*numbered("a", "b"), {"_id": 9, "id": float("inf"), "v": "a"}],
        ("infinity",),
        lambda it: it.rows.delete({"_id": 9}),
        SVC,
    ),
    "a name of our own": BadRows(
        [{"id": 1, "__key": "mine"}],
        ("`__key` is a name of refitd's own",),
        lambda it: it.rows.unset({}, "__key"),
        {"train_X": "_base"},
    ),
    "numbers too large": BadRows(
        numbered(2**53 + 1, 0.5),
        ("`v` holds numbers that no 64-bit column holds exactly",),
        lambda it: it.rows.delete({"id": 0}),
    ),
    "objects for numbers": BadRows(numbered({"$a": 1}, {"b": 2}), ("not 'dict'",), all_two),
    "a value of a strange type": BadRows(numbered(Regex("a")), ("`v` holds a", "can't be trained on"), all_two),
}


@pytest.mark.parametrize("bad", ROWS)
def test_bad_rows_are_told_and_fitted_when_mended(subject: Subject, bad: str) -> None:
    is_told_and_fitted_when_mended(subject, ROWS[bad])


def test_what_looks_bad_and_is_not(subject: Subject) -> None:
    """Rows of fifteen megabytes, names in any script and with dots in them, an estimator that prints a lot."""
    subject.rows.make(images=True)
    rows, big = mongo_of(subject)[subject.name], "x" * (15 << 20)
    rows.insert_one({"_id": 1, "größe": 1.0, "数": 2, "a b": {"c.d": 1, "e": 3}, "big": big})
    subject.insert(
        training_select={"collection": subject.name, "filter": {"数": {"$gte": 1}}},
        object={"class": f"{MODULE}.Faulty", "params": {"how": "print"}},
        train_X=["größe", "数", "a b.e"],
    )
    wait_fresh(subject.store, subject.name, 1)
    assert len(subject.store.registry.store.fits.lines(subject.fit()["id"])) < 100
    rows.update_one({"_id": 1}, {"$set": {"big": big[1:]}})
    rows.update_one({"_id": 1}, {"$set": {"数": 3}})
    # The first is too large for its images, but what it touched is told, and nobody uses that.
    assert counted(wait_fresh(subject.store, subject.name, 2)) == {"updates": 1}
    rows.replace_one({"_id": 1}, {"größe": 1.5, "数": 2, "a b": {"e": 3}, "big": big})
    wait_fresh(subject.store, subject.name, 3)
    rows.delete_one({"_id": 1})
    said = wait_state(subject.store, subject.name, "failing")
    assert "finds no rows" in said["error"]
    assert said["live"] == 3
