"""Training rows to X and y, against the raw bytes of a cursor and against pymongoarrow."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
from pymongo.database import Database

from bench.measure import Line, Parts, alternating, median, medians
from bench.rows import FIELDS, TARGET, fill
from bench.servers import mongod
from registry.mongo.store import MongoStore
from trainers.arrays import make_X, make_y
from trainers.mongo_rows import MongoReader

_FACTOR = 1.15
_SELECT = {"collection": "rows", "filter": {}}


def run(quick: bool) -> list[Line]:
    """All three read all rows, taking turns."""
    count, repeats = (20_000, 3) if quick else (200_000, 7)
    parts: list[dict[str, float]] = []
    with mongod() as server:
        store = MongoStore(server.uri("bench"))
        bench = store.connection.database
        fill(bench, count, "rows")

        def ours() -> float:
            once = Parts()
            seconds = _ours(bench, once)
            parts.append(once.seconds)
            return seconds

        works = {"raw bytes": lambda: _raw(bench), "pymongoarrow": lambda: _arrow(bench), "ours": ours}
        found = alternating(repeats, works)
        store.close()
    mine = median(found["ours"])
    case, shown = f"{count:,} × {len(FIELDS)}", medians(parts[1:])
    lines = []
    for name in ("pymongoarrow", "raw bytes"):
        floor = median(found[name])
        met = mine <= _FACTOR * floor
        lines.append(Line("reading", f"{case}, against {name}", floor, mine, f"≤ {_FACTOR} ×", met, shown, found))
    return lines


def _ours(bench: Database[Any], parts: Parts) -> float:
    began = time.perf_counter()
    with parts.part("rows"), MongoReader(bench).cut(None) as cut:
        table = pa.Table.from_batches(list(cut.rows(_SELECT, (*FIELDS, TARGET))))
    with parts.part("arrays"):
        make_X(table, FIELDS), make_y(table, (TARGET,))
    return time.perf_counter() - began


def _raw(bench: Database[Any]) -> float:
    began = time.perf_counter()
    size = sum(len(batch) for batch in bench.rows.find_raw_batches({}, _projection()))
    assert size
    return time.perf_counter() - began


def _arrow(bench: Database[Any]) -> float:
    from pymongoarrow.api import Schema, find_numpy_all

    began = time.perf_counter()
    schema = Schema({**dict.fromkeys(FIELDS, float), TARGET: int})
    columns = find_numpy_all(bench.rows, {}, schema=schema)
    X = np.column_stack([columns[name] for name in FIELDS])
    assert len(X) == len(columns[TARGET])
    return time.perf_counter() - began


def _projection() -> dict[str, int]:
    return {"_id": 1} | dict.fromkeys((*FIELDS, TARGET), 1)
