"""What a select on MongoDB may say, and how it is told what it may not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Regex

from registry.errors import DocumentInvalid
from registry.mongo_select import MongoSelect, parse_mongo_select
from tests.fixtures.names import shown


def faults_of(value: object) -> dict[str, str]:
    with pytest.raises(DocumentInvalid) as caught:
        parse_mongo_select(value)
    return {fault.path: fault.message for fault in caught.value.faults}


def find(query: object) -> dict[str, Any]:
    return {"collection": "c", "filter": query}


def stages(*them: object) -> dict[str, Any]:
    return {"collection": "c", "pipeline": list(them)}


def test_find_with_everything() -> None:
    query = {"country": "DE", "_id": {"$gt": ObjectId("0" * 24)}}
    projection = {"age": 1, "_id": 0}
    parts = {"filter": query, "projection": projection, "skip": Int64(2), "limit": 10.0}
    select = parse_mongo_select({"collection": "customers", "sort": [["age", -1], ("name", 1.0)], **parts})
    assert select == MongoSelect("customers", query, projection, (("age", -1), ("name", 1)), 2, 10, None)
    assert [type(each) for each in (select.skip, select.limit, select.sort[1][1])] == [int, int, int]


def test_sort_as_a_mapping_and_nulls_as_absent() -> None:
    select = parse_mongo_select(
        {"collection": "c", "sort": {"a": 1, "b.c": -1}, "filter": None, "projection": {}, "pipeline": None}
    )
    assert select == MongoSelect("c", {}, None, (("a", 1), ("b.c", -1)), 0, 0, None)


def test_pipeline() -> None:
    select = parse_mongo_select(stages({"$match": {"a": 1}}, {"$limit": 5}))
    assert select.pipeline == ({"$match": {"a": 1}}, {"$limit": 5})


ALLOWED: list[object] = [
    find({"a": {"b": {"c": [1, {"d": None}]}}}),
    find({"a": {"$ref": "other", "$id": 1, "$db": "x"}}),
    find({"a": {"$elemMatch": {"$or": [{"b": 1}, {"c": {"$gt": 2}}], "d": {"$not": Regex("^x")}}}}),
    find({"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"c": 1}}]}}),
    find({"a": {"$elemMatch": {"$gte": 1, "$lt": 5}}, "b": {"$in": [1, Regex("x"), None]}}),
    find({"$and": [{"$nor": [{"a": {"$mod": [4, 0]}}]}, {"$comment": "why"}], "b": {"$type": ["int", 2]}}),
    find({"$expr": {"$gt": [{"$size": {"$filter": {"input": "$a", "cond": {"$gt": ["$$this.b", 1]}}}}, 2]}}),
    find({"$expr": {"$eq": ["$a", {"$literal": {"$where": "data", "$function": [1]}}]}}),
    find({"$jsonSchema": {"required": ["a"], "properties": {"a": {"bsonType": "int"}}}}),
    find({"$text": {"$search": "x", "$language": "de"}}),
    find({"a": {"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0]]]}}}}),
    find({"a": {"$near": {"$geometry": {"type": "Point", "coordinates": [0, 0]}, "$maxDistance": 5}}}),
    find({"a": datetime(2024, 1, 1, tzinfo=UTC), "b": Decimal128("1.5"), "c": {"$bitsAllSet": [1, 5]}}),
    {"collection": "c", "projection": {"a.$": 1, "b": {"$slice": [1, 2]}, "c": {"$elemMatch": {"d": 1}}}},
    stages({"$project": {"a": {"b": 1, "c": {"$add": ["$x", 1]}}, "d": "$$ROOT.e", "f": "$$REMOVE"}}),
    stages(
        {
            "$group": {
                "_id": {"k": "$k"},
                "n": {"$sum": 1},
                "t": {"$top": {"sortBy": {"s": -1}, "output": "$v"}},
            }
        }
    ),
    stages({"$unwind": "$a"}, {"$unwind": {"path": "$b.c", "preserveNullAndEmptyArrays": True}}),
    stages({"$unionWith": "other"}, {"$unionWith": {"coll": "other", "pipeline": [{"$match": {"a": 1}}]}}),
    stages(
        {
            "$lookup": {
                "from": "other",
                "let": {"k": "$k"},
                "pipeline": [{"$match": {"$expr": {"$eq": ["$k", "$$k"]}}}],
                "as": "found",
            }
        }
    ),
    stages({"$facet": {"one": [{"$count": "n"}], "two": [{"$sortByCount": "$a"}]}}),
    stages(
        {
            "$setWindowFields": {
                "sortBy": {"t": 1},
                "output": {"r": {"$sum": "$v", "window": {"range": [-1, 0]}}},
            }
        }
    ),
    stages({"$set": {"a": {"$switch": {"branches": [{"case": {"$lt": ["$x", 1]}, "then": 2}], "default": 3}}}}),
    stages({"$fill": {"sortBy": {"t": 1}, "output": {"v": {"method": "locf"}, "w": {"value": 0}}}}),
    stages(),
]


@pytest.mark.parametrize("value", ALLOWED, ids=shown)
def test_allowed(value: object) -> None:
    parse_mongo_select(value)


def test_reasons_and_nearest_names() -> None:
    faults = faults_of(
        {
            "colection": "c",
            "filter": {"$where": "1", "a": {"$gtt": 1, "$oid": "x"}, "$And": []},
            "sort": {"a": 2, "b": True},
            "limit": True,
            "skip": -1,
        }
    )
    assert {path: message[:40] for path, message in faults.items()}.keys() == {
        "collection", "colection", "filter.$where", "filter.a.$gtt", "filter.a.$oid", "filter.$And",
        "sort.a", "sort.b", "limit", "skip",
    }  # fmt: skip
    assert "did you mean collection?" in faults["colection"]
    assert "did you mean $gt?" in faults["filter.a.$gtt"] or "did you mean $gte?" in faults["filter.a.$gtt"]
    assert "did you mean $and?" in faults["filter.$And"]
    assert "JavaScript" in faults["filter.$where"]
    assert "extended JSON" in faults["filter.a.$oid"]


FAULTY: list[tuple[object, set[str]]] = [
    ("SELECT 1", {""}),
    (None, {""}),
    ({}, {"collection"}),
    ({"collection": ["c"]}, {"collection"}),
    ({"collection": "c", 5: 1}, {"5"}),
    ({"collection": "c", "filter": [], "projection": "a", "sort": "a", "limit": "1"},
     {"filter", "projection", "sort", "limit"}),
    ({"collection": "c", "filter": {}, "sort": {"a": 1}, "pipeline": []}, {"filter", "sort"}),
    ({"collection": "c", "sort": [["a"], "b", ["c", 1]]}, {"sort.0", "sort.1"}),
    ({"collection": "c", "sort": ["a", 1]}, {"sort.0", "sort.1"}),
    ({"collection": "c", "sort": {"$natural": 1, "a..b": 1, "": 1}}, {"sort.$natural", "sort.a..b", "sort."}),
    ({"collection": "c", "limit": 1.5, "skip": float("nan")}, {"limit", "skip"}),
    ({"collection": "c", "limit": 2**63}, {"limit"}),
    ({"collection": "c", "projection": {"a": Decimal128("0")}}, {"projection.a"}),
    ({"collection": "c", "pipeline": {"$match": {}}}, {"pipeline"}),
    (stages({}, {"$match": {}, "$sort": {"a": 1}}, "$match"), {"pipeline.0", "pipeline.1", "pipeline.2"}),
    (stages({"$matchh": {}}, {"$lookup": {"form": "x"}}), {"pipeline.0.$matchh", "pipeline.1.$lookup.form"}),
    (stages({"$sort": {"a": 0}}, {"$unwind": "a"}), {"pipeline.0.$sort.a", "pipeline.1.$unwind"}),
    (stages({"$project": {"x": {"$add": [1], "$sum": 1}}}), {"pipeline.0.$project.x"}),
    (find({1: 2}), {"filter"}),
    (find({"a": {"b": {1: 2}}}), {"filter.a.b"}),
    (find({"day": {"$gte": date(2024, 1, 1)}}), {"filter.day.$gte"}),
    (find({"a": {"$gt": 1, "b": 2}}), {"filter.a.b"}),
    (find({"a": {"b": {"$gt": 1}}}), {"filter.a.b.$gt"}),
    (find({"$or": {"a": 1}}), {"filter.$or"}),
    (find({"$gt": 5}), {"filter.$gt"}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "paths"), FAULTY, ids=shown)
def test_every_fault_at_once_and_no_other(value: object, paths: set[str]) -> None:
    assert faults_of(value).keys() == paths
