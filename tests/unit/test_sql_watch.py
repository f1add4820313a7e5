"""What a select on PostgreSQL is taken to depend on."""

from __future__ import annotations

import pytest
from hypothesis import given

from registry.sql_select import parse_sql_select
from registry.sql_watch import SqlPredicate, watches
from registry.watch import Watch
from tests.fixtures.sql_selects import OTHER, SINGLE, TRICKY, conditions

Fields = str | None
"""Names with blanks between; None: any."""


def told(fields: Fields) -> frozenset[str] | None:
    return None if fields is None else frozenset(fields.split())


def watch(text: str, trained: Fields = None) -> Watch:
    (found,) = watches(parse_sql_select(text), told(trained)).values()
    return found


PREDICATES: list[tuple[str, Fields]] = [
    ("a > 1", "a"),
    ("t.a > 1 AND T.B = c", "a b c"),
    ('"A" > 1 OR "x y" IS NULL AND NOT a', None),
    ("e -> 'x' ->> 'y' = 'z' AND coalesce(f -> 'g', h) IS NULL AND jsonb_typeof(i -> 'a') = 'b'", "e f h i"),
    ("extract(year FROM d) = 3 AND d AT TIME ZONE z > timestamp '2020-01-01'", "d z"),
    ("(a, b) IN ((1, 2), (c, d)) AND e = ANY (f) AND g[h] = 1 AND i[j: k] = l", "a b c d e f g h i j k l"),
    ("a BETWEEN b AND c AND d IS DISTINCT FROM e AND f LIKE g ESCAPE 'h'", "a b c d e f g"),
    ("CASE a WHEN b THEN c ELSE d END AND CASE WHEN e THEN f END", "a b c d e f"),
    ("substring(a FROM b FOR c) = trim(d FROM e) AND position(f IN g) = 1 AND overlay(h PLACING i FROM j) = k", None),
    ("make_interval(days => a) > interval '1 day' AND b::numeric(9, 2) = CAST(c AS shop.mood)", "a b c"),
    ("a || b ~* c AND d @> e AND f <-> g < 1 AND h ? i AND j #>> k = l", "a b c d e f g h i j k l"),
    ("date_trunc('day', a) = b AND to_char(c, d) = 'e' AND concat(f, g) = md5(h)", "a b c d f g h"),
    ("true", ""),
    ('a COLLATE "C" < b', "a b"),
]


@pytest.mark.parametrize(("condition", "fields"), PREDICATES, ids=range(len(PREDICATES)))
def test_predicate_is_the_condition_word_for_word(condition: str, fields: Fields) -> None:
    found = watch(f"SELECT y FROM t WHERE {condition} ORDER BY y", "y")
    if fields is None:
        assert found.filter_fields is None or found.filter_fields >= {"a"}
        return
    assert found.predicate == SqlPredicate("t", condition, found.filter_fields or frozenset())
    assert found.filter_fields == told(fields)
    assert found.used_fields == told(f"{fields} y")


@given(conditions())
def test_every_column_of_a_condition_is_seen(condition: str) -> None:
    found = watch(f"SELECT g FROM t WHERE {condition}", "g")
    told_by_hand = {name for name in "abcdefg" if name in parse_words(condition)}
    assert found.filter_fields is not None
    assert found.filter_fields >= told_by_hand


def parse_words(condition: str) -> set[str]:
    """The names of one letter that a condition of `conditions()` reads, found without parsing it."""
    for literal in (
        "'it''s'",
        "E'\\'; --'",
        "$$ ORDER BY $$",
        "'{\"a\": 1}'",
        "'^[a-z]+\\d'",
        "/* x */",
        "-- y",
        "'k'",
    ):
        condition = condition.replace(literal, " ")
    return {"".join(filter(str.isalpha, word)) for word in condition.replace("t.a", "a").replace("f[", "f ").split()}


UNTOLD = [
    "now() > d",
    "d < 'now'",
    "random() < 0.5",
    "t IS NOT NULL",
    "T IS NOT NULL",
    "row_to_json(t) IS NULL",
    "t.* IS NOT NULL",
    "ROW(t.*) IS NULL",
    "t.row_to_json IS NULL",
    "ctid = '(0,1)'",
    "t.xmin = 3",
    "tableoid > 3",
    "public.t.a = 1",
    "other.a = 1",
    "a IN (SELECT a FROM generate_series(1, 3) AS a)",
]


