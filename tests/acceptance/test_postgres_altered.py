"""Must show 4: what PostgreSQL's log tells nothing of. Altered tables, partitions and views count as changed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.acceptance.test_lost_history import down_or_up, while_it_is
from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.postgres_datastore import COLUMNS
from tests.fixtures.subject import Subject, postgres_of, run_sql
from tests.fixtures.waiting import wait_for

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)

_PARTITIONED = f"CREATE TABLE {{t}} ({COLUMNS}) PARTITION BY RANGE (id)"
_PARTS = (
    "CREATE TABLE {o} PARTITION OF {t} FOR VALUES FROM (0) TO (6)",
    "CREATE TABLE {p} PARTITION OF {t} FOR VALUES FROM (6) TO (2000)",
)
_ROWS = (
    "INSERT INTO {t} SELECT n, n * 10, 'DE', '-' FROM generate_series(0, 6) AS n",
    "INSERT INTO {t} SELECT n, n * 10, 'FR', '-' FROM generate_series(7, 8) AS n",
)


@dataclass(frozen=True, slots=True)
class Altered:
    """Statements that alter what a select finds, and those that make what is altered (the usual table if none)."""

    statements: tuple[str, ...]
    made: tuple[str, ...] = ()
    select: str = "SELECT id, v FROM {t} WHERE country = 'DE'"


ALTERED: dict[str, Altered] = {
    "truncated": Altered(("TRUNCATE {t}", "INSERT INTO {t} VALUES (40, 1, 'DE', '-')")),
    "rows made anew by a change of type": Altered(("ALTER TABLE {t} ALTER v TYPE double precision USING v + 1",)),
    "another type": Altered(("ALTER TABLE {t} ALTER v TYPE bigint USING v::bigint + 1",)),
    "a column with a default": Altered(
        ("ALTER TABLE {t} DROP COLUMN v", "ALTER TABLE {t} ADD COLUMN v double precision DEFAULT 7")
    ),
    "columns swapped": Altered(
        (
            "ALTER TABLE {t} ADD COLUMN w double precision DEFAULT 3",
            "ALTER TABLE {t} RENAME v TO was",
            "ALTER TABLE {t} RENAME w TO v",
        )
    ),
    "dropped and made again": Altered(
        ("DROP TABLE {t}", f"CREATE TABLE {{t}} ({COLUMNS})", "INSERT INTO {t} VALUES (40, 1, 'DE', '-')")
    ),
    "replaced by another table": Altered(
        (
            f"CREATE TABLE {{o}} ({COLUMNS})",
            "INSERT INTO {o} VALUES (40, 1, 'DE', '-')",
            "ALTER TABLE {t} RENAME TO {p}",
            "ALTER TABLE {o} RENAME TO {t}",
        )
    ),
    "a partition detached": Altered(
        ("ALTER TABLE {t} DETACH PARTITION {o}", "INSERT INTO {t} VALUES (7000, 1, 'FR', '-')"),
        (_PARTITIONED, *_PARTS, "CREATE TABLE {q} PARTITION OF {t} DEFAULT", *_ROWS),
    ),
    "a partition attached": Altered(
        (
            f"CREATE TABLE {{q}} ({COLUMNS})",
            "INSERT INTO {q} VALUES (3000, 1, 'DE', '-')",
            "ALTER TABLE {t} ATTACH PARTITION {q} FOR VALUES FROM (3000) TO (4000)",
        ),
        (_PARTITIONED, *_PARTS, *_ROWS),
    ),
    "a partition truncated": Altered(("TRUNCATE {o}",), (_PARTITIONED, *_PARTS, *_ROWS)),
    "a view made anew": Altered(
        ("CREATE OR REPLACE VIEW {o} AS SELECT id, v + 1 AS v FROM {t} WHERE country = 'DE'",),
        (
            f"CREATE TABLE {{t}} ({COLUMNS})",
            *_ROWS,
            "CREATE VIEW {o} AS SELECT id, v FROM {t} WHERE country = 'DE'",
        ),
        "SELECT id, v FROM {o}",
    ),
    "a table that inherits": Altered(
        ("CREATE TABLE {o} (PRIMARY KEY (id)) INHERITS ({t})", "INSERT INTO {o} VALUES (40, 1, 'DE', '-')")
    ),
}


@while_it_is
@pytest.mark.parametrize("what", ALTERED)
def test_what_is_altered_is_fitted_again(subject: Subject, what: str, down: bool) -> None:
    case = ALTERED[what]
    if case.made:
        run_sql(subject, *case.made)
    else:
        subject.fill()
    subject.select = case.select.format(t=f'"{subject.name}"', o=f'"{subject.name}_o"')
    subject.add()
    before = subject.expected()
    with down_or_up(subject, down):
        run_sql(subject, *case.statements)
    assert subject.expected() != before
    subject.covers()
    assert subject.resyncs == 0
    subject.unmoved()


HARMLESS: dict[str, str] = {
    "an index": 'CREATE INDEX ON "{0}" (country)',
    "a comment": "COMMENT ON TABLE \"{0}\" IS 'said'",
    "statistics": 'ANALYZE "{0}"',
    "a grant": 'GRANT SELECT ON "{0}" TO PUBLIC',
    "another table": 'CREATE TABLE "{0}_other" (LIKE "{0}")',
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_alters_no_row_is_no_change(fitted: Subject, what: str) -> None:
    postgres_of(fitted).run(HARMLESS[what].format(fitted.name))
    fitted.unmoved()


def test_a_row_written_before_its_table_was_followed_is_not_lost(subject: Subject) -> None:
    """A transaction that is open while its table comes into the publication is told to nobody."""
    subject.fill()
    with postgres_of(subject).connect() as connection, connection.transaction():
        connection.execute(f"""INSERT INTO "{subject.name}" VALUES (30, 1, 'DE', '-')""")
        subject.insert()
        wait_for(subject.store, lambda: subject.newest(), "fitted without it")
        assert len(subject.seen(1)) == 6
    subject.covers()
    assert (30, 1) in subject.seen()


def test_a_long_transaction_holds_up_nobody(fitted: Subject) -> None:
    """Its own rows come when it commits."""
    with postgres_of(fitted).connect() as connection, connection.transaction():
        connection.execute(f"""INSERT INTO "{fitted.name}" VALUES (30, 1, 'DE', '-')""")
        fitted.unmoved()
        fitted.unmoved()
    fitted.refitted(inserts=1)
