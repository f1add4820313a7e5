"""What `trainers/executor.py` promises, here and on Ray: real fits of a real store."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from refitd.signals import until
from registry.document import ModelDocument
from registry.errors import WorkerLost
from registry.owner import this_process
from registry.records import Fit, FitState
from registry.store import Store
from registry.stores import open_store
from registry.trust import Trust
from tests.fixtures.stores import STORES, store_uri
from trainers.compute import open_executor
from trainers.executor import Executor, FitOrder
from trainers.fit import new_fit

TRUST = Trust.adding(["tests.fixtures"])
Ends = queue.Queue[tuple[str, str | None]]


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    compute = "local" if request.param == "local" else request.getfixturevalue("ray_address")
    opened = open_executor(compute)
    for datastore in ("mongodb://", "postgresql://"):
        opened.warm(frozenset({"sklearn"}), datastore)
    yield opened
    opened.close(0)
    opened.close(0)


@pytest.fixture(params=STORES)
def uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with 40 rows."""
    with store_uri(request) as address:
        if address.startswith("mongodb"):
            with MongoClient[dict[str, Any]](address) as client:
                rows = [{"_id": n, "x": float(n), "y": n % 2} for n in range(40)]
                client.get_default_database()["rows"].insert_many(rows)
        else:
            with psycopg.connect(address) as connection:
                connection.execute(
                    "CREATE TABLE rows AS SELECT n::float8 AS x, n % 2 AS y FROM generate_series(0, 39) AS n"
                )
        yield address


@pytest.fixture
def store(uri: str) -> Iterator[Store]:
    opened = open_store(uri)
    opened.prepare()
    yield opened
    opened.close()


def order(store: Store, uri: str, estimator: str, name: str = "m", **fields: Any) -> FitOrder:
    document = {
        "_id": name,
        "trainer": "sklearn",
        "object": {"class": estimator},
        "training_select": {"collection": "rows"} if store.kind == "mongodb" else "SELECT * FROM rows",
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


def test_a_fit_publishes(executor: Executor, store: Store, uri: str) -> None:
    one = order(store, uri, "sklearn.linear_model.LogisticRegression")
    assert run(executor, one) == (one.fit.id, None)
    fit = ended(store, one.fit)
    assert (fit.state, fit.version) == (FitState.PUBLISHED, 1)
    assert store.versions.live("m").draft.rows == 40


def test_a_failing_fit_says_so_in_the_registry(executor: Executor, store: Store, uri: str) -> None:
    one = order(store, uri, "sklearn.linear_model.LogisticRegression", train_X="absent")
    assert run(executor, one) == (one.fit.id, None)
    fit = ended(store, one.fit)
    assert fit.state is FitState.FAILED
    assert "absent" in str(fit.error)


def test_a_worker_that_dies_is_told(executor: Executor, store: Store, uri: str) -> None:
    one = order(store, uri, "tests.fixtures.estimators.DiesInFit")
    fit, error = run(executor, one)
    assert fit == one.fit.id
    assert error
    assert ended(store, one.fit).state is FitState.RUNNING  # ending it is the reconciler's


def test_a_cancelled_fit_ends(executor: Executor, store: Store, uri: str) -> None:
    one = order(store, uri, "tests.fixtures.estimators.NeverEnds")
    ends: Ends = queue.Queue()
    executor.start(one, lambda fit, error: ends.put((fit, error)))
    assert until(store, lambda: store.fits.get(one.fit.id).state is FitState.RUNNING, 60)
    executor.cancel(one.fit.id, 0.0)
    executor.cancel("unknown", 0.0)
    fit, error = ends.get(timeout=60)
    assert (fit, bool(error)) == (one.fit.id, True)


def test_what_a_fit_prints_is_its_log(executor: Executor, store: Store, uri: str) -> None:
    one = order(store, uri, "tests.fixtures.estimators.Prints")
    run(executor, one)
    lines = [line for _, _, line in store.fits.lines(one.fit.id)]
    assert "printed by the estimator" in lines
    assert any("a warning of the estimator" in line for line in lines)


def test_what_no_node_has_is_refused(ray_address: str, store: Store, uri: str) -> None:
    executor = open_executor(ray_address)
    one = order(store, uri, "sklearn.svm.SVC", resources={"num_gpus": 64})
    with pytest.raises(WorkerLost, match="num_gpus asks for 64"):
        executor.start(one, lambda fit, error: None)
    executor.close(0)
