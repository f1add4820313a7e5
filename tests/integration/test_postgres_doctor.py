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
from refitd import images
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
def test_a_standby(which: str, tmp_path: Path) -> None:
    started(which, tmp_path).stop()
    (tmp_path / "db" / "standby.signal").touch()
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


def test_commits_that_wait_for_a_standby(own: EmbeddedPostgres, shop: Pg, monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- the publication ------------------------------------------------------------------------------------------------


def test_the_publication(own: EmbeddedPostgres, shop: Pg) -> None:
    shop.execute("CREATE ROLE ada LOGIN REPLICATION")
    shop.execute("CREATE SCHEMA refitd AUTHORIZATION ada")
    ada, postgres = login(own, "ada"), own.uri("shop")
    with opened(ada):
        shop.execute("CREATE PUBLICATION refitd WITH (publish = 'insert')")
        checks = doctor(postgres)
        assert "publication" in doubted(checks)
        assert "lacks refitd.models, refitd.versions" in checks["publication"].evidence
        checks = doctor(ada)
        assert "publication" in failed(checks)
        assert "as postgres: ALTER PUBLICATION refitd SET (publish = " in (checks["publication"].fix or "")
        shop.execute("ALTER PUBLICATION refitd SET (publish = 'insert, update, delete, truncate', "
            "publish_via_partition_root = true)")  # fmt: skip
        shop.execute("ALTER PUBLICATION refitd ADD TABLE refitd.models, refitd.versions")
        assert "publication" not in doubted(doctor(postgres))
        checks = doctor(ada)
        assert "publication" in doubted(checks)
        assert "OWNER TO ada" in (checks["publication"].fix or "")
        shop.execute("ALTER PUBLICATION refitd OWNER TO ada")
        assert "publication" not in doubted(doctor(ada))


@pytest.mark.parametrize("scope", ["FOR ALL TABLES", "FOR TABLES IN SCHEMA public", "FOR TABLE keyless, parts"])
def test_published_tables_that_can_not_be_updated_any_more(postgres_uri: str, pg: Pg, scope: str) -> None:
    pg.execute("CREATE TABLE keyless (a int)")
    pg.execute("CREATE TABLE parts (a int) PARTITION BY LIST (a)")
    pg.execute("CREATE TABLE part PARTITION OF parts DEFAULT")
    pg.execute("CREATE TABLE keyed (a int PRIMARY KEY)")
    pg.execute(f"CREATE PUBLICATION refitd {scope}")
    checks = doctor(postgres_uri)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        pg.execute("DELETE FROM keyless")
    assert "published tables" in failed(checks)
    assert checks["published tables"].evidence.startswith("public.keyless, public.part are in refitd")
    fix = checks["published tables"].fix or ""
    pg.execute(fix.partition(";")[0])
    pg.execute("ALTER TABLE part REPLICA IDENTITY FULL")
    pg.execute("DELETE FROM keyless")
    assert "published tables" not in doctor(postgres_uri)


# --- the slot -------------------------------------------------------------------------------------------------------


def test_the_slots_troubles(postgres: PostgresServer, postgres_uri: str, pg: Pg) -> None:
    name = slot_name(postgres_uri.rpartition("/")[2])
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as elsewhere:
        elsewhere.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
        check = doctor(postgres_uri)["slot"]
        assert not check.ok
        assert "somebody else's (plugin pgoutput, database postgres)" in check.evidence
        elsewhere.execute((check.fix or "").partition(": ")[2])
    with opened(postgres_uri) as store:
        with followed(store):
            assert doctor(postgres_uri)["slot"].ok
        check = _once_inactive(pg, name, postgres_uri)
        assert check.warning
        assert "although a daemon holds the lease" in check.evidence
        pg.execute("CREATE TABLE t AS SELECT 1 AS a")
        pg.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", [name])
        assert "was advanced or made anew" in doctor(postgres_uri)["slot"].evidence
        pg.execute('UPDATE refitd.feeds SET position = position || \'{"history": "1/1"}\'')
        assert "an older timeline" in doctor(postgres_uri)["slot"].evidence
        pg.execute("SELECT pg_drop_replication_slot(%s)", [name])
        check = doctor(postgres_uri)["slot"]
        assert not check.ok
        assert f"{name} is gone" in check.evidence


def _once_inactive(pg: Pg, name: str, uri: str) -> Check:
    """The server notices some time later that nobody reads any more."""
    while pg.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s AND active", [name]).rowcount:
        continue
    return doctor(uri)["slot"]


def test_what_the_slot_makes_the_server_keep(own: EmbeddedPostgres, shop: Pg) -> None:
    uri = own.uri("shop")
    with opened(uri) as store:
        with followed(store):
            pass
        _once_inactive(shop, "refitd_shop", uri)
        assert "slot limit" in doubted(doctor(uri))
        before = retained_bytes(store)["postgresql:shop"]
        shop.execute("CREATE TABLE t AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 4000) AS n")
        assert retained_bytes(store)["postgresql:shop"] > before + 3_000_000
        shop.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        _reload(shop, "max_slot_wal_keep_size", "1MB")
        checks = doctor(uri)
        assert "slot limit" not in doubted(checks)
        for _ in range(4):
            shop.execute("SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'a', 'b')")
        check = doctor(uri)["slot"]
        assert check.warning, check
        assert "unreserved" in check.evidence
        shop.execute("CHECKPOINT")
        check = doctor(uri)["slot"]
        assert not check.ok
        assert "refitd_shop is lost" in check.evidence
        assert retained_bytes(store) == {}


def test_a_timeout_of_slots(own: EmbeddedPostgres, shop: Pg) -> None:
    uri = own.uri("shop")
    assert "slot timeout" not in doctor(uri)
    if shop.info.server_version >= 180000:
        shop.execute("ALTER SYSTEM SET idle_replication_slot_timeout = '1d'")
        _reload(shop, "idle_replication_slot_timeout", "1d")
        check = doctor(uri)["slot timeout"]
        assert check.warning
        assert "is 1d" in check.evidence


# --- relations ------------------------------------------------------------------------------------------------------

RELATIONS = """
CREATE TABLE kept (a int PRIMARY KEY);
ALTER TABLE kept REPLICA IDENTITY FULL;
CREATE TABLE keyed (a int PRIMARY KEY);
CREATE TABLE keyless (a int);
CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY);
CREATE MATERIALIZED VIEW frozen AS SELECT a FROM kept;
CREATE VIEW seen AS SELECT a FROM keyed;
CREATE VIEW blind AS SELECT a FROM keyless;
CREATE TABLE parts (a int PRIMARY KEY) PARTITION BY RANGE (a);
CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE "High" PARTITION OF parts FOR VALUES FROM (10) TO (20);
ALTER TABLE low REPLICA IDENTITY FULL;
CREATE TABLE filtered (a int PRIMARY KEY);
CREATE TABLE refitd.elsewhere (a int PRIMARY KEY);
CREATE PUBLICATION refitd FOR TABLE filtered WHERE (a > 3);
"""
NAMES = ("kept", "keyed", "keyless", "unlogged", "frozen", "seen", "blind", "parts", "low", "filtered", "elsewhere")


def test_relations(postgres_uri: str, pg: Pg) -> None:
    with opened(postgres_uri) as store:
        pg.execute(RELATIONS)
        for name in (*NAMES, "nowhere"):
            store.documents.put({**CHURN, "_id": f"of {name}", "training_select": f"SELECT a FROM {name}"})
        checks = doctor(postgres_uri)
    relations = {name.removeprefix("relation "): one for name, one in checks.items() if name.startswith("relation ")}
    wrong = {name for name, one in relations.items() if not one.ok}
    assert wrong == {"keyless", "unlogged", "frozen", "blind", "filtered", "elsewhere"}
    assert set(relations) - wrong == {"nowhere", "customers"}
    assert "ALTER TABLE public.keyless ADD PRIMARY KEY" in (relations["keyless"].fix or "")
    assert "ALTER TABLE public.keyless ADD PRIMARY KEY" in (relations["blind"].fix or "")
    assert "SET LOGGED" in (relations["unlogged"].fix or "")
    assert "materialized view" in (relations["frozen"].fix or "")
    assert "row filter" in (relations["filtered"].fix or "")
    assert relations["elsewhere"].fix == "ALTER TABLE refitd.elsewhere SET SCHEMA public"
    assert "of nowhere selects from it" in relations["nowhere"].evidence
    assert checks["images"].warning
    fix = checks["images"].fix or ""
    assert fix.count("REPLICA IDENTITY FULL") == 4
    for name in ("public.keyed", 'public."High"', "public.keyless", "public.filtered"):
        assert f"ALTER TABLE {name} REPLICA IDENTITY FULL" in fix
    assert "update and delete then writes the whole old row" in fix


def test_relations_that_the_login_may_not_read_or_publish(own: EmbeddedPostgres, shop: Pg) -> None:
    shop.execute("CREATE ROLE ada LOGIN REPLICATION; CREATE ROLE owner; CREATE SCHEMA refitd AUTHORIZATION ada")
    shop.execute("CREATE PUBLICATION refitd; ALTER PUBLICATION refitd OWNER TO ada; CREATE SCHEMA closed")
    shop.execute("CREATE TABLE closed.t (a int PRIMARY KEY); ALTER TABLE closed.t REPLICA IDENTITY FULL")
    shop.execute("CREATE TABLE customers (age int PRIMARY KEY); ALTER TABLE customers OWNER TO owner")
    ada = login(own, "ada")
    with opened(ada) as store:
        store.documents.put({**CHURN, "_id": "closed", "training_select": "SELECT a FROM closed.t"})
        rows = [one for one in _all(ada) if one.check.startswith("relation ")]
        closed, unread, unpublished = rows
        assert "permission denied for schema closed" in closed.evidence
        assert "GRANT USAGE ON SCHEMA closed TO ada" in (closed.fix or "")
        assert unread.fix == "GRANT SELECT ON public.customers TO ada"
        assert "ALTER PUBLICATION refitd ADD TABLE ONLY public.customers" in (unpublished.fix or "")
        assert doctor(ada)["images"].fix.startswith("as owner, in psql: ALTER TABLE")  # type: ignore[union-attr]
        shop.execute("GRANT USAGE ON SCHEMA closed TO ada; GRANT SELECT ON closed.t TO ada; GRANT owner TO ada")
        shop.execute("GRANT ALL ON SCHEMA public TO owner; ALTER PUBLICATION refitd ADD TABLE ONLY closed.t")
        assert not [one for one in _all(ada) if one.check.startswith("relation ")]
        shop.execute("CREATE ROLE refitd_reader; GRANT refitd_reader TO ada")
        rows = [one for one in _all(ada) if one.check.startswith("relation ")]
        assert {one.fix for one in rows} == {
            "GRANT USAGE ON SCHEMA closed TO refitd_reader; GRANT SELECT ON closed.t TO refitd_reader",
            "GRANT SELECT ON public.customers TO refitd_reader",
        }
        shop.execute("GRANT USAGE ON SCHEMA closed TO refitd_reader; GRANT SELECT ON closed.t TO refitd_reader")
        shop.execute(
            "GRANT SELECT (age) ON customers TO refitd_reader; ALTER TABLE customers ENABLE ROW LEVEL SECURITY"
        )
        (row,) = [one for one in _all(ada) if one.check.startswith("relation ")]
        assert row.warning
        assert "has row level security, so refitd_reader reads only" in row.evidence


def _all(uri: str) -> list[Check]:
    with Session(load_settings(datastore=uri, compute="local")) as session:
        return list(diagnose(session))


# --- images ---------------------------------------------------------------------------------------------------------


def identities(pg: Pg) -> set[str]:
    """The tables of ours that have REPLICA IDENTITY FULL."""
    rows = pg.execute("SELECT relname FROM pg_class WHERE relreplident = 'f' AND relnamespace = 'public'::regnamespace")
    return {name for (name,) in rows}


def test_images_are_enabled_where_they_help(postgres_uri: str, pg: Pg) -> None:
    with opened(postgres_uri) as store:
        pg.execute(RELATIONS)
        asked = [*NAMES, "nowhere"]
        without = {name for name, has in images.enabled(store, asked).items() if not has}
        assert without == {"keyed", "keyless", "parts", "filtered"}
        assert images.enable(store, ["seen", '"High"', "frozen", "unlogged"]) == []
        assert identities(pg) == {"kept", "low"}
        altered = images.enable(store, asked)
        assert altered == ['public."High"', "public.filtered", "public.keyed", "public.keyless"]
        assert identities(pg) == {"kept", "low", "keyed", "keyless", "High", "filtered"}
        assert images.enable(store, asked) == []
        assert all(images.enabled(store, asked).values())
        assert images.enable_line(store, "public.t") == "ALTER TABLE public.t REPLICA IDENTITY FULL"


def test_images_are_the_owners_to_enable(own: EmbeddedPostgres, shop: Pg) -> None:
    shop.execute(
        "CREATE ROLE ada LOGIN; GRANT ALL ON SCHEMA public TO ada; CREATE TABLE t (a int); CREATE TABLE u (a int)"
    )
    shop.execute("ALTER TABLE u OWNER TO ada")
    store = PostgresStore(login(own, "ada"))
    with pytest.raises(
        DatastoreUnsuitable, match=r"owner \(postgres\).*: ALTER TABLE public\.t REPLICA IDENTITY FULL$"
    ):
        images.enable(store, ["t", "u"])
    assert identities(shop) == set()
    assert images.enable(store, ["u"]) == ["public.u"]
    store.close()


def test_images_wait_for_nobody(postgres_uri: str, pg: Pg) -> None:
    pg.execute("CREATE TABLE t (a int)")
    store = PostgresStore(postgres_uri)
    with psycopg.connect(postgres_uri) as busy:
        busy.execute("SELECT FROM t")
        with pytest.raises(DatastoreUnavailable, match=r"lock on public\.t"):
            images.enable(store, ["t"])
    store.close()


# --- the command ----------------------------------------------------------------------------------------------------


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run the command here on a datastore; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFITD_COMPUTE", "local")
    (tmp_path / "churn.json").write_text(json.dumps(CHURN))

    def call(uri: str, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([*arguments, "--datastore", uri])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_add_and_doctor_enable_images_when_asked(command: Command, postgres_uri: str, pg: Pg) -> None:
    customers(pg)
    code, out, err = command(postgres_uri, "add", "churn.json")
    assert (code, out) == (0, "churn: added\n")
    assert "customers: PostgreSQL's log keeps no rows as they were before a change, but for their keys" in err
    assert "MongoDB" not in err
    assert command(postgres_uri, "doctor")[0] == 0
    assert identities(pg) == set()
    code, out, err = command(postgres_uri, "doctor", "--fix")
    assert code == 0
    assert "fixed: images are kept for public.customers from now on" in err
    assert "✓ images: REPLICA IDENTITY FULL" in out
    pg.execute("ALTER TABLE customers REPLICA IDENTITY DEFAULT")
    assert "keeps no rows" not in command(postgres_uri, "add", "churn.json", "--enable-images")[2]
    assert identities(pg) == {"customers"}


def test_doctor_says_what_it_may_not_mend(own: EmbeddedPostgres, shop: Pg, command: Command) -> None:
    shop.execute("CREATE ROLE ada LOGIN REPLICATION; GRANT CREATE ON DATABASE shop TO ada")
    customers(shop, "; GRANT SELECT ON customers TO ada")
    uri = login(own, "ada")
    with opened(uri):
        code, out, err = command(uri, "doctor", "--fix")
    assert code == 1  # it can't add the table to the publication either
    assert "not fixed: PostgreSQL lets nobody but a table's owner (postgres)" in err
    assert "! images: " in out


def test_feeds_show_what_is_retained(command: Command, postgres_uri: str, pg: Pg) -> None:
    customers(pg)
    slot = slot_name(pg.info.dbname)
    with opened(postgres_uri) as store:
        with followed(store, "public.customers") as position:
            pg.execute("INSERT INTO customers SELECT n FROM generate_series(1, 1000) AS n")
            code, out, _ = command(postgres_uri, "feeds", "--json")
            (row,) = json.loads(out)
            assert code == 0
            assert set(row) == {
                "feed", "kind", "position", "lag_s", "retained_bytes", "resyncs", "dead_letters", "owner",
            }  # fmt: skip
            assert (row["kind"], row["position"]) == ("postgresql", position["lsn"])
            assert row["retained_bytes"] > 100_000
            head = command(postgres_uri, "feeds")[1].splitlines()[0].split()
            assert head[:5] == ["FEED", "KIND", "POSITION", "LAG", "RETAINED"]
        _once_inactive(pg, slot, postgres_uri)
        pg.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        assert json.loads(command(postgres_uri, "feeds", "--json")[1])[0]["retained_bytes"] is None
        assert "RETAINED" not in command(postgres_uri, "feeds")[1]
