"""Must show 5: rows that can't be trained on, and estimators that go wrong, are told; mended, they are fitted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.bad_rows import SVC, BadRows, is_told_and_fitted_when_mended, numbered
from tests.fixtures.daemon import Daemons, sklearn
from tests.fixtures.datastores import Datastore
from tests.fixtures.remembering import MODULE
from tests.fixtures.subject import Subject, row
from tests.fixtures.waiting import wait_for, wait_fresh

_TEXT = "id bigint PRIMARY KEY, v text"
_BOTH = "id bigint PRIMARY KEY, x double precision, v text"


def made_at_last(subject: Subject) -> None:
    subject.rows.make()
    subject.rows.insert(row(1))


def replaced(subject: Subject) -> None:
    subject.edit(object={"class": f"{MODULE}.Remembering"})


def faulty(how: str = "raise") -> dict[str, Any]:
    return {"object": {"class": f"{MODULE}.Faulty", "params": {"how": how}}}


ROWS: dict[str, BadRows] = {
    "no table": BadRows([], ("{no_table}",), made_at_last, columns=None),
    "no rows": BadRows(
        numbered(1, 2),
        ("finds no rows", "matching rows come"),
        lambda it: it.rows.insert({"id": 3, "v": 2, "note": "wanted"}),
        select={"note": "wanted"},
    ),
    "text for numbers": BadRows(
        numbered("a", "b"),
        ("could not convert string to float",),
        lambda it: it.rows.set({}, v="2"),
        columns=_TEXT,
    ),
    "targets missing": BadRows(
        [*numbered("a", "b", "a", "b"), {"id": 9}],
        ("`v` is missing in 1 of 5 rows",),
        lambda it: it.rows.delete({"id": 9}),
        SVC,
        columns=_TEXT,
    ),
    "values missing": BadRows(
        [{"id": 0, "x": 0.0, "v": "a"}, {"id": 1, "x": 1.0, "v": "b"}, {"id": 9, "v": "a"}],
        ("`x` is missing in 1 of 3 rows", "NaN"),
        lambda it: it.rows.set({"id": 9}, x=7.0),
        {**SVC, "train_X": ["x"]},
        columns=_BOTH,
        select={"fields": ("x", "v")},
    ),
    "vectors of different lengths": BadRows(
        numbered([1, 2], [1, 2, 3]),
        ("`v` holds vectors of different lengths", "2", "3"),
        lambda it: it.rows.set({"id": 1}, v=[1, 2]),
        {"train_X": "v"},
        columns="id bigint PRIMARY KEY, v double precision[]",
    ),
    "one class": BadRows(
        numbered("a", "a"),
        ("SVC.fit raised ValueError", "classes"),
        lambda it: it.rows.insert({"id": 3, "v": "b"}),
        SVC,
        columns=_TEXT,
    ),
    "infinite": BadRows(
        [{"id": 0, "x": 0.0, "v": "a"}, {"id": 1, "x": 1.0, "v": "b"}, {"id": 9, "x": float("inf"), "v": "a"}],
        ("infinity",),
        lambda it: it.rows.delete({"id": 9}),
        {**SVC, "train_X": ["x"]},
        columns=_BOTH,
        select={"fields": ("x", "v")},
    ),
    "too few to split": BadRows(
        numbered("a"),
        ("`validation.split` needs at least 2 rows",),
        lambda it: it.rows.insert(*numbered(*"abababab")[1:]),
        {**SVC, "object": sklearn("dummy.DummyClassifier"), "validation": {"split": 0.5}},
        columns=_TEXT,
    ),
    "a metric that can't be computed": BadRows(
        numbered(*"ababab"),
        ("`roc_auc`", "rows held out"),
        lambda it: it.rows.insert(*numbered(*"ab" * 20)[6:]),
        {
            **SVC,
            "object": sklearn("linear_model.LogisticRegression"),
            "validation": {"split": 0.1, "metrics": ["roc_auc"]},
        },
        columns=_TEXT,
    ),
    "an estimator that raises": BadRows(numbered(1), ("the answer is not in these rows", "in fit"), replaced, faulty()),
    "an estimator that shouts": BadRows(numbered(1), ("xxx",), replaced, faulty("shout")),
    "an estimator that quits": BadRows(numbered(1), ("SystemExit",), replaced, faulty("quit")),
    "an estimator that dies": BadRows(numbered(1), ("ended with code 3",), replaced, faulty("die")),
    "an estimator that takes too long": BadRows(
        numbered(1),
        ("stopped after 1 s", "`timeout`"),
        replaced,
        {"object": {"class": f"{MODULE}.Remembering", "params": {"hold": "/dev/null"}}, "timeout": "1s"},
    ),
}


@pytest.mark.parametrize("bad", ROWS)
def test_bad_rows_are_told_and_fitted_when_mended(subject: Subject, bad: str) -> None:
    is_told_and_fitted_when_mended(subject, ROWS[bad])


@pytest.mark.timeout(300)
def test_resources_that_the_cluster_does_not_have(datastore: Datastore, daemons: Daemons, ray_address: str) -> None:
    daemon = daemons(compute=ray_address).start()
    subject = Subject(datastore, daemon, "greedy").fill()
    subject.insert(resources={"num_gpus": 8})
    wanting = wait_for(datastore, lambda: subject.status.get("error"), "the status says what is missing")
    assert "num_gpus" in wanting
    assert "8" in wanting
    subject.edit(resources={"num_gpus": 0})
    wait_fresh(datastore, subject.name, 1)
