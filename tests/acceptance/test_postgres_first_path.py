"""Must show 3, where PostgreSQL has ways of its own: selects of any shape, types, names, schemas, partitions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.postgres_datastore import COLUMNS
from tests.fixtures.subject import Subject, postgres_of, row, run_sql

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)


@dataclass(frozen=True, slots=True)
class Shape:
    """A select of some shape on a full table, with images, and another table: what changes it and what doesn't."""

    select: str
    matters: dict[str, dict[str, int]]
    matters_not: tuple[str, ...] = ()
    made: tuple[str, ...] = (
        "CREATE TABLE {o} (id bigint PRIMARY KEY, score double precision, said text)",
        "ALTER TABLE {o} REPLICA IDENTITY FULL",
        "INSERT INTO {o} SELECT n, n * 0.5, '-' FROM generate_series(0, 2000) AS n",
    )


SHAPES: dict[str, Shape] = {
    "a join": Shape(
        "SELECT r.id, o.score AS v FROM {t} AS r JOIN {o} AS o ON o.id = r.id WHERE r.country = 'DE'",
        {
            "UPDATE {o} SET score = 9 WHERE id = 3": {"updates": 1},
            "DELETE FROM {o} WHERE id = 2": {"deletes": 1},
            "UPDATE {t} SET country = 'FR' WHERE id = 0": {"updates": 1},
        },
        ("UPDATE {o} SET said = 'new'", "UPDATE {t} SET note = 'new'"),
    ),
    "a left join": Shape(
        "SELECT r.id, o.score AS v FROM {t} AS r LEFT JOIN {o} AS o USING (id) WHERE r.country = 'DE'",
        {"DELETE FROM {o} WHERE id = 2": {"deletes": 1}},
    ),
    "a subquery": Shape(
        "SELECT id, v FROM {t} WHERE country = 'DE' AND id IN (SELECT id FROM {o} WHERE score < 100)",
        {"UPDATE {o} SET score = 200 WHERE id = 3": {"updates": 1}, "DELETE FROM {t} WHERE id = 1": {"deletes": 1}},
    ),
    "a common table expression": Shape(
        "WITH chosen AS (SELECT id, v FROM {t} WHERE country = 'DE') SELECT id, v FROM chosen",
        {"UPDATE {t} SET v = 5 WHERE id = 3": {"updates": 1}},
    ),
    "an aggregate": Shape(
        "SELECT max(id) AS id, sum(v) AS v FROM {t} GROUP BY country",
        {"UPDATE {t} SET v = 5 WHERE id = 3": {"updates": 1}, "DELETE FROM {t} WHERE id = 8": {"deletes": 1}},
        ("UPDATE {t} SET note = 'new'",),
    ),
    "a window": Shape(
        "SELECT id, sum(v) OVER (ORDER BY id) AS v FROM {t} WHERE country = 'DE'",
        {"UPDATE {t} SET v = 5 WHERE id = 3": {"updates": 1}},
    ),
    "a union": Shape(
        "SELECT id, v FROM {t} WHERE country = 'DE' UNION ALL SELECT id, score FROM {o} WHERE id < 3",
        {"UPDATE {o} SET score = 77 WHERE id = 2": {"updates": 1}, "UPDATE {t} SET v = 5 WHERE id = 3": {"updates": 1}},
    ),
    "the newest": Shape(
        "SELECT id, v FROM {t} WHERE country = 'DE' ORDER BY id DESC LIMIT 3",
        {"UPDATE {t} SET v = 5 WHERE id = 5": {"updates": 1}, "DELETE FROM {t} WHERE id = 4": {"deletes": 1}},
    ),
    "expressions": Shape(
        "SELECT id, CASE WHEN note IS NULL THEN 0 ELSE v * 2 END AS v FROM {t} WHERE lower(country) LIKE 'd%'",
        {"UPDATE {t} SET note = NULL WHERE id = 5": {"updates": 1}},
    ),
    "a view": Shape(
        "SELECT id, v FROM {o}",
        {"UPDATE {t} SET v = 5 WHERE id = 3": {"updates": 1}, "DELETE FROM {t} WHERE id = 1": {"deletes": 1}},
        made=("CREATE VIEW {o} AS SELECT id, v FROM {t} WHERE country = 'DE'",),
    ),
    "a view of a view": Shape(
        "SELECT id, v FROM {o}",
        {"UPDATE {t} SET v = 5 WHERE id = 3": {"updates": 1}},
        made=(
            "CREATE VIEW {p} AS SELECT * FROM {t} WHERE country = 'DE'",
            "CREATE VIEW {o} AS SELECT id, v FROM {p}",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_select_of_any_shape_reacts_to_all_that_it_reads(subject: Subject, shape: str) -> None:
    case = SHAPES[shape]
    subject.fill(images=True)
    run_sql(subject, *case.made)
    subject.select = case.select.format(t=f'"{subject.name}"', o=f'"{subject.name}_o"')
    subject.add()
    for statement, counts in case.matters.items():
        run_sql(subject, statement)
        subject.refitted(**counts)
    run_sql(subject, *case.matters_not)
    subject.unmoved()


def test_a_partitioned_table(subject: Subject) -> None:
    run_sql(
        subject,
        f"CREATE TABLE {{t}} ({COLUMNS}) PARTITION BY RANGE (id)",
        "CREATE TABLE {o} PARTITION OF {t} FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE {p} PARTITION OF {t} DEFAULT",
    )
    subject.rows.insert(*map(row, range(9)))
    subject.add()
    run_sql(subject, "UPDATE {o} SET v = -1 WHERE id = 1")
    subject.refitted(updates=1)
    run_sql(subject, "UPDATE {t} SET id = 100 WHERE id = 2")  # into another partition: out of one and into the other
    subject.covers()
    subject.unmoved()


#: Types of a trained column, and two values of each.
NUMBERS: dict[str, tuple[str, str]] = {
    "smallint": ("1", "32767"), "integer": ("-2147483648", "5"), "bigint": ("9007199254740992", "1"),
    "real": ("1.5", "-0.25"), "double precision": ("5e-324", "1.7e308"), "numeric": ("1.25", "12345.0625"),
    "numeric(12, 2)": ("1.25", "0.5"), "boolean": ("true", "false"),
}  # fmt: skip


@pytest.mark.parametrize("type_", NUMBERS)
def test_numbers_of_any_type(subject: Subject, type_: str) -> None:
    one, other = NUMBERS[type_]
    run_sql(subject, f"CREATE TABLE {{t}} (id bigint PRIMARY KEY, v {type_})")
    run_sql(subject, f"INSERT INTO {{t}} VALUES (0, {one}), (1, {other}), (2, NULL)")
    subject.select = f'SELECT id, v::double precision AS v FROM "{subject.name}"' if type_ != "boolean" else (
        f'SELECT id, v::int AS v FROM "{subject.name}"'
    )  # fmt: skip
    subject.add()
    subject.edit(training_select=f'SELECT id, v FROM "{subject.name}"')
    version = subject.refitted("edited")
    assert version["draft"]["rows"] == 3
    run_sql(subject, f"UPDATE {{t}} SET v = {one} WHERE id = 2")
    subject.refitted(updates=1)


def test_names_of_any_kind(subject: Subject) -> None:
    run_sql(subject, 'CREATE TABLE {t} (id bigint PRIMARY KEY, "V Größe" double precision, "Order" text)')
    run_sql(subject, "INSERT INTO {t} VALUES (1, 1.5, 'DE'), (2, 2.5, 'DE'), (3, 3.5, 'FR')")
    subject.select = f"""SELECT id, "V Größe" FROM "{subject.name}" WHERE "Order" = 'DE'"""
    subject.add(train_X=["id", "V Größe"])
    run_sql(subject, 'UPDATE {t} SET "V Größe" = 0 WHERE id = 1')
    subject.refitted(updates=1)
    run_sql(subject, "INSERT INTO {t} VALUES (4, 4.5, 'FR')")
    run_sql(subject, "INSERT INTO {t} VALUES (5, 5.5, 'DE')")
    subject.refitted(inserts=1)


def test_tables_of_the_same_name_in_several_schemas(subject: Subject) -> None:
    run_sql(subject, 'CREATE SCHEMA "Shop"', f'CREATE TABLE "Shop"."{subject.name}" ({COLUMNS})')
    try:
        subject.fill()
        inner = postgres_of(subject).table(f"Shop.{subject.name}")
        inner.insert(row(0))
        subject.select = postgres_of(subject).select(f"Shop.{subject.name}", country="DE")
        subject.add()
        subject.rows.insert(row(20))  # of the one in `public`
        inner.insert(row(21))
        subject.refitted(inserts=1)
        assert len(subject.seen()) == 2
    finally:
        run_sql(subject, 'DROP SCHEMA "Shop" CASCADE')


def test_a_large_value_that_was_not_touched(subject: Subject) -> None:
    """What is kept outside the row is not told with an update of another column."""
    subject.rows.make(images=True)
    big = "".join(f"{n * 7919 % 1000003:x}" for n in range(40_000))
    subject.rows.insert(*(row(n, note=big) for n in range(3)))
    subject.select = f"""SELECT id, v FROM "{subject.name}" WHERE country = 'DE' AND length(note) > 10"""
    subject.add()
    subject.rows.set({"id": 1}, v=-5)
    subject.refitted(updates=1)
    subject.rows.set({"id": 2}, note="short")
    subject.refitted(updates=1)
