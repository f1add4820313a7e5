from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pyarrow as pa
import pytest
from bson import ObjectId, Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import OperationFailure

from registry.errors import DatastoreUnavailable, DocumentInvalid, RowsUnusable
from tests.fixtures.documents import PATHS, Refused, documents, expected, same
from trainers import mongo_rows
from trainers.mongo_columns import MongoColumns
from trainers.mongo_rows import MongoReader
from trainers.rows import KEY

Mongo = Database[dict[str, Any]]


def rows(
    database: Mongo, select: Any, fields: tuple[str, ...] | None = None, need: Timestamp | None = None
) -> pa.Table:
    with MongoReader(database).cut(need) as cut:
        batches = list(cut.rows(select, fields))
    assert len({batch.schema for batch in batches}) == 1
    return pa.Table.from_batches(batches)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(documents().filter(bool), st.lists(st.sampled_from(PATHS), unique=True, min_size=1, max_size=6), st.booleans())
def test_random_documents_are_what_a_plain_read_gives(
    mongo: Mongo, made: list[dict[str, Any]], fields: list[str], piped: bool
) -> None:
    mongo.people.delete_many({})
    mongo.people.insert_many(made)
    select: dict[str, Any] = {"collection": "people"} | ({"pipeline": [{"$match": {}}]} if piped else {})
    codec = bson.CodecOptions[dict[str, Any]](tz_aware=False)
    plain = list(mongo.get_collection("people", codec_options=codec).find())
    try:
        wanted = {name: expected(plain, name) for name in fields}
    except Refused:
        with pytest.raises(RowsUnusable):
            rows(mongo, select, tuple(fields))
        return
    table = rows(mongo, select, tuple(fields))
    assert table.column_names == [*fields, KEY]
    assert [name for name in fields if not same(table.column(name), wanted[name])] == []


@pytest.fixture
def people(mongo: Mongo) -> Mongo:
    mongo.people.insert_many(
        {"_id": key, "age": key * 1.5, "country": "DE" if key % 2 else "FR", "address": {"zip": str(key), "no": key}}
        for key in range(500)
    )
    return mongo


def test_find(people: Mongo) -> None:
    select = {"collection": "people", "filter": {"country": "DE"}, "sort": {"age": -1}, "skip": 2, "limit": 3}
    table = rows(people, select, ("age", "address.zip"))
    assert table.drop([KEY]).to_pydict() == {"age": [742.5, 739.5, 736.5], "address.zip": ["495", "493", "491"]}


def test_the_whole_row(people: Mongo) -> None:
    table = rows(people, {"collection": "people", "filter": {"_id": 3}})
    assert table.drop([KEY]).to_pylist() == [{"age": 4.5, "country": "DE", "address": {"zip": "3", "no": 3}}]


def test_projection_of_the_user(people: Mongo) -> None:
    select = {"collection": "people", "sort": {"_id": 1}, "projection": {"half": {"$divide": ["$age", 2]}, "_id": 0}}
    table = rows(people, select, ("half", "age"))
    assert table.column("half").to_pylist()[:3] == [0.0, 0.75, 1.5]
    assert table.column("age").null_count == 500
    assert set(table.column(KEY).to_pylist()) == set(rows(people, {"collection": "people"}).column(KEY).to_pylist())
    everything = rows(people, {"collection": "people", "projection": {"_id": 0}})
    assert everything.column_names == ["age", "country", "address", KEY]


def test_pipeline(people: Mongo) -> None:
    group = {"$group": {"_id": "$country", "mean": {"$avg": "$age"}, "n": {"$sum": 1}}}
    select = {"collection": "people", "pipeline": [group, {"$sort": {"_id": 1}}]}
    table = rows(people, select, ("mean", "n", "_id"))
    assert table.drop([KEY]).to_pydict() == {"mean": [375.0, 373.5], "n": [250, 250], "_id": ["DE", "FR"]}


def test_pipeline_that_drops_the_id(people: Mongo) -> None:
    select = {"collection": "people", "pipeline": [{"$sort": {"age": 1}}, {"$project": {"_id": 0, "age": 1}}]}
    table = rows(people, select)
    assert table.column_names == ["age", KEY]
    assert len(set(table.column(KEY).to_pylist())) == 500


