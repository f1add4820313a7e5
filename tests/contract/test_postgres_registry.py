"""What is PostgreSQL's alone in the registry there: visibility, histories, tables, rights, lost connections."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from refitd.embedded_postgres import EmbeddedPostgres
from registry.document import ModelDocument
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable, Fenced, NotVisible, SettingsInvalid
from registry.owner import this_process
from registry.postgres import schema
from registry.postgres.artifacts import CHUNK
from registry.postgres.connection import snapshot
from registry.postgres.session import Session
from registry.postgres.stamps import NAMED, PgStamp, Snapshot
from registry.postgres.store import PostgresStore
from registry.records import Counts, Delta, FeedRow, Fit, FitState, VersionDraft
from registry.stores import open_store
from tests.fixtures.postgres import drop_database
from trainers.fit import new_fit

Plain = psycopg.Connection[tuple[Any, ...]]
DOCUMENT = {
    "_id": "m", "trainer": "sklearn", "object": {"class": "sklearn.svm.SVC"},
    "training_select": {"collection": "c"}, "train_X": ["a"],
}  # fmt: skip


@pytest.fixture
def store(postgres_uri: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_uri)
    opened.prepare()
    opened.documents.put(DOCUMENT)
    yield opened
    opened.close()


def lease(store: PostgresStore) -> int:
    row = store.feeds.acquire("f", "test", this_process(), 60)
    assert row is not None
    return row.epoch


def record(store: PostgresStore, epoch: int, *xids: int, history: str | None = None) -> None:
    need = PgStamp(history or store.connection.history(), xids=frozenset(xids))
    store.feeds.record("f", epoch, {}, {"m": Delta(Counts(inserts=1), need)})


def taken_over(store: PostgresStore) -> FeedRow:
    """The feed's lease, as soon as it can be had: the test's time limit is the limit."""
    while True:
        with suppress(DatastoreUnavailable):
            row = store.feeds.acquire("f", "test", "two", 60)
            if row is not None:
                return row


def start(store: PostgresStore) -> Fit:
    fit = store.fits.start(
        new_fit(store, ModelDocument.parse(DOCUMENT), DOCUMENT, {"kind": "added"}, this_process(), bound=True)
    )
    store.fits.run(fit.id, fit.token)
    return fit


def draft(cut: PgStamp) -> VersionDraft:
    return VersionDraft("d", "skops", 3, "r", {}, cut, "s", True, "always", {})


def xid_of(pg: Plain) -> int:
    row = pg.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return int(row[0])


class TestVisibility:
    def test_a_fit_waits_until_what_is_pending_can_be_seen(self, store: PostgresStore, pg: Plain) -> None:
        epoch = lease(store)
        with pg.transaction():
            xid = xid_of(pg)
            record(store, epoch, xid)
            with pytest.raises(NotVisible, match=str(xid)):
                start(store)
            assert store.fits.pending(["m"])["m"].fit is None
        fit = start(store)
        assert fit.need == PgStamp(store.connection.history(), xids=frozenset({xid}))

    def test_the_newest_stamp_covers_a_commit_and_no_open_transaction(self, store: PostgresStore, pg: Plain) -> None:
        done = xid_of(pg)
        with pg.transaction():
            open_one = xid_of(pg)
            newest = store.newest()
        history = store.connection.history()
        assert newest.covers(PgStamp(history, xids=frozenset({done})))
        assert not newest.covers(PgStamp(history, xids=frozenset({open_one})))
        assert store.newest().covers(PgStamp(history, xids=frozenset({open_one})))
        assert store.newest().lsn > newest.lsn

    def test_a_transactions_own_snapshot_is_a_stamp(self, store: PostgresStore) -> None:
        assert store.connection.transaction(snapshot).covers(store.newest())

    def test_many_needs_are_summed_up(self, store: PostgresStore, pg: Plain) -> None:
        epoch = lease(store)
        xids = [xid_of(pg) for _ in range(3 * NAMED)]
        for at in range(0, len(xids), NAMED):
            record(store, epoch, *xids[at : at + NAMED])
        need = store.fits.pending(["m"])["m"].need
        assert isinstance(need, PgStamp)
        assert need.snapshot is not None
        assert len(need.xids) <= NAMED
        assert not PgStamp(need.history, Snapshot(xids[-1])).covers(need)
        fit = start(store)
        store.fits.publish(fit.id, fit.token, draft(store.newest()))
        assert store.fits.pending(["m"])["m"].outstanding.total == 0

    def test_needs_of_another_history_are_replaced_and_hold_nothing_up(self, store: PostgresStore) -> None:
        epoch = lease(store)
        record(store, epoch, 1 << 40, history="1/00000001")
        fit = start(store)
        assert fit.need is not None
        record(store, epoch, 5)
        assert store.fits.pending(["m"])["m"].need == PgStamp(store.connection.history(), xids=frozenset({5}))
        elsewhere = PgStamp("1/00000001", Snapshot(1 << 41))
        store.fits.publish(fit.id, fit.token, draft(elsewhere))
        assert store.fits.pending(["m"])["m"].outstanding == Counts(inserts=1)
        again = start(store)
        store.fits.publish(again.id, again.token, draft(store.newest()))  # no older cut: it does not compare
        row = store.fits.pending(["m"])["m"]
        assert (row.outstanding.total, row.need) == (0, None)


class TestRepeatedCalls:
    def test_a_publish_whose_end_was_not_heard_of_gives_the_same_version(self, store: PostgresStore) -> None:
        fit = start(store)
        version = store.fits.publish(fit.id, fit.token, draft(store.newest()))
        again = store.fits.publish(fit.id, fit.token, draft(store.newest()))
        assert (again.number, again.draft, len(store.versions.of("m"))) == (1, version.draft, 1)
        with pytest.raises(Fenced):
            store.fits.publish(fit.id, "other", draft(store.newest()))

    def test_a_start_whose_end_was_not_heard_of_gives_the_same_fit(self, store: PostgresStore) -> None:
        document = ModelDocument.parse(DOCUMENT)
        fit = new_fit(store, document, DOCUMENT, {"kind": "added"}, this_process(), bound=True)
        assert store.fits.start(fit).id == store.fits.start(fit).id
        assert len(store.fits.active()) == 1

    def test_counts_of_concurrent_feeds_add_up(self, store: PostgresStore, postgres_uri: str) -> None:
        models = [f"m{n}" for n in range(6)]

        def follow(feed: int) -> None:
            mine = PostgresStore(postgres_uri)
            row = mine.feeds.acquire(f"f{feed}", "test", f"o{feed}", 60)
            assert row is not None
            for n in range(30):  # in another order each, so that unordered locks would cross
                order = [models[(n * (feed + 1) + k * (5 if feed % 2 else 1)) % 6] for k in range(6)]
                mine.feeds.record(f"f{feed}", row.epoch, {}, {model: Delta(Counts(inserts=1)) for model in order})
            mine.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(follow, range(4)))
        assert {row.seen.inserts for row in store.fits.pending(models).values()} == {120}


class TestTables:
    def test_many_may_prepare_at_once(self, postgres_uri: str, pg: Plain) -> None:
        stores = [PostgresStore(postgres_uri) for _ in range(5)]
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(PostgresStore.prepare, stores))
        for each in stores:
            each.close()
        assert pg.execute("SELECT key, value FROM refitd.meta").fetchall() == [("schema", schema.SCHEMA_VERSION)]

    def test_a_later_release_adds_to_what_is_there(
        self, store: PostgresStore, pg: Plain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE refitd.later (id int);"))
        monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
        store.prepare()
        store.prepare()
        assert pg.execute("SELECT value FROM refitd.meta").fetchall() == [(2,)]
        assert store.documents.get("m") == DOCUMENT
        monkeypatch.undo()
        with pytest.raises(DatastoreUnsuitable, match="newer release"):
            store.prepare()

    def test_psql_may_write_documents_and_no_nonsense(self, store: PostgresStore, pg: Plain) -> None:
        pg.execute("""INSERT INTO refitd.models VALUES ('hand', '{"trainer": "sklearn", "_id": "other"}')""")
        assert store.documents.get("hand") == {"_id": "hand", "trainer": "sklearn"}
        with pytest.raises(psycopg.errors.CheckViolation):
            pg.execute("INSERT INTO refitd.models VALUES ('list', '[]')")
        with pytest.raises(psycopg.errors.CheckViolation):
            pg.execute("UPDATE refitd.models SET status = '5'")

    def test_an_update_of_a_document_tells_what_it_was_before(self, store: PostgresStore, pg: Plain) -> None:
        found = pg.execute("SELECT relreplident::text FROM pg_class WHERE oid = 'refitd.models'::regclass").fetchone()
        assert found == ("f",)

    def test_names_are_text(self, store: PostgresStore) -> None:
        assert store.documents.get(5) is None
        store.documents.set_status(5, {"state": "invalid"})
        assert store.documents.get("m") == DOCUMENT

    def test_old_logs_and_fits_are_swept_away_and_versions_stay(self, store: PostgresStore, pg: Plain) -> None:
        old = start(store)
        store.fits.beat(old.id, old.token, {}, ["said"])
        store.fits.publish(old.id, old.token, draft(store.newest()))
        new = start(store)
        store.fits.beat(new.id, new.token, {}, ["said"])
        pg.execute("UPDATE refitd.logs SET at = at - interval '31 days' WHERE fit = %s", (old.id,))
        store.prepare()
        assert (store.fits.lines(old.id), len(store.fits.lines(new.id))) == ([], 1)
        pg.execute("UPDATE refitd.fits SET finished = finished - interval '366 days'")
        store.prepare()
        assert [fit.id for fit in store.fits.recent()] == [new.id]
        assert len(store.versions.of("m")) == 1

    def test_artifacts_lie_in_pieces(self, store: PostgresStore, pg: Plain) -> None:
        data = os.urandom(2 * CHUNK + 1)
        digest = store.artifacts.put(data)
        assert pg.execute("SELECT length(data) FROM refitd.artifact_chunks ORDER BY n").fetchall() == [
            (CHUNK,), (CHUNK,), (1,)
        ]  # fmt: skip
        assert store.artifacts.get(digest) == data
        store.artifacts.remove(digest)
        assert pg.execute("SELECT count(*) FROM refitd.artifact_chunks").fetchone() == (0,)

    def test_a_database_that_cannot_hold_every_text_is_refused(self, postgres_uri: str, pg: Plain) -> None:
        name = f"latin_{uuid.uuid4().hex[:8]}"
        pg.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        other = PostgresStore(f"{postgres_uri.rpartition('/')[0]}/{name}")
        with pytest.raises(DatastoreUnsuitable, match="LATIN1"):
            other.prepare()
        drop_database(pg, name)


class TestLogins:
    @pytest.fixture
    def login(self, pg: Plain) -> Iterator[str]:
        name = f"login_{uuid.uuid4().hex[:8]}"
        pg.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        pg.execute(f"DROP OWNED BY {name}")
        pg.execute(f"DROP ROLE {name}")

    @pytest.fixture
    def theirs(self, postgres_uri: str, login: str) -> Iterator[PostgresStore]:
        opened = PostgresStore(postgres_uri.replace("//postgres@", f"//{login}@"))
        yield opened
        opened.close()

    def test_one_that_may_only_use_the_tables_is_enough(
        self, store: PostgresStore, theirs: PostgresStore, login: str, pg: Plain
    ) -> None:
        with pytest.raises(DatastoreUnsuitable, match=f"GRANT USAGE, CREATE ON SCHEMA refitd TO {login}"):
            theirs.prepare()
        pg.execute(f"GRANT USAGE ON SCHEMA refitd TO {login}")
        with pytest.raises(DatastoreUnsuitable, match=f"GRANT SELECT, INSERT, UPDATE, DELETE .* TO {login}"):
            theirs.prepare()
        pg.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA refitd TO {login}")
        theirs.prepare()
        record(theirs, lease(theirs), 5)
        fit = start(theirs)
        assert theirs.fits.publish(fit.id, fit.token, draft(theirs.newest())).number == 1
        assert theirs.artifacts.get(theirs.artifacts.put(b"x")) == b"x"

    def test_one_that_may_make_nothing_is_told_the_grant(self, theirs: PostgresStore, login: str, pg: Plain) -> None:
        with pytest.raises(DatastoreUnsuitable, match=f"GRANT CREATE ON DATABASE {pg.info.dbname} TO {login}"):
            theirs.prepare()
        pg.execute(f"CREATE SCHEMA refitd AUTHORIZATION {login}")
        theirs.prepare()

    def test_an_unprepared_registry_is_empty_and_takes_nothing(self, theirs: PostgresStore) -> None:
        found = (theirs.documents.all(), theirs.feeds.all(), theirs.fits.recent(), theirs.versions.models())
        assert found == ([], [], [], [])
        assert theirs.documents.get("m") is None
        with pytest.raises(DatastoreUnsuitable, match="not prepared"):
            theirs.documents.put({"_id": "m"})

    @pytest.mark.parametrize(("setting", "used"), [("off", "on"), ("local", "local"), ("remote_write", "remote_write")])
    def test_a_commit_is_at_least_on_disk(
        self, theirs: PostgresStore, login: str, pg: Plain, setting: str, used: str
    ) -> None:
        pg.execute(f"ALTER ROLE {login} SET synchronous_commit TO {setting}")
        pg.execute(f"ALTER ROLE {login} SET timezone TO 'Asia/Tokyo'")
        row = theirs.connection.row("SELECT current_setting('synchronous_commit') AS sync, clock_timestamp() AS now")
        assert row is not None
        assert (row["sync"], row["now"].utcoffset().total_seconds()) == (used, 0)

    def test_unknown_ones_are_refused(self, postgres_uri: str) -> None:
        server = postgres_uri.rpartition("@")[2]
        for uri, says in (
            (f"postgresql://nobody@{server}", "role .nobody. does not exist"),
            (f"postgresql://postgres@{server}_not", "CREATE DATABASE"),
        ):
            with pytest.raises(DatastoreUnsuitable, match=says):
                PostgresStore(uri).prepare()
        with pytest.raises(SettingsInvalid, match="no database"):
            open_store("postgres://postgres@127.0.0.1")


class TestLostConnections:
    def test_sessions_that_were_ended_between_calls_cost_at_most_one_error(
        self, store: PostgresStore, pg: Plain
    ) -> None:
        for _ in range(5):
            store.documents.all()
            pg.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert store.documents.all() == [DOCUMENT]

    def test_a_session_that_ends_in_the_middle_of_a_transaction_writes_nothing(self, store: PostgresStore) -> None:
        def end(session: Session) -> None:
            session.rows("DELETE FROM refitd.models RETURNING id")
            session.rows("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(DatastoreUnavailable):
            store.connection.transaction(end)
        assert store.documents.all() == [DOCUMENT]

    def test_an_error_in_a_transaction_leaves_the_connection_usable(self, store: PostgresStore) -> None:
        def fail(session: Session) -> None:
            session.send("DELETE FROM refitd.models")
            session.send("SELECT 1 / 0")
            session.send("SELECT 1")

        with pytest.raises(DatastoreUnsuitable, match="division by zero"):
            store.connection.transaction(fail)
        assert store.documents.all() == [DOCUMENT]

    def test_a_server_that_says_nothing_any_more_is_unavailable(self, postgres_uri: str, store: PostgresStore) -> None:
        short = PostgresStore(postgres_uri, timeout_s=0.2)
        row = short.connection.row("SELECT pg_backend_pid() AS pid")
        assert row is not None
        os.kill(row["pid"], signal.SIGSTOP)
        try:
            with pytest.raises(DatastoreUnavailable, match="no answer within"):
                short.documents.all()
            assert short.documents.all() == [DOCUMENT]  # by another session
        finally:
            os.kill(row["pid"], signal.SIGCONT)
        short.close()

    def test_a_lock_that_somebody_holds_is_told(self, postgres_uri: str, store: PostgresStore, pg: Plain) -> None:
        short = PostgresStore(postgres_uri, timeout_s=0.2)
        with pg.transaction():
            pg.execute("SELECT FROM refitd.models FOR UPDATE")
            with pytest.raises(DatastoreUnavailable, match="somebody holds a lock"):
                short.documents.change("m", {"paused": True})
        assert short.documents.change("m", {"paused": True})
        short.close()

    def test_a_paused_leader_holds_the_feed_no_longer_than_its_time(
        self, postgres_uri: str, store: PostgresStore
    ) -> None:
        leader, other = PostgresStore(postgres_uri, timeout_s=0.3), PostgresStore(postgres_uri, timeout_s=0.3)
        held = leader.feeds.acquire("f", "test", "one", 0)
        assert held is not None
        inside, over = threading.Event(), threading.Event()

        def pause(session: Session) -> None:
            session.rows("UPDATE refitd.feeds SET identity = 'stale' RETURNING id")
            inside.set()
            over.wait()

        with ThreadPoolExecutor(1) as pool:
            paused = pool.submit(leader.connection.transaction, pause)
            inside.wait()
            try:
                taken = taken_over(other)
            finally:
                over.set()
            with pytest.raises(DatastoreUnavailable):
                paused.result()
        (row,) = store.feeds.all()
        assert (row.identity, row.owner, row.epoch) == (None, "two", taken.epoch)
        leader.close()
        other.close()

    def test_a_forked_process_connects_anew_and_leaves_ours_alone(self, store: PostgresStore) -> None:
        query = "SELECT pg_backend_pid() AS pid"
        mine = store.connection.row(query)
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()

        def look() -> None:
            theirs.send((store.documents.all(), store.connection.row(query)))
            store.close()

        child = context.Process(target=look)
        child.start()
        documents, pid = ours.recv()
        child.join()
        assert documents == [DOCUMENT]
        assert pid != mine
        assert store.connection.row(query) == mine

    def test_a_server_that_comes_back_is_used_again(self, tmp_path: Path) -> None:
        server = EmbeddedPostgres.start(tmp_path / "data", database="d")
        uri, port = server.uri("d"), server.port
        store = PostgresStore(uri)
        store.prepare()
        store.documents.put(DOCUMENT)
        epoch, history = lease(store), store.connection.history()
        server.stop()
        with pytest.raises(DatastoreUnavailable):
            store.documents.all()
        with pytest.raises(DatastoreUnavailable):
            store.newest()
        with EmbeddedPostgres.start(tmp_path / "data", port=port):
            assert store.documents.all() == [DOCUMENT]
            record(store, epoch, 5)
            assert store.connection.history() == history
            store.close()
            store.close()


def test_whoever_was_taken_over_makes_no_rows_either(store: PostgresStore) -> None:
    old = lease(store)
    lease(store)
    with pytest.raises(Fenced):
        store.feeds.record("f", old, {}, {"new": Delta(Counts(inserts=1))})
    assert "new" not in store.fits.pending()


def test_a_fit_that_failed_without_a_pending_row_ends_all_the_same(store: PostgresStore) -> None:
    fit = start(store)
    store.fits.forget("m")
    assert store.fits.end(fit.id, FitState.FAILED, "no", token=fit.token)
    assert store.fits.get(fit.id).state is FitState.FAILED
