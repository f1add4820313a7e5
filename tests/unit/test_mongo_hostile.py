"""Selects that would run code, write, leave the database or wear the daemon out: each is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import mongo_operators as ops
from registry.errors import DocumentInvalid
from registry.mongo_notes import MAX_FAULTS
from registry.mongo_select import parse_mongo_select

JS = "function() { while (true) {} }"
CODE = {"$function": {"body": JS, "args": [], "lang": "js"}}
WHERE = {"$where": JS}


def faults_of(value: object) -> dict[str, str]:
    with pytest.raises(DocumentInvalid) as caught:
        parse_mongo_select(value)
    return {fault.path: fault.message for fault in caught.value.faults}


def find(query: object) -> dict[str, Any]:
    return {"collection": "c", "filter": query}


def stage(name: str, arguments: object) -> dict[str, Any]:
    return {"collection": "c", "pipeline": [{"$match": {}}, {name: arguments}]}


def nots(levels: int, core: object) -> object:
    for _ in range(levels):
        core = {"$not": core}
    return core


FINDS: list[tuple[object, str]] = [
    (WHERE, "$where"),
    ({"age": WHERE}, "age.$where"),
    ({"$or": [{"a": 1}, {"$nor": [WHERE]}]}, "$or.1.$nor.0.$where"),
    ({"a": {"$elemMatch": {"b": {"$not": WHERE}}}}, "a.$elemMatch.b.$not.$where"),
    ({"a": {"$elemMatch": WHERE}}, "a.$elemMatch.$where"),
    ({"a": {"$elemMatch": {"$or": [WHERE]}}}, "a.$elemMatch.$or.0.$where"),
    ({"a": {"$in": [1, WHERE]}}, "a.$in.1.$where"),
    ({"a": {"$eq": WHERE}}, "a.$eq.$where"),
    ({"a": {"$all": [{"$elemMatch": WHERE}]}}, "a.$all.0.$elemMatch.$where"),
    ({"a": {"b": 1, "$where": JS}}, "a.$where"),
    ({"a": {"b": [WHERE]}}, "a.b.0.$where"),
    ({"a": {"$ref": "c", "$where": JS}}, "a.$where"),
    ({"a": {"$geoWithin": WHERE}}, "a.$geoWithin.$where"),
    ({"$text": WHERE}, "$text.$where"),
    ({"$expr": CODE}, "$expr.$function"),
    ({"$expr": {"$and": [True, CODE]}}, "$expr.$and.1.$function"),
    ({"$expr": {"$literal": 1, **CODE}}, "$expr.$function"),
    ({"$expr": {"x": 1, **CODE}}, "$expr.$function"),
    ({"$expr": {"$let": {"vars": {"v": CODE}, "in": 1}}}, "$expr.$let.vars.v.$function"),
    ({"$expr": {"$eq": ["$$JS_SCOPE", 1]}}, "$expr.$eq.0"),
    ({"a": {"$_internalSchemaType": 1}}, "a.$_internalSchemaType"),
]


@pytest.mark.parametrize(("query", "path"), FINDS, ids=lambda each: each if isinstance(each, str) else "")
def test_hostile_query_is_refused_where_it_stands(query: object, path: str) -> None:
    assert f"filter.{path}" in faults_of(find(query))
    assert f"pipeline.1.$match.{path}" in faults_of(stage("$match", query))


OTHER_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"projection": {"a": CODE}}, "projection.a.$function"),
    ({"projection": {"a": {"b": CODE}}}, "projection.a.b.$function"),
    ({"projection": {"a": {"$elemMatch": WHERE}}}, "projection.a.$elemMatch.$where"),
    ({"projection": {"$where": 0}}, "projection.$where"),
    ({"sort": {"$where": 1}}, "sort.$where"),
    ({"sort": {"a": CODE}}, "sort.a"),
    ({"limit": CODE}, "limit"),
    ({"collection": "system.views"}, "collection"),
    ({"collection": "refitd.models"}, "collection"),
    ({"collection": "$cmd"}, "collection"),
    ({"collection": "a\0b"}, "collection"),
    ({"collection": {"db": "admin", "coll": "c"}}, "collection"),
]


@pytest.mark.parametrize(("part", "path"), OTHER_PARTS, ids=lambda each: each if isinstance(each, str) else "")
def test_hostile_part_is_refused_where_it_stands(part: dict[str, Any], path: str) -> None:
    assert path in faults_of({"collection": "c", **part})


STAGES: list[tuple[str, object, str]] = [
    ("$out", "x", ""),
    ("$merge", {"into": "x"}, ""),
    ("$facet", {"f": [{"$out": "x"}]}, ".f.0.$out"),
    ("$unionWith", {"coll": "d", "pipeline": [{"$merge": "x"}]}, ".pipeline.0.$merge"),
    ("$unionWith", "system.profile", ""),
    ("$unionWith", {"db": "admin", "coll": "d"}, ".db"),
    ("$unionWith", {"coll": {"db": "admin", "coll": "d"}}, ".coll"),
    ("$lookup", {"from": "d", "pipeline": [{"$match": WHERE}]}, ".pipeline.0.$match.$where"),
    ("$lookup", {"pipeline": [{"$lookup": {"from": "system.users"}}]}, ".pipeline.0.$lookup.from"),
    ("$lookup", {"from": {"db": "admin", "coll": "d"}, "as": "x"}, ".from"),
    ("$lookup", {"from": "refitd.models", "as": "x"}, ".from"),
    ("$lookup", {"from": "d", "let": {"v": CODE}}, ".let.v.$function"),
    ("$graphLookup", {"from": "refitd.models"}, ".from"),
    ("$graphLookup", {"restrictSearchWithMatch": WHERE}, ".restrictSearchWithMatch.$where"),
    ("$group", {"_id": 1, "x": {"$accumulator": {"init": JS}}}, ".x.$accumulator"),
    ("$group", {"_id": CODE}, "._id.$function"),
    ("$bucket", {"groupBy": "$a", "output": {"x": {"$accumulator": {}}}}, ".output.x.$accumulator"),
    ("$setWindowFields", {"output": {"x": {"$accumulator": {}, "window": {}}}}, ".output.x.$accumulator"),
    ("$setWindowFields", {"output": {"x": {"$sum": 1, "window": CODE}}}, ".output.x.window.$function"),
    ("$geoNear", {"query": WHERE}, ".query.$where"),
    ("$replaceWith", {"$mergeObjects": ["$$ROOT", {"x": CODE}]}, ".$mergeObjects.1.x.$function"),
    ("$redact", CODE, ".$function"),
    ("$limit", CODE, ".$function"),
    ("$set", {"a": [{"$cond": {"if": CODE, "then": 1}}]}, ".a.0.$cond.if.$function"),
    ("$sort", {"a": CODE}, ".a.$function"),
    ("$currentOp", {}, ""),
    ("$listSessions", {}, ""),
    ("$collStats", {}, ""),
    ("$changeStream", {}, ""),
    ("$indexStats", {}, ""),
    ("$_internalSplitPipeline", {}, ""),
]


def test_reasons_are_given() -> None:
    other = faults_of(stage("$lookup", {"from": {"db": "admin", "coll": "d"}}))
    assert "another database" in other["pipeline.1.$lookup.from"]
    assert "JavaScript" in faults_of(find(WHERE))["filter.$where"]
    assert "writes" in faults_of(stage("$out", "x"))["pipeline.1.$out"]


@pytest.mark.parametrize(("name", "arguments", "path"), STAGES)
def test_hostile_stage_is_refused_where_it_stands(name: str, arguments: object, path: str) -> None:
    assert f"pipeline.1.{name}{path}" in faults_of(stage(name, arguments))


CONTEXTS: list[Callable[[object], dict[str, Any]]] = [
    lambda it: find({"$expr": it}),
    lambda it: {"collection": "c", "projection": {"x": it}},
    lambda it: stage("$addFields", {"x": {"$map": {"input": [it], "in": 1}}}),
    lambda it: stage("$project", {"x": {"y": [it]}}),
    lambda it: stage("$replaceRoot", {"newRoot": it}),
    lambda it: stage("$bucketAuto", {"groupBy": it, "buckets": 2}),
    lambda it: stage("$sortByCount", it),
    lambda it: stage("$graphLookup", {"from": "d", "startWith": it}),
    lambda it: stage("$facet", {"f": [{"$unionWith": {"coll": "d", "pipeline": [{"$set": {"x": it}}]}}]}),
    lambda it: stage("$group", {"_id": None, "x": {"$push": it}}),
    lambda it: stage("$setWindowFields", {"partitionBy": it, "output": {}}),
    lambda it: stage("$fill", {"output": {"x": {"value": it}}}),
]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", ["$function", "$accumulator", "$where", "$out", "$const", "$unheardOf"])
def test_expressions_are_checked_wherever_they_stand(context: Callable[[object], Any], name: str) -> None:
    assert any(path.endswith(name) for path in faults_of(context({name: 1})))
    parse_mongo_select(context({"$toString": 1}))
    parse_mongo_select(context({"$literal": {name: 1}}))


@pytest.mark.parametrize("key", ["$not", "a", "$and", "$cond", "$literal"])
@pytest.mark.parametrize("listed", [False, True])
def test_depth_gives_a_fault_and_no_recursion_error(key: str, listed: bool) -> None:
    core: Any = 1
    for _ in range(20_000):
        core = {key: [core] if listed else core}
    for value in (find({"a": core}), find({"$expr": core}), find(core), stage("$facet", {"x": core})):
        assert faults_of(value)
    for part in ("projection", "sort", "pipeline", "limit"):
        assert faults_of({"collection": "c", part: core})


def test_nesting_is_allowed_up_to_the_limit() -> None:
    parse_mongo_select(find({"a": nots(57, {"$gt": 1})}))
    assert "filter.a.$not.$not.$not.$not" in faults_of(find({"a": nots(60, {"$gt": 1})}))


def test_a_flood_of_faults_is_cut_short() -> None:
    faults = faults_of(find({"$or": [{f"$nope{number}": 1} for number in range(100_000)]}))
    assert len(faults) == MAX_FAULTS + 1
    assert "or more" in faults[""]


OPAQUE = {"$literal", "$jsonSchema", "$comment"}
NAMES = ["a", "b.c", "", "_id", "from", "coll", "pipeline", "sortBy", "window", "$where", "$foo", "$ref"]
KEYS = st.sampled_from([*NAMES, *sorted(ops.ALL)])
TEXTS = st.sampled_from(["", "$a", "$$ROOT", "$$NOW", "$"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def operators_of(value: object) -> Iterator[str]:
    """Every key that begins with `$`, but for what is data by its operator."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from [key] if key.startswith("$") else []
            yield from () if key in OPAQUE else operators_of(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from operators_of(each)


@given(st.dictionaries(st.sampled_from(["filter", "projection", "pipeline"]), VALUES))
def test_any_value_is_refused_or_holds_allowed_operators_alone(parts: dict[str, object]) -> None:
    try:
        select = parse_mongo_select({"collection": "c", **parts})
    except DocumentInvalid:
        return
    for part in (select.filter, select.projection, select.pipeline):
        assert set(operators_of(part)) <= ops.ALL | ops.TEXT_OPERATORS | {"$ref"}
