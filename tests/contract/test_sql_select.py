"""What the checker makes of a select's text is what PostgreSQL makes of it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg import sql

from registry.errors import DocumentInvalid
from registry.sql_functions import FUNCTIONS, ROW_FUNCTIONS, VOLATILE_FUNCTIONS
from registry.sql_select import parse_sql_select
from registry.sql_text import fold
from tests.fixtures.sql_selects import OTHER, SCHEMA, SINGLE, TRICKY, conditions

Connection = psycopg.Connection[tuple[Any, ...]]

ACCEPTED = [each[0] for each in (*SINGLE, *OTHER, *TRICKY)]

READ_BY_VIEW = """
    SELECT DISTINCT n.nspname, c.relname FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid
    JOIN pg_class c ON d.refobjid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    AND r.ev_class = 'read'::regclass AND c.oid <> r.ev_class
"""
"""What PostgreSQL itself noted that a view reads."""


@pytest.fixture
def shop(pg: Connection) -> Connection:
    pg.execute(SCHEMA)
    pg.execute("SET standard_conforming_strings = on")
    return pg


def run(connection: Connection, text: str) -> None:
    """As the daemon runs it: prepared, so that the server itself refuses a second statement."""
    connection.execute(text, prepare=True)


def read_by_view(connection: Connection, text: str) -> set[str]:
    connection.execute(f"CREATE VIEW read AS {text}")
    try:
        found = connection.execute(READ_BY_VIEW).fetchall()
    finally:
        connection.execute("DROP VIEW read")
    return {sql.Identifier(*pair).as_string() for pair in found}


def in_schema(relation: str) -> str:
    """The relation as the search path finds it."""
    return relation if '"."' in relation else f'"public".{relation}'


def test_what_is_accepted_is_one_statement_that_the_server_takes(shop: Connection) -> None:
    for text in ACCEPTED:
        run(shop, parse_sql_select(text).text)


def test_relations_are_those_that_the_server_notes(shop: Connection) -> None:
    for text, relations in TRICKY:
        assert read_by_view(shop, text) == {in_schema(each) for each in relations}, text


def test_relations_of_texts_put_together(shop: Connection) -> None:
    for text, relations in TRICKY:
        for around in ("SELECT 1 AS x FROM ({}) AS q CROSS JOIN v", "WITH w AS ({}) SELECT 1 AS x FROM w, v"):
            both = around.format(f"{text}\n")
            found = {in_schema(each.sql) for each in parse_sql_select(both).relations}
            assert found == {in_schema(each) for each in relations} | {'"public"."v"'}
            assert read_by_view(shop, both) == found, both


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conditions())
def test_the_condition_lets_the_same_rows_through_on_its_own(shop: Connection, condition: str) -> None:
    select = parse_sql_select(f"SELECT a FROM t WHERE {condition}")
    run(shop, select.text)
    run(shop, f"SELECT count(*) FILTER (WHERE ({select.where})) FROM t AS {select.alias}")


def test_names_fold_as_on_the_server(shop: Connection) -> None:
    for word in ("ABC", "aBc_1", "straße", "ñandÚ"):
        columns = shop.execute(f"SELECT 1 AS {word}").description or []
        assert [column.name for column in columns] == [fold(word)]


HIDDEN = [
    "SELECT t.a FROM t -- \r, u",
    "SELECT E'\\\\' FROM u --' FROM t",
    "SELECT 'a\\' FROM u --' FROM t",
    "SELECT $a$ $b$ FROM u $a$ FROM t",
    "SELECT U&'d\\0061t' FROM t",
    "SELECT a$$ FROM u --$$ FROM t",
    "SELECT x.u FROM t AS x(u) /* /* */ , u */",
    'SELECT 1 AS "a"" FROM u --" FROM t',
    "SELECT a FROM t WHERE a <-- FROM u\n 3",
    "SELECT 'a'\n' FROM u --' FROM t",
    "SELECT t.a FROM t TABLESAMPLE system (5), u",
    "SELECT a AS from FROM t",
    "SELECT (t).a FROM t",
    "SELECT a\u00a0FROM t",
    "SELECT 1e, 2 FROM t",
]


@pytest.mark.parametrize("text", HIDDEN, ids=range(len(HIDDEN)))
def test_a_relation_hidden_from_one_reader_is_seen_or_refused(shop: Connection, text: str) -> None:
    try:
        found = {in_schema(each.sql) for each in parse_sql_select(text).relations}
    except DocumentInvalid:
        return
    assert read_by_view(shop, text) == found


def test_no_function_of_the_list_writes_waits_or_changes_its_answer(pg: Connection) -> None:
    rows = pg.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'v'"
    ).fetchall()
    assert {name for (name,) in rows} & (FUNCTIONS - VOLATILE_FUNCTIONS) == set()


def test_functions_of_the_list_exist(pg: Connection) -> None:
    rows = pg.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace").fetchall()
    newer = {"any_value", "array_reverse", "array_sample", "array_shuffle", "array_sort", "casefold", "crc32", "crc32c"}
    newer |= {"date_add", "date_subtract", "erf", "erfc", "gamma", "lgamma", "random_normal", "to_bin", "to_oct"}
    newer |= {"unicode_assigned", "uuid_extract_timestamp", "uuid_extract_version", "uuidv4", "uuidv7", "xmltext"}
    assert FUNCTIONS - {name for (name,) in rows} <= newer
    if pg.info.server_version >= 180000:
        assert FUNCTIONS - {name for (name,) in rows} == set()


def test_functions_that_a_qualified_name_can_call_are_known(shop: Connection) -> None:
    """`t.name` calls name(t) where t has no such column."""
    rows = shop.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace"
    ).fetchall()
    called = set()
    for name in sorted({name for (name,) in rows}):
        try:
            shop.execute(sql.SQL("PREPARE p AS SELECT t.{} FROM t").format(sql.Identifier(name)))
        except psycopg.Error:
            continue
        shop.execute("DEALLOCATE p")
        called.add(name)
    assert {name for name in called - ROW_FUNCTIONS if not name.startswith("pg_")} == set()  # refused: see below
    for name in called:
        if name.startswith("pg_"):
            with pytest.raises(DocumentInvalid, match="call of a function"):
                parse_sql_select(f"SELECT t.{name} FROM t")
