"""deploy/postgres/role.sql: with these roles, on real servers, everything works and nothing more."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from listener.daemon import Daemon, DaemonOptions
from listener.feed import Kind
from listener.postgres_feed import PostgresFeed
from refitd.checks import Check, diagnose
from refitd.database import connect
from refitd.embedded_postgres import EmbeddedPostgres
from refitd.session import Session
from refitd.settings import load_settings
from refitd.signals import until
from registry.errors import RefitdError
from registry.postgres.connection import READER
from registry.postgres.store import PostgresStore
from tests.fixtures.keeper import debian_programs
from tests.fixtures.servers import no_server
from trainers.postgres_wire import ROLE
from trainers.readers import open_reader

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres" / "role.sql"
Pg = psycopg.Connection[tuple[Any, ...]]
DOCUMENT = {
    "_id": "churn",
    "trainer": "sklearn",
    "object": {"class": "sklearn.tree.DecisionTreeClassifier"},
    "training_select": "SELECT age, churned FROM customers WHERE age >= 0",
    "train_X": "age",
    "train_y": "churned",
}


@dataclass(frozen=True, slots=True)
class Guarded:
    """A server on which the script was run, with the tables of somebody who runs a shop."""

    server: EmbeddedPostgres

    def uri(self, user: str) -> str:
        return self.server.uri("shop").replace("postgres@", f"{user}@")

    def connect(self, user: str) -> Pg:
        return psycopg.connect(self.uri(user), autocommit=True)


@pytest.fixture(
    scope="module", params=[pytest.param(True, id="postgresql-15"), pytest.param(False, id="postgresql-18")]
)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    programs = debian_programs() or no_server("no psql: apt-get install postgresql")
    server = EmbeddedPostgres.start(
        tmp_path_factory.mktemp("guarded"),
        database="shop",
        bin_dir=programs if request.param else None,
        more=("-c", "fsync=off", "-c", "max_slot_wal_keep_size=1GB"),
    )
    try:
        made = Guarded(server)
        _set_up(made, programs / "psql")
        yield made
    finally:
        server.kill()


def _set_up(made: Guarded, psql: Path) -> None:
    """The script as its head says, then the statements for the tables, which it has as comments."""
    with made.connect("postgres") as admin:
        admin.execute("CREATE ROLE shop_owner LOGIN; CREATE ROLE ada LOGIN; GRANT ALL ON SCHEMA public TO shop_owner")
        with made.connect("shop_owner") as owner:
            owner.execute("CREATE TABLE customers (age int PRIMARY KEY, churned int); CREATE TABLE salaries (of int)")
            owner.execute("CREATE TABLE entrusted (secret int)")
            owner.execute("INSERT INTO customers SELECT n, n % 2 FROM generate_series(1, 20) AS n")
            subprocess.run(
                [psql, made.uri("postgres"), "-v", "ON_ERROR_STOP=1", "-q", "-f", SCRIPT],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            for statement in commented("GRANT USAGE ON SCHEMA public", "GRANT SELECT ON public", "ALTER TABLE"):
                owner.execute(statement)
            owner.execute("GRANT SELECT ON entrusted TO refitd")
        for statement in commented("ALTER PUBLICATION refitd ADD"):
            admin.execute(statement)


def commented(*beginnings: str) -> list[str]:
    """The script's statements in comments that begin so."""
    lines = [line.removeprefix("--").strip().partition(";")[0] for line in SCRIPT.read_text().splitlines()]
    found = [line for line in lines if line.startswith(beginnings)]
    assert len(found) >= len(beginnings)
    return found


@pytest.fixture
def store(guarded: Guarded) -> Iterator[PostgresStore]:
    """The registry, as the daemon's login makes it."""
    store = PostgresStore(guarded.uri("refitd"))
    store.prepare()
    store.documents.put(DOCUMENT)
    yield store
    store.close()


def doctor(uri: str) -> list[Check]:
    with Session(load_settings(datastore=uri, compute="local")) as session:
        return list(diagnose(session))


def test_doctor_has_nothing_to_say_of_the_login(guarded: Guarded, store: PostgresStore) -> None:
    checks = doctor(guarded.uri("refitd"))
    assert [one for one in checks if not one.ok] == []
    assert [one.check for one in checks if one.warning] == ["daemon"]
    assert "selects run as refitd_reader" in next(one.evidence for one in checks if one.check == "reader")


