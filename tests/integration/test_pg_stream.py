"""The replication stream on real servers: what comes through the decoder, and who is told what when."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from listener import pg_stream
from listener.pg_slots import connect, create_slot
from listener.pg_stream import PgStream
from listener.pg_tuples import UNKNOWN_VALUE, Image, Shape, key, touched
from listener.pgoutput import (
    Begin,
    Commit,
    Decoder,
    Delete,
    Insert,
    Message,
    Truncate,
    Update,
    read_lsn,
    show_lsn,
    widen,
)
from refitd.embedded_postgres import EmbeddedPostgres
from tests.fixtures.keeper import debian_programs
from tests.fixtures.postgres import PostgresServer

Pg = psycopg.Connection[tuple[Any, ...]]
LIMIT_S = 30.0


class Reader:
    """A consumer: takes, decodes, keeps."""

    def __init__(self, uri: str, slot: str, start: int) -> None:
        self.stream, self.decoder = PgStream(uri), Decoder()
        self.slot, self.start, self.sent = slot, start, start
        self.stream.open(slot, start, "p")

    def messages(self, enough: Callable[[list[Message]], bool]) -> list[Message]:
        found: list[Message] = []
        deadline = time.monotonic() + LIMIT_S
        while not enough(found):
            assert time.monotonic() < deadline, f"not enough: {found[-5:]}"
            chunk = self.stream.take(0.5)
            if chunk:
                assert chunk.sent >= self.sent
                self.sent = chunk.sent
                found += [message for message in map(self.decoder.decode, chunk.messages) if message is not None]
        return found

    def transactions(self, many: int) -> list[Message]:
        return self.messages(lambda found: sum(isinstance(message, Commit) for message in found) >= many)

    def changes(self, transactions: int = 1) -> list[Message]:
        return [m for m in self.transactions(transactions) if not isinstance(m, Begin | Commit | Shape)]


@pytest.fixture
def slot(pg: Pg) -> str:
    row = pg.execute("SELECT 's_' || oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    pg.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    pg.execute("ALTER TABLE t ALTER a SET STORAGE EXTERNAL")
    pg.execute("CREATE PUBLICATION p FOR ALL TABLES")
    return str(row[0])


@pytest.fixture
def reader(postgres_uri: str, slot: str) -> Iterator[Reader]:
    made = Reader(postgres_uri, slot, create_slot(postgres_uri, slot).consistent_point)
    yield made
    made.stream.close()


def one(pg: Pg, query: str, *values: Any) -> Any:
    row = pg.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def confirmed(pg: Pg, slot: str) -> int:
    text = one(pg, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s", slot)
    return read_lsn(text)


def described(message: Message) -> tuple[Any, ...]:
    before, after = (getattr(message, side, None) for side in ("before", "after"))
    return (type(message), *(image.values() if isinstance(image, Image) else None for image in (before, after)))


U = UNKNOWN_VALUE


def test_changes_come_in_commit_order_with_their_rows(reader: Reader, pg: Pg) -> None:
    with pg.transaction():
        pg.execute("INSERT INTO t VALUES (1, 'ä', NULL), (2, '', 'x')")
        xid = one(pg, "SELECT pg_current_xact_id()::text::int8")
    pg.execute("UPDATE t SET b = 'y' WHERE id = 1")
    pg.execute("UPDATE t SET id = 3 WHERE id = 2")
    pg.execute("DELETE FROM t WHERE id = 3")
    pg.execute("TRUNCATE t RESTART IDENTITY CASCADE")
    found = reader.transactions(5)
    begin, shape = found[0], found[1]
    assert isinstance(begin, Begin)
    assert widen(begin.xid, xid) == xid
    assert isinstance(shape, Shape)
    assert (shape.schema, shape.name, shape.identity, shape.names, shape.keys) == (
        "public", "t", "d", ("id", "a", "b"), ("id",),
    )  # fmt: skip
    assert [type(m) for m in found if not isinstance(m, Shape)] == [
        Begin, Insert, Insert, Commit, Begin, Update, Commit, Begin, Update, Commit, Begin, Delete, Commit,
        Begin, Truncate, Commit,
    ]  # fmt: skip
    rows = [m for m in found if isinstance(m, Insert | Update | Delete)]
    assert [described(m) for m in rows] == [
        (Insert, None, (b"1", "ä".encode(), None)),
        (Insert, None, (b"2", b"", b"x")),
        (Update, (b"1", U, U), (b"1", "ä".encode(), b"y")),
        (Update, (b"2", U, U), (b"3", b"", b"x")),
        (Delete, (b"3", U, U), None),
    ]
    assert found[-2] == Truncate((shape.oid,), True, True)
    commits = [m for m in found if isinstance(m, Commit)]
    assert [c.end_lsn for c in commits] == sorted({c.end_lsn for c in commits})
    assert reader.sent >= commits[-1].end_lsn
    assert abs(begin.at - one(pg, "SELECT extract(epoch FROM now())::float8")) < 600


def test_a_full_replica_identity_tells_the_old_row(reader: Reader, pg: Pg) -> None:
    pg.execute("ALTER TABLE t REPLICA IDENTITY FULL")
    pg.execute("INSERT INTO t VALUES (1, repeat('x', 100000), 'b')")
    pg.execute("UPDATE t SET b = 'c'")
    pg.execute("DELETE FROM t")
    big = b"x" * 100_000
    _, update, delete = reader.changes(3)
    assert described(update) == (Update, (b"1", big, b"b"), (b"1", big, b"c"))
    assert isinstance(update, Update)
    assert b"u" in update.after.data
    assert touched(update.before, update.after) == ("b",)
    assert described(delete) == (Delete, (b"1", big, b"c"), None)
    assert isinstance(delete, Delete)
    assert key(delete.before) == key(update.after) != key(update.before or delete.before)


def test_unchanged_toast_is_unknown_without_the_old_row(reader: Reader, pg: Pg) -> None:
    pg.execute("INSERT INTO t VALUES (1, repeat('x', 100000), 'b')")
    pg.execute("UPDATE t SET b = 'c'")
    _, update = reader.changes(2)
    assert described(update) == (Update, (b"1", U, U), (b"1", U, b"c"))


def test_an_index_as_replica_identity(reader: Reader, pg: Pg) -> None:
    pg.execute("ALTER TABLE t ALTER b SET NOT NULL")
    pg.execute("CREATE UNIQUE INDEX i ON t (b)")
    pg.execute("ALTER TABLE t REPLICA IDENTITY USING INDEX i")
    pg.execute("INSERT INTO t VALUES (1, 'a', 'b')")
    pg.execute("UPDATE t SET a = 'A'")
    pg.execute("UPDATE t SET b = 'B'")
    pg.execute("DELETE FROM t")
    _, same, moved, gone = reader.changes(4)
    assert described(same) == (Update, (U, U, b"b"), (b"1", b"A", b"b"))
    assert described(moved) == (Update, (U, U, b"b"), (b"1", b"A", b"B"))
    assert described(gone) == (Delete, (U, U, b"B"), None)
    assert isinstance(same, Update)
    assert key(same.after) == key(same.before or same.after) is not None


def test_no_replica_identity_lets_inserts_through(reader: Reader, pg: Pg) -> None:
    pg.execute("ALTER TABLE t REPLICA IDENTITY NOTHING")
    pg.execute("INSERT INTO t VALUES (1, 'a', 'b')")
    (insert,) = reader.changes(1)
    assert isinstance(insert, Insert)
    assert insert.after.shape.identity == "n"
    assert key(insert.after) is None
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        pg.execute("UPDATE t SET b = 'c'")


def test_an_altered_table_is_described_again(reader: Reader, pg: Pg) -> None:
    pg.execute("INSERT INTO t VALUES (1)")
    pg.execute("ALTER TABLE t DROP a, ADD c int DEFAULT 7")
    pg.execute("INSERT INTO t VALUES (2)")
    found = [m for m in reader.transactions(2) if isinstance(m, Insert)]
    if len(found) < 2:  # the change of the table can come as a transaction without changes
        found += [m for m in reader.changes(1) if isinstance(m, Insert)]
    assert [m.after.values(("a", "c")) for m in found] == [(None, U), (U, b"7")]


def test_the_xid_is_the_top_level_one_with_savepoints(reader: Reader, pg: Pg) -> None:
    with pg.transaction():
        with pg.transaction():
            pg.execute("INSERT INTO t VALUES (1)")
        pg.execute("SAVEPOINT s")
        pg.execute("INSERT INTO t VALUES (2)")
        pg.execute("ROLLBACK TO s")
        with pg.transaction():
            pg.execute("INSERT INTO t VALUES (3)")
        xid = one(pg, "SELECT pg_current_xact_id()::text::int8")
    begin, *found = reader.transactions(1)
    assert isinstance(begin, Begin)
    assert widen(begin.xid, xid) == xid
    assert [m.after.values(("id",)) for m in found if isinstance(m, Insert)] == [(b"1",), (b"3",)]


@pytest.fixture(params=["postgresql-15", "postgresql-18"])
def prepares(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server of the test's own that has two-phase commit, which is off by default."""
    programs = debian_programs() if request.param == "postgresql-15" else None
    folder = Path(tempfile.mkdtemp(prefix="refitd-postgres-", dir="/tmp"))
    folder.chmod(0o755)
    server = EmbeddedPostgres.start(folder, bin_dir=programs, more=("-c", "max_prepared_transactions=5"))
    yield f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
    server.kill()
    shutil.rmtree(folder)