def test_only_the_needed_fields_travel(people: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    add = MongoColumns.add

    def spy(self: MongoColumns, raw: bytes) -> None:
        seen.append(raw)
        add(self, raw)

    monkeypatch.setattr(MongoColumns, "add", spy)
    for select in ({"collection": "people"}, {"collection": "people", "pipeline": [{"$match": {}}]}):
        rows(people, select, ("age", "address.zip", "address"))
    documents = [one for raw in seen for one in bson.decode_all(raw)]
    assert len(documents) == 1000
    assert all(set(one) == {"_id", "age", "address"} and set(one["address"]) == {"zip", "no"} for one in documents)


def test_field_names_of_all_sorts(mongo: Mongo) -> None:
    names = ["1st", "two words", "größe", "Δ", "__proto__", "x" * 1500, "a-b", "'quoted'", "per%cent"]
    mongo.odd.insert_one({name: index for index, name in enumerate(names)})
    table = rows(mongo, {"collection": "odd"}, tuple(names))
    assert table.drop([KEY]).to_pylist() == [{name: index for index, name in enumerate(names)}]


def test_one_cut_is_one_state(people: Mongo) -> None:
    select = {"collection": "people", "sort": {"_id": 1}}
    with MongoReader(people).cut(None) as cut:
        before = pa.Table.from_batches(cut.rows(select, ("age",)))
        people.people.update_many({}, {"$set": {"age": -1.0}})
        people.people.insert_one({"age": -1.0})
        after = pa.Table.from_batches(cut.rows(select, ("age",)))
        piped = pa.Table.from_batches(cut.rows({"collection": "people", "pipeline": [{"$sort": {"_id": 1}}]}, ("age",)))
    assert before.equals(after)
    assert before.combine_chunks().equals(piped.combine_chunks())
    fresh = rows(people, select, ("age",))
    assert fresh.column("age").to_pylist() == [-1.0] * 501


def test_a_cut_covers_what_is_needed(people: Mongo) -> None:
    for value in range(20):
        with people.client.start_session() as session:
            people.people.update_one({"_id": 1}, {"$set": {"age": float(value)}}, session=session)
            need = session.operation_time
        with MongoReader(people).cut(need) as cut:
            assert cut.stamp >= need
            (batch,) = cut.rows({"collection": "people", "filter": {"_id": 1}}, ("age",))
        assert batch.column("age").to_pylist() == [float(value)]


def test_a_cut_waits_for_a_need_to_come(people: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    now = people.command("ping")["operationTime"]
    monkeypatch.setattr(mongo_rows, "_WAIT", 0.2)
    far = Timestamp(now.time + 1000, 1)
    with pytest.raises(DatastoreUnavailable, match="stays behind"), MongoReader(people).cut(far):
        pass
    times = iter([now, now, Timestamp(now.time + 1, 1)])
    reader = MongoReader(people)
    monkeypatch.setattr(reader, "_operation_time", lambda: next(times))
    with reader.cut(Timestamp(now.time, now.inc + 1)) as cut:
        assert cut.stamp == Timestamp(now.time + 1, 1)


def test_a_cut_too_old_asks_for_a_fresh_one(people: Mongo) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=1)
    stamp = Timestamp(int(long_ago.timestamp()), 1)
    with pytest.raises(DatastoreUnavailable, match="fresh"):
        list(mongo_rows.MongoCut(people, stamp, None).rows({"collection": "people"}, None))


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (239, DatastoreUnavailable, "minSnapshotHistoryWindowInSeconds"),
        (246, DatastoreUnavailable, "try a fresh cut"),
        (11602, DatastoreUnavailable, "try a fresh cut"),
        (13, RowsUnusable, "grant it the role `read`"),
        (50, RowsUnusable, "statement limit"),
        (2, RowsUnusable, "MongoDB refuses the select on `people`"),
    ],
)
def test_what_the_server_says(
    people: Mongo, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], says: str
) -> None:
    def fail(*_: Any) -> Any:
        raise OperationFailure("no", code, {"errmsg": "no"})

    monkeypatch.setattr(mongo_rows.MongoCut, "_read", fail)
    with pytest.raises(error, match=says):
        rows(people, {"collection": "people"})


