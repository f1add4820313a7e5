"""Must show 4: whatever is killed, and whenever, the newest version covers every committed matching change."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.daemon import Daemons, document
from tests.fixtures.datastores import Datastore
from tests.fixtures.places import OwnServers
from tests.fixtures.servers import ROOT
from tests.fixtures.subject import Subject, row
from tests.fixtures.waiting import wait_for, wait_fresh, wait_state, wait_version


class Writer(threading.Thread):
    """Writes rows one batch after another, as any program of the user's would."""

    def __init__(self, subject: Subject, count: int) -> None:
        super().__init__(daemon=True)
        self._subject, self._count = subject, count
        self.begun, self.half_way = threading.Event(), threading.Event()

    def run(self) -> None:
        for first in range(0, self._count, 20):
            self._subject.rows.insert(
                *(row(1000 + n, country="FR" if n % 3 else "DE") for n in range(first, first + 20))
            )
            if first >= 500:
                self.begun.set()
            if first >= self._count // 2:
                self.half_way.set()


@pytest.mark.parametrize("compute", ["local", "ray"])
@pytest.mark.timeout(300)
def test_killed_in_the_middle_of_ten_thousand_inserts(
    datastore: Datastore, daemons: Daemons, compute: str, request: pytest.FixtureRequest
) -> None:
    where = request.getfixturevalue("ray_address") if compute == "ray" else "local"
    daemon = daemons(compute=where).start()
    subject = Subject(datastore, daemon, "m").fill()
    subject.add()
    writer = Writer(subject, 10_000)
    writer.start()
    assert writer.begun.wait(60)  # some hundreds are in
    daemon.kill()
    assert writer.is_alive()
    assert writer.half_way.wait(60)
    daemon.start()
    writer.join(60)
    subject.covers()
    assert len(subject.expected()) == 6 + 3334
    assert subject.resyncs == 0


CHANGES: tuple[Callable[[Subject], Any], ...] = (
    lambda it: it.rows.insert(row(20)),
    lambda it: it.rows.add({"id": 0}, v=1),
    lambda it: it.rows.set({"id": 1}, country="FR"),
    lambda it: it.rows.delete({"id": 2}),
)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_changes_made_while_it_is_down_count(fitted: Subject, how: str) -> None:
    fitted.edit(**{"retrain.quiet": "2s"})  # all are told before the first of them leads to a fit
    fitted.daemon.kill() if how == "killed" else fitted.daemon.stop()
    for act in CHANGES:
        act(fitted)
    fitted.daemon.start()
    fitted.refitted(inserts=1, updates=2, deletes=1)
    assert fitted.resyncs == 0


def test_nothing_happened_while_it_was_down(fitted: Subject) -> None:
    fitted.daemon.restart()
    fitted.rows.insert(row(20, country="FR"))
    fitted.daemon.restart()
    fitted.unmoved()


def test_a_document_edited_while_it_is_down(fitted: Subject) -> None:
    fitted.daemon.kill()
    fitted.edit(training_select=fitted.choose(country="FR"))
    fitted.store.documents.insert({**fitted.document(), "_id": f"{fitted.name}_another"})
    fitted.daemon.start()
    fitted.refitted("edited")
    wait_fresh(fitted.store, f"{fitted.name}_another", 1)


def test_a_document_edited_there_and_back_while_it_is_down(fitted: Subject) -> None:
    fitted.edit(paused=True, train_X=["id"])
    wait_state(fitted.store, fitted.name, "paused")
    fitted.rows.add({"id": 0}, v=1)  # nobody watches `v` now, which counts where an update doesn't tell
    fitted.rows.insert(row(20))
    pending = 1 if fitted.store.names_changed else 2
    wait_state(fitted.store, fitted.name, "paused", where={"pending": pending})
    fitted.daemon.kill()
    fitted.edit(paused=False, train_X=["id", "v"])
    fitted.daemon.start()
    fitted.covers()


def test_a_document_removed_while_it_is_down_and_added_while_it_is_up(fitted: Subject) -> None:
    """Its changes were nobody's in between, though its collection was followed for another model."""
    fitted.store.documents.insert({**fitted.document(), "_id": f"{fitted.name}_another"})
    wait_fresh(fitted.store, f"{fitted.name}_another", 1)
    fitted.daemon.kill()
    written = fitted.written()
    fitted.store.documents.remove(fitted.name)
    fitted.daemon.start()
    fitted.rows.insert(row(20))
    wait_fresh(fitted.store, f"{fitted.name}_another", 2)
    fitted.store.documents.insert(written)
    fitted.covers()


@pytest.mark.parametrize("compute", ["local", "ray"])
@pytest.mark.timeout(300)
def test_killed_during_a_fit(
    datastore: Datastore, daemons: Daemons, tmp_path: Path, compute: str, request: pytest.FixtureRequest
) -> None:
    daemon = daemons(compute=request.getfixturevalue("ray_address") if compute == "ray" else "local").start()
    subject, hold = Subject(datastore, daemon, "m").fill(), tmp_path / "hold"
    hold.touch()
    params = {"hold": str(hold), "entered": str(tmp_path)}
    subject.insert(object={**document("m")["object"], "params": params})
    wait_for(datastore, lambda: entered(tmp_path) == 1, "the fit was entered")
    daemon.kill()
    daemon.wait_alone()  # what it had started ends with it
    daemon.start()
    wait_for(datastore, lambda: entered(tmp_path) == 2, "it was entered again")
    hold.unlink()
    subject.refitted("added")
    fits = datastore.registry.fits()
    assert [(one["state"], one["error"]) for one in reversed(fits)] == [("lost", None), ("published", None)]
    assert entered(tmp_path) == 2
    subject.unmoved()


