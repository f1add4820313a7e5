"""From a matching row's commit to the trainer's `fit` on a warm Ray worker, against what that can't be done without."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from bench.measure import Line, median, medians, percentile
from bench.servers import daemon, mongod, ray_head
from bench.stopwatch import now

MODEL = "stopwatch"
#: Acknowledged when it is committed. (With less, a change is delivered when the journal is written next: 100 ms.)
_COMMITTED = WriteConcern("majority", j=True)
_LIMIT_S = 60.0
_P99_S = 0.1
_FACTOR = 2.0


def run(quick: bool) -> list[Line]:
    """One change at a time, each measured; between them the floor's three parts."""
    changes = 30 if quick else 200
    with tempfile.TemporaryDirectory() as folder, mongod() as server, ray_head() as address:
        uri, log = server.uri("bench"), Path(folder) / "daemon.log"
        environment = {
            "REFITD_DATASTORE": uri,
            "REFITD_COMPUTE": address,
            "REFITD_TRUST__MODULES": "bench.stopwatch",
        }
        with MongoClient[dict[str, Any]](uri, tz_aware=True) as client, daemon(environment, log):
            bench = client.get_default_database()
            subject = _Subject(bench, Path(folder) / "entered")
            floor = _Floor(bench)
            try:
                return _measure(subject, floor, changes)
            except TimeoutError as error:
                raise RuntimeError(f"{error}; the daemon said: {log.read_text()[-2000:]}") from error


def _measure(subject: _Subject, floor: _Floor, changes: int) -> list[Line]:
    ours, parts, floors = [], [], []
    for number in range(changes + 5):
        took, where = subject.once()
        bare = floor.once()
        if number >= 5:  # the first ones warm everything up
            ours.append(took)
            parts.append(where)
            floors.append(bare)
    totals = [sum(one.values()) for one in floors]
    samples = {"ours": ours, "floor": totals}
    middle, least = median(ours), median(totals)
    must = f"≤ {_FACTOR:g} ×"
    p50 = Line("reaction", "p50", least, middle, must, middle <= _FACTOR * least, medians(parts), samples)
    high, note = percentile(ours, 0.99), f"floor's parts in ms: {_milliseconds(medians(floors))}"
    return [
        p50,
        Line("reaction", "p99", percentile(totals, 0.99), high, f"≤ {_P99_S * 1000:g} ms", high <= _P99_S, note=note),
    ]


def _milliseconds(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in parts.items())


class _Subject:
    """The model that the daemon refits, and the rows that make it."""

    def __init__(self, bench: Database[dict[str, Any]], entered: Path) -> None:
        self._bench, self._entered, self._seen = bench, entered, 0
        self._rows = bench.get_collection("rows", write_concern=_COMMITTED)
        self._rows.insert_many([{"x": n, "y": n % 2, "kind": "a"} for n in range(10)])
        entered.touch()
        self._bench["refitd.models"].insert_one(
            {
                "_id": MODEL,
                "trainer": "sklearn",
                "object": {"class": "bench.stopwatch.Stopwatch", "params": {"path": str(entered)}},
                "training_select": {"collection": "rows", "filter": {"kind": "a"}},
                "train_X": ["x", "y"],
                "retrain": {"quiet": 0},
            }
        )
        self._settled()

    def once(self) -> tuple[float, dict[str, float]]:
        """Insert one row; seconds until `fit` was entered, and where they went."""
        self._rows.insert_one({"x": 1, "y": 1, "kind": "a"})
        committed = now()
        entered = self._settled()
        fit = self._bench["refitd.fits"].find_one({"model": MODEL}, sort=[("_id", -1)]) or {}
        recorded = (self._bench["refitd.pending"].find_one({"_id": MODEL}) or {})["last"].timestamp()
        version = self._bench["refitd.versions"].find_one({"fit": fit["_id"]}) or {}
        created, started = fit["created"].timestamp(), fit["started"].timestamp()
        load = version["draft"]["parts"]["load"]
        return entered - committed, {
            "feed+match": recorded - committed,
            "record+decide": created - recorded,
            "claim+dispatch": started - created,
            "load": load,
            "other": entered - started - load,
        }

    def _settled(self) -> float:
        """When the newest fit was entered, once its version is there and nothing is under way."""
        self._seen += 1
        _wait(lambda: len(self._entered.read_text().splitlines()) >= self._seen, "the fit was entered")
        _wait(lambda: self._pending().get("fit") is None and bool(self._pending().get("published")), "a version")
        _wait(lambda: self._status().get("state") == "fresh", "it is fresh")
        times = self._entered.read_text().splitlines()
        self._seen = len(times)
        return float(times[-1])

    def _pending(self) -> Mapping[str, Any]:
        return self._bench["refitd.pending"].find_one({"_id": MODEL}) or {}

    def _status(self) -> Mapping[str, Any]:
        return (self._bench["refitd.models"].find_one({"_id": MODEL}) or {}).get("status") or {}


def _wait(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_LIMIT_S:g} s until {what}")
        time.sleep(0.01)


class _Floor:
    """Delivery of a change by a bare stream; one transaction; the start of a bare task."""

    def __init__(self, bench: Database[dict[str, Any]]) -> None:
        import ray

        self._ray: Any = ray
        self._task = ray.remote(max_retries=0)(_entered)
        self._bench = bench
        self._rows = bench.get_collection("floor", write_concern=_COMMITTED)
        self._rows.insert_one({"n": 0})
        self._ledger = bench["floor.ledger"]
        self._ledger.insert_many([{"_id": "feed", "epoch": 1, "n": 0}, {"_id": "model", "seen": 0}])

    def once(self) -> dict[str, float]:
        return {"delivery": self._delivery(), "transaction": self._transaction(), "task": self._start()}

    def _delivery(self) -> float:
        with self._bench.client.start_session() as session:
            stream: dict[str, Any] = {"$changeStream": {}}
            command = {"aggregate": "floor", "pipeline": [stream], "cursor": {"batchSize": 0}}
            cursor = self._bench.command(command, session=session)["cursor"]["id"]
            more = {"getMore": cursor, "collection": "floor", "maxTimeMS": 5000}
            raw = CodecOptions(document_class=RawBSONDocument)
            arrived: list[float] = []

            def listen() -> None:
                while not arrived:
                    reply = self._bench.command(more, session=session, codec_options=raw)
                    if reply["cursor"]["nextBatch"]:
                        arrived.append(now())

            listener = threading.Thread(target=listen)
            listener.start()
            time.sleep(0.02)  # it waits in the server by now
            self._rows.insert_one({"n": 1})
            committed = now()
            listener.join()
        return arrived[0] - committed

    def _transaction(self) -> float:
        began = time.perf_counter()
        with self._bench.client.start_session() as session:
            session.with_transaction(self._write, read_concern=ReadConcern("snapshot"), write_concern=_COMMITTED)
        return time.perf_counter() - began

    def _write(self, session: Any) -> None:
        self._ledger.update_one({"_id": "feed", "epoch": 1}, {"$inc": {"n": 1}}, session=session)
        self._ledger.update_one({"_id": "model"}, {"$inc": {"seen": 1}}, session=session)

    def _start(self) -> float:
        began = now()
        entered: float = self._ray.get(self._task.remote())
        return entered - began


def _entered() -> float:
    return now()
