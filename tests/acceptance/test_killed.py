"""Must show 4: whatever is killed, and whenever, the newest version covers every committed matching change."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp
from pymongo import MongoClient

from refitd.embedded import EmbeddedMongo
from tests.fixtures.daemon import DaemonProcess, Daemons
from tests.fixtures.subject import Mongo, Subject, row
from tests.fixtures.waiting import counted, status, wait_for, wait_fresh, wait_state, wait_version


@pytest.fixture
def fitted(mongo: Mongo, daemon: DaemonProcess) -> Subject:
    """A model that is fresh, with a daemon of its own."""
    subject = Subject(mongo, daemon, "m").fill()
    subject.add()
    return subject


def covered(subject: Subject, deadline_s: float = 60.0) -> None:
    """Wait until the model is fresh and its newest version remembers exactly the rows that are there now."""
    expected = subject.expected()

    def exactly() -> bool:
        said = status(subject.mongo, subject.name)
        newest = subject.newest()
        return said.get("state") == "fresh" and newest.get("draft", {}).get("rows") == len(expected)

    wait_for(subject.mongo, exactly, f"{len(expected)} rows covered", deadline_s)
    subject.number = subject.newest()["number"]
    assert subject.seen() == expected


class Writer(threading.Thread):
    """Writes rows one batch after another, as any program of the user's would."""

    def __init__(self, subject: Subject, count: int) -> None:
        super().__init__(daemon=True)
        self._subject, self._count = subject, count
        self.half_way = threading.Event()

    def run(self) -> None:
        for first in range(0, self._count, 20):
            self._subject.rows.insert_many(row(1000 + n, country="FR" if n % 3 else "DE") for n in range(first, first + 20))
            if first >= self._count // 2:
                self.half_way.set()


@pytest.mark.parametrize("compute", ["local", "ray"])
@pytest.mark.timeout(300)
def test_killed_in_the_middle_of_ten_thousand_inserts(
    mongo: Mongo, daemons: Daemons, compute: str, request: pytest.FixtureRequest
) -> None:
    where = request.getfixturevalue("ray_address") if compute == "ray" else "local"
    daemon = daemons(compute=where).start()
    subject = Subject(mongo, daemon, "m").fill()
    subject.add()
    writer = Writer(subject, 10_000)
    writer.start()
    wait_version(mongo, "m", 2)  # some hundreds are in, and the next fit is near
    daemon.kill()
    assert writer.half_way.wait(60)
    daemon.start()
    writer.join(60)
    covered(subject)
    assert len(subject.expected()) == 6 + 3334
    assert no_resync(subject)


def no_resync(subject: Subject) -> bool:
    return not any(one["resyncs"] for one in subject.mongo["refitd.feeds"].find())


CHANGES: tuple[Callable[[Subject], Any], ...] = (
    lambda it: it.rows.insert_one(row(20)),
    lambda it: it.rows.update_one({"_id": 0}, {"$inc": {"v": 1}}),
    lambda it: it.rows.update_one({"_id": 1}, {"$set": {"country": "FR"}}),
    lambda it: it.rows.delete_one({"_id": 2}),
)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_changes_made_while_it_is_down_count(fitted: Subject, how: str) -> None:
    fitted.daemon.kill() if how == "killed" else fitted.daemon.stop()
    for act in CHANGES:
        act(fitted)
    fitted.daemon.start()
    fitted.refitted(inserts=1, updates=2, deletes=1)
    assert no_resync(fitted)


def test_nothing_happened_while_it_was_down(fitted: Subject) -> None:
    fitted.daemon.restart()
    fitted.rows.insert_one(row(20, country="FR"))
    fitted.daemon.restart()
    fitted.unmoved()


def test_a_document_edited_while_it_is_down(fitted: Subject) -> None:
    fitted.daemon.kill()
    fitted.filter = {"country": "FR"}
    fitted.edit(training_select={"collection": "m", "filter": fitted.filter})
    fitted.models.insert_one({**fitted.document(), "_id": "another"})
    fitted.daemon.start()
    fitted.refitted("edited")
    wait_fresh(fitted.mongo, "another", 1)


def test_a_document_edited_there_and_back_while_it_is_down(fitted: Subject) -> None:
    fitted.edit(paused=True, train_X=["id"])
    wait_state(fitted.mongo, "m", "paused")
    fitted.rows.update_one({"_id": 0}, {"$inc": {"v": 1}})
    fitted.rows.insert_one(row(20))
    wait_state(fitted.mongo, "m", "paused", where={"pending": 1})
    fitted.daemon.kill()
    fitted.edit(paused=False, train_X=["id", "v"])
    fitted.daemon.start()
    covered(fitted)


