"""Change events read from their bytes, against the driver's own decoder."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import ObjectId, Timestamp
from bson.errors import InvalidBSON
from hypothesis import given
from hypothesis import strategies as st

from listener.feed import Kind
from listener.mongo_events import Event, changes_of
from registry.watch import touches
from tests.unit.test_bson_bytes import damage, damaged, rows, texts

NAMES = ["insert", "update", "replace", "delete", "drop", "rename", "dropDatabase", "invalidate", "create"]
tokens = st.text("0123456789ABCDEF", min_size=1, max_size=40)
stamps = st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
descriptions = st.fixed_dictionaries(
    {
        "updatedFields": st.dictionaries(texts, st.integers(0, 3), max_size=3),
        "removedFields": st.lists(texts, max_size=2),
        "truncatedArrays": st.lists(st.fixed_dictionaries({"field": texts, "newSize": st.integers(0, 3)}), max_size=2),
    }
)
events = st.fixed_dictionaries(
    {
        "_id": st.builds(
            lambda token, more: {"_data": token, **more}, tokens, st.sampled_from([{}, {"_typeBits": b"x"}])
        ),
        "operationType": st.sampled_from(NAMES),
        "clusterTime": stamps,
        "ns": st.fixed_dictionaries({"db": texts, "coll": texts}),
    },
    optional={
        "wallTime": st.none(),
        "fullDocument": st.none() | rows,
        "documentKey": st.fixed_dictionaries({"_id": st.integers(0, 9)}),
        "updateDescription": descriptions,
        "fullDocumentBeforeChange": st.none() | rows,
        "to": st.fixed_dictionaries({"db": texts, "coll": texts}),
    },
)


def image(row: dict[str, Any] | None) -> bytes | None:
    return None if row is None else bson.encode(row)


@given(events, st.randoms(use_true_random=False))
def test_an_event_is_what_the_driver_decodes(event: dict[str, Any], dice: Any) -> None:
    names = list(event)
    if dice.random() < 0.5:
        dice.shuffle(names)
    read = Event(bson.encode({name: event[name] for name in names}))
    assert (read.token, read.operation) == (event["_id"]["_data"], event["operationType"])
    assert (read.stamp, read.collection) == (event["clusterTime"], event["ns"]["coll"])
    assert read.has_key is ("documentKey" in event)
    changes = changes_of(read, ["r"])
    if event["operationType"] in ("insert", "update", "replace", "delete"):
        (one,) = changes
        assert (one.relation, one.stamp) == (event["ns"]["coll"], event["clusterTime"])
        assert (one.before, one.after) == (
            image(event.get("fullDocumentBeforeChange")),
            image(event.get("fullDocument")),
        )
        assert one.key == image(event.get("documentKey"))
        assert one.touched == _touched(event)
    else:
        assert all(one.kind is Kind.OTHER for one in changes)
        named = [event["ns"]["coll"]] + ([event["to"]["coll"]] if "to" in event else [])
        gone = {"drop": named, "rename": named, "dropDatabase": ["r"]}
        assert [one.relation for one in changes] == gone.get(event["operationType"], [])


def _touched(event: dict[str, Any]) -> tuple[str, ...] | None:
    if event["operationType"] == "update" and "updateDescription" in event:
        told = event["updateDescription"]
        return (*told["updatedFields"], *told["removedFields"], *(one["field"] for one in told["truncatedArrays"]))
    before, after = event.get("fullDocumentBeforeChange"), event.get("fullDocument")
    if event["operationType"] == "replace" and before is not None and after is not None:
        return tuple(
            name
            for name in {**before, **after}
            if name not in before
            or name not in after
            or bson.encode({"": before[name]}) != bson.encode({"": after[name]})
        )
    return None


@pytest.mark.parametrize("other", [1.0, True, [1], "1", None])
def test_a_replaced_field_of_another_type_was_touched(other: Any) -> None:
    event = {
        "_id": {"_data": "82"}, "operationType": "replace", "clusterTime": Timestamp(1, 1),
        "fullDocument": {"a": 1, "b": [1]}, "ns": {"db": "d", "coll": "c"},
        "fullDocumentBeforeChange": {"a": other, "b": [1]},
    }  # fmt: skip
    (one,) = changes_of(Event(bson.encode(event)), [])
    assert one.touched == ("a",)


@given(events, damage)
def test_a_damaged_event_is_an_error_or_what_the_driver_decodes(
    event: dict[str, Any], some: list[tuple[int, int]]
) -> None:
    data = damaged(bson.encode(event), some)
    try:
        read = Event(data)
        changes = changes_of(read, ["r"])
    except InvalidBSON:
        return
    try:
        expected = bson.decode(data)
    except (InvalidBSON, ValueError, OverflowError):
        return  # damaged where nobody looked
    assert (read.token, read.operation) == (expected["_id"]["_data"], expected["operationType"])
    assert all(one.stamp == expected["clusterTime"] for one in changes)
    for one in changes:
        if one.kind is not Kind.OTHER and isinstance(expected.get("fullDocument"), dict):
            assert bson.encode(bson.decode(one.after or b"")) == bson.encode(expected["fullDocument"])


@pytest.mark.parametrize("absent", ["_id", "operationType", "clusterTime"])
def test_an_event_lacks_nothing_that_is_needed(absent: str) -> None:
    event = {"_id": {"_data": "82"}, "operationType": "insert", "clusterTime": Timestamp(1, 1), "ns": {"coll": "c"}}
    del event[absent]
    with pytest.raises(InvalidBSON):
        Event(bson.encode(event))


def test_a_row_of_no_collection_is_an_error() -> None:
    event = {
        "_id": {"_data": "82"},
        "operationType": "insert",
        "clusterTime": Timestamp(1, 1),
        "fullDocument": {"_id": ObjectId()},
    }
    with pytest.raises(InvalidBSON):
        changes_of(Event(bson.encode(event)), [])


def test_a_field_whose_name_is_no_utf8_was_touched_and_stops_nothing() -> None:
    event = {
        "_id": {"_data": "82"},
        "operationType": "update",
        "clusterTime": Timestamp(1, 1),
        "ns": {"db": "d", "coll": "c"},
        "updateDescription": {"updatedFields": {"a.ZZ": 1}, "removedFields": ["ZZ"], "truncatedArrays": []},
    }
    (one,) = changes_of(Event(bson.encode(event).replace(b"ZZ", b"\xff\xfe")), [])
    assert one.touched == ("a.\udcff\udcfe", "\udcff\udcfe")
    assert touches(one.touched, frozenset({"a"}))
    assert not touches(one.touched, frozenset({"b"}))
