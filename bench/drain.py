"""A backlog of changes through feed, matching and the registry, against reading the stream alone."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.database import Database

from bench.measure import Line, Parts, alternating, median, medians
from bench.servers import mongod
from listener.feed import Position
from listener.matching import Evaluator, WatchTable, match
from listener.mongo_feed import MongoFeed
from listener.mongo_matching import MongoEvaluator
from registry.mongo.store import MongoStore
from registry.mongo_select import parse_mongo_select
from registry.mongo_watch import watches

#: Distinct selects → how much of the bare stream's speed ours must reach.
MUST = {1: 0.6, 10: 0.6, 100: 0.25}
GROUPS = 100
_IDLE_S = 0.5


def run(quick: bool) -> list[Line]:
    """The same backlog, read again and again from the position before it."""
    changes, repeats = (10_000, 2) if quick else (50_000, 4)
    with mongod() as server:
        store = MongoStore(server.uri("bench"))
        store.prepare()
        backlog = _fill(store, changes)
        lines = [_measure(store, backlog, selects, repeats) for selects in MUST]
        store.close()
    return lines


@dataclass(frozen=True)
class Backlog:
    """Changes that were committed, and the position before them."""

    changes: int
    before: Position


def _fill(store: MongoStore, changes: int) -> Backlog:
    """Seven inserts, two updates and a delete of ten; with images."""
    bench = store.connection.database
    bench.create_collection("rows", changeStreamPreAndPostImages={"enabled": True})
    feed = MongoFeed(store.connection)
    before = feed.start(frozenset({"rows"}))
    feed.close()
    dice = random.Random(11)
    writes = [write for number in range(changes // 10) for write in _ten(dice, number * 7)]
    for first in range(0, len(writes), 5000):
        bench.rows.bulk_write(writes[first : first + 5000], ordered=True)
    return Backlog(len(writes), before)


def _ten(dice: random.Random, first: int) -> list[Any]:
    inserts = [InsertOne(_row(dice, first + number)) for number in range(7)]
    updates = [UpdateOne({"_id": first + number}, {"$set": {"f3": dice.random()}}) for number in (0, 1)]
    return [*inserts, *updates, DeleteOne({"_id": first + 2})]


def _row(dice: random.Random, number: int) -> dict[str, Any]:
    floats = {f"f{place}": dice.random() for place in range(10)}
    return {"_id": number, "group": dice.randrange(GROUPS), "y": number % 2, "text": "x" * 20, **floats}


def _measure(store: MongoStore, backlog: Backlog, selects: int, repeats: int) -> Line:
    models = [f"model{number}" for number in range(selects)]
    parts: list[Mapping[str, float]] = []

    def ours() -> float:
        once = Parts()
        seconds = _drain(store, backlog, models, once)
        parts.append(once.seconds)
        return seconds

    found = alternating(repeats, {"floor": lambda: _bare(store.connection.database, backlog), "ours": ours})
    floor, mine = median(found["floor"]), median(found["ours"])
    case = f"{backlog.changes:,} changes, {selects} select{'s' if selects > 1 else ''}"
    rate = f"{backlog.changes / mine:,.0f} changes/s, the bare stream {backlog.changes / floor:,.0f}"
    share = MUST[selects]
    return Line(
        "drain", case, floor, mine, f"≤ {1 / share:.2f} ×", floor / mine >= share, medians(parts[1:]), found, rate
    )


def _drain(store: MongoStore, backlog: Backlog, models: Sequence[str], parts: Parts) -> float:
    """As the daemon does it, but for documents and fits."""
    table, evaluator = _table(models), _Timed(MongoEvaluator(store.connection), parts)
    feed = MongoFeed(store.connection)
    row = store.feeds.acquire(feed.name, feed.kind, "bench", 3600)
    assert row is not None
    store.fits.pending(models)
    followed = frozenset({"rows"})
    began, seen = time.perf_counter(), 0
    feed.resume(backlog.before, followed, followed)
    while seen < backlog.changes:
        with parts.part("feed"):
            batch = feed.next(_IDLE_S)
        if batch is None:
            continue
        with parts.part("match"):
            pending = match(table, batch.changes, evaluator, max)
        with parts.part("record"):
            store.feeds.record(feed.name, row.epoch, batch.position or {}, pending)
        seen += len(batch.changes)
    took = time.perf_counter() - began
    feed.close()
    store.feeds.release(feed.name, row.epoch)
    parts.seconds["match"] -= parts.seconds.get("judge", 0.0)
    return took


class _Timed:
    """The evaluator, with what MongoDB's judgement took shown apart."""

    def __init__(self, inner: Evaluator, parts: Parts) -> None:
        self._inner, self._parts = inner, parts

    def evaluate(self, relation: str, predicates: Sequence[Mapping[str, Any]], rows: Sequence[bytes]) -> Any:
        with self._parts.part("judge"):
            return self._inner.evaluate(relation, predicates, rows)

    def forget(self, relations: Collection[str]) -> None:
        self._inner.forget(relations)

    def close(self) -> None:
        self._inner.close()


def _table(models: Sequence[str]) -> WatchTable:
    each = GROUPS // len(models)
    selects = (
        {"collection": "rows", "filter": {"group": {"$gte": number * each, "$lt": (number + 1) * each}}}
        for number in range(len(models))
    )
    fields = ("f1", "f2", "f3", "y")
    return WatchTable(
        {model: watches(parse_mongo_select(one), fields) for model, one in zip(models, selects, strict=True)}
    )


def _bare(bench: Database[Any], backlog: Backlog) -> float:
    """getMore after getMore, with the same images, decoded no further than the list of events."""
    raw = CodecOptions(document_class=RawBSONDocument)
    stage = {
        "fullDocument": "whenAvailable",
        "fullDocumentBeforeChange": "whenAvailable",
        "startAfter": {"_data": backlog.before["token"]},
    }
    pipeline = [{"$changeStream": stage}, {"$match": {"ns.coll": "rows"}}]
    command = {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": 0}}
    began, seen = time.perf_counter(), 0
    with bench.client.start_session() as session:
        cursor = bench.command(command, session=session)["cursor"]["id"]
        more = {"getMore": cursor, "collection": "$cmd.aggregate", "maxTimeMS": round(_IDLE_S * 1000)}
        while seen < backlog.changes:
            reply = bench.command(more, session=session, codec_options=raw)
            seen += len(reply["cursor"]["nextBatch"])
        return time.perf_counter() - began
