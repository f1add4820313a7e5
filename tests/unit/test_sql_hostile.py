"""Selects that would write, run code, leave the tables or wear the daemon out: each is refused, with its reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import DocumentInvalid
from registry.sql_select import parse_sql_select
from registry.sql_text import MAX_TEXT


def faults_of(value: object) -> list[str]:
    with pytest.raises(DocumentInvalid) as caught:
        parse_sql_select(value)
    assert all(fault.path == "" for fault in caught.value.faults)
    return [fault.message for fault in caught.value.faults]


WRITES = [
    ("INSERT INTO t VALUES (1)", "INSERT"),
    ("UPDATE t SET a = 1", "UPDATE"),
    ("DELETE FROM t", "DELETE"),
    ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "MERGE"),
    ("TRUNCATE t", "TRUNCATE"),
    ("CREATE TABLE x AS SELECT a FROM t", "CREATE"),
    ("DROP TABLE t", "DROP"),
    ("ALTER TABLE t ADD b int", "ALTER"),
    ("COPY t TO PROGRAM 'id'", "COPY"),
    ("CALL p()", "CALL"),
    ("DO $$BEGIN PERFORM 1; END$$", "DO"),
    ("DO 'x'", "DO"),
    ("SET statement_timeout = 0", "SET"),
    ("EXPLAIN ANALYZE SELECT a FROM t", "EXPLAIN"),
    ("PREPARE p AS SELECT a FROM t", "PREPARE"),
    ("(DELETE FROM t)", "DELETE"),
    ("SELECT a INTO x FROM t", "INTO"),
    ("SELECT a INTO TEMP x FROM t", "INTO"),
    ("SELECT a FROM t FOR UPDATE", "FOR UPDATE"),
    ("SELECT a FROM t FOR NO KEY UPDATE", "FOR UPDATE"),
    ("SELECT a FROM t FOR SHARE SKIP LOCKED", "FOR UPDATE"),
    ("SELECT a FROM (SELECT a FROM t FOR KEY SHARE) x", "FOR UPDATE"),
    ("WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x", ""),
    ("WITH x AS (INSERT INTO t SELECT 1 RETURNING a) SELECT a FROM x", ""),
    ("WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT a FROM x", ""),
    ("WITH x AS NOT MATERIALIZED (DELETE FROM t RETURNING *) SELECT * FROM x", ""),
    ("WITH x AS (SELECT a FROM t) DELETE FROM t", ""),
    ("WITH x AS (SELECT a FROM t) INSERT INTO t SELECT * FROM x", ""),
    ("SELECT a FROM t WHERE EXISTS (WITH x AS (DELETE FROM t RETURNING 1) SELECT 1 FROM x)", ""),
]

SEVERAL = [
    ("SELECT a FROM t; COMMIT; INSERT INTO t VALUES (1)", "more than one"),
    ("SELECT a FROM t;;", "more than one"),
    (";", "empty"),
    ("", "empty"),
    ("-- nothing", "empty"),
    ("SELECT a FROM t; -- a\nDROP TABLE t", "more than one"),
    ("SELECT a FROM t /* ; */; SELECT 1", "more than one"),
    ("SELECT ';' FROM t; SELECT 1", "more than one"),
    ("SELECT $$;$$ FROM t; DROP TABLE t --$$", "more than one"),
    ("SELECT a FROM t) ; DELETE FROM t; --", "nothing opened"),
    ("SELECT a FROM t WHERE (a", "not closed"),
    ("SELECT a[1 FROM t)", "nothing opened"),
    ("VALUES (1)", "no table"),
    ("SELECT 1", "no table"),
    ("SELECT * FROM generate_series(1, 9)", "no table"),
    ("WITH c AS (SELECT 1) SELECT * FROM c", "no table"),
    ("TABLE t", "TABLE"),
    ("WITH x AS (TABLE t) SELECT * FROM x", "TABLE"),
    ("\\copy t to x", "'\\\\'"),
    ("SELECT a FROM t \\gexec", "'\\\\'"),
]

CALLS = [
    ("SELECT pg_sleep(1) FROM t", "waits"),
    ("SELECT PG_SLEEP (1) FROM t", "waits"),
    ('SELECT "pg_sleep"(1) FROM t', "waits"),
    ("SELECT pg_catalog.pg_sleep(1) FROM t", "waits"),
    ("SELECT pg_catalog . /* x */ pg_sleep /* y */ (1) FROM t", "waits"),
    ('SELECT pg_catalog."pg_sleep"(1) FROM t', "waits"),
    ("SELECT (0.1).pg_sleep FROM t", "(…).name"),
    ("SELECT (a).pg_terminate_backend FROM t", "(…).name"),
    ("SELECT (a)./* x */lo_unlink FROM t", "(…).name"),
    ("SELECT (ARRAY[1])[1].pg_sleep FROM t", "(…).name"),
    ("SELECT (t).* FROM t", "(…).name"),
    ("SELECT g.pg_sleep FROM t, generate_series(1, 9) AS g", "call of a function"),
    ("SELECT g.pg_sleep FROM (generate_series(1, 9) AS g CROSS JOIN t)", "call of a function"),
    ("SELECT generate_series.pg_sleep FROM t, generate_series(1, 9)", "call of a function"),
    ("SELECT u.pg_sleep FROM t, LATERAL unnest(t.a) u", "call of a function"),
    ("SELECT t.pg_restore_attribute_stats FROM t", "call of a function"),
    ('SELECT a FROM t AS x WHERE x."pg_typeof" IS NULL', "call of a function"),
    ("SELECT a FROM t, pg_sleep(1)", "waits"),
    ("SELECT a FROM t ORDER BY pg_advisory_lock(1)", "waits"),
    ("SELECT a FROM t WHERE pg_try_advisory_lock(1)", "waits"),
    ("SELECT a FROM t LIMIT pg_terminate_backend(1)::int", "waits"),
    ("SELECT a FROM t OFFSET (SELECT pg_cancel_backend(1)::int)", "waits"),
    ("SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM t", "waits"),
    ("SELECT sum(a) OVER (ORDER BY pg_sleep(1)) FROM t", "waits"),
    ("SELECT a FROM t WINDOW w AS (ORDER BY pg_sleep(1))", "waits"),
    ("SELECT a FROM t WHERE 'x' LIKE 'y' ESCAPE pg_sleep(1)", ""),
    ("SELECT a AT TIME ZONE current_setting('x') FROM t", "state"),
    ("SELECT a FROM t TABLESAMPLE pg_sleep(1)", ""),
    ("SELECT pg_read_file('/etc/passwd') FROM t", "by name"),
    ("SELECT lo_import('/etc/passwd') FROM t", "by name"),
    ("SELECT lo_unlink(1) FROM t", "by name"),
    ("SELECT query_to_xml('DELETE FROM t', true, true, '') FROM t", "by name"),
    ("SELECT table_to_xml('refitd.models', true, true, '') FROM t", "by name"),
    ("SELECT ts_stat('SELECT 1') FROM t", "by name"),
    ("SELECT ts_rewrite('a'::tsquery, 'SELECT 1') FROM t", "by name"),
    ("SELECT dblink('x', 'y') FROM t", "by name"),
    ("SELECT a FROM t, dblink('x', 'y') AS d(z int)", "by name"),
    ("SELECT set_config('statement_timeout', '0', false) FROM t", "writes"),
    ("SELECT nextval('s') FROM t", "writes"),
    ("SELECT has_table_privilege('t', 'select') FROM t", "state"),
    ("SELECT pg_drop_replication_slot('x') FROM t", "state"),
    ("SELECT txid_current() FROM t", "state"),
    ("SELECT version() FROM t", "state"),
    ("SELECT current_user FROM t", "who asks"),
    ("SELECT a FROM t WHERE owner = SESSION_USER", "who asks"),
    ("SELECT current_schema() FROM t", ""),
    ("SELECT mine(a) FROM t", "mine()"),
    ("SELECT lowr(a) FROM t", "did you mean lower?"),
    ("SELECT public.lower(a) FROM t", "own functions"),
    ("SELECT db.pg_catalog.lower(a) FROM t", "own functions"),
    ('SELECT "LOWER"(a) FROM t', "LOWER"),
    ("SELECT date_trunc('day', a), cube(a) FROM t", ""),
    ("SELECT over(a) FROM t", "over()"),
    ("SELECT filter(a) FROM t", ""),
    ("SELECT by(a), sets(a), first(a), zone(a) FROM t", "sets()"),
    ("SELECT a FROM t, LATERAL mine(t.a) AS m", "mine()"),
    ("SELECT a FROM t, ROWS FROM (mine(1), unnest(a))", "mine()"),
    ("SELECT a FROM t, upper('x')", "FROM"),
    ("SELECT a FROM t, XMLTABLE('x' PASSING a COLUMNS b int)", ""),
    ("SELECT a OPERATOR(public.+) b FROM t", "OPERATOR"),
    ('SELECT a OPERATOR("public".+) b FROM t', "OPERATOR"),
    ("SELECT a OPERATOR(+) b FROM t", "OPERATOR"),
    ("SELECT 'pg_class'::regclass FROM t", "catalog"),
    ("SELECT CAST('pg_class' AS pg_catalog.regclass) FROM t", "catalog"),
    ("SELECT regclass 'pg_class' FROM t", "catalog"),
    ("SELECT regclass('pg_class') FROM t", "catalog"),
    ("SELECT '{pg_class}'::_regclass FROM t", "catalog"),
    ("SELECT '{pg_class}'::regclass[] FROM t", ""),
    ('SELECT x FROM t, jsonb_to_record(a) AS r(x "regproc")', "catalog"),
]

RELATIONS = [
    ("SELECT * FROM refitd.models", "registry"),
    ("SELECT * FROM REFITD.models", "registry"),
    ('SELECT * FROM "refitd"."models"', "registry"),
    ("SELECT a FROM t WHERE a IN (SELECT id FROM refitd.models)", "registry"),
    ("SELECT a FROM t UNION ALL SELECT id FROM refitd.models", "registry"),
    ("WITH models AS (SELECT 1) SELECT * FROM refitd.models", "registry"),
    ("SELECT * FROM ONLY refitd.models", "registry"),
    ("SELECT * FROM (t JOIN refitd.models m ON true)", "registry"),
    ("SELECT (SELECT ARRAY(SELECT id FROM refitd.models)) FROM t", "registry"),
    ("SELECT * FROM t, LATERAL (SELECT * FROM refitd.models) m", "registry"),
    ("SELECT * FROM pg_class", "state"),
    ("SELECT * FROM PG_AUTHID", "state"),
    ('SELECT * FROM "pg_authid"', "state"),
    ("SELECT * FROM pg_catalog.pg_stat_activity", "state"),
    ("SELECT * FROM information_schema.tables", "state"),
    ("SELECT * FROM pg_toast.pg_toast_1", "state"),
    ("SELECT * FROM pg_temp.x", "state"),
    ("WITH c AS (SELECT * FROM pg_shadow) SELECT * FROM c", "state"),
    ("WITH c AS (SELECT a FROM t), pg_shadow2 AS (SELECT * FROM pg_shadow3) SELECT * FROM c", "state"),
    ("SELECT a FROM t WHERE a = (SELECT 1 FROM pg_shadow WHERE (TRUE))", "state"),
    ("SELECT * FROM other.public.t", "another database"),
    ("SELECT * FROM t, (FROM u) x", "one way alone"),
    ("SELECT * FROM t@link", ""),
    ("SELECT * FROM 't'", ""),
    ("SELECT * FROM $$t$$", ""),
    ("SELECT * FROM current_date", "keyword"),
    ("SELECT * FROM t PIVOT (sum(a) FOR b IN (1))", ""),
    ("SELECT * FROM t SEMI JOIN u ON true", ""),
    ("SELECT * FROM t QUALIFY row_number() OVER () = 1", ""),
    ("SELECT * FROM read_csv('/etc/passwd')", ""),
]

TEXTS = [
    ("SELECT a FROM t WHERE b = $1", "parameter"),
    ("SELECT a FROM t WHERE b = %s", "parameter"),
    ("SELECT a FROM t WHERE b = %(x)s", "parameter"),
    ("SELECT a FROM t WHERE b = :x", "parameter"),
    ("SELECT a FROM t WHERE b = ?", ""),
    ("SELECT a FROM t WHERE b = @x", "parameter"),
    ("SELECT a FROM t WHERE b = {x}", "'{'"),
    ("SELECT make_interval(days := 1) FROM t", ":="),
    ("SELECT U&'\\0061' FROM t", "U&"),
    ('SELECT * FROM u&"\\0070g_class"', "U&"),
    ("SELECT N'a' FROM t", "national"),
    ("SELECT B'1' FROM t", "bit"),
    ("SELECT 'a\\' FROM t", "before a quote"),
    ("SELECT 'a\\'' || pg_sleep(1) || '' FROM t", "not closed"),
    ("SELECT E'\\'; DROP TABLE t; --' FROM t; SELECT 1", "more than one"),
    ("SELECT 'a' 'b' FROM t", "two strings"),
    ("SELECT 'no'\n'w'::timestamp FROM t", "two strings"),
    ("SELECT 'a FROM t", "not closed"),
    ('SELECT "a FROM t', "not closed"),
    ("SELECT $x$a FROM t", "not closed"),
    ("SELECT E'a\\' FROM t", "not closed"),
    ("SELECT a$$ FROM pg_class --$$ FROM t", "read differently"),
    ("SELECT $é$a$é$ FROM t", ""),
    ("SELECT a FROM t /* /* */", "not closed"),
    ("SELECT a FROM t */", ""),
    ("SELECT /*+ SeqScan(t) */ a FROM t", "hint"),
    ("SELECT a\0 FROM t", "U+0000"),
    ("SELECT 'a\0' FROM t", "U+0000"),
    ("SELECT a\ud800 FROM t", "U+D800"),
    ("SELECT\u00a0a FROM t", "read differently"),
    ("SELECT a\u200bFROM t", "read differently"),
    ("\ufeffSELECT a FROM t", "read differently"),
    ("SELECT a\vFROM t", "no use for"),
    ("SELECT É FROM t", "read differently"),
    ("SELECT 1a FROM t", "runs into"),
    ("SELECT 0x1F FROM t", "runs into"),
    ("SELECT 1_000 FROM t", "runs into"),
    ('SELECT a"b" FROM t', "runs into"),
    ('SELECT "" FROM t', "empty name"),
    (f"SELECT a FROM {'t' * 64}", "63 bytes"),
    (f'SELECT a FROM "{"é" * 32}"', "63 bytes"),
    ("SELECT a FROM t -- " + "x" * MAX_TEXT, "longer"),
    ("SELECT " + "(" * 31 + "1" + ")" * 31 + " FROM t", "nested"),
    ("SELECT " + "(" * 40_000 + "1" + ")" * 40_000 + " FROM t", "nested"),
    ("SELECT " + "array[" * 25 + "1" + "]" * 25 + " FROM t", "nested"),
    ("SELECT " + "CASE WHEN a THEN " * 31 + "1" + " END" * 31 + " FROM t", "nested"),
    ("SELECT a FROM t WHERE " + "NOT " * 20_000 + "a", "nested"),
    ("SELECT " + "- " * 20_000 + "a FROM t", "nested"),
]

ALL = [*WRITES, *SEVERAL, *CALLS, *RELATIONS, *TEXTS]


@pytest.mark.parametrize(("text", "reason"), ALL, ids=range(len(ALL)))
def test_hostile_select_is_refused_with_its_reason(text: str, reason: str) -> None:
    assert any(reason in fault for fault in faults_of(text)), faults_of(text)


def test_what_is_no_text_is_refused() -> None:
    assert faults_of({"collection": "c"}) == [
        "is a MongoDB select, but the datastore is PostgreSQL: write it as SQL: SELECT … FROM …"
    ]
    assert "not NoneType" in faults_of(None)[0]
    assert "not bytes" in faults_of(b"SELECT a FROM t")[0]


def test_all_faults_are_told_at_once() -> None:
    found = faults_of("SELECT pg_sleep(1), mine(a), current_user FROM refitd.models, pg_class")
    assert len(found) == 5


@pytest.mark.parametrize(("text", "reason"), [*CALLS, *RELATIONS], ids=range(len(CALLS) + len(RELATIONS)))
@pytest.mark.parametrize(
    "around", ["SELECT x FROM ({}) AS x(y)", "WITH w AS ({}) SELECT * FROM w, t", "({}) UNION SELECT 1 FROM t"]
)
def test_hostile_select_is_refused_within_another(text: str, reason: str, around: str) -> None:
    faults_of(around.format(text))


SIGNS = (
    "SELECT FROM WHERE a t pg_class refitd . , ( ) [ ] ' \" $$ $x$ -- /* */ \n E' \\ ; : :: % @ ? * + - | WITH AS UNION"
)
WORDS = "JOIN lower pg_sleep ONLY LATERAL FOR UPDATE INTO CASE END 1 .5 1e5 é \r TABLE VALUES OPERATOR INSERT"
PIECES = st.sampled_from([*SIGNS.split(" "), *WORDS.split(" ")])


@given(st.lists(PIECES, max_size=25).map(" ".join) | st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_taken_or_refused_and_nothing_else(text: str) -> None:
    for each in (text, f"SELECT {text} FROM t", f"SELECT a FROM t WHERE {text}", f"SELECT a FROM {text}"):
        try:
            select = parse_sql_select(each)
        except DocumentInvalid:
            continue
        assert select.relations
        assert not any(relation.name.startswith("pg_") and relation.schema is None for relation in select.relations)
        assert all(relation.schema != "refitd" for relation in select.relations)
