"""PostgreSQL's judgement of rows, and a differential test of the whole of matching against WHERE itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.feed import Change, Feed
from listener.matching import Evaluator, WatchTable, match
from registry.sql_select import parse_sql_select
from registry.sql_watch import watches
from registry.store import Store
from registry.watch import Watch
from tests.fixtures.source import Feeds, PostgresSource, follow

JSONS = ['{"a": 1, "b": [1, null]}', '"text"', "null", "12345678901234567890.5"]
COLUMNS = {
    "i": ("int", st.one_of(st.none(), st.integers(-3, 3))),
    "n": ("numeric(6,2)", st.one_of(st.none(), st.sampled_from(["0.5", "1", "-2.25", "NaN"]))),
    "f": ("float8", st.one_of(st.none(), st.sampled_from(["0.1", "1e300", "NaN", "Infinity", "-0"]))),
    "t": ("text", st.one_of(st.none(), st.sampled_from(["", "a", "A", "b%", "ß", "it's", "\\", "a\nb", "null"]))),
    "c": ("char(3)", st.one_of(st.none(), st.sampled_from(["", "a", "ab "]))),
    "ci": ("text COLLATE folded", st.one_of(st.none(), st.sampled_from(["a", "A", "b"]))),
    "b": ("bool", st.one_of(st.none(), st.booleans())),
    "d": ("date", st.one_of(st.none(), st.sampled_from(["2026-01-01", "infinity", "0044-03-15 BC"]))),
    "z": ("timestamptz", st.one_of(st.none(), st.sampled_from(["2026-01-01 00:00+02", "2025-12-31 22:00+00"]))),
    "a": ("int[]", st.one_of(st.none(), st.sampled_from(["{}", "{1,2}", "{NULL,3}", "{{1},{2}}"]))),
    "j": ("jsonb", st.one_of(st.none(), st.sampled_from(JSONS))),
    "x": ("json", st.one_of(st.none(), st.sampled_from(['{"a":  1}', '{"a": 1}', '"text"']))),
    "m": ("mood", st.one_of(st.none(), st.sampled_from(["sad", "happy"]))),
    "dj": ("document", st.one_of(st.none(), st.sampled_from(JSONS))),
    "u": ("uuid", st.one_of(st.none(), st.just("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))),
    "y": ("bytea", st.one_of(st.none(), st.sampled_from(["\\x00ff", "\\x"]))),
    "r": ("int4range", st.one_of(st.none(), st.sampled_from(["[1,5)", "empty"]))),
    "p": ("positive", st.one_of(st.none(), st.integers(1, 3))),
    '"Two Words"': ("int", st.one_of(st.none(), st.integers(-1, 1))),
}  # fmt: skip
NAMES = sorted(COLUMNS)

ATOMS = (
    "i > 0", "i = 1", "i <> 1", "i IS NULL", "i IS DISTINCT FROM 1", "i IN (1, 2)", "i NOT IN (1, NULL)", "i % 2 = 0",
    "i BETWEEN -1 AND 1", "10 / i > 3", "n > 0.5", "n = 'NaN'", "f < 0.5", "f = 'NaN'", "f = 0", "t = 'a'",
    "t LIKE 'b\\%'",
    "t ILIKE 'A'", "t ~ '^a'", "t = 'it''s'", "t = E'\\\\'", "t || 'x' = 'ax'", "lower(t) = 'a'", "length(t) > 1",
    "coalesce(t, 'a') = 'a'", "c = 'ab'", "c = 'a'", "ci = 'a'", "b", "NOT b", "b IS UNKNOWN", "d < '2026-06-01'",
    "d = 'infinity'", "extract(year FROM d) = 2026", "z = '2025-12-31 22:00+00'", "z AT TIME ZONE 'UTC' < '2026-01-01'",
    "2 = ANY (a)", "a[1] = 1", "cardinality(a) = 0", "a @> ARRAY[1]", "j ->> 'a' = '1'", "j @> '{\"b\": [1]}'",
    "j IS NULL",
    "j ? 'a'", "j #>> '{b,0}' = '1'", "jsonb_typeof(j) = 'string'", "x::text = '{\"a\":  1}'", "x ->> 'a' = '1'",
    "m = 'sad'", "dj IS NULL", "dj ->> 'a' = '1'",
    "m > 'sad'", "u IS NOT NULL", "u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "y = '\\x00ff'",
    "octet_length(y) = 0", "r @> 3", "isempty(r)", "p = 2", "p + 1 > 2", '"Two Words" = 0', "rows.i = 1",
    "CASE WHEN i > 0 THEN t = 'a' ELSE b END", "true", "false", "NULL", "i = '1'", "i::text = '1'", "(i, t) = (1, 'a')",
)  # fmt: skip
predicates = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda one: f"({one[0]} {one[1]} {one[2]})"),
        inner.map(lambda one: f"NOT ({one})"),
    ),
    max_leaves=4,
)
rows = st.fixed_dictionaries({}, optional={name: values for name, (_, values) in COLUMNS.items()})


@pytest.fixture
def source(postgres_uri: str) -> Iterator[PostgresSource]:
    made = PostgresSource(postgres_uri)
    try:
        made.sql("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except psycopg.errors.FeatureNotSupported:  # a server that was built without ICU
        made.sql('CREATE COLLATION folded FROM "C"')
    made.sql("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    made.sql("CREATE DOMAIN document AS jsonb")
    made.sql("CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    made.sql(f"CREATE TABLE rows (id int PRIMARY KEY, {columns}, big text)")
    made.sql("ALTER TABLE rows ALTER big SET STORAGE EXTERNAL")
    yield made
    made.close()


@pytest.fixture
def opened(source: PostgresSource) -> Iterator[tuple[Feed, Evaluator, Store]]:
    feeds = Feeds(source)
    yield feeds.pair()
    feeds.close()


def watch(predicate: str, trained: set[str] | None = None) -> Watch:
    (found,) = watches(parse_sql_select(f"SELECT * FROM rows WHERE {predicate}"), trained).values()
    return found


def next_change(feed: Feed) -> Change:
    while True:
        batch = feed.next(5)
        if batch is not None and batch.changes:
            (one,) = batch.changes
            return one


def selected(source: PostgresSource, predicate: str) -> bool:
    ((count,),) = source.sql(f"SELECT count(*) FROM rows WHERE id = 1 AND ({predicate})".replace("%", "%%"))
    return bool(count)


@pytest.mark.parametrize("identity", ["FULL", "DEFAULT"])
def test_matching_never_says_no_where_the_select_says_yes(
    opened: tuple[Feed, Evaluator, Store], source: PostgresSource, identity: str
) -> None:
    feed, evaluator, store = opened
    source.sql(f"ALTER TABLE rows REPLICA IDENTITY {identity}")
    feed.start(follow(feed, ["rows"]))

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(
        row=rows,
        predicate=predicates,
        steps=st.lists(st.one_of(st.none(), rows.filter(bool)), min_size=1, max_size=3),
        trained=st.sets(st.sampled_from([name for name in NAMES if not name.startswith('"')]), max_size=1),
    )
    def check(row: dict[str, Any], predicate: str, steps: list[dict[str, Any] | None], trained: set[str]) -> None:
        found = watch(predicate, trained)
        table = WatchTable({"m": {"public.rows": found}})
        # WHERE leaves off at the first part that isn't true, a filter only at one that is false: what fails may match.
        fails = "10 / i" in predicate

        def matched() -> bool:
            return "m" in match(table, [next_change(feed)], evaluator, store.join)

        def wanted() -> bool:
            try:
                return selected(source, predicate)
            except Exception as error:
                if getattr(error, "sqlstate", "")[:2] != "22":
                    raise
                return True  # a division by zero: the fit says so, and any change may mend it

        if source.sql("DELETE FROM rows WHERE id = 1 RETURNING 1"):
            next_change(feed)
        write(source, "INSERT INTO rows (id{names}) VALUES (1{marks})", row, ", {name}", ", %s")
        now = wanted()
        said = matched()
        assert said if now else fails or found.predicate is None or not said, predicate
        for step in steps:
            was, before = now, shown(source, trained)
            if step is None:
                source.sql("DELETE FROM rows WHERE id = 1")
                now, used = False, False
            else:
                write(source, "UPDATE rows SET {names} WHERE id = 1", step, "{name} = %s", "")
                now = wanted()
                used = before != shown(source, trained)
            said = matched()
            if was != now or (was and now and used):
                assert said, (predicate, step)
            if identity == "FULL" and not was and not now and not fails:
                assert not said, (predicate, step)
            if step is None:
                break

    check()


def write(source: PostgresSource, statement: str, row: dict[str, Any], name: str, mark: str) -> None:
    names = [name.format(name=each) for each in row]
    listed = "".join(names) if mark else ", ".join(names)
    source.sql(statement.format(names=listed, marks=mark * len(row)), *row.values())


def shown(source: PostgresSource, trained: set[str]) -> Any:
    listed = ", ".join(f"{name}::text" for name in sorted(trained)) or "1"
    return source.sql(f"SELECT {listed} FROM rows WHERE id = 1")


def test_an_unchanged_toast_value_is_unknown(opened: tuple[Feed, Evaluator, Store], source: PostgresSource) -> None:
    feed, evaluator, store = opened
    feed.start(follow(feed, ["rows"]))
    source.sql("INSERT INTO rows (id, big) VALUES (1, repeat('x', 100000))")
    next_change(feed)
    source.sql("UPDATE rows SET i = 1")
    change = next_change(feed)
    table = WatchTable({"big": {"public.rows": watch("length(big) > 5")}, "i": {"public.rows": watch("i = 2")}})
    assert "big" in match(table, [change], evaluator, store.join)


def test_many_rows_and_predicates_are_judged_in_parts(
    opened: tuple[Feed, Evaluator, Store], source: PostgresSource
) -> None:
    feed, evaluator, store = opened
    feed.start(follow(feed, ["rows"]))
    source.sql("INSERT INTO rows (id, i, t) SELECT n, n, repeat('x', 500) FROM generate_series(1, 12000) AS n")
    changes: list[Change] = []
    while len(changes) < 12000:
        batch = feed.next(5)
        changes += batch.changes if batch else ()
    table = WatchTable({f"m{n}": {"public.rows": watch(f"i = {n} AND length(t) = 500")} for n in range(1, 501)})
    found = match(table, changes, evaluator, store.join)
    assert {name: one.counts.inserts for name, one in found.items()} == {f"m{n}": 1 for n in range(1, 501)}


def test_a_column_that_is_gone_may_match_anything(
    opened: tuple[Feed, Evaluator, Store], source: PostgresSource
) -> None:
    feed, evaluator, store = opened
    feed.start(follow(feed, ["rows"]))
    source.sql("INSERT INTO rows (id, i) VALUES (1, 5)")
    source.sql("ALTER TABLE rows DROP COLUMN i")
    table = WatchTable({"m": {"public.rows": watch("i = 1")}})
    assert "m" in match(table, [next_change(feed)], evaluator, store.join)
