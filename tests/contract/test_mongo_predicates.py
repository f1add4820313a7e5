"""`mongo_watch` against a real server: what it says doesn't matter, doesn't."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from registry.mongo_select import parse_mongo_select
from registry.mongo_watch import watches
from registry.watch import Watch, touches
from tests.fixtures.mongo_grammar import CHANGED, PAIRS, PIPELINES, QUERIES, TRAINED, Row, mapped

EXAMPLES = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def watched(trained: frozenset[str] | None, **parts: Any) -> Watch:
    return watches(parse_mongo_select({"collection": "rows", **parts}), trained)["rows"]


def ids(database: Database[Any], name: str, query: Row) -> set[int]:
    """The rows that a query selects; an example that the server refuses is not one."""
    try:
        return {row["_id"] for row in database[name].find(query, {"_id": 1})}
    except OperationFailure:
        assume(False)
        raise


def output(source: Database[Any] | Collection[Any], pipeline: list[Row]) -> object:
    """What comes out, in any order; None where the server raises (its error varies from run to run)."""
    try:
        return sorted(map(repr, source.aggregate(pipeline)))
    except OperationFailure:
        return None


@pytest.fixture
def rows(mongo: Database[Any]) -> Database[Any]:
    mongo["before"].insert_many([before for before, _ in PAIRS])
    mongo["after"].insert_many([after for _, after in PAIRS])
    return mongo


def test_a_change_outside_the_filter_fields_does_not_move_a_row(rows: Database[Any]) -> None:
    told, moved = itertools.count(), itertools.count()

    @EXAMPLES
    @given(QUERIES)
    def check(query: Row) -> None:
        fields = watched(None, filter=query).filter_fields
        differing = ids(rows, "before", query) ^ ids(rows, "after", query)
        for number, changed in enumerate(CHANGED):
            if not touches(changed, fields):
                assert number not in differing, (PAIRS[number], changed, fields)
                next(told)
            elif number in differing:
                next(moved)

    check()
    assert next(told) > 1000
    assert next(moved) > 1000


def test_a_predicate_means_the_same_among_documents_with_a_field_more(rows: Database[Any]) -> None:
    told = itertools.count()
    documents = [{**before, "__row": before["_id"]} for before, _ in PAIRS]

    @EXAMPLES
    @given(QUERIES)
    def check(query: Row) -> None:
        predicate = watched(None, filter=query).predicate
        assume(predicate is not None)
        selected = ids(rows, "before", query)
        matched: list[Row] = [{"$documents": documents}, {"$match": predicate}, {"$project": {"_id": 1}}]
        found = output(rows, matched)
        assume(found is not None)  # an error, at a row where the find did not come to it
        assert found == sorted(repr({"_id": number}) for number in selected)
        next(told)

    check()
    assert next(told) > 100


def test_a_change_outside_the_used_fields_leaves_what_is_trained_on(rows: Database[Any]) -> None:
    told = itertools.count()

    @EXAMPLES
    @given(PIPELINES, TRAINED)
    def check(pipeline: list[Row], trained: frozenset[str] | None) -> None:
        used = watched(trained, pipeline=pipeline).used_fields
        unused = [not touches(changed, used) for changed in CHANGED]
        assume(any(unused))
        rows["mixed"].drop()
        rows["mixed"].insert_many([pair[free] for pair, free in zip(PAIRS, unused, strict=True)])
        kept = [{"$project": {"_id": 0} | dict.fromkeys(trained, 1)}] if trained else []
        assert output(rows["mixed"], pipeline + kept) == output(rows["before"], pipeline + kept)
        next(told)

    check()
    assert next(told) > 80


def test_rows_that_the_predicate_leaves_out_do_not_matter(rows: Database[Any]) -> None:
    told = itertools.count()

    @EXAMPLES
    @given(st.lists(mapped("$match", QUERIES), max_size=2), PIPELINES)
    def check(matches: list[Row], rest: list[Row]) -> None:
        predicate = watched(None, pipeline=matches + rest).predicate
        assume(predicate)
        kept = ids(rows, "before", dict(predicate or {}))
        rows["mixed"].drop()
        rows["mixed"].insert_many([pair[0] if pair[0]["_id"] in kept else pair[1] for pair in PAIRS])
        rows["mixed"].delete_many({"_id": {"$nin": list(kept)}})
        whole = output(rows["before"], matches + rest)
        assume(whole is not None)  # an error, at a row that the predicate leaves out
        assert output(rows["mixed"], matches + rest) == whole
        next(told)

    check()
    assert next(told) > 80
