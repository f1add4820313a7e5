"""Must show 4, where PostgreSQL has ways of its own: places in the log, slots, the publication."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.test_lost_history import down_or_up, while_it_is
from tests.fixtures.daemon import Daemons
from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.places import OwnServers
from tests.fixtures.postgres_datastore import PostgresDatastore
from tests.fixtures.subject import Subject, postgres_of, row
from tests.fixtures.waiting import wait_for

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)

PUBLICATION = "refitd"

POSITIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "garbage": lambda position: {**position, "lsn": "no place in any log"},
    "in the future": lambda position: {**position, "lsn": "FFFF/0"},
    "of another server": lambda position: {**position, "history": "7000000000000000000/1"},
    "of another publication": lambda position: {**position, "publication": 1},
    "without what was followed": lambda position: {k: v for k, v in position.items() if k != "shapes"},
}


def slot_of(store: PostgresDatastore) -> str:
    """The slot that the daemon made."""
    ((name,),) = store.rows("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
    return str(name)


def drop_slot(store: PostgresDatastore) -> None:
    """Take it from whoever reads it, and drop it before they come again."""
    name = slot_of(store)
    with store.connect() as connection:
        connection.execute(
            "DO $$ BEGIN LOOP"
            "  PERFORM pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
            f"    WHERE slot_name = '{name}' AND active;"
            f"  BEGIN PERFORM pg_drop_replication_slot('{name}'); EXIT;"
            "  EXCEPTION WHEN object_in_use THEN NULL; END;"
            "END LOOP; END $$"
        )


def resynced(subject: Subject) -> None:
    """One resync, whose version has the rows of now; the next change is an ordinary one again."""
    subject.covers()
    assert subject.resyncs == 1
    assert subject.newest()["reason"]["resyncs"] >= 1
    subject.unmoved()


@pytest.mark.parametrize("position", POSITIONS)
def test_a_position_that_is_lost_is_a_resync(fitted: Subject, position: str) -> None:
    fitted.daemon.stop()
    fitted.rows.delete({"id": 0})
    fitted.store.alter("feeds", {}, position=POSITIONS[position](fitted.store.registry.feed()["position"]))
    fitted.daemon.start()
    version = fitted.refitted("resync", resyncs=1)
    assert fitted.resyncs == 1
    assert fitted.store.registry.feed()["last_resync"] in version["reason"]["why"]
    fitted.unmoved()


@while_it_is
def test_the_slot_is_dropped(fitted: Subject, down: bool) -> None:
    with down_or_up(fitted, down):
        drop_slot(postgres_of(fitted))
        fitted.rows.delete({"id": 0})
    resynced(fitted)


def test_the_slot_is_dropped_and_made_anew_while_it_is_down(fitted: Subject) -> None:
    """Nothing of the slot's name or plugin tells that what came between is missing."""
    fitted.daemon.stop()
    store = postgres_of(fitted)
    name = slot_of(store)
    store.rows("SELECT pg_drop_replication_slot(%s)", name)
    fitted.rows.delete({"id": 0})
    store.rows("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", name)
    fitted.daemon.start()
    resynced(fitted)


def test_the_slot_is_advanced_while_it_is_down(fitted: Subject) -> None:
    """A server asked for what lies before the slot skips ahead without a word."""
    fitted.daemon.stop()
    fitted.rows.delete({"id": 0})
    store = postgres_of(fitted)
    store.rows("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", slot_of(store))
    fitted.daemon.start()
    resynced(fitted)


def test_the_slot_has_lost_its_log(own_server: OwnServers, daemons: Daemons) -> None:
    own = own_server("max_slot_wal_keep_size=32MB", "min_wal_size=32MB", "max_wal_size=32MB")
    subject = Subject(own.store, daemons(own.store.uri).start(), "m").fill()
    subject.add()
    subject.daemon.stop()
    subject.rows.delete({"id": 0})
    store = postgres_of(subject)
    for _ in range(8):  # segments of 16 MB, and checkpoints that may forget them
        store.rows("SELECT pg_switch_wal()")
        store.run("CREATE TABLE IF NOT EXISTS filler (n int)")
        store.run("INSERT INTO filler SELECT generate_series(1, 100000)")
        store.run("CHECKPOINT")
    ((state,),) = store.rows("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", slot_of(store))
    assert state == "lost"
    subject.daemon.start()
    resynced(subject)
    assert "lost" in str(subject.store.registry.feed()["last_resync"])


@while_it_is
def test_the_publication_is_made_anew(fitted: Subject, down: bool) -> None:
    store = postgres_of(fitted)
    with down_or_up(fitted, down), store.connect() as connection, connection.transaction():
        connection.execute(f"DROP PUBLICATION {PUBLICATION}")
        connection.execute(f'DELETE FROM "{fitted.name}" WHERE id = 0')
        connection.execute(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES")
    resynced(fitted)


@while_it_is
def test_the_publication_is_dropped(fitted: Subject, down: bool) -> None:
    with down_or_up(fitted, down):
        postgres_of(fitted).run(f"DROP PUBLICATION {PUBLICATION}")
        fitted.rows.delete({"id": 0})
    resynced(fitted)


@while_it_is
def test_a_table_is_taken_out_of_the_publication_and_put_back(fitted: Subject, down: bool) -> None:
    """What was changed in between is never told: the table counts as changed."""
    store = postgres_of(fitted)
    with down_or_up(fitted, down):
        store.run(f'ALTER PUBLICATION {PUBLICATION} DROP TABLE "{fitted.name}"')
        fitted.rows.delete({"id": 0})
        if down:
            store.run(f'ALTER PUBLICATION {PUBLICATION} ADD TABLE "{fitted.name}"')
    fitted.covers()
    fitted.unmoved()
    assert fitted.resyncs == 0


def test_a_slot_of_nobody_is_not_left_behind(fitted: Subject) -> None:
    """Whatever happens, a database has one slot of ours: others would keep the log for ever."""
    drop_slot(postgres_of(fitted))
    fitted.rows.delete({"id": 0})
    resynced(fitted)
    fitted.daemon.restart()
    fitted.unmoved()
    slot_of(postgres_of(fitted))


def test_the_registry_is_dropped_while_it_is_down(fitted: Subject) -> None:
    """With it go the documents: nothing is left to do, and the daemon takes new ones."""
    fitted.daemon.stop()
    postgres_of(fitted).run("DROP SCHEMA refitd CASCADE")
    fitted.rows.drop()
    fitted.daemon.start()
    fitted.number = 0
    fitted.fill().add()
    fitted.unmoved()


def test_an_idle_table_does_not_keep_the_log(fitted: Subject) -> None:
    """Much is written to tables that nobody follows: the slot moves on all the same."""
    store = postgres_of(fitted)
    store.run(f'CREATE TABLE "{fitted.name}_busy" (n int)')

    def behind() -> int:
        ((size,),) = store.rows(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots"
            " WHERE slot_name = %s",
            slot_of(store),
        )
        return int(size)

    store.run(f'INSERT INTO "{fitted.name}_busy" SELECT generate_series(1, 200000)')
    wait_for(store, lambda: behind() < 1_000_000, "the log before is given back", 60)
    fitted.rows.insert(row(20))
    fitted.refitted(inserts=1)