def test_the_daemons_login_follows_what_it_was_given(guarded: Guarded, store: PostgresStore) -> None:
    feed = PostgresFeed(store.connection)
    try:
        origins = feed.origins(['"customers"'])
        feed.start(frozenset({"public.customers"}))
        with guarded.connect("shop_owner") as owner:
            owner.execute("UPDATE customers SET churned = 1 - churned WHERE age = 3")
        batch = feed.next(10.0)
        while batch is None or not batch.changes:
            batch = feed.next(10.0)
    finally:
        feed.close()
    assert origins['"customers"'].itself == "public.customers"  # type: ignore[union-attr]
    (change,) = batch.changes
    assert (change.relation, change.kind) == ("public.customers", Kind.UPDATE)
    assert change.before is not None


def test_fits_read_rows_as_the_reader(store: PostgresStore) -> None:
    assert READER == ROLE
    with open_reader(store) as reader, reader.cut(None) as cut:
        (batch,) = cut.rows("SELECT count(*) AS n FROM customers", None)
        assert batch.to_pylist()[0]["n"] == 20
    assert store.connection.rows("SELECT FROM public.entrusted") == []  # the login may
    with open_reader(store) as reader, reader.cut(None) as cut, pytest.raises(RefitdError, match="permission denied"):
        list(cut.rows("SELECT secret FROM entrusted", None))


def test_the_daemon_keeps_a_model_fresh_by_its_role(guarded: Guarded) -> None:
    daemon = Daemon(DaemonOptions(datastore=guarded.uri("refitd"), compute="local"))
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        with connect(guarded.uri("refitd")) as db:
            db.add(DOCUMENT | {"retrain": {"quiet": 0}})
            assert db.wait("churn", timeout=60)["live"] == 1
            with guarded.connect("shop_owner") as owner:
                owner.execute("UPDATE customers SET churned = 1 - churned WHERE age = 4")
            assert until(db.store, lambda: db.status("churn")["live"] == 2, 60)
            assert db.load("churn").predict([{"age": 4}]) == [1]
    finally:
        daemon.stop()
        thread.join(15)


def test_the_daemons_login_reads_and_writes_no_more(guarded: Guarded, store: PostgresStore) -> None:
    with guarded.connect("refitd") as session:
        assert session.execute("SELECT count(*) FROM customers").fetchone() == (20,)
        refused(
            session,
            "SELECT FROM salaries",
            "INSERT INTO customers VALUES (99, 1)",
            "UPDATE customers SET age = 0",
            "DELETE FROM customers",
            "TRUNCATE customers",
            "ALTER PUBLICATION refitd ADD TABLE salaries",
            "CREATE SCHEMA another",
            "SELECT pg_read_file('/etc/hostname')",
        )


def test_selects_role_reads_what_was_granted_and_nothing_else(guarded: Guarded, store: PostgresStore) -> None:
    with guarded.connect("refitd") as session:
        session.execute("SET ROLE refitd_reader")
        assert session.execute("SELECT count(*) FROM customers").fetchone() == (20,)
        refused(
            session,
            "SELECT FROM salaries",
            "SELECT FROM refitd.models",
            "UPDATE customers SET age = 0",
            "DELETE FROM customers",
            "DELETE FROM refitd.versions",
            "CREATE TABLE public.mine (a int)",
            "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
            "SELECT pg_read_file('/etc/hostname')",
            "DROP PUBLICATION refitd",
        )
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        guarded.connect("refitd_reader")


def test_who_adds_models_reads_no_rows(guarded: Guarded, store: PostgresStore) -> None:
    with guarded.connect("postgres") as admin:
        for statement in commented("CREATE ROLE refitd_models", "GRANT USAGE ON SCHEMA refitd", "GRANT SELECT, INSERT"):
            admin.execute(statement)
        admin.execute("GRANT refitd_models TO ada")
    with guarded.connect("ada") as session:
        spec = json.dumps({key: value for key, value in DOCUMENT.items() if key != "_id"})
        session.execute("INSERT INTO refitd.models (id, spec) VALUES ('of ada', %s)", [spec])
        session.execute("UPDATE refitd.models SET spec = spec || '{\"paused\": true}' WHERE id = 'of ada'")
        refused(
            session, "SELECT FROM customers", "UPDATE refitd.models SET status = '{}'", "SELECT FROM refitd.versions"
        )
        session.execute("DELETE FROM refitd.models WHERE id = 'of ada'")


def refused(session: Pg, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(statement)