def test_a_document_removed_while_it_is_down_and_added_while_it_is_up(fitted: Subject) -> None:
    """Its changes were nobody's in between, though its collection was followed for another model."""
    fitted.models.insert_one({**fitted.document(), "_id": "another"})
    wait_fresh(fitted.mongo, "another", 1)
    fitted.daemon.kill()
    written = fitted.models.find_one_and_delete({"_id": "m"})
    fitted.daemon.start()
    fitted.rows.insert_one(row(20))
    wait_fresh(fitted.mongo, "another", 2)
    fitted.models.insert_one(written)
    covered(fitted)


def test_killed_during_a_fit(fitted: Subject, tmp_path: Path) -> None:
    hold, fits = tmp_path / "hold", fitted.mongo["refitd.fits"]
    hold.touch()
    params = {"hold": str(hold), "entered": str(tmp_path)}
    fitted.edit(object={**fitted.document()["object"], "params": params})
    wait_for(fitted.mongo, lambda: entered(tmp_path) == 1, "the fit was entered")
    fitted.daemon.kill()
    fitted.daemon.wait_alone()  # what it had started has ended with it
    hold.unlink()
    fitted.daemon.start()
    fitted.refitted("edited")
    ended = [one["state"] for one in fits.find({"model": "m"}).sort("_id", 1)]
    assert ended == ["published", "lost", "published"]
    assert not fitted.pending()["failure"]
    assert fits.find_one({"state": "lost"})["error"] is None
    assert entered(tmp_path) == 2
    fitted.unmoved()


def entered(folder: Path) -> int:
    return sum(1 for one in folder.iterdir() if one.name != "hold")


def test_a_stop_waits_for_a_fit_that_ends_soon(fitted: Subject, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    fitted.edit(object={**fitted.document()["object"], "params": {"hold": str(hold)}})
    wait_state(fitted.mongo, "m", "fitting")
    threading.Timer(2.0, hold.unlink).start()
    seconds, code = fitted.daemon.stop()
    assert (code, seconds < 10) == (0, True)
    assert fitted.newest()["number"] == 2
    fitted.number = 2
    fitted.daemon.wait_alone()
    fitted.daemon.start()
    fitted.unmoved()


@pytest.mark.parametrize("compute", ["local", "ray"])
@pytest.mark.timeout(300)
def test_a_stop_does_not_wait_for_a_fit_that_goes_on(
    mongo: Mongo, daemons: Daemons, tmp_path: Path, compute: str, request: pytest.FixtureRequest
) -> None:
    daemon = daemons(compute=request.getfixturevalue("ray_address") if compute == "ray" else "local").start()
    subject, hold = Subject(mongo, daemon, "m").fill(), tmp_path / "hold"
    hold.touch()
    subject.models.insert_one(subject.document(hold=str(hold)))
    wait_state(mongo, "m", "fitting")
    seconds, code = daemon.stop()
    assert (code, seconds < 10) == (0, True)
    daemon.wait_alone()
    hold.unlink()
    daemon.start()
    # Nothing failed: it was stopped, and is fitted again at once, for the same reason.
    wait_version(mongo, "m", 1, deadline_s=12)
    assert {one["state"] for one in mongo["refitd.fits"].find()} <= {"lost", "published"}
    assert [one["error"] for one in mongo["refitd.fits"].find({"error": {"$ne": None}})] == []


def test_a_stop_before_it_has_begun(daemons: Daemons) -> None:
    daemon = daemons("mongodb://127.0.0.1:1/nowhere?replicaSet=rs0")
    daemon.start(following=False)
    daemon.wait_log("waiting for the datastore")
    seconds, code = daemon.stop()
    assert (code, seconds < 10) == (0, True)


def test_a_second_daemon_stands_by_and_takes_over(fitted: Subject, daemons: Daemons) -> None:
    second = daemons().start(following=False)
    second.wait_log("ready")
    fitted.unmoved()
    assert "following" not in second.log
    fitted.daemon.kill()
    fitted.rows.insert_one(row(20))
    second.wait_log("following", 20)
    fitted.refitted(inserts=1)
    fitted.daemon.start(following=False)
    fitted.daemon.wait_log("ready")
    second.stop()
    fitted.daemon.wait_log("following", 20)
    fitted.unmoved()
    epochs = [one["epoch"] for one in fitted.mongo["refitd.feeds"].find()]
    assert epochs == [3]


def test_a_daemon_that_slept_through_its_lease_does_nothing(fitted: Subject, daemons: Daemons) -> None:
    second = daemons().start(following=False)
    second.wait_log("ready")
    fitted.daemon.signal(signal.SIGSTOP)
    second.wait_log("following", 30)
    fitted.daemon.signal(signal.SIGCONT)
    fitted.daemon.wait_log("taken over", 30)
    fitted.unmoved()
    fitted.rows.delete_one({"_id": 0})
    fitted.refitted(deletes=1)
    assert [one["epoch"] for one in fitted.mongo["refitd.feeds"].find()] == [2]


POSITIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "garbage": lambda position: {**position, "token": "82rubbish"},
    "garbage in hexadecimal": lambda position: {**position, "token": "82" + "ab" * 40},
    "another server's": lambda position: {
        "token": "826400000000000001" + position["token"][18:], "time": Timestamp(0x64000000, 1)
    },
    "in the future": lambda position: {
        "token": "82f0000000" + position["token"][10:], "time": Timestamp(0xF0000000, position["time"].inc)
    },
    "an empty one": lambda position: {},
    "no position at all": lambda position: "rubbish",
}  # fmt: skip


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_position_that_is_lost_is_a_resync(fitted: Subject, kind: str) -> None:
    fitted.daemon.stop()
    fitted.rows.delete_one({"_id": 0})
    feeds = fitted.mongo["refitd.feeds"]
    feeds.update_one({}, {"$set": {"position": POSITIONS[kind](feeds.find_one()["position"])}})
    fitted.daemon.start()
    fitted.refitted("resync", resyncs=1)
    feed = feeds.find_one()
    assert feed["resyncs"] == 1
    assert feed["last_resync"]
    fitted.unmoved()