def test_a_prepared_transaction_comes_when_it_is_committed(prepares: str) -> None:
    with psycopg.connect(prepares, autocommit=True) as pg:
        pg.execute("CREATE TABLE t (id int PRIMARY KEY)")
        pg.execute("CREATE PUBLICATION p FOR ALL TABLES")
        reader = Reader(prepares, "s", create_slot(prepares, "s").consistent_point)
        prepare_one(reader, pg)
        reader.stream.close()


def prepare_one(reader: Reader, pg: Pg) -> None:
    pg.execute("BEGIN")
    pg.execute("INSERT INTO t VALUES (1)")
    xid = one(pg, "SELECT pg_current_xact_id()::text::int8")
    pg.execute("PREPARE TRANSACTION 'one'")
    pg.execute("INSERT INTO t VALUES (2)")
    pg.execute("COMMIT PREPARED 'one'")
    found = reader.transactions(2)
    assert [m.after.values(("id",)) for m in found if isinstance(m, Insert)] == [(b"2",), (b"1",)]
    last = [m for m in found if isinstance(m, Begin)][-1]
    assert widen(last.xid, xid) == xid


def test_values_of_2_mb_and_many_rows(reader: Reader, pg: Pg) -> None:
    pg.execute("INSERT INTO t SELECT i, repeat(i::text, 2000000) FROM generate_series(1, 9) i")
    pg.execute("INSERT INTO t SELECT i FROM generate_series(10, 5000) i")
    found = [m.after for m in reader.changes(2) if isinstance(m, Insert)]
    assert [image.values(("id",)) for image in found] == [(str(n).encode(),) for n in range(1, 5001)]
    assert all(found[n - 1].values(("a",)) == (str(n).encode() * 2_000_000,) for n in range(1, 10))


