from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from registry.errors import DatastoreUnavailable, DocumentInvalid, RowsUnusable
from registry.postgres.connection import Connection
from registry.postgres.stamps import PgStamp, Snapshot
from registry.sql_select import SqlSelect, parse_sql_select
from tests.fixtures.postgres import PostgresServer
from trainers import postgres_rows, postgres_wire
from trainers.postgres_query import describe, wrap
from trainers.postgres_rows import PostgresCut, PostgresReader
from trainers.rows import KEY

Pg = psycopg.Connection[tuple[Any, ...]]

PEOPLE = """
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TABLE people (
    id int PRIMARY KEY, age float8, country text NOT NULL, born date, extra jsonb, mood mood DEFAULT 'fine'
);
INSERT INTO people
SELECT g, g * 1.5, CASE g % 2 WHEN 1 THEN 'DE' ELSE 'FR' END, date '2000-01-01' + g, jsonb_build_object('zip', g::text)
FROM generate_series(0, 499) AS g;
"""


@pytest.fixture
def connection(postgres_uri: str) -> Iterator[Connection]:
    made = Connection(postgres_uri)
    yield made
    made.close()


@pytest.fixture
def people(pg: Pg) -> Pg:
    pg.execute(PEOPLE)
    return pg


@pytest.fixture(params=["adbc", "psycopg"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two drivers."""
    if request.param == "psycopg":
        monkeypatch.setattr(postgres_wire, "adbc", lambda: None)
    return str(request.param)


def table(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    held = list(batches)
    assert len({batch.schema for batch in held}) == 1
    return pa.Table.from_batches(held)


def rows(connection: Connection, select: Any, fields: tuple[str, ...] | None = None) -> pa.Table:
    with PostgresReader(connection).cut(None) as cut:
        return table(cut.rows(select, fields))


def keys(connection: Connection, select: str, fields: tuple[str, ...] | None = None) -> list[int]:
    found: list[int] = rows(connection, select, fields).column(KEY).to_pylist()
    return found


# What each type is, on both ways: the SQL of one value, its column's type, and the value.
TYPES: dict[str, tuple[str, pa.DataType, Any]] = {
    "int2": ("7::int2", pa.int64(), 7),
    "int4": ("-7::int4", pa.int64(), -7),
    "int8": ("9223372036854775807::int8", pa.int64(), 2**63 - 1),
    "oid": ("4000000000::oid", pa.int64(), 4_000_000_000),
    "float4": ("0.1::float4", pa.float64(), 0.10000000149011612),
    "float8": ("0.1::float8", pa.float64(), 0.1),
    "float8_inf": ("'-Infinity'::float8", pa.float64(), -math.inf),
    "numeric": ("0.1::numeric", pa.float64(), 0.1),
    "numeric_nan": ("'NaN'::numeric", pa.float64(), math.nan),
    "numeric_inf": ("'Infinity'::numeric", pa.float64(), math.inf),
    "numeric_whole": ("999999999999999999::numeric(18, 0)", pa.int64(), 999_999_999_999_999_999),
    "numeric_scale": ("1.25::numeric(10, 2)", pa.float64(), 1.25),
    "numeric_wide": ("12345::numeric(19, 0)", pa.float64(), 12345.0),
    "numeric_hundreds": ("12345::numeric(3, -2)", pa.int64(), 12300),
    "money": ("12.5::numeric::money", pa.float64(), 12.5),
    "bool": ("true", pa.bool_(), True),
    "text": ("'größe %s {}'::text", pa.string(), "größe %s {}"),
    "varchar": ("'ab'::varchar(5)", pa.string(), "ab"),
    "char": ("'ab'::char(5)", pa.string(), "ab"),
    "name": ("'ab'::name", pa.string(), "ab"),
    "enum": ("'fine'::mood", pa.string(), "fine"),
    "uuid": ("'8f14e45f-ceea-467f-a0e6-0d0f1f3c0f4e'::uuid", pa.string(), "8f14e45f-ceea-467f-a0e6-0d0f1f3c0f4e"),
    "inet": ("'10.0.0.1/8'::inet", pa.string(), "10.0.0.1/8"),
    "range": ("'[1,3)'::int4range", pa.string(), "[1,3)"),
    "point": ("'(1,2)'::point", pa.string(), "(1,2)"),
    "bits": ("'101'::bit(3)", pa.string(), "101"),
    "bytea": ("'\\x00ff'::bytea", pa.binary(), b"\x00\xff"),
    "date": ("'2024-02-29'::date", pa.timestamp("us"), datetime(2024, 2, 29)),  # noqa: DTZ001
    "old_date": ("'0044-03-15'::date", pa.timestamp("us"), datetime(44, 3, 15)),  # noqa: DTZ001
    "timestamp": (
        "'2024-02-29 01:02:03.000004'::timestamp",
        pa.timestamp("us"),
        datetime(2024, 2, 29, 1, 2, 3, 4),  # noqa: DTZ001
    ),
    "timestamptz": (
        "'1969-12-31 23:00:00-02'::timestamptz",
        pa.timestamp("us"),
        datetime(1970, 1, 1, 1),  # noqa: DTZ001
    ),
    "time": ("'01:00:00.5'::time", pa.float64(), 3600.5),
    "timetz": ("'01:00:00+01'::timetz", pa.float64(), 0.0),
    "interval": ("'1 day 00:00:01.5'::interval", pa.float64(), 86401.5),
    "int4s": ("'{1,NULL,3}'::int4[]", pa.list_(pa.float64()), [1.0, None, 3.0]),
    "int8s": ("'{9007199254740992}'::int8[]", pa.list_(pa.float64()), [2.0**53]),
    "float4s": ("'{1.5}'::float4[]", pa.list_(pa.float64()), [1.5]),
    "float8s": ("'{}'::float8[]", pa.list_(pa.float64()), []),
    "numerics": ("'{0.1,NaN}'::numeric[]", pa.list_(pa.float64()), [0.1, math.nan]),
    "texts": ("'{a,NULL,\"b,c\"}'::text[]", pa.list_(pa.string()), ["a", None, "b,c"]),
    "bools": ("'{t,f}'::bool[]", pa.list_(pa.bool_()), [True, False]),
    "dates": ("'{2024-01-01}'::date[]", pa.list_(pa.timestamp("us")), [datetime(2024, 1, 1)]),  # noqa: DTZ001
    "times": (
        "'{2024-01-01 01:00+01,NULL}'::timestamptz[]",
        pa.list_(pa.timestamp("us")),
        [datetime(2024, 1, 1), None],  # noqa: DTZ001
    ),
    "intervals": ("'{1 day,NULL}'::interval[]", pa.list_(pa.float64()), [86400.0, None]),
    "enums": ("'{fine,sad}'::mood[]", pa.list_(pa.string()), ["fine", "sad"]),
    "uuids": ("ARRAY['8f14e45f-ceea-467f-a0e6-0d0f1f3c0f4e'::uuid]", pa.list_(pa.string()), None),
    "lower_bound": ("'[5:6]={1,2}'::int4[]", pa.list_(pa.float64()), [1.0, 2.0]),
    "domain": ("5::positive", pa.int64(), 5),
    "domains": ("'{5}'::positive[]", pa.list_(pa.float64()), [5.0]),
    "domain_over_array": ("'{5}'::few", pa.list_(pa.float64()), [5.0]),
    "domain_over_numeric": ("5::whole", pa.int64(), 5),
    "json_number": ("'1.5'::json", pa.float64(), 1.5),
    "json_list": ("'[1,2]'::jsonb", pa.list_(pa.float64()), [1.0, 2.0]),
    "json_text": ("'\"a\"'::jsonb", pa.string(), "a"),
    "json_object": (
        '\'{"a": 1, "b": {"c": [true]}}\'::jsonb',
        pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.list_(pa.bool_()))]))]),
        {"a": 1, "b": {"c": [True]}},
    ),
    "jsons": ("ARRAY['{\"a\": 1}'::jsonb]", pa.list_(pa.struct([("a", pa.int64())])), [{"a": 1}]),
    "composite": (
        "ROW(1, 'x')::pair",
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        {"a": 1, "b": "x"},
    ),
    "hstore": ("'a=>1'::hstore", pa.struct([("a", pa.string())]), {"a": "1"}),
}
MORE_TYPES = """
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN whole AS numeric(10, 0);
CREATE DOMAIN few AS positive[];
"""


def test_every_type_on_both_ways(pg: Pg, connection: Connection, path: str) -> None:
    pg.execute(MORE_TYPES)
    made = ", ".join(f'{made} AS "{name}"' for name, (made, _, _) in TYPES.items())
    pg.execute(f"CREATE TABLE kinds AS SELECT 1 AS row, {made}")
    pg.execute("INSERT INTO kinds (row) VALUES (2)")  # all else is NULL
    found = rows(connection, "SELECT * FROM kinds ORDER BY row")
    assert found.drop(["row", KEY]).schema == pa.schema([(name, kind) for name, (_, kind, _) in TYPES.items()])
    first, second = found.drop(["row", KEY]).to_pylist()
    wanted = {name: value for name, (_, _, value) in TYPES.items()} | {"uuids": [TYPES["uuid"][2]]}
    assert repr(first) == repr(wanted)  # NaN is no equal of itself
    assert set(second.values()) == {None}


def test_both_ways_give_the_same_table(pg: Pg, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    pg.execute(MORE_TYPES)
    usable = {name: made for name, (made, _, value) in TYPES.items() if "nan" not in repr(value)}
    made = ", ".join(f'CASE WHEN g % 3 > 0 THEN {made} END AS "{name}"' for name, made in usable.items())
    pg.execute(f"CREATE TABLE kinds AS SELECT g, {made} FROM generate_series(1, 100) AS g")
    select = "SELECT * FROM kinds ORDER BY g"
    by_adbc = rows(connection, select)
    monkeypatch.setattr(postgres_wire, "adbc", lambda: None)
    by_psycopg = rows(connection, select)
    assert by_adbc.schema == by_psycopg.schema
    assert by_adbc.combine_chunks().equals(by_psycopg.combine_chunks())


def test_vectors_of_pgvector(postgres: PostgresServer, pg: Pg, connection: Connection, path: str) -> None:
    if postgres.version < 18:
        return  # this server comes without the extension
    pg.execute("CREATE EXTENSION vector")
    values = "'[1,0.5]'::vector(2) AS v, '[2,0]'::halfvec(2) AS h, '{1:3}/2'::sparsevec(2) AS s"
    pg.execute(f"CREATE TABLE vectors AS SELECT {values} UNION ALL SELECT NULL, NULL, NULL")
    found = rows(connection, "SELECT v, h, s FROM vectors ORDER BY v").drop([KEY])
    assert set(found.schema.types) == {pa.list_(pa.float32())}
    assert found.to_pylist() == [{"v": [1.0, 0.5], "h": [2.0, 0.0], "s": [3.0, 0.0]}, {"v": None, "h": None, "s": None}]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("'infinity'::timestamp", r"`v` holds infinity .* WHERE isfinite\(v\)"),
        ("'-infinity'::date", "`v` holds infinity"),
        ("'{infinity}'::timestamptz[]", "`v` holds infinity"),
        ("'290000-01-01'::timestamp", None),
        ("'294270-01-01'::timestamp", "`v` holds infinity or a time after the year 294246"),
        ("1e400::numeric", "PostgreSQL refuses the select: .* is out of range for type double precision"),
        ("'NaN'::numeric(5, 0)", "PostgreSQL refuses the select: cannot convert NaN to bigint"),
        ("'{{1,2},{3,4}}'::int4[]", r"`v` holds arrays of several dimensions; write to_jsonb\(…\) AS v"),
        ("'{{a},{b}}'::text[]", "`v` holds arrays of several dimensions"),
        ("'{{2024-01-01},{2024-01-01}}'::date[]", "`v` holds arrays of several dimensions"),
        ("'{9007199254740993}'::int8[]", "`v` holds numbers that no 64-bit column holds exactly"),
        ("'[1, \"a\"]'::jsonb", r"`v\[\]` holds mixed types: int \(row 0\) and string \(row 0\)"),
        ("'[1e400]'::jsonb", "`v` holds 1e?[0]+, which is too large for a 64-bit float|no 64-bit column holds exactly"),
        ("'1e400'::json", "`v` holds 1e400, which is too large for a 64-bit float"),
        ("(1 / 0)", "PostgreSQL refuses the select: division by zero"),
    ],
)
def test_values_that_no_column_holds(pg: Pg, connection: Connection, path: str, made: str, says: str | None) -> None:
    pg.execute("CREATE TABLE one AS SELECT 1 AS id")
    select = SqlSelect(
        f"SELECT {made} AS v FROM one", (), False, None, None, (), parse_sql_select("SELECT 1 FROM a").tree
    )
    with PostgresReader(connection).cut(None) as cut, pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_rows, "parse_sql_select", lambda _: select)
        if says is None:
            assert table(cut.rows("", None)).num_rows == 1
            return
        with pytest.raises(RowsUnusable, match=says):
            list(cut.rows("", None))


def test_lists_in_lists_by_json(pg: Pg, connection: Connection, path: str) -> None:
    pg.execute("CREATE TABLE grids AS SELECT '{{1,2},{3,4}}'::int4[] AS grid")
    found = rows(connection, "SELECT to_jsonb(grid) AS grid FROM grids")
    assert found.column("grid").to_pylist() == [[[1.0, 2.0], [3.0, 4.0]]]


def test_columns_by_name_and_path(people: Pg, connection: Connection, path: str) -> None:
    select = "SELECT * FROM people WHERE country = 'DE' ORDER BY age DESC OFFSET 2 LIMIT 3"
    found = rows(connection, select, ("age", "extra.zip"))
    assert found.drop([KEY]).to_pydict() == {"age": [742.5, 739.5, 736.5], "extra.zip": ["495", "493", "491"]}
    assert rows(connection, select).column_names == ["id", "age", "country", "born", "extra", "mood", KEY]
    assert rows(connection, select, ("extra.none.deeper",)).column(0).type == pa.null()


def test_columns_with_names_of_all_sorts(pg: Pg, connection: Connection, path: str) -> None:
    names = ["1st", "two words", "größe", "a.b", '"quoted"', "per%cent", "{}", "%s", "x" * 63, "FROM", "key", "c0"]
    listed = sql.SQL(", ").join(sql.SQL("{} AS {}").format(at, sql.Identifier(name)) for at, name in enumerate(names))
    pg.execute(sql.SQL("CREATE TABLE odd AS SELECT {}").format(listed))
    found = rows(connection, "SELECT * FROM odd", tuple(names))
    assert found.drop([KEY]).to_pylist() == [{name: at for at, name in enumerate(names)}]


@pytest.mark.parametrize(
    ("select", "fields", "says"),
    [
        ("SELECT age FROM people", ("aeg",), "no row has a field `aeg`: did you mean `age`?"),
        ("SELECT age FROM people", ("age.x",), "`age.x` leads into `age`, which is of type float8 and has no fields"),
        ("SELECT age, age FROM people", None, "gives two columns the name `age`; give each a name of its own with AS"),
        ('SELECT age AS "__key" FROM people', None, "`__key` is a name of refitd's own"),
        ("SELECT FROM people", None, "the select gives no columns"),
        ("SELECT age FROM poeple", None, 'relation "poeple" does not exist; nearest: people'),
        ("SELECT age FROM shop.people", None, 'relation "shop.people" does not exist; nearest: people'),
        ("SELECT agee FROM people", None, r'column "agee" does not exist \(42703\); .*"people.age"'),
        ("SELECT 10 / (id - id) FROM people", None, r"refuses the select: division by zero \(22012\)"),
        ("SELECT country::int FROM people", None, 'invalid input syntax for type integer: "FR"'),
        ("SELECT age, FROM people", None, "syntax error|SELECT"),
        ("SELECT extra FROM mixed", ("extra.v.w",), "`extra.v.w` leads through a list; take one value from it"),
        ("SELECT extra FROM mixed", ("extra.u",), r"`extra.u` holds mixed types: int \(row 0\) and string \(row 1\)"),
    ],
)
def test_what_is_said_of_a_wrong_select(
    people: Pg, connection: Connection, select: str, fields: tuple[str, ...] | None, says: str
) -> None:
    people.execute("CREATE TABLE mixed (id int PRIMARY KEY, extra jsonb)")
    people.execute("""INSERT INTO mixed VALUES (1, '{"u": 1, "v": {"w": 1}}'), (2, '{"u": "a", "v": [{"w": 1}]}')""")
    with pytest.raises((RowsUnusable, DocumentInvalid), match=says):
        rows(connection, select, fields)


def test_a_cut_outlives_a_read_that_failed(people: Pg, connection: Connection) -> None:
    with PostgresReader(connection).cut(None) as cut:
        for wrong in ("SELECT agee FROM people", "SELECT 1 / (id - id) FROM people", "SELECT a FROM nowhere"):
            with pytest.raises(RowsUnusable):
                list(cut.rows(wrong, None))
        assert table(cut.rows("SELECT age FROM people", None)).num_rows == 500


def test_no_rows(people: Pg, connection: Connection, path: str) -> None:
    with PostgresReader(connection).cut(None) as cut:
        assert list(cut.rows("SELECT age FROM people WHERE age < 0", None)) == []
        assert list(cut.rows("SELECT extra FROM people WHERE age < 0", ("extra.zip",))) == []


def test_one_cut_is_one_state(people: Pg, connection: Connection, path: str) -> None:
    select = "SELECT id, age FROM people ORDER BY id"
    with PostgresReader(connection).cut(None) as cut:
        before = table(cut.rows(select, None))
        people.execute("UPDATE people SET age = -1")
        people.execute("INSERT INTO people VALUES (1000, -1, 'DE')")
        after = table(cut.rows(select, None))
    assert before.equals(after)
    assert rows(connection, select).column("age").to_pylist() == [-1.0] * 501


# ---- keys


def test_keys_are_the_primary_keys(people: Pg, connection: Connection, path: str) -> None:
    whole = dict(zip(range(500), keys(connection, "SELECT * FROM people ORDER BY id"), strict=True))
    assert len(set(whole.values())) == 500
    assert rows(connection, "SELECT age FROM people").schema.field(KEY).type == pa.uint64()
    for select in (
        "SELECT age FROM people ORDER BY id",
        "SELECT p.age, upper(country) AS c FROM ONLY people AS p WHERE age IS DISTINCT FROM 0.25 ORDER BY p.id -- end",
        "SELECT extract(year FROM born) AS y FROM public.people\nORDER BY id",
        'SELECT age /* FROM nothing */, \'x FROM y\' AS t FROM people AS "Odd from" ORDER BY "Odd from".id',
        "SELECT -age, country FROM people ORDER BY 1 DESC",
    ):
        assert keys(connection, select) == [whole[key] for key in range(500)], select
    people.execute("UPDATE people SET age = age + 1, country = 'XX'")
    assert keys(connection, "SELECT country FROM people ORDER BY id") == list(whole.values())


def test_keys_of_keys_of_all_sorts(pg: Pg, connection: Connection) -> None:
    pg.execute('CREATE TABLE "Odd" ("a""b" text, "SELECT" uuid DEFAULT gen_random_uuid(), v int, m money,'
               ' PRIMARY KEY ("a""b", "SELECT", m) INCLUDE (v))')  # fmt: skip
    pg.execute("""INSERT INTO "Odd" ("a""b", v, m) SELECT 'k', 1, 5 FROM generate_series(1, 50)""")
    assert len(set(keys(connection, 'SELECT v FROM "Odd"'))) == 50


@pytest.mark.parametrize(
    "select",
    [
        "SELECT DISTINCT country FROM people",
        "SELECT country, count(*) AS n FROM people GROUP BY country",
        "SELECT country FROM people WHERE id < 1 UNION SELECT 'IT'",
        "SELECT country, age FROM people_view WHERE id < 2",
        "WITH p AS (SELECT * FROM people) SELECT country, extra FROM p WHERE id < 2",
        "SELECT p.country, q.age FROM people AS p JOIN people AS q USING (id) WHERE id < 2",
    ],
)
def test_elsewhere_equal_rows_have_equal_keys(people: Pg, connection: Connection, path: str, select: str) -> None:
    people.execute("CREATE VIEW people_view AS SELECT * FROM people")
    try:
        found = keys(connection, select)
    except DocumentInvalid:
        pytest.fail("the parser refuses the select")
    assert len(set(found)) == len(found) == 2
    people.execute("UPDATE people SET mood = 'sad'")
    assert sorted(keys(connection, select)) == sorted(found)
    people.execute("CREATE TABLE twins AS SELECT 1 AS a FROM generate_series(1, 3)")
    assert len(set(keys(connection, "SELECT a FROM twins"))) == 1


# ---- coverage


def test_a_cut_waits_for_a_transaction_to_end(people: Pg, connection: Connection, postgres_uri: str) -> None:
    taken = threading.Event()
    seen: list[list[int]] = []
    with psycopg.connect(postgres_uri) as writer:
        writer.execute("UPDATE people SET age = -5 WHERE id = 1")
        (xid,) = writer.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
        need = PgStamp(connection.history(), xids=frozenset({xid}))

        def read() -> None:
            with PostgresReader(connection).cut(need) as cut:
                taken.set()
                assert cut.stamp.covers(need)
                seen.append(table(cut.rows("SELECT age FROM people WHERE id = 1", None)).column("age").to_pylist())

        reader = threading.Thread(target=read)
        reader.start()
        while not people.execute(
            "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot%'"
            " AND pid <> pg_backend_pid() AND datname = current_database()"
        ).rowcount:
            pass  # until it has looked once
        assert not taken.is_set()
        writer.commit()
        reader.join(30)
    assert seen == [[-5.0]]


def test_a_transaction_that_never_ends_is_named(
    people: Pg, connection: Connection, postgres_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_rows, "_WAIT", 0.2)
    with psycopg.connect(postgres_uri) as writer:
        (xid,) = writer.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
        need = PgStamp(connection.history(), xids=frozenset({xid}))
        refused = pytest.raises(DatastoreUnavailable, match=f"the transactions {xid}; .*SyncRep")
        with refused, PostgresReader(connection).cut(need):
            pass
        later = PgStamp(connection.history(), Snapshot(xid + 1))  # shows it, as ours does not
        with pytest.raises(DatastoreUnavailable, match=str(xid)), PostgresReader(connection).cut(later):
            pass


def test_a_need_of_another_history_counts_as_covered(people: Pg, connection: Connection) -> None:
    with PostgresReader(connection).cut(PgStamp("1/00000009", xids=frozenset({2**60}))) as cut:
        assert cut.stamp.history == connection.history()
        assert cut.stamp.snapshot is not None


# ---- trust


HOSTILE = (
    "SELECT 1); DROP TABLE people; --",
    "SELECT 1) TO STDOUT; DROP TABLE people; --",
    "SELECT 1 AS a; DROP TABLE people",
    "SELECT 1 AS a; COMMIT; DROP TABLE people",
    "COMMIT",
    "DROP TABLE people",
    "SELECT 1 AS a) AS x, (SELECT 2 AS b",
    "SELECT 1 AS a /*",
    "SELECT 'a",
    "WITH gone AS (DELETE FROM people RETURNING id) SELECT id FROM gone",
    "INSERT INTO people VALUES (-1) RETURNING id",
    "SELECT 1 AS a INTO copied",
    "SELECT id FROM people FOR UPDATE",
    "SELECT nextval('counter') AS a",
    "SELECT set_config('transaction_read_only', 'off', true) AS a",
    "SHOW transaction_read_only",
    "EXPLAIN ANALYZE DELETE FROM people",
    "PREPARE x AS SELECT 1",
    "COPY people TO '/tmp/never'",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_select_that_slipped_through(
    people: Pg, connection: Connection, monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    people.execute("CREATE SEQUENCE counter")
    tree = parse_sql_select("SELECT 1 FROM a").tree
    monkeypatch.setattr(postgres_rows, "parse_sql_select", lambda _: SqlSelect(text, (), False, None, None, (), tree))
    with pytest.raises(RowsUnusable), PostgresReader(connection).cut(None) as cut:
        list(cut.rows("", None))
    assert people.execute("SELECT count(*) FROM people").fetchone() == (500,)
    assert people.execute("SELECT to_regclass('copied'), last_value, is_called FROM counter").fetchone() == (
        None, 1, False,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["SELECT 1); DROP TABLE people; --", "SELECT 1 AS a) AS x; DROP TABLE people; --"])
def test_the_wrapping_alone_stays_one_statement(people: Pg, connection: Connection, path: str, text: str) -> None:
    with PostgresReader(connection).cut(None) as cut:
        described = describe(cut._connection, "SELECT 1 AS a")
        query = wrap(cut._connection, text, described, None, has_key=False)
        job = postgres_wire.Job(cut._session, cut._exported, None, query.text, query.wire)
        with pytest.raises(postgres_wire.errors()):
            list(postgres_wire.read(job))
    assert people.execute("SELECT count(*) FROM people").fetchone() == (500,)


@pytest.fixture
def login(people: Pg, postgres: PostgresServer) -> Iterator[Connection]:
    """A login that may do nothing yet. Roles are the server's, so these are removed afterwards."""
    name = f"login_{people.info.dbname[-8:]}"
    people.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    made = Connection(f"postgresql://{name}:s3cret@127.0.0.1:{postgres.port}/{people.info.dbname}")
    yield made
    made.close()
    people.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def test_a_login_that_may_not_read(people: Pg, login: Connection, path: str) -> None:
    people.execute("CREATE SCHEMA shop; CREATE TABLE shop.orders AS SELECT 1 AS id")
    name = login.login.user
    with pytest.raises(
        RowsUnusable, match=f'denied for table people; run GRANT SELECT ON "people" TO "{name}"'
    ) as told:
        rows(login, "SELECT age FROM people")
    assert "s3cret" not in str(told.value)
    with pytest.raises(RowsUnusable, match=f'denied for schema shop; run GRANT USAGE ON SCHEMA "shop" TO "{name}"'):
        rows(login, "SELECT id FROM shop.orders")
    people.execute(sql.SQL("GRANT SELECT (age) ON people TO {}").format(sql.Identifier(name)))
    assert len(set(keys(login, "SELECT age FROM people"))) == 500  # by their values: it may not read the key


def test_selects_run_as_the_reader_role(
    people: Pg, login: Connection, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, role = login.login.user, f"reader_{people.info.dbname[-8:]}"
    for module in (postgres_wire, postgres_rows):
        monkeypatch.setattr(module, "ROLE", role)
    people.execute(f"CREATE TABLE mine AS SELECT 1 AS a; ALTER TABLE mine OWNER TO {name}; CREATE ROLE {role};"
                   f"GRANT SELECT ON people TO {role}")  # fmt: skip
    try:
        assert rows(login, "SELECT a FROM mine").num_rows == 1  # it isn't a member
        people.execute(f"GRANT {role} TO {name}")
        assert rows(login, "SELECT age FROM people LIMIT 1").num_rows == 1
        with pytest.raises(RowsUnusable, match=f'GRANT SELECT ON "mine" TO "{role}"'):
            rows(login, "SELECT a FROM mine")
    finally:
        people.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


# ---- limits, ends and loss


def slow(pg: Pg) -> str:
    """A select that takes as long as one lets it."""
    pg.execute("CREATE TABLE many AS SELECT g FROM generate_series(1, 20000) AS g")
    return "SELECT count(*) AS n FROM many AS a, many AS b, many AS c"


def running(pg: Pg) -> int:
    """How many others are connected to the database."""
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return pg.execute(query).rowcount


def wait_until_alone(pg: Pg) -> None:
    while running(pg):
        pass  # the test's own limit ends it


@pytest.mark.parametrize("by_server", [True, False])
def test_the_statement_limit(
    pg: Pg, connection: Connection, path: str, monkeypatch: pytest.MonkeyPatch, by_server: bool
) -> None:
    select = slow(pg)
    if not by_server:
        monkeypatch.setattr(postgres_wire, "_GRACE", 0.0)
        settings = postgres_wire.Session.settings.fget  # type: ignore[attr-defined]  # a property
        disabled = property(lambda self: settings(self).replace("'300', false", "'0', false"))
        monkeypatch.setattr(postgres_wire.Session, "settings", disabled)
    reader = PostgresReader(connection, statement_limit=0.3)
    with pytest.raises(RowsUnusable, match="longer than the statement limit"), reader.cut(None) as cut:
        list(cut.rows(select, None))
    wait_until_alone(pg)


def test_a_read_that_is_left_early_ends_its_statement(pg: Pg, connection: Connection, path: str) -> None:
    pg.execute("CREATE TABLE many AS SELECT g, repeat('x', 100) AS t FROM generate_series(1, 400000) AS g")
    endless = "SELECT a.g, a.t FROM many AS a, many AS b"

    def first(cut: PostgresCut) -> None:
        for _ in cut.rows(endless, None):
            raise ZeroDivisionError

    with PostgresReader(connection).cut(None) as cut:
        batches = cut.rows(endless, None)
        assert next(batches).num_rows > 0
        assert isinstance(batches, Generator)
        batches.close()
        while running(pg) > 1:
            pass  # only the cut's own is left
        assert table(cut.rows("SELECT g FROM many LIMIT 1", None)).num_rows == 1
        with pytest.raises(ZeroDivisionError):
            first(cut)
    wait_until_alone(pg)


def test_a_connection_that_is_ended_asks_for_a_fresh_cut(pg: Pg, connection: Connection, path: str) -> None:
    select = slow(pg)
    ended: list[int] = []

    def end() -> None:
        query = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()
                    AND query ~ '^FETCH|many AS a'
        """
        while not ended:
            ended.extend([1] * pg.execute(query).rowcount)

    with PostgresReader(connection).cut(None) as cut:
        killer = threading.Thread(target=end)
        killer.start()
        with pytest.raises(DatastoreUnavailable):
            list(cut.rows(select, None))
        killer.join()


def test_a_cut_that_is_gone_asks_for_a_fresh_one(people: Pg, connection: Connection, path: str) -> None:
    with PostgresReader(connection).cut(None) as cut:
        people.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                       " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
        with pytest.raises(DatastoreUnavailable):
            list(cut.rows("SELECT age FROM people", None))


def test_no_server_answers() -> None:
    reader = PostgresReader(Connection("postgresql://me:s3cret@127.0.0.1:1/none", timeout_s=2))
    with pytest.raises(DatastoreUnavailable, match="does not answer") as told, reader.cut(None):
        pass
    assert "s3cret" not in str(told.value)


def test_what_adbc_refuses_is_read_by_psycopg(
    people: Pg, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adbc_driver_postgresql.dbapi as driver

    def refuse(*_: Any, **__: Any) -> Any:
        raise driver.NotSupportedError("no such type")

    monkeypatch.setattr(postgres_wire, "_batches", refuse)
    assert rows(connection, "SELECT age FROM people").num_rows == 500


def test_a_large_read_holds_its_columns_and_no_more(pg: Pg, connection: Connection) -> None:
    pg.execute("CREATE TABLE large (id int PRIMARY KEY, x float8, y float8, t text)")
    pg.execute("INSERT INTO large SELECT g, g, g, repeat('x', 100) FROM generate_series(1, 300000) AS g")
    with PostgresReader(connection).cut(None) as cut:
        most, counts = 0, []
        for batch in cut.rows("SELECT * FROM large", None):
            counts.append(batch.num_rows)
            most = max(most, pa.total_allocated_bytes())
            del batch
    assert sum(counts) == 300_000
    assert max(counts) <= 65_536
    assert most < 120_000_000


def test_closing_twice_is_safe(connection: Connection) -> None:
    reader = PostgresReader(connection)
    reader.close()
    reader.close()
    assert connection.history()


def test_the_contract_of_a_cut(people: Pg, connection: Connection) -> None:
    with PostgresReader(connection).cut(None) as cut:
        assert isinstance(cut, PostgresCut)
        assert isinstance(cut.stamp, PgStamp)
        with pytest.raises(DocumentInvalid):
            list(cut.rows("DELETE FROM people", None))
