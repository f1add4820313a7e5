"""Must show 5, where PostgreSQL has ways of its own: columns, types, and selects that fail on some row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.remembering import MODULE
from tests.fixtures.subject import Subject, row, run_sql
from tests.fixtures.waiting import counted, wait_fresh, wait_state

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)


@dataclass(frozen=True, slots=True)
class BadSelect:
    """A select that fails, or gives what can't be trained on: how it is told, and what mends it."""

    made: tuple[str, ...]
    select: str
    words: tuple[str, ...]
    mend: tuple[str, ...] | Callable[[Subject], object]
    fields: dict[str, Any] = field(default_factory=dict)


def table(v: str, *values: str) -> tuple[str, ...]:
    rows = ", ".join(f"({n}, {value})" for n, value in enumerate(values))
    return (f"CREATE TABLE {{t}} (id bigint PRIMARY KEY, v {v})", f"INSERT INTO {{t}} VALUES {rows}")


def select_plainly(subject: Subject) -> None:
    subject.edit(training_select=subject.choose(), train_X=["id", "v"])


_ALL = "SELECT id, v FROM {t}"
_NUMBER = table("double precision", "1", "2")

SELECTS: dict[str, BadSelect] = {
    "no such column": BadSelect(
        ("CREATE TABLE {t} (id bigint PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"),
        _ALL,
        ('column "v" does not exist',),
        ("ALTER TABLE {t} ADD COLUMN v double precision DEFAULT 1",),
    ),
    "no such column, with a near one": BadSelect(
        _NUMBER, "SELECT id, vv AS v FROM {t}", ('column "vv" does not exist',), select_plainly
    ),
    "no such schema": BadSelect(
        _NUMBER, 'SELECT id, v FROM nowhere."x"', ('"nowhere.x" does not exist',), select_plainly
    ),
    "a field that the select doesn't give": BadSelect(
        _NUMBER, "SELECT id FROM {t}", ("field `v`",), select_plainly
    ),
    "a cast of one row": BadSelect(
        table("text", "'1'", "'one'"),
        "SELECT id, v::double precision AS v FROM {t}",
        ("invalid input syntax", '"one"'),
        ("UPDATE {t} SET v = '2' WHERE id = 1",),
    ),
    "a division by zero": BadSelect(
        table("integer", "1", "0"),
        "SELECT id, 10 / v AS v FROM {t}",
        ("division by zero",),
        ("DELETE FROM {t} WHERE v = 0",),
    ),
    "a number out of range": BadSelect(
        table("integer", "1", "2147483647"),
        "SELECT id, v + 1 AS v FROM {t}",
        ("out of range",),
        ("UPDATE {t} SET v = 0 WHERE id = 1",),
    ),
    "two columns of one name": BadSelect(
        _NUMBER, "SELECT id, v, id AS v FROM {t}", ("two columns", "`v`", "AS"), select_plainly
    ),
    "a column without a name": BadSelect(_NUMBER, "SELECT id, v + 1 FROM {t}", ("field `v`",), select_plainly),
    "a name of our own": BadSelect(
        _NUMBER, "SELECT id, v, v AS __key FROM {t}", ("`__key` is a name of refitd's own",), select_plainly
    ),
    "a text": BadSelect(
        table("text", "'a'", "'b'"), _ALL, ("could not convert string to float",),
        ("ALTER TABLE {t} ALTER v TYPE double precision USING length(v)",),
    ),
    "bytes": BadSelect(
        table("bytea", "'\\x00'", "'\\x01'"), _ALL, ("could not convert", "b'\\x00'"),
        ("ALTER TABLE {t} ALTER v TYPE double precision USING length(v)",),
    ),
    "objects": BadSelect(
        table("jsonb", """'{{"a": 1}}'""", "'[]'"), _ALL, ("`v`",),
        ("ALTER TABLE {t} ALTER v TYPE double precision USING 1",),
    ),
    "a row for a value": BadSelect(_NUMBER, "SELECT id, ROW(v, v) AS v FROM {t}", ("not 'dict'",), select_plainly),
    "a point": BadSelect(_NUMBER, "SELECT id, point(v, v) AS v FROM {t}", ("could not convert",), select_plainly),
    "arrays of arrays, of different lengths": BadSelect(
        table("double precision[]", "'{{1,2}}'", "'{{{{1,2}},{{3,4}}}}'"), _ALL, ("`v`",),
        ("UPDATE {t} SET v = '{{3,4}}' WHERE id = 1",), {"train_X": "v"},
    ),
    "an array that is missing": BadSelect(
        table("double precision[]", "'{{1,2}}'", "NULL"), _ALL, ("`v`",), ("DELETE FROM {t} WHERE v IS NULL",),
        {"train_X": "v"},
    ),
    "more digits than a float has": BadSelect(
        table("numeric", "1", "1e400"), _ALL, ("out of range for type",), ("DELETE FROM {t} WHERE v > 1",)
    ),
    "a subquery of several rows": BadSelect(
        _NUMBER, "SELECT id, (SELECT o.v FROM {t} AS o) AS v FROM {t}", ("more than one row",),
        ("DELETE FROM {t} WHERE id = 1",),
    ),
    "a column that is not grouped": BadSelect(
        _NUMBER, "SELECT id, max(v) AS v FROM {t}", ("GROUP BY",), select_plainly
    ),
    "a function that is not there": BadSelect(
        _NUMBER, "SELECT id, round(v, v) AS v FROM {t}", ("round", "does not exist"), select_plainly
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", SELECTS)
def test_bad_rows_are_told_and_fitted_when_mended(subject: Subject, bad: str) -> None:
    case = SELECTS[bad]
    run_sql(subject, *case.made)
    subject.insert(training_select=case.select.format(t=f'"{subject.name}"'), **case.fields)
    said = wait_state(subject.store, subject.name, "failing", "invalid")
    assert all(words in said["error"] for words in case.words), said["error"]
    assert len(said["error"]) < 10_000
    assert said["live"] is None
    if callable(case.mend):
        case.mend(subject)
    else:
        run_sql(subject, *case.mend)
    wait_fresh(subject.store, subject.name, 1)
    assert subject.status["error"] is None


def test_what_looks_bad_and_is_not(subject: Subject) -> None:
    """Values of fifteen megabytes, names in any script and with dots in them, an estimator that prints a lot."""
    big = "x" * (15 << 20)
    run_sql(
        subject,
        'CREATE TABLE {t} (id bigint PRIMARY KEY, "größe" double precision, "数" int, "a b.e" int, big text)',
        "ALTER TABLE {t} ALTER big SET STORAGE EXTERNAL",
        "ALTER TABLE {t} REPLICA IDENTITY FULL",
    )
    subject.rows.insert({"id": 1, "größe": 1.0, "数": 2, "a b.e": 3, "big": big})
    subject.insert(
        training_select=f'SELECT "größe", "数", "a b.e" FROM "{subject.name}" WHERE "数" >= 1',
        object={"class": f"{MODULE}.Faulty", "params": {"how": "print"}},
        train_X=["größe", "数", "a b.e"],
    )
    wait_fresh(subject.store, subject.name, 1)
    assert len(subject.store.registry.store.fits.lines(subject.fit()["id"])) < 100
    subject.rows.set({"id": 1}, big=big[1:])
    subject.rows.set({"id": 1}, 数=3)
    assert counted(wait_fresh(subject.store, subject.name, 2)) == {"updates": 1}
    subject.rows.delete({"id": 1})
    said = wait_state(subject.store, subject.name, "failing")
    assert "finds no rows" in said["error"]
    assert said["live"] == 2


def test_a_column_that_is_dropped_is_told_and_the_version_stays(fitted: Subject) -> None:
    run_sql(fitted, "ALTER TABLE {t} RENAME v TO w")
    assert 'column "v" does not exist' in wait_state(fitted.store, fitted.name, "failing")["error"]
    assert fitted.status["live"] == 1
    run_sql(fitted, "ALTER TABLE {t} RENAME w TO v")
    fitted.rows.insert(row(20))
    fitted.covers()
