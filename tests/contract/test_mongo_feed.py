"""What is special about MongoDB's feed, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Timestamp
from pymongo import MongoClient
from pymongo.database import Database

from listener.feed import Batch, Change, Feed, Kind, Origin, Position, Untold
from listener.feeds import native_feed
from listener.mongo_events import token_time
from listener.mongo_stream import AHEAD
from refitd.embedded import EmbeddedMongo
from registry.errors import DatastoreUnavailable, PositionLost
from registry.stores import open_store

Db = Database[dict[str, Any]]
C = frozenset({"c"})
CD = frozenset({"c", "d"})


@pytest.fixture
def make_feed(mongo_uri: str) -> Iterator[Callable[[], Feed]]:
    opened: list[Any] = []

    def make() -> Feed:
        store = open_store(mongo_uri)
        feed, _ = native_feed(store)
        opened.extend((feed, store))
        return feed

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def feed(make_feed: Callable[[], Feed], mongo: Db) -> Feed:
    mongo.create_collection("c", changeStreamPreAndPostImages={"enabled": True})
    mongo.create_collection("d")
    return make_feed()


def read(feed: Feed, count: int) -> tuple[list[Change], Position]:
    """The next `count` changes, and the position after them."""
    changes: list[Change] = []
    position: Position = {}
    while len(changes) < count:
        batch = feed.next(1)
        if batch is not None:
            changes += batch.changes
            position = batch.position or position
    assert len(changes) == count
    return changes, position


def until(feed: Feed, wanted: Callable[[Batch], bool]) -> Batch:
    while True:
        batch = feed.next(1)
        if batch is not None and wanted(batch):
            return batch


def resume_and_read(feed: Feed, position: Position, followed: frozenset[str]) -> None:
    """A server may notice only while reading that it can't go on."""
    feed.resume(position, C, followed)
    while feed.next(0.2) is not None:
        pass


def ids(changes: list[Change]) -> list[Any]:
    return [bson.decode(one.key or b"")["_id"] for one in changes]


def test_changes_come_in_order_with_their_images(feed: Feed, mongo: Db) -> None:
    feed.start(C)
    mongo.c.insert_one({"_id": 1, "a": 1})
    mongo.c.update_one({"_id": 1}, {"$set": {"a": 2}, "$unset": {"b": 1}})
    mongo.c.replace_one({"_id": 1}, {"a": 2, "z": [1]})
    mongo.c.delete_one({"_id": 1})
    changes, _ = read(feed, 4)
    assert [one.kind for one in changes] == [Kind.INSERT, Kind.UPDATE, Kind.UPDATE, Kind.DELETE]
    images = [tuple(bson.decode(image) if image else None for image in (one.before, one.after)) for one in changes]
    assert images == [
        (None, {"_id": 1, "a": 1}),
        ({"_id": 1, "a": 1}, {"_id": 1, "a": 2}),
        ({"_id": 1, "a": 2}, {"_id": 1, "a": 2, "z": [1]}),
        ({"_id": 1, "a": 2, "z": [1]}, None),
    ]
    assert [one.touched for one in changes] == [None, ("a",), ("z",), None]
    assert sorted(one.stamp for one in changes) == [one.stamp for one in changes]


def test_without_images_what_is_unknown_is_none(feed: Feed, mongo: Db) -> None:
    feed.start(CD)
    mongo.d.insert_one({"_id": 1, "a": 1})
    mongo.d.update_one({"_id": 1}, {"$set": {"a": 2}})
    mongo.d.delete_one({"_id": 1})
    changes, _ = read(feed, 3)
    assert [(one.before, one.after) for one in changes[1:]] == [(None, None), (None, None)]
    assert changes[1].touched == ("a",)


