"""Must show 4: a history that broke off, rows that went away and a datastore that was killed lose no change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.daemon import Daemons
from tests.fixtures.places import OwnServers
from tests.fixtures.subject import Subject, row
from tests.fixtures.waiting import wait_state

POSITIONS: dict[str, Any] = {"rubbish": "rubbish", "of nothing": {}, "none": None}

while_it_is = pytest.mark.parametrize("down", [False, True], ids=["while it is up", "while it is down"])


@contextmanager
def down_or_up(subject: Subject, down: bool) -> Iterator[None]:
    """What happens within happens while the daemon is stopped, if it is `down`."""
    if down:
        subject.daemon.stop()
    yield
    if down:
        subject.daemon.start()


@pytest.mark.parametrize("kind_of_position", POSITIONS)
def test_a_position_that_says_nothing_is_a_resync(fitted: Subject, kind_of_position: str) -> None:
    fitted.daemon.stop()
    fitted.rows.delete({"id": 0})
    fitted.store.alter("feeds", {}, position=POSITIONS[kind_of_position])
    fitted.daemon.start()
    version = fitted.refitted("resync", resyncs=1)
    if kind_of_position != "none":
        assert fitted.resyncs == 1
        assert fitted.store.registry.feed()["last_resync"] in version["reason"]["why"]
    fitted.unmoved()


def test_another_datastore_at_the_same_address_is_a_resync(fitted: Subject) -> None:
    fitted.daemon.stop()
    fitted.store.alter("feeds", {}, identity="another")
    fitted.daemon.start()
    fitted.refitted("resync", resyncs=1)
    assert "another" in fitted.store.registry.feed()["last_resync"]


@while_it_is
def test_the_rows_are_dropped_and_come_back(fitted: Subject, down: bool) -> None:
    with down_or_up(fitted, down):
        fitted.rows.drop()
    assert fitted.store.no_table(fitted.name) in wait_state(fitted.store, fitted.name, "failing")["error"]
    assert fitted.status["live"] == 1
    fitted.rows.make()
    fitted.rows.insert(row(50))
    fitted.covers()
    fitted.unmoved()


@while_it_is
def test_the_rows_are_renamed_away_and_back(fitted: Subject, down: bool) -> None:
    away = f"{fitted.name}_away"
    with down_or_up(fitted, down):
        fitted.rows.rename(away)
    assert fitted.store.no_table(fitted.name) in wait_state(fitted.store, fitted.name, "failing")["error"]
    with down_or_up(fitted, down):
        fitted.store.table(away).delete({"id": 0})
        fitted.store.table(away).rename(fitted.name)
    fitted.rows = fitted.store.table(fitted.name)
    fitted.covers()
    fitted.unmoved()


@pytest.mark.timeout(300)
def test_the_database_is_killed_and_comes_back(tmp_path: Path, own_server: OwnServers, daemons: Daemons) -> None:
    hold, own = tmp_path / "hold", own_server()
    daemon = daemons(own.store.uri).start()
    subject = Subject(own.store, daemon, "m").fill()
    subject.insert(hold=str(hold))
    subject.refitted("added")
    own.server.kill()
    daemon.wait_log("waiting for the datastore")
    own.server.restart()
    subject.rows.insert(row(20))
    subject.covers()
    hold.touch()
    subject.rows.insert(row(21))
    wait_state(own.store, "m", "fitting")
    own.server.kill()
    hold.unlink()
    own.server.restart()
    subject.covers()
    assert subject.resyncs == 0
