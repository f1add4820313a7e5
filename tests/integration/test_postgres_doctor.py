"""`refitd doctor`, images and retention on real PostgreSQL servers: each check seen to pass, and to fail."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from listener.postgres_feed import PostgresFeed
from listener.postgres_slot import slot_name
from refitd import embedded_postgres, images
from refitd.checks import Check, diagnose, postgres_work
from refitd.cli import run
from refitd.embedded_postgres import EmbeddedPostgres
from refitd.retention import retained_bytes
from refitd.session import Session
from refitd.settings import load_settings
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable
from registry.postgres.store import PostgresStore
from tests.fixtures.keeper import debian_programs
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.servers import ROOT, no_server

Pg = psycopg.Connection[tuple[Any, ...]]
VERSIONS = [pytest.param("debian", id="postgresql-15"), pytest.param("packaged", id="postgresql-18")]
CHURN = {
    "_id": "churn",
    "trainer": "sklearn",
    "object": {"class": "sklearn.svm.SVC"},
    "training_select": "SELECT age, churned FROM customers WHERE country = 'DE'",
    "train_X": "age",
    "train_y": "churned",
}


def started(which: str, folder: Path, *settings: str) -> EmbeddedPostgres:
    """A server of this test's own, with settings of its own."""
    programs = None
    if which == "debian":
        programs = debian_programs() or no_server("no Debian PostgreSQL, 15 or newer: apt-get install postgresql")
    more = [part for one in ("fsync=off", *settings) for part in ("-c", one)]
    return EmbeddedPostgres.start(folder, database="shop", bin_dir=programs, more=tuple(more))


@pytest.fixture(scope="module", params=VERSIONS)
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """For roles and settings, which are a whole server's. What a test leaves there must not matter to the next."""
    server = started(request.param, tmp_path_factory.mktemp("own"), "max_prepared_transactions=5")
    yield server
    server.kill()


@pytest.fixture
def shop(own: EmbeddedPostgres) -> Iterator[Pg]:
    """A new database `shop` there, and no role but the superuser."""
    with psycopg.connect(own.uri("postgres"), autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
        admin.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        for (name,) in admin.execute("SELECT quote_ident(rolname) FROM pg_roles WHERE oid >= 16384").fetchall():
            admin.execute(f"DROP ROLE {name}")
        admin.execute("CREATE DATABASE shop")
        admin.execute("ALTER SYSTEM RESET ALL")
        admin.execute("SELECT pg_reload_conf()")
    with psycopg.connect(own.uri("shop"), autocommit=True) as connection:
        yield connection


def login(own: EmbeddedPostgres, name: str) -> str:
    return own.uri("shop").replace("postgres@", f"{name}@")


def doctor(uri: str) -> dict[str, Check]:
    """Every check by its name; a later one of the same name wins."""
    with Session(load_settings(datastore=uri, compute="local")) as session:
        return {one.check: one for one in diagnose(session)}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.ok}


def doubted(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.warning}


@contextmanager
def opened(uri: str) -> Iterator[PostgresStore]:
    """The store, with the registry and a model."""
    store = PostgresStore(uri)
    store.prepare()
    store.documents.put(CHURN)
    yield store
    store.close()


@contextmanager
def followed(store: PostgresStore, *tables: str) -> Iterator[dict[str, Any]]:
    """A feed that follows, with its position stored and its lease held."""
    feed = PostgresFeed(store.connection)
    feed.origins(tables)
    position = dict(feed.start(frozenset(tables)))
    row = store.feeds.acquire(feed.name, feed.kind, "a-test", 600.0)
    assert row is not None
    store.feeds.begin(feed.name, row.epoch, feed.identity(), position, {})
    yield position
    feed.close()


def customers(pg: Pg, more: str = "") -> None:
    pg.execute("CREATE TABLE public.customers (id int PRIMARY KEY, age int, churned bool, country text)" + more)


# --- the server -----------------------------------------------------------------------------------------------------


def test_before_the_first_start_nothing_is_wrong(postgres_uri: str, postgres: PostgresServer) -> None:
    checks = doctor(postgres_uri)
    assert failed(checks) == set()
    assert f"PostgreSQL {postgres.version}." in checks["datastore"].evidence
    for name in ("registry", "publication", "slot"):
        assert "is not there yet" in checks[name].evidence
    assert "one was committed" in checks["transactions"].evidence
    assert "models" not in checks


def test_with_a_daemon_all_is_seen(postgres_uri: str, pg: Pg) -> None:
    customers(pg)
    pg.execute("ALTER TABLE customers REPLICA IDENTITY FULL")
    with opened(postgres_uri) as store, followed(store, "public.customers"):
        checks = doctor(postgres_uri)
    assert failed(checks) == set()
    assert "one of them ours" in checks["max_replication_slots"].evidence
    assert "one of them ours" in checks["max_wal_senders"].evidence
    assert checks["registry"].evidence == "the schema refitd has version 1"
    assert checks["publication"].evidence.startswith("refitd, of postgres")
    assert "is read, it keeps" in checks["slot"].evidence
    assert checks["images"].evidence.endswith("the old rows of public.customers")
    assert not {"slot", "images", "publication", "registry"} & doubted(checks)
    assert "relation customers" not in checks