@pytest.mark.parametrize(("before", "after"), [(C, CD), (CD, C), (CD, frozenset({"d"}))])
def test_resuming_with_other_relations_keeps_the_place(
    feed: Feed, make_feed: Callable[[], Feed], mongo: Db, before: frozenset[str], after: frozenset[str]
) -> None:
    """The server itself refuses a token whose event is followed no more (error 280)."""
    feed.start(before)
    mongo.c.insert_one({"_id": 0})
    _, position = read(feed, 1)
    mongo.c.insert_one({"_id": 1})
    mongo.d.insert_one({"_id": 2})
    again = make_feed()
    again.resume(position, after, before)
    expected = [n for n, name in ((1, "c"), (2, "d")) if name in after]
    assert ids(read(again, len(expected))[0]) == expected


def test_a_transaction_resumed_in_its_middle_is_whole(feed: Feed, make_feed: Callable[[], Feed], mongo: Db) -> None:
    """All its changes share one cluster time: the token within it decides."""
    feed.start(C)
    with mongo.client.start_session() as session, session.start_transaction():
        mongo.c.insert_many([{"_id": n} for n in range(6000)], session=session)
    batch = until(feed, lambda one: bool(one.changes))
    assert 0 < len(batch.changes) < 6000
    again = make_feed()
    again.resume(batch.position or {}, CD, C)
    rest, _ = read(again, 6000 - len(batch.changes))
    assert ids(list(batch.changes)) + ids(rest) == list(range(6000))
    assert len({one.stamp for one in rest}) == 1


def test_a_backlog_read_ahead_is_whole_wherever_it_is_left(
    feed: Feed, make_feed: Callable[[], Feed], mongo: Db
) -> None:
    """Of a backlog the next events are asked for while the last are worked on."""
    start = feed.start(C)
    total = 12000
    mongo.c.insert_many([{"_id": n, "pad": "x" * 200} for n in range(total)])
    seen: list[Any] = []
    relations, position = C, start
    while len(seen) < total:
        other = CD if relations == C else C
        feed.resume(position, other, relations)  # drops what was read ahead: it comes again
        relations = other
        batch = until(feed, lambda one: bool(one.changes))
        seen += ids(list(batch.changes))
        position = batch.position or {}
    assert seen == list(range(total))
    again = make_feed()
    again.resume(start, C, C)
    assert ids(read(again, total)[0]) == list(range(total))


def test_nothing_goes_on_behind_a_closed_feed(feed: Feed, mongo: Db) -> None:
    start = feed.start(C)
    mongo.c.insert_many([{"_id": n, "pad": "x" * 200} for n in range(5000)])
    feed.resume(start, C, C)
    until(feed, lambda one: bool(one.changes))
    feed.close()
    assert AHEAD not in {one.name for one in threading.enumerate()}
    with pytest.raises(DatastoreUnavailable):
        feed.next(0.1)
    feed.resume(start, C, C)
    assert ids(read(feed, 5000)[0]) == list(range(5000))


@pytest.mark.parametrize("how", ["drop", "rename", "replaced by $out", "dropped database"])
def test_a_relation_that_goes_is_told(feed: Feed, mongo: Db, how: str) -> None:
    feed.start(C)
    mongo.c.insert_one({"_id": 1})
    if how == "drop":
        mongo.c.drop()
    elif how == "rename":
        mongo.c.rename("elsewhere")
    elif how == "dropped database":
        mongo.client.drop_database(mongo.name)
    else:
        mongo.d.insert_one({"_id": 2})
        mongo.d.aggregate([{"$out": "c"}])
    batch = until(feed, lambda one: any(change.kind is Kind.OTHER for change in one.changes))
    assert {one.relation for one in batch.changes if one.kind is Kind.OTHER} == {"c"}
    mongo.c.insert_one({"_id": 3})
    assert ids(list(until(feed, lambda one: bool(one.changes)).changes)) == [3]


