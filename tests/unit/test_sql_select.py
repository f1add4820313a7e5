"""What a select on PostgreSQL is read as: its relations, its shape, what stands after WHERE, what is volatile."""

from __future__ import annotations

import ibis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibis import _ as row

from registry.errors import DocumentInvalid
from registry.sql_ibis import ibis_sql, is_ibis
from registry.sql_select import SqlSelect, parse_sql_select
from registry.sql_text import Kind, agrees, tokens_of
from registry.sql_tree import Relation
from tests.fixtures.sql_selects import OTHER, SINGLE, TRICKY, conditions


def relations(select: SqlSelect) -> list[str]:
    return [each.sql for each in select.relations]


@pytest.mark.parametrize(("text", "alias", "where"), SINGLE, ids=range(len(SINGLE)))
def test_single_select(text: str, alias: str, where: str | None) -> None:
    select = parse_sql_select(text)
    assert (select.single, select.alias, select.where, len(select.relations)) == (True, alias, where, 1)


@pytest.mark.parametrize(("text", "alias", "where"), OTHER, ids=range(len(OTHER)))
def test_select_whose_rows_are_made_of_several(text: str, alias: str | None, where: str | None) -> None:
    select = parse_sql_select(text)
    assert (select.single, select.alias, select.where) == (False, alias, where)


@pytest.mark.parametrize(("text", "expected"), TRICKY, ids=range(len(TRICKY)))
def test_relations(text: str, expected: list[str]) -> None:
    assert relations(parse_sql_select(text)) == expected


def test_relation_is_quoted_whatever_it_holds() -> None:
    assert Relation("a b", 'c"d.E').sql == '"a b"."c""d.E"'
    assert Relation(None, "t").sql == '"t"'


@pytest.mark.parametrize("end", ["", ";", " ;\n", " ; -- it", " -- it", "\n/* a /* b */ c */ ;", "  \t"])
def test_text_is_what_was_given_without_its_end(end: str) -> None:
    select = parse_sql_select(f"SELECT  a FROM t -- why\n WHERE b{end}")
    assert select.text == "SELECT  a FROM t -- why\n WHERE b"
    assert select.where == "b"


VOLATILE = [
    ("now()", ["now()"]),
    ("NOW ( )", ["NOW()"]),
    ("pg_catalog.now()", ["now()"]),
    ("CURRENT_TIMESTAMP, current_date, CURRENT_TIME(3), localtime, LOCALTIMESTAMP", None),
    ("clock_timestamp(), statement_timestamp(), transaction_timestamp(), timeofday()", None),
    ("random(), gen_random_uuid()", ["random()", "gen_random_uuid()"]),
    ("age(a)", ["age()"]),
    ("age((a), (b))", []),
    ("age(timestamp '2020-01-01', b)", []),
    ("'now'::timestamp", ["'now'"]),
    ("CAST(' NOW ' AS timestamptz)", ["' NOW '"]),
    ("date 'Today'", ["'Today'"]),
    ("timestamp with time zone 'tomorrow 10:00'", ["'tomorrow 10:00'"]),
    ("'10:00 yesterday'::pg_catalog.timestamptz", ["'10:00 yesterday'"]),
    ("date('today')", ["'today'"]),
    ("a < 'now'", ["'now'"]),
    ("E'n\\157w'::timestamp", ["E'n\\157w'"]),
    ("$$now$$::date", ["$$now$$"]),
    ("'now'::text", []),
    ("'buy now', 'todayish'", []),
    ("'buy now'::date", []),
    ("t.now, t.current_date, a AS now, b AS current_date", []),
    ('"now", "current_date"', []),
    ("'2020-01-01'::date, 'infinity'::timestamp", []),
]


@pytest.mark.parametrize(("what", "expected"), VOLATILE, ids=range(len(VOLATILE)))
def test_what_gives_another_answer_on_the_same_rows(what: str, expected: list[str] | None) -> None:
    found = parse_sql_select(f"SELECT {what} FROM t").volatile
    assert len(found) == what.count(",") + 1 if expected is None else list(found) == expected
    assert parse_sql_select(f"SELECT a FROM t WHERE ({what}) IS NOT NULL").volatile == found


def test_sample_is_volatile() -> None:
    assert parse_sql_select("SELECT a FROM t TABLESAMPLE system (5)").volatile == ("TABLESAMPLE",)


@given(conditions())
def test_what_stands_after_where_means_the_same_on_its_own(condition: str) -> None:
    select = parse_sql_select(f"SELECT a FROM t WHERE {condition} ORDER BY a LIMIT 3")
    assert select.where == condition
    again = parse_sql_select(f"SELECT a FROM t WHERE ({select.where}) ORDER BY a LIMIT 3")
    assert again.tree.args["where"].this.unnest() == select.tree.args["where"].this.unnest()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20))