@pytest.mark.parametrize("condition", UNTOLD)
def test_condition_that_one_row_alone_does_not_decide(condition: str) -> None:
    found = watch(f"SELECT a FROM t WHERE {condition}", "a")
    assert found.predicate is None
    assert found.filter_fields is None


USED: list[tuple[str, Fields, Fields]] = [
    ("SELECT * FROM t", None, None),
    ("SELECT * FROM t", "a", "a"),
    ("SELECT t.* FROM t WHERE b > 1", "a", "a b"),
    ("SELECT a, b AS c, d FROM t", "a c", "a b"),
    ("SELECT a, b AS c, d FROM t", None, "a b d"),
    ('SELECT a AS "A", b AS a FROM t', "a", "b"),
    ("SELECT a, b FROM t", "a nothing", None),
    ("SELECT a, b AS c FROM t ORDER BY c, d", "a", "a b c d"),
    ("SELECT a, b FROM t ORDER BY 2", "a", "a b"),
    ("SELECT a, b + c FROM t", "a", "a b c"),
    ("SELECT a, upper(b) AS c FROM t", "a", "a"),
    ("SELECT a, b AS c FROM t LIMIT 3", "a", "a"),
    ("SELECT a, unnest(b) AS c FROM t", "a", "a b"),
    ("SELECT DISTINCT a, b AS c FROM t", "a", "a b"),
    ("SELECT DISTINCT * FROM t", "a", None),
    ("SELECT a, t.ctid FROM t", None, None),
    ("SELECT a, t FROM t", None, None),
    ("SELECT t.row_to_json FROM t", None, None),
    ("SELECT count(*) FROM t", None, ""),
    ("SELECT count(*) AS n, c, sum(a) AS s FROM t WHERE b > 1 GROUP BY c", "n", "a b c"),
    ("SELECT c FROM t GROUP BY c HAVING max(a) > 1", "c", "a c"),
    ("SELECT date_part(a, b) FROM t", None, None),
    ("SELECT x.p FROM t AS x(p)", None, None),
    ("SELECT a FROM (SELECT a, b FROM t WHERE c > 1) AS x", None, "a b c"),
    ("SELECT a FROM (SELECT * FROM t WHERE c > 1) AS x", "a", None),
    ("WITH x AS (SELECT a AS z FROM t) SELECT x.z FROM x", None, "a"),
    ("SELECT a FROM t x JOIN t y ON x.b = y.c", "a", "a b c"),
    ("SELECT a FROM t x NATURAL JOIN t y", "a", None),
    ("SELECT a FROM t UNION SELECT b AS a FROM t", "a", "a b"),
    ("SELECT sum(a) OVER (PARTITION BY b ORDER BY c) AS s, d AS e FROM t", "s", "a b c d"),
]


@pytest.mark.parametrize(("text", "trained", "used"), USED, ids=range(len(USED)))
def test_used_fields(text: str, trained: Fields, used: Fields) -> None:
    assert watch(text, trained).used_fields == told(used)


def test_joined_relations_are_told_apart_where_columns_are_qualified() -> None:
    found = watches(
        parse_sql_select("SELECT x.a, y.b AS z FROM shop.t AS x JOIN u AS y ON x.id = y.id WHERE x.c > 1"), ["a"]
    )
    assert found == {'"shop"."t"': Watch(None, None, told("a id c")), '"u"': Watch(None, None, told("id"))}


def test_unqualified_column_can_be_of_any_relation() -> None:
    found = watches(parse_sql_select("SELECT a FROM t JOIN u USING (id)"), None)
    assert [each.used_fields for each in found.values()] == [told("a id"), told("a id")]


@pytest.mark.parametrize(("text", "alias", "where"), [*SINGLE, *OTHER], ids=range(len(SINGLE) + len(OTHER)))
def test_predicate_is_told_for_one_relation_alone(text: str, alias: str | None, where: str | None) -> None:
    for found in watches(parse_sql_select(text), None).values():
        if where is not None and "TABLESAMPLE" not in text:
            assert found.filter_fields is not None
            assert found.predicate == SqlPredicate(str(alias), where, found.filter_fields)
        else:
            assert found.predicate in (None, {})


@pytest.mark.parametrize(("text", "relations"), TRICKY, ids=range(len(TRICKY)))
def test_each_relation_is_watched(text: str, relations: list[str]) -> None:
    assert list(watches(parse_sql_select(text), None)) == relations