def test_documents_and_versions_are_told_and_our_own_writes_are_not(feed: Feed, mongo: Db) -> None:
    feed.start(C)
    models = mongo["refitd.models"]
    models.insert_one({"_id": "m"})
    assert until(feed, lambda one: not one.quiet).documents == frozenset({"m"})
    models.update_one({"_id": "m"}, {"$set": {"status": {"state": "fresh"}}})
    mongo["refitd.pending"].insert_one({"_id": "m"})
    mongo["refitd.versions"].insert_one({"model": "m"})
    batch = until(feed, lambda one: not one.quiet)
    assert (batch.documents, batch.versions, batch.changes) == (frozenset(), frozenset({"m"}), ())
    models.update_one({"_id": "m"}, {"$set": {"paused": True, "status": {"state": "edited beside it"}}})
    assert until(feed, lambda one: not one.quiet).documents == frozenset({"m"})
    models.update_one({"_id": "m"}, {"$set": {"paused": True, "more": 1}})
    assert until(feed, lambda one: not one.quiet).documents == frozenset({"m"})
    models.drop()
    assert until(feed, lambda one: not one.quiet).documents is None


def test_an_event_too_large_for_its_images_comes_without(feed: Feed, mongo: Db) -> None:
    feed.start(C)
    mongo.c.insert_one({"_id": 1, "a": "x" * 9_000_000})
    mongo.c.replace_one({"_id": 1}, {"a": "y" * 9_000_000})
    mongo.c.insert_one({"_id": 2})
    changes, _ = read(feed, 3)
    assert ids(changes) == [1, 1, 2]
    assert changes[1].before is None
    mongo.c.delete_one({"_id": 2})
    assert read(feed, 1)[0][0].before is not None  # images are asked for again


@pytest.mark.parametrize(
    "position",
    [
        {"token": "82" + "7FFFFFFF" + "00000001" + "2B0229296E04", "time": Timestamp(0x7FFFFFFF, 1)},
        {"token": "82" + "00000001" + "00000001" + "2B0229296E04", "time": Timestamp(1, 2)},
        {"token": "82" + "00000001" + "00000001" + "2B02", "time": Timestamp(1, 1)},
        {"token": "8200", "time": Timestamp(1, 1)},
        {"token": "nonsense", "time": Timestamp(1, 1)},
    ],
    ids=["in the future", "of another time", "cut short", "cut shorter", "nonsense"],
)
def test_a_position_that_cannot_be_proved_is_lost(feed: Feed, position: Position) -> None:
    with pytest.raises(PositionLost):
        resume_and_read(feed, position, C)


def test_a_position_that_the_oplog_has_passed_is_lost(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path, oplog_mb=2, more=("--syncdelay", "1")) as server:
        store = open_store(server.uri("test"))
        feed, _ = native_feed(store)
        position = feed.start(C)
        client = MongoClient[dict[str, Any]](server.uri("test"))
        oldest = client.local["oplog.rs"]
        first = oldest.find_one(sort=[("$natural", 1)])
        while oldest.find_one(sort=[("$natural", 1)]) == first:
            client.test.c.insert_many([{"pad": "x" * 100_000} for _ in range(50)])
        client.close()
        for followed in (C, CD):
            with pytest.raises(PositionLost):
                resume_and_read(feed, position, followed)
        feed.close()
        store.close()


def test_a_tokens_time_is_its_changes_cluster_time(feed: Feed, mongo: Db) -> None:
    feed.start(C)
    mongo.c.insert_one({"_id": 1})
    changes, position = read(feed, 1)
    assert token_time(position["token"]) == changes[0].stamp


def test_views_are_traced_to_what_they_are_made_of(feed: Feed, mongo: Db) -> None:
    mongo.create_collection("v", viewOn="c", pipeline=[{"$lookup": {"from": "d", "as": "d", "pipeline": []}}])
    mongo.create_collection("w", viewOn="v", pipeline=[{"$unionWith": {"coll": "e"}}])
    mongo.create_collection("t", timeseries={"timeField": "at"})
    mongo.create_collection("u", viewOn="t", pipeline=[])
    found = feed.origins(["c", "v", "w", "t", "u", "absent"])
    told = {name: (set(one.relations), one.itself) for name, one in found.items() if isinstance(one, Origin)}
    assert told == {
        "c": ({"c"}, "c"),
        "v": ({"c", "d"}, None),
        "w": ({"c", "d", "e"}, None),
        "absent": ({"absent"}, "absent"),
    }
    assert all("time-series" in one.reason for one in found.values() if isinstance(one, Untold))
