"""A commit that is in the log is not yet visible; with synchronous replication it may be so for as long as one likes.

What is decoded is stamped with its transaction, and only a snapshot that shows this transaction covers it.
"""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.fixtures.daemon import Daemons
from tests.fixtures.datastores import POSTGRESQL
from tests.fixtures.places import OwnServers
from tests.fixtures.postgres_datastore import PostgresDatastore
from tests.fixtures.subject import Subject, postgres_of, row
from tests.fixtures.waiting import wait_for, wait_fresh

pytestmark = pytest.mark.parametrize("kind", POSTGRESQL, indirect=True)

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Committing(threading.Thread):
    """A session whose COMMIT waits for a standby that isn't there: it is in the log, and nobody sees it."""

    def __init__(self, store: PostgresDatastore, statement: str) -> None:
        super().__init__(daemon=True)
        self._connection = store.connect()
        self._statement = statement

    def run(self) -> None:
        with self._connection as connection:
            connection.execute("SET synchronous_commit = on")
            # The triggers by which these tests hear of the registry would NOTIFY, and that locks out other COMMITs.
            connection.execute("SET session_replication_role = replica")
            connection.execute(self._statement)


def without_standby(own_server: OwnServers, daemons: Daemons) -> Subject:
    """A server whose commits wait for a standby named ghost, but for those of the daemon and of the test itself."""
    own = own_server()
    store = own.store
    assert isinstance(store, PostgresDatastore)
    store.run("ALTER DATABASE shop SET synchronous_commit = local")
    subject = Subject(store, daemons(store.uri).start(), "m").fill()
    subject.add()
    store.run("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
    reload(store)
    return subject


def reload(store: PostgresDatastore) -> None:
    store.rows("SELECT pg_reload_conf()")


def release(store: PostgresDatastore) -> None:
    store.run("ALTER SYSTEM RESET synchronous_standby_names")
    reload(store)


def wait_committing(subject: Subject, count: int = 1) -> None:
    store = postgres_of(subject)
    with store.connect() as connection:
        while len(connection.execute(WAITING).fetchall()) < count:
            connection.execute("SELECT pg_sleep(0.01)")  # nothing signals it


@pytest.mark.timeout(300)
def test_a_commit_that_is_decoded_and_not_visible_is_not_covered(own_server: OwnServers, daemons: Daemons) -> None:
    subject = without_standby(own_server, daemons)
    other = Subject(subject.store, subject.daemon, "other").fill()
    other.add()
    store = postgres_of(subject)
    writer = Committing(store, """INSERT INTO "m" VALUES (20, 1, 'DE', '-')""")
    writer.start()
    wait_committing(subject)
    assert (20, 1) not in subject.expected()
    wait_for(store, lambda: subject.pending()["seen"]["inserts"] == 1, "its insert is pending")
    other.unmoved()  # others are not held up, and the daemon has looked at this one meanwhile
    other.unmoved()
    assert subject.newest()["number"] == 1
    assert subject.status["state"] != "fresh"
    release(store)
    writer.join(30)
    assert not writer.is_alive()
    subject.covers()
    assert all((20, 1) in subject.seen(number) for number in range(2, subject.number + 1))


@pytest.mark.timeout(300)
def test_others_are_not_covered_by_what_is_visible_of_them(own_server: OwnServers, daemons: Daemons) -> None:
    """Later commits, which are visible, don't make the earlier one seem covered; nor does a kill in between."""
    subject = without_standby(own_server, daemons)
    store = postgres_of(subject)
    writers = [
        Committing(store, """INSERT INTO "m" VALUES (20, 1, 'DE', '-')"""),
        Committing(store, """DELETE FROM "m" WHERE id = 0"""),
    ]
    for count, writer in enumerate(writers, 1):
        writer.start()
        wait_committing(subject, count)
    for number in range(30, 40):
        subject.rows.insert(row(number))
    wait_for(store, lambda: subject.pending()["seen"]["inserts"] == 11, "all are pending")
    subject.daemon.restart()
    assert subject.status["state"] != "fresh"
    release(store)
    for writer in writers:
        writer.join(30)
    subject.covers()
    assert (20, 1) in subject.seen()
    assert (0, 0) not in subject.seen()
    subject.unmoved()


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed in between"])
@pytest.mark.timeout(300)
def test_a_document_that_is_not_visible_yet_is_read_when_it_is(
    own_server: OwnServers, daemons: Daemons, killed: bool
) -> None:
    subject = without_standby(own_server, daemons)
    store = postgres_of(subject)
    copied = "INSERT INTO refitd.models (id, spec) SELECT 'another', spec FROM refitd.models WHERE id = 'm'"
    writer = Committing(store, copied)
    writer.start()
    wait_committing(subject)
    subject.unmoved()  # nobody else is held up, and what came before has been handled
    if killed:
        subject.daemon.restart()
    release(store)
    writer.join(30)
    wait_fresh(store, "another", 1)


@pytest.mark.timeout(300)
def test_a_writer_that_gave_up_waiting_has_committed(own_server: OwnServers, daemons: Daemons) -> None:
    """A session that is ended while it waits for the standby: its row is there from then on."""
    subject = without_standby(own_server, daemons)
    store = postgres_of(subject)
    writer = threading.Thread(target=_given_up, args=(store,), daemon=True)
    writer.start()
    wait_committing(subject)
    store.rows(f"SELECT pg_terminate_backend(pid, 10000) FROM ({WAITING}) AS waiting")
    writer.join(30)
    assert (20, 1) in subject.expected()
    subject.covers()


def _given_up(store: PostgresDatastore) -> None:
    connection = store.connect()
    connection.execute("SET synchronous_commit = on")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("""INSERT INTO "m" VALUES (20, 1, 'DE', '-')""")