def test_another_datastore_at_the_same_address_is_a_resync(fitted: Subject) -> None:
    fitted.daemon.stop()
    fitted.mongo["refitd.feeds"].update_one({}, {"$set": {"identity": "another"}})
    fitted.daemon.start()
    fitted.refitted("resync", resyncs=1)
    assert "another" in fitted.mongo["refitd.feeds"].find_one()["last_resync"]


@pytest.mark.parametrize("down", [False, True], ids=["while it is up", "while it is down"])
def test_the_collection_is_replaced_by_out(fitted: Subject, down: bool) -> None:
    if down:
        fitted.daemon.stop()
    fitted.rows.aggregate([{"$match": {"_id": {"$lt": 3}}}, {"$set": {"v": 99}}, {"$out": "m"}])
    if down:
        fitted.daemon.start()
    version = wait_fresh(fitted.mongo, "m", 2)
    assert version["reason"]["other"] >= 1
    covered(fitted)
    fitted.unmoved()


@pytest.mark.parametrize("down", [False, True], ids=["while it is up", "while it is down"])
def test_the_collection_is_dropped_and_comes_back(fitted: Subject, down: bool) -> None:
    if down:
        fitted.daemon.stop()
    fitted.rows.drop()
    if down:
        fitted.daemon.start()
    assert "there is no collection `m`" in wait_state(fitted.mongo, "m", "failing")["error"]
    assert status(fitted.mongo, "m")["live"] == 1
    fitted.rows.insert_one(row(50))
    covered(fitted)
    fitted.unmoved()


def test_the_collection_is_renamed_away_and_back(fitted: Subject) -> None:
    fitted.rows.rename("away")
    assert "there is no collection `m`" in wait_state(fitted.mongo, "m", "failing")["error"]
    fitted.mongo["away"].delete_one({"_id": 0})
    fitted.mongo["away"].rename("m")
    covered(fitted)
    fitted.unmoved()


def test_the_database_is_dropped(fitted: Subject) -> None:
    """With it go the documents and the registry: nothing is left to do, and the daemon takes new ones."""
    fitted.mongo.client.drop_database(fitted.mongo.name)
    fitted.number = 0
    fitted.fill().add()
    fitted.unmoved()


@contextmanager
def database(folder: Path) -> Iterator[tuple[EmbeddedMongo, MongoClient[dict[str, Any]]]]:
    """A server of the test's own, to be killed."""
    with EmbeddedMongo.start(folder, oplog_mb=64) as server, MongoClient[dict[str, Any]](server.uri("shop"), tz_aware=True) as client:
        yield server, client


@pytest.mark.timeout(300)
def test_the_database_is_killed_and_comes_back(tmp_path: Path, daemons: Daemons) -> None:
    hold = tmp_path / "hold"
    with database(tmp_path / "data") as (server, client):
        daemon = daemons(server.uri("shop")).start()
        subject = Subject(client["shop"], daemon, "m").fill()
        subject.models.insert_one(subject.document(hold=str(hold)))
        subject.refitted("added")
        server.kill()
        daemon.wait_log("waiting for the datastore")
        server.restart()
        subject.rows.insert_one(row(20))
        covered(subject)
        hold.touch()
        subject.rows.insert_one(row(21))
        wait_state(client["shop"], "m", "fitting")
        server.kill()
        hold.unlink()
        server.restart()
        covered(subject)
        assert no_resync(subject)