def test_any_quoted_name_is_read_back(name: str) -> None:
    relation = Relation(None, name)
    if len(name.encode()) > 63 or name.startswith("pg_"):
        with pytest.raises(DocumentInvalid):
            parse_sql_select(f"SELECT * FROM {relation.sql}")
    else:
        assert parse_sql_select(f"SELECT * FROM {relation.sql}").relations == (relation,)


def test_tokens_are_those_of_the_server() -> None:
    said = [each.name for each in tokens_of("SELECT/* a /* b */ */A<--x\n'it''s',$q$ ' $q$ \"a\"\"B\" 1.5e-3::Int")]
    assert said == ["select", "a", "<", "it's", ",", " ' ", 'a"B', "1.5e-3", "::", "int"]


def test_another_reading_of_the_text_is_told() -> None:
    text = "SELECT 'a' AS \"b c\" FROM t GROUP BY a <-> 1"
    tokens = tokens_of(text)
    spans = [(each.start, each.end) for each in tokens]
    at = text.index("GROUP BY")
    together = [(at, at + 8), *(each for each in spans if not at <= each[0] < at + 8)]
    assert agrees(tokens, spans)
    assert agrees(tokens, together)
    for wrong in (
        [*spans, (8, 9)],
        spans[1:],
        [*spans[:1], (7, 9), *spans[2:]],
        [(each[0], each[1] + 1) for each in spans],
    ):
        assert not agrees(tokens, wrong)


def test_escaped_strings_end_where_the_server_ends_them() -> None:
    found = tokens_of(r"SELECT E'a\'b''c\\' , 'd\e'")
    assert [each.kind for each in found] == [Kind.WORD, Kind.ESCAPED, Kind.PUNCTUATION, Kind.STRING]


CUSTOMERS = ibis.table(
    {"id": "int64", "age": "int64", "income": "float64", "country": "string", "ts": "timestamp"}, name="customers"
)
ORDERS = ibis.table({"id": "int64", "x": "int64", "tags": "array<string>"}, name="Orders", database="shop")

IBIS = [
    (CUSTOMERS, True),
    (CUSTOMERS.filter(row.country == "DE").select("age", "income"), True),
    (CUSTOMERS.select("age", "country").filter(row.country == "D'E"), True),
    (CUSTOMERS.mutate(z=row.age * 2).filter(row.z > 3).select("z", "income"), True),
    (CUSTOMERS.filter(row.age.between(1, 3) | row.income.isnull(), row.country.isin(["DE", "FR"])), True),
    (CUSTOMERS.select(c=ibis.cases((row.age > 3, "a"), else_="b"), d=row.age.fill_null(0), l=row.income.log()), True),
    (CUSTOMERS.filter(row.country.upper().strip().length() > 2).select(row.ts.year().name("y")), True),
    (CUSTOMERS.filter(row.ts > ibis.now() - ibis.interval(days=3)), True),
    (CUSTOMERS.filter(ibis.random() < 0.5), True),
    (CUSTOMERS.group_by("country").agg(n=row.count(), m=row.income.mean(), q=row.income.quantile(0.3)), False),
    (CUSTOMERS.join(ORDERS, "id").select("age", "x"), False),
    (CUSTOMERS.order_by(row.age.desc()).limit(5), True),
    (CUSTOMERS.limit(5).filter(row.age > 1), False),
    (CUSTOMERS.distinct(), False),
    (CUSTOMERS.union(CUSTOMERS), False),
    (CUSTOMERS.filter(row.id.isin(ORDERS.id)), False),
    (CUSTOMERS.mutate(r=ibis.row_number().over(order_by=row.age)), False),
    (ORDERS.unnest("tags"), False),
    (ORDERS.sample(0.1), False),
]


@pytest.mark.parametrize(("expression", "single"), IBIS, ids=range(len(IBIS)))
def test_what_ibis_writes_is_read(expression: object, single: bool) -> None:
    assert is_ibis(expression)
    select = parse_sql_select(ibis_sql(expression))
    assert set(relations(select)) <= {'"customers"', '"shop"."Orders"'}
    assert select.single == single


def test_ibis_filter_is_the_condition() -> None:
    select = parse_sql_select(ibis_sql(CUSTOMERS.filter(row.country == "DE").select("age")))
    assert (select.alias, select.where) == ("t0", '"t0"."country" = \'DE\'')


def test_what_is_no_table_of_ibis_is_a_fault() -> None:
    assert is_ibis(CUSTOMERS.age)
    assert not any(is_ibis(each) for each in ("SELECT 1", None, {}, object()))
    with pytest.raises(DocumentInvalid, match="no table; select columns of a table"):
        ibis_sql(CUSTOMERS.age)


def test_what_ibis_cant_write_for_postgresql_is_a_fault() -> None:
    with pytest.raises(DocumentInvalid, match="can't be written as SQL for PostgreSQL"):
        ibis_sql(CUSTOMERS.aggregate(k=row.income.kurtosis()))
