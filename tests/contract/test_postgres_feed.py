"""What is special about PostgreSQL's feed, on real servers."""

from __future__ import annotations

import os
import resource
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from listener.feed import Batch, Change, Feed, Kind, Origin, Position, Untold
from listener.postgres_publication import PUBLICATION
from listener.postgres_slot import slot_name
from registry.errors import DatastoreUnsuitable, PositionLost
from tests.fixtures.source import Feeds, PostgresSource, follow, read

C = frozenset({"public.c"})


@pytest.fixture
def source(postgres_uri: str) -> Iterator[PostgresSource]:
    made = PostgresSource(postgres_uri)
    made.make("c", images=True)
    yield made
    made.close()


@pytest.fixture
def feeds(source: PostgresSource) -> Iterator[Feeds]:
    made = Feeds(source)
    yield made
    made.close()


def until(feed: Feed, wanted: Callable[[Batch], Any]) -> Batch:
    while True:
        batch = feed.next(1)
        if batch is not None and wanted(batch):
            return batch


def told(feed: Feed) -> set[str]:
    """The relations of the next changes that are of no row."""
    batch = until(feed, lambda one: any(change.kind is Kind.OTHER for change in one.changes))
    return {one.relation for one in batch.changes if one.kind is Kind.OTHER}


def begun(feeds: Feeds, *names: str) -> tuple[Feed, Position]:
    feed = feeds.open()
    return feed, feed.start(follow(feed, names or ("c",)))


def resumed(feeds: Feeds, position: Position, relations: frozenset[str] = C) -> Feed:
    feed = feeds.open()
    feed.origins(sorted(relations))
    feed.resume(position, relations, relations)
    return feed


def test_relations_are_traced_to_tables(feeds: Feeds, source: PostgresSource) -> None:
    for statement in (
        "CREATE VIEW v AS SELECT * FROM c",
        'CREATE SCHEMA "S x"',
        'CREATE TABLE "S x"."T" (id int PRIMARY KEY)',
        'CREATE VIEW w AS SELECT v.id FROM v JOIN "S x"."T" USING (id)',
        "CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
        "CREATE TABLE computed (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a + 1) STORED)",
    ):
        source.sql(statement)
    names = ["c", "public.c", "v", "w", "p", "p1", "parent", "computed", "absent"]
    found = feeds.open().origins(names)
    origins = {name: one for name, one in found.items() if isinstance(one, Origin)}
    assert {name: (set(one.relations), one.itself) for name, one in origins.items()} == {
        "c": ({"public.c"}, "public.c"),
        "public.c": ({"public.c"}, "public.c"),
        "v": ({"public.v", "public.c"}, None),
        "w": ({"public.w", "public.v", "public.c", '"S x"."T"'}, None),
        "p": ({"public.p"}, "public.p"),
        "p1": ({"public.p1", "public.p"}, None),
        "parent": ({"public.parent", "public.child"}, "public.parent"),
        "computed": ({"public.computed"}, "public.computed"),
        "absent": ({"absent"}, "absent"),
    }
    assert origins["computed"].columns == frozenset({"id", "a"})


