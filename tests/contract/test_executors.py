"""What `trainers/executor.py` promises, here and on Ray: real fits of a real store."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database

from registry.document import ModelDocument
from registry.errors import WorkerLost
from registry.owner import this_process
from registry.records import Fit, FitState
from registry.store import Store
from registry.stores import open_store
from registry.trust import Trust
from trainers.compute import open_executor
from trainers.executor import Executor, FitOrder
from trainers.fit import new_fit

TRUST = Trust.adding(["tests.fixtures"])
Ends = queue.Queue[tuple[str, str | None]]


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    compute = "local" if request.param == "local" else request.getfixturevalue("ray_address")
    opened = open_executor(compute)
    opened.warm(frozenset({"sklearn"}))
    yield opened
    opened.close(0)
    opened.close(0)


@pytest.fixture
def store(mongo_uri: str, mongo: Database[dict[str, Any]]) -> Iterator[Store]:
    opened = open_store(mongo_uri)
    opened.prepare()
    mongo.rows.insert_many([{"_id": n, "x": float(n), "y": n % 2} for n in range(40)])
    yield opened
    opened.close()


def order(store: Store, uri: str, estimator: str, name: str = "m", **fields: Any) -> FitOrder:
    document = {
        "_id": name,
        "trainer": "sklearn",
        "object": {"class": estimator},
        "training_select": {"collection": "rows"},
        "train_X": "x",
        "train_y": "y",
        **fields,
    }
    store.documents.put(document)
    parsed = ModelDocument.parse(document)
    fit = store.fits.start(new_fit(store, parsed, document, {"kind": "added"}, this_process(), bound=True))
    return FitOrder(fit, uri, None, TRUST)


def run(executor: Executor, one: FitOrder) -> tuple[str, str | None]:
    ends: Ends = queue.Queue()
    executor.start(one, lambda fit, error: ends.put((fit, error)))
    assert one.fit.id in executor.running() or not ends.empty()
    ended = ends.get(timeout=90)
    assert one.fit.id not in executor.running()
    return ended


def ended(store: Store, fit: Fit) -> Fit:
    return store.fits.get(fit.id)


def test_a_fit_publishes(executor: Executor, store: Store, mongo_uri: str) -> None:
    one = order(store, mongo_uri, "sklearn.linear_model.LogisticRegression")
    assert run(executor, one) == (one.fit.id, None)
    fit = ended(store, one.fit)
    assert (fit.state, fit.version) == (FitState.PUBLISHED, 1)
    assert store.versions.live("m").draft.rows == 40


def test_a_failing_fit_says_so_in_the_registry(executor: Executor, store: Store, mongo_uri: str) -> None:
    one = order(store, mongo_uri, "sklearn.linear_model.LogisticRegression", train_X="absent")
    assert run(executor, one) == (one.fit.id, None)
    fit = ended(store, one.fit)
    assert fit.state is FitState.FAILED
    assert "absent" in str(fit.error)


def test_a_worker_that_dies_is_told(executor: Executor, store: Store, mongo_uri: str) -> None:
    one = order(store, mongo_uri, "tests.fixtures.estimators.DiesInFit")
    fit, error = run(executor, one)
    assert fit == one.fit.id
    assert error
    assert ended(store, one.fit).state is FitState.RUNNING  # ending it is the reconciler's


def test_a_cancelled_fit_ends(executor: Executor, store: Store, mongo_uri: str) -> None:
    one = order(store, mongo_uri, "tests.fixtures.estimators.NeverEnds")
    ends: Ends = queue.Queue()
    executor.start(one, lambda fit, error: ends.put((fit, error)))
    with store_watch(store) as started:
        started(one.fit)
    executor.cancel(one.fit.id, 0.0)
    executor.cancel("unknown", 0.0)
    fit, error = ends.get(timeout=60)
    assert (fit, bool(error)) == (one.fit.id, True)


def test_what_a_fit_prints_is_its_log(executor: Executor, store: Store, mongo_uri: str) -> None:
    one = order(store, mongo_uri, "tests.fixtures.estimators.Prints")
    run(executor, one)
    lines = [line for _, _, line in store.fits.lines(one.fit.id)]
    assert "printed by the estimator" in lines
    assert any("a warning of the estimator" in line for line in lines)


def test_what_no_node_has_is_refused(ray_address: str, store: Store, mongo_uri: str) -> None:
    executor = open_executor(ray_address)
    one = order(store, mongo_uri, "sklearn.svm.SVC", resources={"num_gpus": 64})
    with pytest.raises(WorkerLost, match="num_gpus asks for 64"):
        executor.start(one, lambda fit, error: None)
    executor.close(0)


class store_watch:  # noqa: N801 (a context manager that reads like a function)
    """Waits for a fit to run, by a change stream."""

    def __init__(self, store: Store) -> None:
        self._store: Any = store

    def __enter__(self) -> Any:
        self._stream = self._store.connection.collection("fits").watch(max_await_time_ms=500)
        return self._started

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _started(self, fit: Fit) -> None:
        while self._store.fits.get(fit.id).state is not FitState.RUNNING:
            self._stream.try_next()