def test_values_do_not_depend_on_settings_of_the_database(reader: Reader, postgres_uri: str, pg: Pg) -> None:
    name = sql.Identifier(pg.info.dbname)
    for setting in ("timezone TO 'Asia/Tokyo'", "datestyle TO 'German'", "bytea_output TO 'escape'"):
        pg.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + sql.SQL(setting))
    reader.stream.open(reader.slot, reader.start, "p")
    pg.execute("CREATE TABLE v (at timestamptz, x bytea, f float8)")
    pg.execute(r"INSERT INTO v VALUES ('2026-01-02 03:04:05+00', '\x00ff', 0.1)")
    found = [m for m in reader.changes(1) if isinstance(m, Insert)] or reader.changes(1)
    (insert,) = found
    assert isinstance(insert, Insert)
    assert insert.after.values() == (b"2026-01-02 03:04:05+00", b"\\x00ff", b"0.1")


def test_a_consumer_that_stalls_is_not_disconnected(
    postgres_uri: str, slot: str, pg: Pg, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little room, so that the receiver has stopped reading meanwhile."""
    monkeypatch.setattr(pg_stream, "WAITING_BYTES", 100_000)
    monkeypatch.setattr(pg_stream, "CHUNK_BYTES", 50_000)
    pg.execute(sql.SQL("ALTER DATABASE {} SET wal_sender_timeout = '4s'").format(sql.Identifier(pg.info.dbname)))
    reader = Reader(postgres_uri, slot, create_slot(postgres_uri, slot).consistent_point)
    pid = one(pg, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", slot)
    pg.execute("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
    replied = "SELECT max(reply_time) > %s::timestamptz + '6 s' FROM pg_stat_replication WHERE pid = %s"
    begun = one(pg, "SELECT clock_timestamp()")
    wait_until(lambda: one(pg, "SELECT clock_timestamp() > %s::timestamptz + '9 s'", begun))
    assert one(pg, replied, begun, pid)
    receiver = reader.stream._receiver
    assert receiver is not None
    assert 100_000 <= receiver._waiting < 300_000
    assert len(reader.changes(1)) == 20_000
    assert one(pg, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", slot) == pid
    reader.stream.close()


def test_only_what_is_acknowledged_is_forgotten(reader: Reader, pg: Pg, slot: str) -> None:
    for n in (1, 2):
        pg.execute("INSERT INTO t VALUES (%s)", [n])
    first, second = (m for m in reader.transactions(2) if isinstance(m, Commit))
    assert confirmed(pg, slot) <= reader.start
    told = "FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = %s"
    reader.stream.acknowledge(first.end_lsn)
    wait_until(lambda: confirmed(pg, slot) == first.end_lsn)
    begun = one(pg, "SELECT clock_timestamp()")
    reader.stream.acknowledge(reader.start)
    wait_until(lambda: one(pg, f"SELECT reply_time > %s {told}", begun, slot))
    assert one(pg, f"SELECT flush_lsn::text {told}", slot) == show_lsn(first.end_lsn)
    reader.stream.close()
    assert confirmed(pg, slot) == first.end_lsn
    reader.stream.open(slot, first.end_lsn, "p")
    reader.decoder, reader.sent = Decoder(), first.end_lsn
    again = reader.transactions(1)
    assert again[-1] == second
    assert [m.after.values(("id",)) for m in again if isinstance(m, Insert)] == [(b"2",)]


def test_closing_tells_the_last_acknowledgement(reader: Reader, pg: Pg, slot: str) -> None:
    pg.execute("INSERT INTO t VALUES (1)")
    commit = reader.transactions(1)[-1]
    assert isinstance(commit, Commit)
    reader.stream.acknowledge(commit.end_lsn)
    reader.stream.close()
    wait_until(lambda: confirmed(pg, slot) == commit.end_lsn)


def test_progress_is_told_without_messages(reader: Reader, pg: Pg, slot: str) -> None:
    """Nobody listens to this, but the log would be kept."""
    pg.execute("SELECT pg_logical_emit_message(false, 'x', 'y')")
    here = read_lsn(one(pg, "SELECT pg_current_wal_insert_lsn()::text"))
    pg.execute("CHECKPOINT")
    assert reader.messages(lambda _: reader.sent >= here) == []
    reader.stream.acknowledge(reader.sent)
    wait_until(lambda: confirmed(pg, slot) >= here)


def test_a_killed_walsender_is_an_error_after_what_came_before(reader: Reader, pg: Pg, slot: str) -> None:
    pg.execute("INSERT INTO t VALUES (1)")
    receiver = reader.stream._receiver
    assert receiver is not None
    wait_until(lambda: sum(len(chunk.messages) for chunk, _ in receiver._chunks) >= 4)
    pg.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [slot])
    receiver.join(LIMIT_S)
    assert len(reader.transactions(1)) == 4
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match=r"terminating connection|ended"):
            reader.messages(lambda _: False)


def test_closing_from_another_thread_ends_take(reader: Reader) -> None:
    taken = threading.Event()
    errors: list[BaseException] = []

    def consume() -> None:
        taken.set()
        try:
            while True:
                reader.stream.take(60)
        except psycopg.OperationalError as error:
            errors.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    taken.wait()
    reader.stream.close()
    consumer.join(LIMIT_S)
    assert not consumer.is_alive()
    assert "closed" in str(errors[0])
    reader.stream.close()
    reader.stream.acknowledge(1)
    with pytest.raises(psycopg.OperationalError, match="closed"):
        reader.stream.take(0)


def test_what_the_server_refuses_is_raised_as_it_is(reader: Reader, postgres_uri: str, slot: str) -> None:
    other = PgStream(postgres_uri)
    with pytest.raises(psycopg.errors.ObjectInUse):
        other.open(slot, reader.start, "p")
    with pytest.raises(psycopg.errors.UndefinedObject):
        other.open("none", 0, "p")
    with pytest.raises(psycopg.OperationalError, match="closed"):
        other.take(0)


def test_a_missing_publication_is_an_error_before_18_and_silence_since(
    reader: Reader, pg: Pg, postgres: PostgresServer
) -> None:
    """So whoever follows a publication must see for himself that it is there."""
    reader.stream.open(reader.slot, reader.start, 'it\'s "odd"')
    pg.execute("INSERT INTO t VALUES (1)")
    here = read_lsn(one(pg, "SELECT pg_current_wal_lsn()::text"))
    if postgres.version >= 18:
        assert reader.messages(lambda _: reader.sent >= here) == []
    else:
        with pytest.raises(psycopg.errors.UndefinedObject, match="it's"):
            reader.messages(lambda _: False)


def test_a_new_slot_gives_what_its_snapshot_does_not_see(postgres_uri: str, slot: str, pg: Pg) -> None:
    with pg.transaction():
        pg.execute("INSERT INTO t VALUES (1)")
        before = one(pg, "SELECT pg_current_xact_id()::text")
    made = create_slot(postgres_uri, slot)
    assert confirmed(pg, slot) == made.consistent_point
    with pg.transaction():
        pg.execute("INSERT INTO t VALUES (2)")
        after = one(pg, "SELECT pg_current_xact_id()::text")
    sees = "SELECT pg_visible_in_snapshot(%s::xid8, %s::pg_snapshot)"
    assert [one(pg, sees, xid, made.snapshot) for xid in (before, after)] == [True, False]
    reader = Reader(postgres_uri, slot, made.consistent_point)
    (insert,) = reader.changes(1)
    reader.stream.close()
    assert isinstance(insert, Insert)
    assert insert.after.values(("id",)) == (b"2",)
    with pytest.raises(psycopg.errors.DuplicateObject):
        create_slot(postgres_uri, slot)


def test_making_a_slot_waits_for_open_transactions_until_told_to_stop(postgres_uri: str, slot: str, pg: Pg) -> None:
    waited: list[list[int]] = []
    with psycopg.connect(postgres_uri) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(psycopg.errors.QueryCanceled):
            create_slot(postgres_uri, slot, cancelled=lambda: bool(waited), waiting=waited.append)
        assert waited == [[writer.info.backend_pid]]
        assert one(pg, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", slot) == 0
        waiting = threading.Event()
        made: list[int] = []
        told = lambda pids: waiting.set()  # noqa: E731
        thread = threading.Thread(target=lambda: made.append(create_slot(postgres_uri, slot, waiting=told)[0]))
        thread.start()
        assert waiting.wait(LIMIT_S)
        writer.commit()
        thread.join(LIMIT_S)
    assert made == [confirmed(pg, slot)]


def test_a_replication_connection_keeps_the_options_of_the_address(postgres_uri: str) -> None:
    with connect(f"{postgres_uri}?options=-c%20work_mem%3D3MB") as connection:
        result = connection.pgconn.exec_(b"SHOW work_mem")
        assert result.get_value(0, 0) == b"3MB"
