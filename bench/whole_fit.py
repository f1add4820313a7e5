"""A whole fit, from its claim to the published version, against the script that one would write instead."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from pymongo.database import Database
from sklearn.naive_bayes import GaussianNB

from bench.measure import Line, alternating, median, medians
from bench.rows import FIELDS, TARGET, fill
from bench.servers import mongod
from registry.mongo.store import MongoStore
from registry.mongo_selects import MongoSelects
from registry.owner import this_process
from registry.trust import Trust
from trainers.check import check_document
from trainers.executor import FitOrder
from trainers.fit import new_fit, run_fit


def run(quick: bool) -> list[Line]:
    """An estimator that is quick to fit, so that everything around it shows."""
    sizes, repeats = ((2_000, 20_000), 3) if quick else ((2_000, 200_000), 7)
    with mongod() as server:
        store = MongoStore(server.uri("bench"))
        store.prepare()
        lines = []
        for count in sizes:
            fill(store.connection.database, count, f"rows{count}")
            lines.append(_measure(store, server.uri("bench"), count, repeats))
        store.close()
    return lines


def _measure(store: MongoStore, uri: str, count: int, repeats: int) -> Line:
    raw = {
        "_id": f"fit{count}",
        "trainer": "sklearn",
        "object": {"class": "sklearn.naive_bayes.GaussianNB"},
        "training_select": {"collection": f"rows{count}"},
        "train_X": list(FIELDS),
        "train_y": TARGET,
    }
    store.documents.put(raw)
    parts: list[dict[str, float]] = []

    def ours() -> float:
        seconds, found = _ours(store, uri, raw)
        parts.append(found)
        return seconds

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "model.joblib"
        found = alternating(repeats, {"ours": ours, "floor": lambda: _script(store.connection.database, count, script)})
    floor, mine = median(found["floor"]), median(found["ours"])
    return Line(
        "whole_fit", f"{count:,} × {len(FIELDS)}", floor, mine, "≤ 1.0 ×", mine <= floor, medians(parts[1:]), found
    )


def _ours(store: MongoStore, uri: str, raw: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """In this process, so that an executor's start is not part of it."""
    document = check_document(raw, Trust(), MongoSelects())
    began = time.perf_counter()
    fit = store.fits.start(new_fit(store, document, raw, {"kind": "requested"}, this_process(), bound=True))
    claimed = time.perf_counter() - began
    version = run_fit(FitOrder(fit, uri, None, Trust()), store=store)
    took = time.perf_counter() - began
    parts = {"claim": claimed, **version.draft.parts}
    return took, {**parts, "run+publish": took - sum(parts.values())}


def _script(bench: Database[Any], count: int, path: Path) -> float:
    began = time.perf_counter()
    rows = list(bench[f"rows{count}"].find({}, {"_id": 0, **dict.fromkeys((*FIELDS, TARGET), 1)}))
    X = np.array([[row[name] for name in FIELDS] for row in rows])
    y = np.array([row[TARGET] for row in rows])
    joblib.dump(GaussianNB().fit(X, y), path)
    return time.perf_counter() - began
