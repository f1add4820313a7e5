"""What a select on MongoDB is taken to depend on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.mongo_select import parse_mongo_select
from registry.mongo_watch import is_volatile, watches
from registry.watch import UNKNOWN, Watch, touches
from tests.fixtures.names import shown

Fields = set[str] | None


def watch(trained: Fields = None, **parts: Any) -> Watch:
    (found,) = watches(parse_mongo_select({"collection": "c", **parts}), trained).values()
    return found


def told(predicate: dict[str, Any], filter_fields: Fields, used: Fields) -> Watch:
    sets = (None if fields is None else frozenset(fields) for fields in (filter_fields, used))
    return Watch(predicate, *sets)


def stages(*them: object) -> dict[str, Any]:
    return {"collection": "c", "pipeline": list(them)}


PREDICATES: list[tuple[dict[str, Any], Fields]] = [
    ({}, set()),
    ({"age": {"$gt": 3}}, {"age"}),
    ({"a": {"b": 1}}, {"a"}),
    ({"a.b": 1, "c.0.d": 2}, {"a.b", "c.0.d"}),
    ({"a": {"$elemMatch": {"b": 1, "c": {"$elemMatch": {"d": 2}}}}}, {"a", "a.b", "a.c", "a.c.d"}),
    ({"a": {"$elemMatch": {"$gt": 1}}, "b": {"$not": {"$elemMatch": {"x": 1}}}}, {"a", "b", "b.x"}),
    ({"a": {"$all": [{"$elemMatch": {"b": 1}}]}}, {"a", "a.b"}),
    ({"$or": [{"a": 1}, {"$nor": [{"b": "$c"}]}], "$comment": "$d"}, {"a", "b"}),
    ({"$expr": {"$gt": ["$a", {"$add": ["$b.c", "$$ROOT.d", "$$CURRENT.e"]}]}}, {"a", "b.c", "d", "e"}),
    ({"$expr": {"$eq": [{"$literal": "$a"}, {"$ifNull": ["$b", "$$REMOVE"]}]}}, {"b"}),
    ({"$expr": {"$in": [1, {"$map": {"input": "$a", "in": "$$this.x"}}]}}, {"a"}),
    ({"$expr": {"$let": {"vars": {"CURRENT": "$a"}, "in": "$b"}}}, {"a", "b"}),
    ({"a": {"$geoWithin": {"$box": [[0, 0], [1, 1]]}}, "_id": 1}, {"a", "_id"}),
    ({"$jsonSchema": {"required": ["a"]}}, None),
    ({"$expr": {"$setField": {"field": "x", "input": "$a", "value": "$b"}}}, {"a", "b"}),
]


@pytest.mark.parametrize(("query", "fields"), PREDICATES, ids=shown)
def test_predicate_of_a_find_is_its_filter(query: dict[str, Any], fields: Fields) -> None:
    found = watch({"y"}, filter=query)
    assert found == told(query, fields, None if fields is None else {"y"} | fields)


UNTOLD = [
    {"$text": {"$search": "x"}},
    {"a": {"$near": [0, 0]}},
    {"a": {"$nearSphere": {"$geometry": {"type": "Point", "coordinates": [0, 0]}}}},
    {"$sampleRate": 0.5},
    {"$expr": {"$lt": [{"$rand": {}}, 0.5]}},
    {"$expr": {"$lt": ["$at", "$$NOW"]}},
    {"$or": [{"a": 1}, {"$expr": {"$lt": ["$$CLUSTER_TIME", 1]}}]},
    {"$expr": {"$gt": [{"$bsonSize": "$$ROOT"}, 5]}},
    {"$expr": {"$gt": [{"$size": {"$objectToArray": "$$CURRENT"}}, 5]}},
    {"$expr": {"$getField": "a"}},
    {"$expr": {"$gt": [{"$meta": "textScore"}, 1]}},
    {"$jsonSchema": {"additionalProperties": False}},
    {"$nor": [{"$jsonSchema": {"not": {"maxProperties": 3}}}]},
]


@pytest.mark.parametrize("query", UNTOLD, ids=shown)
@pytest.mark.parametrize("piped", [False, True])
def test_predicate_that_one_row_alone_does_not_decide(query: dict[str, Any], piped: bool) -> None:
    found = watch({"y"}, pipeline=[{"$match": query}]) if piped else watch({"y"}, filter=query)
    assert found.predicate is None
    assert found.filter_fields is None


WHOLE: Fields = None

FINDS: list[tuple[dict[str, Any], Fields, Fields]] = [
    ({}, None, WHOLE),
    ({}, {"x", "y.z"}, {"x", "y.z"}),
    ({"filter": {"a": 1}, "sort": {"b": 1}, "limit": 5, "skip": 2}, {"x"}, {"a", "b", "x"}),
    ({"filter": {"a": 1}}, None, WHOLE),
    ({"projection": {"x": 1, "_id": 0}}, {"x"}, {"x"}),
    (
        {"projection": {"x": 1, "n": {"$add": ["$p", "$q.r"]}, "o": {"s": 1}}},
        {"x"},
        {"x", "n", "p", "q.r", "o.s"},
    ),
    ({"projection": {"secret": 0, "a.b": False}}, {"x"}, {"x"}),
    ({"projection": {"secret": 0}}, None, WHOLE),
    ({"projection": {"a": {"$slice": 2}}}, None, WHOLE),
    ({"projection": {"_id": 1, "a": 0}}, None, WHOLE),
    ({"projection": {"_id": 0}}, None, WHOLE),
    ({"filter": {"a": 1}, "projection": {"x": 1}}, None, {"a", "x", "_id"}),
    ({"projection": {"x.y": 1, "_id": 0}, "sort": {"b": 1}}, None, {"x.y", "b"}),
    ({"projection": {"items.$": 1}}, None, {"items", "_id"}),
    ({"projection": {"items": {"$elemMatch": {"k": 1}}}}, None, {"items", "items.k", "_id"}),
    ({"projection": {"x": "$$ROOT"}}, {"x"}, WHOLE),
    ({"projection": {"x": {"$getField": "a.b"}}}, {"x"}, WHOLE),
    ({"projection": {"x": {"$getField": {"field": "b", "input": "$a"}}}}, {"x"}, {"x", "a"}),
    ({"projection": {"x": {"$meta": "textScore"}}}, {"x"}, WHOLE),
]


@pytest.mark.parametrize(("parts", "trained", "used"), FINDS, ids=shown)
def test_fields_used_by_a_find(parts: dict[str, Any], trained: Fields, used: Fields) -> None:
    assert watch(trained, **parts).used_fields == used


TOP = {"$topN": {"n": 1, "sortBy": {"s": 1}, "output": "$o"}}

PIPELINES: list[tuple[list[dict[str, Any]], Fields, Fields]] = [
    ([], {"x"}, {"x"}),
    ([], None, WHOLE),
    ([{"$match": {"a": 1}}, {"$sort": {"b.c": -1}}, {"$limit": 3}, {"$skip": 1}], {"x"}, {"a", "b.c", "x"}),
    ([{"$set": {"n": {"$add": ["$p", 1]}}}, {"$unset": ["q"]}], {"n"}, {"n", "p"}),
    *(([{name: {"n.m": {"$add": ["$$ROOT.p", 1]}}}], None, WHOLE) for name in ("$set", "$addFields")),
    *(([{name: {"n": "$p"}}], {"x"}, {"n", "p", "x"}) for name in ("$set", "$addFields")),
    *(([{name: 1}], {"x"}, {"x"}) for name in ("$limit", "$skip", "$unset")),
    ([{"$addFields": {"n.m": {"$add": ["$p", 1]}}}], {"x"}, {"n.m", "p", "x"}),
    ([{"$unwind": "$items"}, {"$match": {"items.k": 1}}], {"items.v"}, {"items", "items.k", "items.v"}),
    ([{"$unwind": {"path": "$items", "includeArrayIndex": "i"}}], {"x"}, {"items", "x"}),
    ([{"$project": {"secret": 0}}, {"$match": {"a": 1}}], {"x"}, {"a", "x"}),
    ([{"$project": {"a": 1, "b": "$c.d"}}, {"$match": {"e": 1}}], None, {"a", "b", "c.d", "_id"}),
    ([{"$project": {"a": 1}}, {"$match": {}}, {"$group": {"_id": "$$ROOT"}}], None, WHOLE),
    ([{"$project": {"a": 1, "_id": 0}}, {"$setWindowFields": {"output": {}}}], None, {"a"}),
    ([{"$group": {"_id": "$k", "n": {"$sum": "$v"}, "t": TOP}}], {"n"}, {"k", "v", "s", "o"}),
    ([{"$group": {"_id": None, "all": {"$push": "$$ROOT"}}}], {"all"}, WHOLE),
    ([{"$group": {"_id": None, "n": {"$count": {}}}}], None, set()),
    ([{"$match": {"a": 1}}, {"$count": "n"}], {"n"}, {"a"}),
    ([{"$sortByCount": "$a"}], None, {"a"}),
    ([{"$bucket": {"groupBy": "$a", "boundaries": [0], "output": {"n": {"$avg": "$b"}}}}], None, {"a", "b"}),
    ([{"$bucketAuto": {"groupBy": "$a", "buckets": 4}}], {"count"}, {"a"}),
    ([{"$replaceRoot": {"newRoot": "$a.b"}}], {"x"}, {"a.b"}),
    ([{"$replaceWith": {"$mergeObjects": ["$$ROOT", "$a"]}}], {"x"}, WHOLE),
    ([{"$sample": {"size": 3}}], {"x"}, {"x"}),
    ([{"$setWindowFields": {"output": {}}}], {"x"}, WHOLE),
    ([{"$redact": "$$KEEP"}], {"x"}, WHOLE),
    ([{"$facet": {"a": [{"$count": "n"}], "b": [{"$group": {"_id": "$k"}}]}}], {"a"}, {"k"}),
    ([{"$match": {"m": 1}}, {"$facet": {"a": [{"$limit": 3}]}}], {"a"}, WHOLE),
    ([{"$densify": {"field": "t", "range": {"step": 1, "bounds": "full"}}}], {"x"}, WHOLE),
]  # fmt: skip


@pytest.mark.parametrize(("pipeline", "trained", "used"), PIPELINES, ids=shown)
def test_fields_used_by_a_pipeline(pipeline: list[Any], trained: Fields, used: Fields) -> None:
    assert watch(trained, pipeline=pipeline).used_fields == used


def test_predicate_of_a_pipeline_is_its_leading_matches() -> None:
    one, two, late = {"a": 1}, {"b": {"$gt": 2}}, {"c": 3}
    assert watch(pipeline=[{"$limit": 1}, {"$match": one}]).predicate == {}
    assert watch(pipeline=[{"$match": one}, {"$limit": 1}, {"$match": late}]).predicate == one
    found = watch(pipeline=[{"$match": one}, {"$match": two}, {"$limit": 1}, {"$match": late}])
    assert found.predicate == {"$and": [one, two]}
    assert found.filter_fields == frozenset({"a", "b"})


LOOKUP = {"$lookup": {"from": "d", "localField": "k", "foreignField": "f", "let": {"v": "$l"}, "as": "m",
                      "pipeline": [{"$match": {"z": 1}}, {"$unionWith": "e"}]}}  # fmt: skip


def test_joined_collections_count_whole() -> None:
    found = watches(parse_mongo_select(stages({"$match": {"a": 1}}, LOOKUP)), {"x"})
    assert found == {"c": told({"a": 1}, {"a"}, {"a", "k", "l", "m", "x"}), "d": UNKNOWN, "e": UNKNOWN}
    walk = {
        "from": "g",
        "startWith": "$s",
        "restrictSearchWithMatch": {"z": {"$gt": 1}},
        "connectFromField": "p",
        "connectToField": "q",
        "as": "m",
    }
    found = watches(parse_mongo_select(stages({"$graphLookup": walk})), {"x"})
    assert found == {"c": told({}, set(), {"s", "m", "x"}), "g": UNKNOWN}


def test_united_collections_count_by_their_leading_match() -> None:
    union = {"$unionWith": {"coll": "d", "pipeline": [{"$match": {"b": 1}}, {"$unionWith": "e"}, LOOKUP]}}
    found = watches(parse_mongo_select(stages({"$match": {"a": 1}}, union)), {"x"})
    assert found["c"] == told({"a": 1}, {"a"}, {"a", "x"})
    assert found["d"] == UNKNOWN  # united, and joined as well
    assert found["e"] == UNKNOWN
    found = watches(parse_mongo_select(stages({"$facet": {"f": [{"$count": "n"}, {"$unionWith": "d"}]}})), {"x"})
    assert found == {"c": told({}, set(), set()), "d": told({}, set(), None)}


def test_a_collection_read_twice() -> None:
    def united(query: dict[str, Any]) -> Watch:
        union = {"$unionWith": {"coll": "c", "pipeline": [{"$match": query}]}}
        return watches(parse_mongo_select(stages({"$match": {"a": 1}}, union)), {"x"})["c"]

    assert united({"a": 1}) == told({"a": 1}, {"a"}, None)
    assert united({"b": 1}) == told({}, set(), None)
    assert united({"$expr": "$$ROOT"}) == UNKNOWN
    itself = {"$lookup": {"from": "c", "localField": "p", "foreignField": "_id", "as": "m"}}
    assert watches(parse_mongo_select(stages({"$match": {"a": 1}}, itself)), {"x"}) == {"c": UNKNOWN}


TOUCHES: list[tuple[str, str, bool]] = [
    ("a", "a", True),
    ("a", "a.b", True),
    ("a.b.c", "a.b", True),
    ("a.0.b", "a.b", True),
    ("a.3", "a.b", True),
    ("a.b", "a.0.b", True),
    ("a.0", "a.1", True),
    ("a.10.2.b", "a.b", True),
    ("2024.x", "2024", True),
    ("2024", "2025", False),
    ("ab", "a", False),
    ("a", "ab.c", False),
    ("a.b", "a.c", False),
    ("a.0.b", "a.c", False),
    ("b", "a", False),
]


@pytest.mark.parametrize(("changed", "field", "expected"), TOUCHES)
def test_touches(changed: str, field: str, expected: bool) -> None:
    assert touches([changed], frozenset({field})) is expected
    assert touches(["zzz", changed], frozenset({"yyy.x", field})) is expected
    assert touches([changed], None)
    assert not touches([], frozenset({field}))
    assert not touches([changed], frozenset())


PATHS = st.lists(st.sampled_from(["a", "b", "0", "12"]), min_size=1, max_size=4).map(".".join)


@given(PATHS, st.frozensets(PATHS, max_size=4))
def test_touches_as_defined(changed: str, fields: frozenset[str]) -> None:
    def parts(path: str) -> list[str]:
        head, *rest = path.split(".")
        return [head, *(part for part in rest if part not in ("0", "12"))]

    def related(one: list[str], other: list[str]) -> bool:
        return all(left == right for left, right in zip(one, other, strict=False))

    assert touches([changed], fields) is any(related(parts(changed), parts(field)) for field in fields)


def test_volatile_parts_are_named() -> None:
    find = {"collection": "c", "filter": {"$or": [{"$sampleRate": 0.1}, {"$expr": {"$lt": ["$a", "$$NOW"]}}]}}
    assert is_volatile(parse_mongo_select(find)) == ["filter.$or.0.$sampleRate", "filter.$or.1.$expr.$lt.1"]
    joined = {"$lookup": {"from": "d", "pipeline": [{"$set": {"r": {"$rand": {}}}}], "as": "m"}}
    select = stages({"$sample": {"size": 1}}, joined, {"$set": {"t": "$$CLUSTER_TIME.x"}})
    assert is_volatile(parse_mongo_select(select)) == [
        "pipeline.0.$sample",
        "pipeline.1.$lookup.pipeline.0.$set.r.$rand",
        "pipeline.2.$set.t",
    ]
    calm = stages({"$match": {"a": "$$NOW", "b": {"$gt": 1}}}, {"$set": {"x": {"$literal": "$$NOW"}}})
    assert is_volatile(parse_mongo_select(calm)) == []