def test_no_server_and_no_such_database(postgres_uri: str) -> None:
    checks = doctor("postgresql://u:canary@127.0.0.1:1/shop")
    assert failed(checks) == {"datastore"}
    assert "canary" not in str(checks)
    assert "CREATE DATABASE" in doctor(postgres_uri + "_not")["datastore"].evidence


def test_doctor_imports_its_own_datastores_driver_alone(postgres_uri: str) -> None:
    code = (
        "import sys; from refitd.cli import run; run(['doctor', '--json', '--datastore', sys.argv[1]]);"
        "print([one for one in ('pymongo', 'psycopg') if one in sys.modules])"
    )
    for uri, driver in ((postgres_uri, "psycopg"), ("mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=50", "pymongo")):
        done = subprocess.run([sys.executable, "-c", code, uri], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.splitlines()[-1] == f"[{driver!r}]"


def test_encoding(postgres: PostgresServer, postgres_uri: str) -> None:
    database = postgres_uri.rpartition("/")[2] + "_latin"
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {database} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            checks = doctor(postgres.uri(database))
        finally:
            admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
    assert failed(checks) == {"encoding"}
    assert "ENCODING 'UTF8'" in (checks["encoding"].fix or "")


@pytest.mark.parametrize(
    ("statement", "fix"),
    [
        ("ALTER DATABASE shop SET default_transaction_read_only = on", "ALTER DATABASE shop RESET"),
        ("ALTER ROLE ada SET default_transaction_read_only = on", "ALTER ROLE ada RESET"),
        (
            "ALTER ROLE ada IN DATABASE shop SET default_transaction_read_only = on",
            "ALTER ROLE ada IN DATABASE shop RESET",
        ),
        ("SELECT", "take default_transaction_read_only out of the datastore's URI"),
    ],
    ids=["database", "role", "both", "uri"],
)
def test_a_login_that_may_not_write(own: EmbeddedPostgres, shop: Pg, statement: str, fix: str) -> None:
    shop.execute("CREATE ROLE ada LOGIN REPLICATION")
    shop.execute(statement)
    more = "?options=-c%20default_transaction_read_only%3Don" if statement == "SELECT" else ""
    checks = doctor(login(own, "ada") + more)
    assert failed(checks) == {"writable"}
    assert fix in (checks["writable"].fix or "")


@pytest.mark.parametrize("which", VERSIONS)
def test_a_standby(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(which, tmp_path).stop()
    (tmp_path / "db" / "standby.signal").touch()
    of_primary = embedded_postgres.is_ready

    def is_ready(options: Any, pid: int) -> bool:
        lines = embedded_postgres.lock_lines(options)
        return of_primary(options, pid) or (len(lines) >= 8 and lines[7].strip() == "standby")

    monkeypatch.setattr(embedded_postgres, "is_ready", is_ready)
    server = EmbeddedPostgres.start(tmp_path, bin_dir=debian_programs() if which == "debian" else None)
    try:
        checks = doctor(server.uri("shop"))
    finally:
        server.kill()
    assert failed(checks) == {"writable"}
    assert "is a standby" in checks["writable"].evidence


@pytest.mark.parametrize("which", VERSIONS)
def test_a_log_that_tells_nothing(which: str, tmp_path: Path) -> None:
    server = started(which, tmp_path, "wal_level=replica", "max_wal_senders=0")
    try:
        checks = doctor(server.uri("shop"))
    finally:
        server.kill()
    assert failed(checks) == {"wal_level", "max_wal_senders"}
    assert (checks["wal_level"].fix or "").startswith("ALTER SYSTEM SET wal_level = logical; and restart")
    assert "registry" in checks  # all that is wrong is told at once


@pytest.mark.parametrize("which", VERSIONS)
def test_no_room_for_a_slot(which: str, tmp_path: Path) -> None:
    server = started(which, tmp_path, "max_replication_slots=1", "max_wal_senders=1")
    try:
        server.create_database("other")
        assert doubted(doctor(server.uri("other"))) >= {"max_replication_slots", "max_wal_senders"}
        with opened(server.uri("shop")) as store, followed(store):
            ours, theirs = doctor(server.uri("shop")), doctor(server.uri("other"))
    finally:
        server.kill()
    assert failed(theirs) == {"max_replication_slots", "max_wal_senders"}
    assert "drop a slot that nobody needs" in (theirs["max_replication_slots"].fix or "")
    assert failed(ours) == set()


# --- the registry and its transactions ------------------------------------------------------------------------------


def test_the_registrys_schema(own: EmbeddedPostgres, shop: Pg) -> None:
    shop.execute("CREATE ROLE ada LOGIN REPLICATION")
    ada = login(own, "ada")
    checks = doctor(ada)
    assert failed(checks) == {"registry", "registry's place"}
    assert checks["registry"].fix == "CREATE SCHEMA refitd AUTHORIZATION ada"
    assert "GRANT CREATE ON DATABASE shop TO ada" in (checks["registry's place"].fix or "")
    shop.execute("CREATE SCHEMA refitd")
    assert "ALTER SCHEMA refitd OWNER TO ada" in (doctor(ada)["registry"].fix or "")
    shop.execute("ALTER SCHEMA refitd OWNER TO ada")
    assert "without tables yet" in doctor(ada)["registry"].evidence
    shop.execute("ALTER SCHEMA refitd OWNER TO postgres")
    shop.execute("GRANT USAGE ON SCHEMA refitd TO ada")
    with opened(own.uri("shop")):
        checks = doctor(ada)
        assert "models: UPDATE" in checks["registry"].evidence
        fix = checks["registry"].fix or ""
        shop.execute(fix)
        assert doctor(ada)["registry"].ok
        shop.execute("UPDATE refitd.meta SET value = '0'")
        assert "can't bring it up" in doctor(ada)["registry"].evidence
        assert "`refitd run` brings it to 1" in doctor(own.uri("shop"))["registry"].evidence
        shop.execute("UPDATE refitd.meta SET value = '99'")
        assert "a newer one made it" in doctor(ada)["registry"].evidence


def test_commits_that_wait_for_a_standby(
    own: EmbeddedPostgres, shop: Pg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_work, "COMMIT_S", 1)
    with opened(own.uri("shop")):
        assert doctor(own.uri("shop"))["transactions"].evidence.startswith("one was committed, ")
        shop.execute("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
        _reload(shop, "synchronous_standby_names", "ghost")
        checks = doctor(own.uri("shop"))
        shop.execute("ALTER SYSTEM RESET synchronous_standby_names")
        _reload(shop, "synchronous_standby_names", "")
    assert "a commit waits for a standby (synchronous_standby_names = 'ghost')" in checks["transactions"].evidence
    assert "transactions" in doubted(checks)


def _reload(connection: Pg, setting: str, value: str) -> None:
    """A server reads its settings some time after it was asked to."""
    connection.execute("SELECT pg_reload_conf()")
    while True:
        with psycopg.connect(connection.info.dsn, autocommit=True) as anew:
            if anew.execute("SELECT current_setting(%s)", [setting]).fetchone() == (value,):
                return


def test_transactions_that_hold_up_a_slot(own: EmbeddedPostgres, shop: Pg, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.execute("CREATE TABLE t (a int)")
    uri = own.uri("shop")
    with psycopg.connect(uri) as other:
        other.execute("INSERT INTO t VALUES (1)")
        assert not {"open transactions", "prepared transactions"} & set(doctor(uri))
        monkeypatch.setattr(postgres_work, "LONG_S", 0.0)
        checks = doctor(uri)
        assert f"pg_terminate_backend({other.info.backend_pid})" in (checks["open transactions"].fix or "")
        other.execute("PREPARE TRANSACTION 'it''s'")
        checks = doctor(uri)
        assert "open transactions" not in checks
        assert "ROLLBACK PREPARED 'it''s'" in (checks["prepared transactions"].fix or "")
    shop.execute("ROLLBACK PREPARED 'it''s'")


# --- the login ------------------------------------------------------------------------------------------------------


def test_what_the_login_may(own: EmbeddedPostgres, shop: Pg) -> None:
    assert {"least privilege", "reader"} <= doubted(doctor(own.uri("shop")))
    shop.execute('CREATE ROLE "Ada" LOGIN')
    ada = login(own, "Ada")
    checks = doctor(ada)
    assert checks["login"].fix == 'as a superuser: ALTER ROLE "Ada" REPLICATION'
    assert "login" in failed(checks)
    shop.execute('ALTER ROLE "Ada" REPLICATION')
    checks = doctor(ada)
    assert checks["login"].ok
    assert "least privilege" not in doubted(checks)
    shop.execute('ALTER ROLE "Ada" CREATEDB; GRANT pg_write_all_data TO "Ada"')
    checks = doctor(ada)
    assert "has CREATEDB and is a member of pg_write_all_data" in checks["least privilege"].evidence
    assert "deploy/postgres/role.sql" in (checks["least privilege"].fix or "")


def test_the_role_that_selects_run_as(own: EmbeddedPostgres, shop: Pg) -> None:
    shop.execute("CREATE ROLE ada LOGIN REPLICATION")
    ada = login(own, "ada")
    assert "there is no role refitd_reader" in doctor(ada)["reader"].evidence
    shop.execute("CREATE ROLE refitd_reader NOLOGIN")
    checks = doctor(ada)
    assert "reader" in doubted(checks)
    assert checks["reader"].fix == "GRANT refitd_reader TO ada"
    shop.execute("GRANT refitd_reader TO ada")
    assert "reader" not in doubted(doctor(ada))
    if shop.info.server_version >= 160000:
        shop.execute("GRANT refitd_reader TO ada WITH SET FALSE")
        assert "may not take" in doctor(ada)["reader"].evidence
        shop.execute("GRANT refitd_reader TO ada WITH SET TRUE")
    shop.execute("ALTER ROLE refitd_reader REPLICATION")
    assert "NOREPLICATION" in (doctor(ada)["reader"].fix or "")
