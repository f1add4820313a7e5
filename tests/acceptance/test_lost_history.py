"""Must show 4: a history that broke off, rows that were replaced and a datastore that went away lose no change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp

from tests.fixtures.daemon import Daemons
from tests.fixtures.subject import Subject, own_database, row
from tests.fixtures.waiting import there, wait_fresh, wait_state

POSITIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "garbage": lambda position: {**position, "token": "82 is no token of any server's"},
    "damaged": lambda position: {**position, "token": position["token"][:18] + "00" * 20},
    "in the future": lambda position: {
        "token": "82f0000000" + position["token"][10:], "time": Timestamp(0xF0000000, position["time"].inc)
    },
    "no position": lambda position: "rubbish",
    "none": lambda position: None,
}  # fmt: skip


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_position_that_is_lost_is_a_resync(fitted: Subject, kind: str) -> None:
    fitted.daemon.stop()
    fitted.rows.delete_one({"_id": 0})
    feeds = fitted.mongo["refitd.feeds"]
    feeds.update_one({}, {"$set": {"position": POSITIONS[kind](there(feeds.find_one())["position"])}})
    fitted.daemon.start()
    version = fitted.refitted("resync", resyncs=1)
    if kind != "none":
        assert fitted.resyncs == 1
        assert there(feeds.find_one())["last_resync"] in version["reason"]["why"]
    fitted.unmoved()


def test_another_datastore_at_the_same_address_is_a_resync(fitted: Subject) -> None:
    fitted.daemon.stop()
    fitted.mongo["refitd.feeds"].update_one({}, {"$set": {"identity": "another"}})
    fitted.daemon.start()
    fitted.refitted("resync", resyncs=1)
    assert "another" in there(fitted.mongo["refitd.feeds"].find_one())["last_resync"]


@pytest.mark.parametrize("down", [False, True], ids=["while it is up", "while it is down"])
def test_the_collection_is_replaced_by_out(fitted: Subject, down: bool) -> None:
    if down:
        fitted.daemon.stop()
    fitted.rows.aggregate([{"$match": {"_id": {"$lt": 3}}}, {"$set": {"v": 99}}, {"$out": fitted.name}])
    if down:
        fitted.daemon.start()
    version = wait_fresh(fitted.mongo, fitted.name, 2)
    assert version["reason"]["other"] >= 1
    fitted.covers()
    fitted.unmoved()


@pytest.mark.parametrize("down", [False, True], ids=["while it is up", "while it is down"])
def test_the_collection_is_dropped_and_comes_back(fitted: Subject, down: bool) -> None:
    if down:
        fitted.daemon.stop()
    fitted.rows.drop()
    if down:
        fitted.daemon.start()
    assert f"there is no collection `{fitted.name}`" in wait_state(fitted.mongo, fitted.name, "failing")["error"]
    assert fitted.status["live"] == 1
    fitted.rows.insert_one(row(50))
    fitted.covers()
    fitted.unmoved()


def test_the_collection_is_renamed_away_and_back(fitted: Subject) -> None:
    fitted.rows.rename("away")
    assert f"there is no collection `{fitted.name}`" in wait_state(fitted.mongo, fitted.name, "failing")["error"]
    fitted.mongo["away"].delete_one({"_id": 0})
    fitted.mongo["away"].rename(fitted.name)
    fitted.covers()
    fitted.unmoved()


def test_the_database_is_dropped(fitted: Subject) -> None:
    """With it go the documents and the registry: nothing is left to do, and the daemon takes new ones."""
    fitted.mongo.client.drop_database(fitted.mongo.name)
    fitted.number = 0
    fitted.fill().add()
    fitted.unmoved()


@pytest.mark.timeout(300)
def test_the_database_is_killed_and_comes_back(tmp_path: Path, daemons: Daemons) -> None:
    hold = tmp_path / "hold"
    with own_database(tmp_path / "data") as (server, client):
        daemon = daemons(server.uri("shop")).start()
        subject = Subject(client["shop"], daemon, "m").fill()
        subject.models.insert_one(subject.document(hold=str(hold)))
        subject.refitted("added")
        server.kill()
        daemon.wait_log("waiting for the datastore")
        server.restart()
        subject.rows.insert_one(row(20))
        subject.covers()
        hold.touch()
        subject.rows.insert_one(row(21))
        wait_state(client["shop"], "m", "fitting")
        server.kill()
        hold.unlink()
        server.restart()
        subject.covers()
        assert subject.resyncs == 0