def entered(folder: Path) -> int:
    return sum(1 for one in folder.iterdir() if one.name != "hold")


def test_a_stop_waits_for_a_fit_that_ends_soon(fitted: Subject, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    fitted.edit(object={**fitted.document()["object"], "params": {"hold": str(hold)}})
    wait_state(fitted.store, fitted.name, "fitting")
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
    datastore: Datastore, daemons: Daemons, tmp_path: Path, compute: str, request: pytest.FixtureRequest
) -> None:
    daemon = daemons(compute=request.getfixturevalue("ray_address") if compute == "ray" else "local").start()
    subject, hold = Subject(datastore, daemon, "m").fill(), tmp_path / "hold"
    hold.touch()
    subject.insert(hold=str(hold))
    wait_state(datastore, "m", "fitting")
    seconds, code = daemon.stop()
    assert (code, seconds < 10) == (0, True)
    daemon.wait_alone()
    hold.unlink()
    daemon.start()
    # Nothing failed: it was stopped, and is fitted again at once, for the same reason.
    wait_version(datastore, "m", 1)
    fits = datastore.registry.fits()
    assert {one["state"] for one in fits} <= {"lost", "published"}
    assert {one["error"] for one in fits} == {None}


def test_a_stop_before_it_has_begun(daemons: Daemons, nowhere: str) -> None:
    daemon = daemons(nowhere)
    daemon.start(following=False)
    daemon.wait_log("waiting for the datastore")
    seconds, code = daemon.stop()
    assert (code, seconds < 10) == (0, True)


def test_a_stop_while_the_database_is_away(tmp_path: Path, own_server: OwnServers, daemons: Daemons) -> None:
    hold, own = tmp_path / "hold", own_server()
    hold.touch()
    subject = Subject(own.store, daemons(own.store.uri).start(), "m").fill()
    subject.insert(hold=str(hold))
    wait_state(own.store, "m", "fitting")
    own.server.kill()
    subject.daemon.wait_log("waiting for the datastore")
    seconds, code = subject.daemon.stop()
    assert (code, seconds < 10) == (0, True)


def test_a_schedule_that_came_due_while_it_was_down(fitted: Subject) -> None:
    fitted.edit(retrain={"on_change": False, "schedule": "0 3 1 1 *"})
    due = wait_for(fitted.store, lambda: fitted.pending().get("due_at"), "its due time is known")
    fitted.daemon.stop()
    fitted.store.alter("pending", {"model": fitted.name}, due_at=due - timedelta(days=800))
    fitted.rows.insert(row(20))
    fitted.daemon.start()
    assert wait_fresh(fitted.store, fitted.name, 2)["reason"]["kind"] == "schedule"
    fitted.covers()
    assert fitted.pending()["due_at"] == due


def epoch_of(subject: Subject) -> int:
    """How often the feed was taken over."""
    return int(subject.store.registry.feed()["epoch"])


def test_a_second_daemon_stands_by_and_takes_over(fitted: Subject, daemons: Daemons) -> None:
    second, epoch = daemons(fitted.daemon.uri).start(following=False), epoch_of(fitted)
    second.wait_log("ready")
    fitted.unmoved()
    assert "following" not in second.log
    fitted.daemon.kill()
    fitted.rows.insert(row(20))
    second.wait_log("following", 20)
    fitted.refitted(inserts=1)
    fitted.daemon.start(following=False)
    fitted.daemon.wait_log("ready")
    second.stop()
    fitted.daemon.wait_log("following", 20)
    fitted.unmoved()
    assert epoch_of(fitted) == epoch + 2


def test_a_daemon_that_slept_through_its_lease_does_nothing(fitted: Subject, daemons: Daemons) -> None:
    second, epoch = daemons(fitted.daemon.uri).start(following=False), epoch_of(fitted)
    second.wait_log("ready")
    fitted.daemon.send(signal.SIGSTOP)
    second.wait_log("following", 30)
    fitted.daemon.send(signal.SIGCONT)
    fitted.daemon.wait_log("taken over", 30)
    fitted.unmoved()
    fitted.rows.delete({"id": 0})
    fitted.refitted(deletes=1)
    assert epoch_of(fitted) == epoch + 1
    second.stop()
    fitted.daemon.wait_log("following", 20, times=2)


def test_what_a_killed_process_had_open_holds_nobody_up(fitted: Subject) -> None:
    """A MongoDB server keeps a transaction, and its locks, for a minute after its process is gone."""
    fitted.daemon.kill()
    held = subprocess.Popen(
        [sys.executable, "-c", fitted.store.holds_the_feed, fitted.daemon.uri],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    held.kill()
    held.wait()
    fitted.rows.insert(row(20))
    fitted.daemon.start(following=False)
    fitted.daemon.wait_log("following", 20)
    fitted.refitted(inserts=1)
