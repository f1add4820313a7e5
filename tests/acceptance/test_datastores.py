"""The tests' own tools: what they do to rows and documents does the same on every kind of datastore."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from tests.fixtures.daemon import document
from tests.fixtures.datastores import Datastore, Table
from tests.fixtures.subject import row
from tests.fixtures.waiting import wait_for


@pytest.fixture
def rows(datastore: Datastore) -> Table:
    table = datastore.table("Rows of ours")
    table.make(images=True)
    table.insert(*map(row, range(4)), row(4, country="FR"))
    return table


@pytest.fixture
def prepared(datastore: Datastore) -> Datastore:
    datastore.registry.store.prepare()
    return datastore


def test_rows_are_written_and_found(datastore: Datastore, rows: Table) -> None:
    select = datastore.select(rows.name, country="DE")
    assert datastore.read(select) == [(0, 0), (1, 10), (2, 20), (3, 30)]
    rows.add({"id": 0}, v=5)
    rows.unset({"id": 1}, "v")
    rows.set({"id": 2}, country="FR")
    rows.replace({"id": 4}, country="DE", v=-1)
    rows.delete({"id": 3})
    rows.insert({"id": 9, "country": "DE"}, row(10))
    assert datastore.read(select) == [(0, 5), (1, None), (4, -1), (9, None), (10, 100)]
    assert datastore.read(datastore.select(rows.name, 2, country="DE")) == [(0, 5), (1, None)]
    assert len(datastore.read(datastore.select(rows.name))) == 6
    rows.set({}, v=1)
    assert {v for _, v in datastore.read(select)} == {1}


def test_rows_go_away_and_come_back(datastore: Datastore, rows: Table) -> None:
    name = rows.name
    rows.rename("away")
    datastore.table("away").rename(name)
    assert len(datastore.read(datastore.select(name))) == 5
    datastore.table(name).drop()
    rows = datastore.table(name)
    rows.make()
    rows.insert(row(1))
    assert datastore.read(datastore.select(name)) == [(1, 10)]


def test_documents_are_written_and_found(prepared: Datastore) -> None:
    documents = prepared.documents
    one, other = document("one", training_select=prepared.select("rows")), document("another", live=3)
    documents.insert({**one, "status": {"state": "fresh"}}, other)
    documents.set("one", paused=True, **{"retrain.quiet": "1h", "status": {"state": "waiting"}})
    documents.unset("another", "live")
    found = documents.get("one")
    assert found == {**one, "paused": True, "retrain": {"quiet": "1h"}, "status": {"state": "waiting"}}
    assert prepared.registry.status("one") == {"state": "waiting"}
    assert "live" not in documents.get("another")
    documents.replace(one)
    assert documents.get("one") == one
    documents.remove("one")
    documents.remove_all("ano")
    assert prepared.registry.store.documents.all() == []


def test_the_registry_is_read_and_altered(prepared: Datastore) -> None:
    registry = prepared.registry
    assert (registry.pending("m"), registry.fits(), registry.versions("m"), registry.version("m", 1)) == (
        {},
        [],
        [],
        {},
    )
    registry.store.fits.pending(["m"])
    registry.store.feeds.acquire("feed", "test", "elsewhere/b/n/1/1", 5)
    prepared.alter("feeds", {}, identity="another", position={"lsn": "0/1"})
    prepared.alter("pending", {"model": "m"}, blind=True)
    assert (registry.feed()["identity"], registry.feed()["position"]) == ("another", {"lsn": "0/1"})
    assert registry.pending("m")["blind"]
    assert "another" in registry.standing()


def is_told(store: Datastore, number: int) -> bool:
    return store.registry.status("m").get("pending") == number


def test_a_change_of_the_registry_is_heard(prepared: Datastore) -> None:
    """Far sooner than it is looked at again unasked: each of many comes in its turn."""
    prepared.documents.insert(document("m"))
    store = prepared.registry.store

    def count(upto: int) -> None:
        for number in range(1, upto + 1):
            heard.acquire()
            store.documents.set_status("m", {"state": "waiting", "pending": number})

    heard = threading.Semaphore()
    thread = threading.Thread(target=count, args=(20,))
    thread.start()
    for number in range(1, 21):
        told = partial(is_told, prepared, number)
        wait_for(prepared, told, f"{number} is told", 20)
        heard.release()
    thread.join()


def test_what_does_not_come_is_told_with_how_everything_stands(prepared: Datastore) -> None:
    prepared.documents.insert(document("m"))
    with pytest.raises(AssertionError, match=r"(?s)not within 0 s: the impossible.*models: .*'m'"):
        wait_for(prepared, lambda: None, "the impossible", 0)