def test_the_statement_limit(people: Mongo) -> None:
    people.big.insert_many({"v": value} for value in range(3000))
    product = [{"$lookup": {"from": "big", "pipeline": [], "as": "all"}}, {"$unwind": "$all"}, {"$count": "n"}]
    reader, refused = MongoReader(people, statement_limit=0.05), pytest.raises(RowsUnusable, match="statement limit")
    with reader.cut(None) as cut, refused:
        list(cut.rows({"collection": "big", "pipeline": product}, None))


def test_a_missing_collection_is_said_to_be_missing(people: Mongo) -> None:
    people.empty.insert_one({})
    people.empty.delete_many({})
    with pytest.raises(RowsUnusable, match=r"no collection `poeple`.*; nearest: people"):
        rows(people, {"collection": "poeple"})
    with MongoReader(people).cut(None) as cut:
        assert list(cut.rows({"collection": "empty"}, ("age",))) == []
        assert list(cut.rows({"collection": "people", "filter": {"age": -5}}, ("age",))) == []


def test_views_and_capped_and_time_series_collections(people: Mongo) -> None:
    people.create_collection("germans", viewOn="people", pipeline=[{"$match": {"country": "DE"}}])
    assert rows(people, {"collection": "germans"}, ("age",)).num_rows == 250
    people.create_collection("last", capped=True, size=100_000)
    people.last.insert_many({"_id": key, "v": key} for key in range(50))
    need = people.command("ping")["operationTime"]
    assert rows(people, {"collection": "last"}, ("v",), need).column("v").to_pylist() == list(range(50))
    people.create_collection("readings", timeseries={"timeField": "at"})
    people.readings.insert_many({"at": datetime(2024, 1, day, tzinfo=UTC), "v": day} for day in range(1, 20))
    assert sorted(rows(people, {"collection": "readings"}, ("v",)).column("v").to_pylist()) == list(range(1, 20))


def test_an_index_built_meanwhile(people: Mongo) -> None:
    with MongoReader(people).cut(None) as cut:
        people.people.create_index("age")
        try:
            assert sum(batch.num_rows for batch in cut.rows({"collection": "people"}, ("age",))) == 500
        except DatastoreUnavailable as error:
            assert "try a fresh cut" in str(error)  # noqa: PT017 (either is right: it depends on the server)


def test_mixed_types_far_apart(mongo: Mongo) -> None:
    mongo.far.insert_many([{"_id": key, "v": 1 if key else 0.5, "w": key} for key in range(3000)])
    assert rows(mongo, {"collection": "far"}, ("v",)).column("v").to_pylist() == [0.5] + [1.0] * 2999
    mongo.far.update_one({"_id": 2999}, {"$set": {"w": "last"}})
    with pytest.raises(RowsUnusable, match=r"`w` holds mixed types: int \(_id 0\) and string \(_id 2999\)"):
        rows(mongo, {"collection": "far"}, ("w",))


def test_many_batches(mongo: Mongo) -> None:
    blob = "x" * 2000
    mongo.wide.insert_many({"_id": ObjectId(), "v": float(key), "blob": blob, "maybe": None} for key in range(20_000))
    mongo.wide.update_one({"v": 19_999.0}, {"$set": {"maybe": True}})
    table = rows(mongo, {"collection": "wide"})
    assert table.column("v").num_chunks > 2
    assert table.column("v").to_pylist() == [float(key) for key in range(20_000)]
    assert table.column("maybe").null_count == 19_999
    assert len(set(table.column(KEY).to_pylist())) == 20_000
    assert set(table.column("blob").to_pylist()) == {blob}


def test_an_operator_that_runs_code_is_refused(mongo: Mongo) -> None:
    with pytest.raises(DocumentInvalid), MongoReader(mongo).cut(None) as cut:
        list(cut.rows({"collection": "people", "filter": {"$where": "true"}}, None))


def test_closing_twice_is_safe(mongo: Mongo) -> None:
    reader = MongoReader(mongo)
    reader.close()
    reader.close()
    assert mongo.command("ping")["ok"]


def test_nan_and_null(mongo: Mongo) -> None:
    mongo.gaps.insert_many([{"_id": 1, "v": math.nan}, {"_id": 2, "v": None}, {"_id": 3}])
    column = rows(mongo, {"collection": "gaps", "sort": {"_id": 1}}, ("v",)).column("v")
    assert math.isnan(column[0].as_py())
    assert column.null_count == 2
