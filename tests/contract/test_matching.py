"""The datastore's judgement of rows, and a differential test of the whole of matching against `find` itself."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import OperationFailure

from listener.feed import Change, Feed, Kind
from listener.feeds import native_feed
from listener.matching import Evaluator, WatchTable, match
from registry.mongo_select import parse_mongo_select
from registry.mongo_watch import watches
from registry.stores import open_store

Db = Database[dict[str, Any]]


@pytest.fixture
def opened(mongo_uri: str) -> Iterator[tuple[Feed, Evaluator]]:
    store = open_store(mongo_uri)
    feed, evaluator = native_feed(store)
    yield feed, evaluator
    feed.close()
    store.close()


@pytest.fixture
def evaluator(opened: tuple[Feed, Evaluator]) -> Evaluator:
    return opened[1]


def hits(evaluator: Evaluator, predicates: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[set[int]]:
    return [set(one) for one in evaluator.evaluate("c", predicates, [bson.encode(row) for row in rows])]


def test_rows_are_data_and_not_expressions(evaluator: Evaluator) -> None:
    rows: list[dict[str, Any]] = [{"a": "$b", "b": 1}, {"a": "$$ROOT"}, {"a": {"$x": 1}, "$y": 2}, {}]
    assert hits(evaluator, [{"a": "$b"}, {"a": {"$exists": True}}], rows) == [{0}, {0, 1, 2}]


def test_a_predicate_that_fails_on_a_row_may_match_any(evaluator: Evaluator) -> None:
    fails = {"$expr": {"$eq": [{"$divide": [1, "$x"]}, 1]}}
    assert hits(evaluator, [{"x": 0}, fails, {"x": 1}], [{"x": 0}, {"x": 1}]) == [{0}, {0, 1}, {1}]


def test_a_collections_collation_decides(evaluator: Evaluator, mongo: Db) -> None:
    mongo.create_collection("c", collation={"locale": "en", "strength": 2})
    assert hits(evaluator, [{"a": "de"}], [{"a": "DE"}, {"a": "FR"}]) == [{0}]


def test_a_collection_made_anew_has_its_own_collation(evaluator: Evaluator, mongo: Db) -> None:
    mongo.create_collection("c")
    assert hits(evaluator, [{"a": "de"}], [{"a": "DE"}]) == [set()]
    mongo.c.drop()
    mongo.create_collection("c", collation={"locale": "en", "strength": 2})
    gone = Change("c", Kind.OTHER, bson.Timestamp(1, 1))
    match(WatchTable({"m": watches(parse_mongo_select({"collection": "c"}), ["a"])}), [gone], evaluator, max)
    assert hits(evaluator, [{"a": "de"}], [{"a": "DE"}]) == [{0}]


def test_many_rows_and_predicates_are_judged_in_parts(evaluator: Evaluator) -> None:
    rows = [{"n": n, "pad": "x" * 2000} for n in range(5000)]
    found = hits(evaluator, [{"n": n} for n in range(250)], rows)
    assert found == [{n} for n in range(250)]


def test_a_row_near_the_size_limit_hinders_no_other(evaluator: Evaluator) -> None:
    (found,) = hits(evaluator, [{"a": 2}], [{"a": 1}, {"a": 1, "pad": "x" * (16 * 1024 * 1024 - 100)}, {"a": 2}])
    assert found - {1} == {2}


scalars = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from(["", "a", "b", "$a", "3"]),
    st.sampled_from([0.5, 1.0, float("nan"), float("inf")]),
    st.booleans(),
    st.sampled_from([Decimal128("1"), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), bson.ObjectId("0" * 24)]),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.sampled_from("xy"), scalars, max_size=2))
fields = st.sampled_from(["a", "b", "c"])
rows = st.dictionaries(fields, values, max_size=3)
paths = st.sampled_from(["a", "b", "a.x", "b.0", "b.y"])
conditions = st.one_of(
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne", "$gt", "$lte"]), scalars),
    st.builds(lambda some: {"$in": some}, st.lists(scalars, max_size=3)),
    st.builds(lambda some: {"$nin": some}, st.lists(scalars, max_size=3)),
    st.builds(lambda yes: {"$exists": yes}, st.booleans()),
    st.builds(lambda value: {"$not": {"$gte": value}}, scalars),
    st.builds(lambda value: {"$elemMatch": {"$gt": value}}, st.integers(-3, 3)),
    st.builds(lambda size: {"$size": size}, st.integers(0, 3)),
    st.sampled_from([{"$type": "number"}, {"$type": "string"}, {"$type": "null"}]),
)
simple = st.dictionaries(paths, conditions, min_size=1, max_size=2)
predicates = st.one_of(
    simple,
    st.builds(
        lambda op, some: {op: some}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(simple, min_size=1, max_size=3)
    ),
    st.builds(lambda one, two: {"$expr": {"$gt": [f"${one}", two]}}, fields, scalars),
)
steps: st.SearchStrategy[tuple[str, dict[str, Any]]] = st.one_of(
    st.tuples(st.just("set"), st.dictionaries(st.sampled_from(["a", "b", "c", "a.x"]), values, min_size=1, max_size=2)),
    st.tuples(st.just("unset"), st.dictionaries(fields, st.just(1), min_size=1, max_size=2)),
    st.tuples(st.just("replace"), rows),
    st.tuples(st.just("delete"), st.just({})),
)


def apply(mongo: Db, how: str, what: dict[str, Any]) -> bool:
    """Do one step to the row; whether it changed anything."""
    if how == "delete":
        return mongo.c.delete_one({"_id": 1}).deleted_count == 1
    if how == "replace":
        return mongo.c.replace_one({"_id": 1}, what).modified_count == 1
    if len({path.partition(".")[0] for path in what}) < len(what):
        return False
    try:
        return mongo.c.update_one({"_id": 1}, {f"${how}": what}).modified_count == 1
    except OperationFailure:  # e.g. `a.x` where `a` is a number: no change
        return False


def selected(mongo: Db, predicate: dict[str, Any]) -> bool:
    return mongo.c.count_documents({"$and": [{"_id": 1}, predicate]}) == 1


@pytest.mark.parametrize("images", [True, False])
def test_matching_never_says_no_where_the_select_says_yes(
    opened: tuple[Feed, Evaluator], mongo: Db, images: bool
) -> None:
    feed, evaluator = opened
    mongo.create_collection("c", changeStreamPreAndPostImages={"enabled": images})
    feed.start(frozenset({"c"}))

    def next_change() -> Change:
        while True:
            batch = feed.next(5)
            if batch is not None and batch.changes:
                (one,) = batch.changes
                return one

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        row=rows,
        predicate=predicates,
        some=st.lists(steps, min_size=1, max_size=3),
        trained=st.sets(fields, max_size=1),
    )
    def check(
        row: dict[str, Any], predicate: dict[str, Any], some: list[tuple[str, dict[str, Any]]], trained: set[str]
    ) -> None:
        watch = watches(parse_mongo_select({"collection": "c", "filter": predicate}), trained)
        table = WatchTable({"m": watch})
        if mongo.c.delete_one({"_id": 1}).deleted_count:
            next_change()
        mongo.c.insert_one({"_id": 1, **row})
        assert ("m" in match(table, [next_change()], evaluator, max)) is selected(mongo, predicate)
        for how, what in some:
            before = mongo.c.find_one({"_id": 1})
            was = selected(mongo, predicate)
            if not apply(mongo, how, what):
                continue
            after = mongo.c.find_one({"_id": 1})
            used = _shown(before, trained) != _shown(after, trained)
            now = selected(mongo, predicate)
            matched = "m" in match(table, [next_change()], evaluator, max)
            if was != now or (was and now and used):
                assert matched, (predicate, before, after)
            if images and not was and not now:
                assert not matched, (predicate, before, after)

    check()


def _shown(row: dict[str, Any] | None, trained: set[str]) -> str:
    return repr([(row or {}).get(field, "missing") for field in sorted(trained)])