UNTOLD = {
    "no key": ("CREATE TABLE t (a int)", "ALTER TABLE public.t ADD PRIMARY KEY"),
    "unlogged": ("CREATE UNLOGGED TABLE t (a int PRIMARY KEY)", "ALTER TABLE public.t SET LOGGED"),
    "materialized": ("CREATE MATERIALIZED VIEW t AS SELECT 1 AS a", "materialized view"),
    "a partition without a key": (
        "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE t1 PARTITION OF t DEFAULT", "REPLICA IDENTITY FULL",
    ),
    "behind a view": ("CREATE TABLE u (a int); CREATE VIEW t AS SELECT * FROM u", "public.u"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNTOLD)
def test_what_can_not_be_followed_says_why_and_nothing_is_altered(
    feeds: Feeds, source: PostgresSource, kind: str
) -> None:
    statements, words = UNTOLD[kind]
    for statement in statements.split(";"):
        source.sql(statement)
    found = feeds.open().origins(["t"])["t"]
    assert isinstance(found, Untold)
    assert words in found.reason
    assert source.sql("SELECT 1 FROM pg_publication_tables WHERE schemaname = 'public'") == []


def test_what_begins_to_be_told_makes_the_documents_be_read_again(feeds: Feeds, source: PostgresSource) -> None:
    source.sql("CREATE TABLE t (a int)")
    feed, _ = begun(feeds)
    assert isinstance(feed.origins(["t"])["t"], Untold)
    source.sql("ALTER TABLE t ADD PRIMARY KEY (a)")
    until(feed, lambda one: one.documents is None)
    assert isinstance(feed.origins(["t"])["t"], Origin)


def test_changes_of_partitions_are_the_roots(feeds: Feeds, source: PostgresSource) -> None:
    source.sql("CREATE TABLE p (id int, a text, PRIMARY KEY (id)) PARTITION BY RANGE (id)")
    source.sql("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)")
    feed, _ = begun(feeds, "p")
    source.sql("INSERT INTO p VALUES (1)")
    source.sql("INSERT INTO p1 VALUES (2)")
    changes, _ = read(feed, 2)
    assert [(one.relation, source.key(one)) for one in changes] == [("public.p", 1), ("public.p", 2)]
    source.sql("CREATE TABLE p2 AS SELECT 11 AS id, 'x' AS a")
    source.sql("ALTER TABLE p2 ADD PRIMARY KEY (id)")
    source.sql("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20)")
    assert told(feed) == {"public.p"}
    source.sql("INSERT INTO p VALUES (12)")
    assert source.key(read(feed, 1)[0][0]) == 12


ALTERED = {
    "a rewritten column": "ALTER TABLE c ALTER a TYPE int USING 7",
    "a new column": "ALTER TABLE c ADD COLUMN n int DEFAULT 5",
    "a dropped column": "ALTER TABLE c DROP COLUMN a",
    "emptied": "TRUNCATE c",
    "dropped": "DROP TABLE c",
    "made anew": "DROP TABLE c; CREATE TABLE c (id int PRIMARY KEY, a text)",
    "renamed": "ALTER TABLE c RENAME TO d",
    "out of the publication": f"ALTER PUBLICATION {PUBLICATION} DROP TABLE c",
    "out of it and in again": (
        f"ALTER PUBLICATION {PUBLICATION} DROP TABLE c; INSERT INTO c VALUES (1); "
        f"ALTER PUBLICATION {PUBLICATION} ADD TABLE c"
    ),
}


@pytest.mark.parametrize("down", [False, True], ids=["while it is up", "while it is down"])
@pytest.mark.parametrize("kind", ALTERED)
def test_what_the_log_does_not_tell_counts_once(feeds: Feeds, source: PostgresSource, kind: str, down: bool) -> None:
    feed, position = begun(feeds)
    if down:
        feed.close()
    for statement in ALTERED[kind].split(";"):
        source.sql(statement)
    if down:
        feed = resumed(feeds, position)
    assert told(feed) == {"public.c"}
    mark = feeds.pair()[2].newest()
    store = feeds.pair()[2]
    seen: list[Change] = []
    while True:
        batch = feed.next(1)
        seen += batch.changes if batch else ()
        if batch and not store.newer(store.position_stamp(batch.position), mark):
            break
    assert len([one for one in seen if one.kind is Kind.OTHER]) <= (kind == "emptied")  # the log and the catalogs


def test_who_wrote_before_a_table_was_followed_is_waited_for(feeds: Feeds, source: PostgresSource) -> None:
    """What an open transaction wrote to a table before it was published, the log doesn't tell."""
    source.make("d", images=False)
    feed, _, store = feeds.pair()
    first = follow(feed, ["c"])
    feed.start(first)
    source.insert("c", 1)
    _, position = read(feed, 1)
    with psycopg.connect(source.uri) as writer:
        writer.execute("INSERT INTO d VALUES (1)")
        writer.execute("SAVEPOINT s")
        writer.execute("INSERT INTO d VALUES (2)")
        both = follow(feed, ["c", "d"])
        feed.resume(position, both, first)
        source.insert("c", 2)
        _, position = read(feed, 1)
        assert list(position["unsettled"]) == ["public.d"]
        feed.resume(position, both, both)
        since = feed.since()
        writer.commit()
    batch = until(feed, lambda one: any(change.kind is Kind.OTHER for change in one.changes))
    (change,) = [one for one in batch.changes if one.kind is Kind.OTHER]
    assert change.relation == "public.d"
    assert store.newer(since, change.stamp)
    assert "unsettled" not in (batch.position or {})


def wait_free(source: PostgresSource) -> None:
    """The server's end of a closed connection goes on for a moment. Nothing tells when it has ended."""
    while source.sql("SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND active"):
        pass


DROP_SLOTS = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
LOST: dict[str, Callable[[PostgresSource, dict[str, Any]], Any]] = {
    "the slot is gone": lambda it, _: it.sql(DROP_SLOTS),
    "the slot was advanced": lambda it, _: (it.sql("INSERT INTO c VALUES (1)"), it.sql(
        "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots "
        "WHERE database = current_database()")),
    "the publication was made anew": lambda it, _: (
        it.sql(f"DROP PUBLICATION {PUBLICATION}"), it.sql(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE c")),
    "the publication is gone": lambda it, _: it.sql(f"DROP PUBLICATION {PUBLICATION}"),
    "another history": lambda it, position: position.update(history="7/00000001"),
    "in the future": lambda it, position: position.update(lsn="FFFF/0"),
    "no place in the log": lambda it, position: position.update(lsn="nonsense"),
    "no shapes": lambda it, position: position.pop("shapes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOST)
def test_a_position_that_cannot_be_proved_is_lost(feeds: Feeds, source: PostgresSource, kind: str) -> None:
    feed, start = begun(feeds)
    feed.close()
    wait_free(source)
    position = dict(start)
    LOST[kind](source, position)
    again = feeds.open()
    again.origins(["c"])
    with pytest.raises(PositionLost):
        again.resume(position, C, C)
    again.start(C)
    source.insert("c", 50)
    assert source.key(read(again, 1)[0][0]) == 50


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
def test_a_publication_that_goes_while_it_is_followed_is_a_lost_position(
    feeds: Feeds, source: PostgresSource, again: bool
) -> None:
    feed, _ = begun(feeds)
    source.sql(f"DROP PUBLICATION {PUBLICATION}")
    if again:
        source.sql(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE c")
    source.insert("c", 1)
    with pytest.raises(PositionLost):
        until(feed, lambda one: False)


def test_a_slot_of_somebody_elses_is_left_alone(feeds: Feeds, source: PostgresSource) -> None:
    ((database,),) = source.sql("SELECT current_database()")
    source.sql("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", slot_name(database))
    feed = feeds.open()
    relations = follow(feed, ["c"])
    with pytest.raises(DatastoreUnsuitable, match="somebody else's"):
        feed.start(relations)


def test_whoever_starts_takes_the_slot_from_a_process_that_still_holds_it(feeds: Feeds, source: PostgresSource) -> None:
    _, position = begun(feeds)
    feed = resumed(feeds, position)
    source.insert("c", 1)
    assert source.key(read(feed, 1)[0][0]) == 1


def test_what_is_stored_is_acknowledged(feeds: Feeds, source: PostgresSource) -> None:
    feed, _ = begun(feeds)
    source.insert("c", 1)
    _, position = read(feed, 1)
    feed.stored(position)
    confirmed = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE database = current_database()"
    while source.sql(confirmed, position["lsn"]) != [(True,)]:
        feed.next(0.1)


def test_names_of_slots_are_the_servers(postgres_uri: str) -> None:
    assert slot_name("shop") == "refitd_shop"
    odd = {slot_name(name) for name in ("Shop", "SHOP", "shop-1", "shop_1", "ß", "x" * 63, "x" * 62 + "y")}
    assert len(odd) == 7
    assert all(len(name) <= 63 for name in odd)
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        for name in odd:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
            connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def test_a_huge_transaction_is_not_held_in_memory(feeds: Feeds, source: PostgresSource) -> None:
    feed, _ = begun(feeds)
    source.sql("INSERT INTO c SELECT n, repeat('x', 500) FROM generate_series(1, 300000) AS n")
    read_some = until(feed, lambda one: one.changes)
    assert read_some.position is None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = len(read_some.changes)
    while count < 300_000:
        batch = feed.next(1)
        count += len(batch.changes) if batch else 0
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 64 << 20, f"{grown >> 20} MiB more in process {os.getpid()}"


def test_a_locked_table_holds_up_nobody_else(feeds: Feeds, source: PostgresSource) -> None:
    source.make("d", images=True)
    source.sql("CREATE VIEW v AS SELECT * FROM d")
    feed, position = begun(feeds)
    with psycopg.connect(source.uri) as other:
        other.execute("LOCK TABLE d, v IN ACCESS EXCLUSIVE MODE")
        found = feed.origins(["c", "d", "v"])
        assert isinstance(found["c"], Origin)
        assert all("locked" in one.reason for one in (found["d"], found["v"]) if isinstance(one, Untold))
        assert not isinstance(found["d"], Origin)
        assert not isinstance(found["v"], Origin)
        source.insert("c", 1)
        assert source.key(read(feed, 1)[0][0]) == 1
    until(feed, lambda one: one.documents is None)
    both = follow(feed, ["c", "d"])
    feed.resume(position, both, C)
    source.insert("d", 2)
    assert source.key(next(one for one in read(feed, 2)[0] if one.relation == "public.d")) == 2


def test_what_a_login_may_not_see_hides_nothing_else(feeds: Feeds, source: PostgresSource) -> None:
    login = f"seer_{uuid.uuid4().hex[:8]}"
    feeds.pair()[2].prepare()
    for statement in (
        "CREATE SCHEMA secret", "CREATE TABLE secret.t (id int PRIMARY KEY)",
        f"CREATE ROLE {login} LOGIN REPLICATION", f"GRANT ALL ON SCHEMA refitd TO {login}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA refitd TO {login}",
        f"CREATE PUBLICATION {PUBLICATION} FOR TABLE refitd.models, refitd.versions, c "
        "WITH (publish_via_partition_root)", f"ALTER PUBLICATION {PUBLICATION} OWNER TO {login}",
    ):  # fmt: skip
        source.sql(statement)
    try:
        feed = feeds.open(uri=source.uri.replace("//postgres@", f"//{login}@"), prepared=False)
        found = feed.origins(["c", "secret.t"])
        assert isinstance(found["c"], Origin)
        assert isinstance(found["secret.t"], Untold)
        assert "GRANT USAGE" in found["secret.t"].reason
        feed.start(C)
        source.sql(f"GRANT USAGE ON SCHEMA secret TO {login}")
        until(feed, lambda one: one.documents is None)
        again = feed.origins(["secret.t"])["secret.t"]
        assert isinstance(again, Untold)
        assert "ALTER PUBLICATION refitd ADD TABLE ONLY secret.t" in again.reason
        source.sql(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE secret.t")
        until(feed, lambda one: one.documents is None)
        assert isinstance(feed.origins(["secret.t"])["secret.t"], Origin)
    finally:
        feeds.close()
        wait_free(source)
        source.sql(DROP_SLOTS)
        source.sql(f"DROP PUBLICATION {PUBLICATION}")
        source.sql(f"DROP OWNED BY {login}")
        source.sql(f"DROP ROLE {login}")
