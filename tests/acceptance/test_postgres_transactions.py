"""Must show 3: rows written in every way that PostgreSQL knows, and those that were not committed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.daemon import Daemons
from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.places import OwnServers
from tests.fixtures.postgres_datastore import COLUMNS, Connection
from tests.fixtures.subject import Act, Subject, postgres_of, row, run_sql
from tests.fixtures.waiting import wait_state

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)


def in_one(subject: Subject, act: Any) -> None:
    with postgres_of(subject).connect() as connection:
        act(connection, f'"{subject.name}"')


def savepoints(connection: Connection, table: str) -> None:
    with connection.transaction():
        connection.execute(f"INSERT INTO {table} VALUES (20, 1, 'DE', '-')")
        with connection.transaction(force_rollback=True):
            connection.execute(f"DELETE FROM {table}")
        with connection.transaction():
            connection.execute(f"DELETE FROM {table} WHERE id = 0")


def copied(connection: Connection, table: str) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for n in range(100_000, 120_000):
            copy.write_row((n, n, "DE" if n % 2 else "FR", "-"))


def loaded_and_fixed(connection: Connection, table: str) -> None:
    with connection.transaction():
        connection.execute(f"INSERT INTO {table} SELECT n, 0, 'DE', '-' FROM generate_series(20, 29) AS n")
        connection.execute(f"UPDATE {table} SET v = 1 WHERE id >= 20")


def upserted(connection: Connection, table: str) -> None:
    connection.execute(
        f"INSERT INTO {table} VALUES (0, -1, 'DE', '-'), (20, 1, 'DE', '-')"
        " ON CONFLICT (id) DO UPDATE SET v = excluded.v"
    )


def merged(connection: Connection, table: str) -> None:
    connection.execute(
        f"MERGE INTO {table} AS t USING (VALUES (0, 5), (20, 1)) AS s (id, v) ON t.id = s.id"
        " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v, 'DE', '-')"
    )


def key_changed(connection: Connection, table: str) -> None:
    connection.execute(f"UPDATE {table} SET id = 20 WHERE id = 0")


def truncated(connection: Connection, table: str) -> None:
    with connection.transaction():
        connection.execute(f"TRUNCATE {table}")
        connection.execute(f"INSERT INTO {table} VALUES (20, 1, 'DE', '-')")


WAYS: dict[str, tuple[Any, dict[str, int]]] = {
    "savepoints": (savepoints, {"inserts": 1, "deletes": 1}),
    "COPY": (copied, {"inserts": 10_000}),
    "written twice": (loaded_and_fixed, {"inserts": 10, "updates": 10}),
    "an upsert": (upserted, {"inserts": 1, "updates": 1}),
    "a merge": (merged, {"inserts": 1, "deletes": 1}),
    "another key": (key_changed, {"updates": 1}),
}


@pytest.mark.parametrize("images", [False, True], ids=["without images", "with images"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_written_in_any_way(subject: Subject, way: str, images: bool) -> None:
    act, counts = WAYS[way]
    subject.fill(images=images).add(retrain={"quiet": "100ms"})
    in_one(subject, act)
    subject.refitted(**counts)
    subject.unmoved()


def test_a_truncated_table(fitted: Subject) -> None:
    in_one(fitted, truncated)
    fitted.covers()
    assert fitted.newest()["reason"]["other"] >= 1
    run_sql(fitted, "TRUNCATE {t}")
    assert "no rows" in wait_state(fitted.store, fitted.name, "failing")["error"]
    fitted.rows.insert(row(21))
    fitted.covers()


ROLLED_BACK: dict[str, Act] = {
    "rolled back": lambda it: in_one(it, rolled_back),
    "of a temporary table": lambda it: in_one(it, temporary),
    "read and locked": lambda it: run_sql(it, "SELECT id FROM {t} FOR UPDATE"),
}


def rolled_back(connection: Connection, table: str) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(f"DELETE FROM {table}")


def temporary(connection: Connection, table: str) -> None:
    connection.execute(f"CREATE TEMPORARY TABLE {table} ({COLUMNS})")
    connection.execute(f"INSERT INTO {table} VALUES (1, 1, 'DE', '-')")


@pytest.mark.parametrize("what", ROLLED_BACK)
def test_what_was_not_committed_is_no_change(fitted: Subject, what: str) -> None:
    ROLLED_BACK[what](fitted)
    fitted.unmoved()


def test_two_phase_commit(own_server: OwnServers, daemons: Daemons) -> None:
    own = own_server("max_prepared_transactions=5")
    subject = Subject(own.store, daemons(own.store.uri).start(), "m").fill()
    subject.add()
    in_one(subject, prepared)
    subject.unmoved()
    run_sql(subject, "ROLLBACK PREPARED 'a deletion'")
    subject.unmoved()
    run_sql(subject, "COMMIT PREPARED 'an insert'")
    subject.refitted(inserts=1)


def prepared(connection: Connection, table: str) -> None:
    connection.execute("BEGIN")
    connection.execute(f"INSERT INTO {table} VALUES (20, 1, 'DE', '-')")
    connection.execute("PREPARE TRANSACTION 'an insert'")
    connection.execute("BEGIN")
    connection.execute(f"DELETE FROM {table} WHERE id = 0")
    connection.execute("PREPARE TRANSACTION 'a deletion'")
