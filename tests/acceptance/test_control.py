"""The document is the control surface: what is written into it decides when a model is fitted, and what is live."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.fixtures.subject import Subject, row
from tests.fixtures.waiting import wait_for, wait_fresh, wait_state, wait_version


def test_changes_wait_until_there_are_enough(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "0s", "min_changes": 3})
    subject.rows.insert(row(20), row(21))
    assert "1 more until `retrain.min_changes`" in subject.waits(pending=2)["reason"]
    subject.rows.delete({"id": 0})
    subject.refitted(inserts=2, deletes=1)


def test_changes_wait_until_it_is_quiet(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "1h", "max_wait": "2h"})
    for number in range(20, 25):
        subject.rows.insert(row(number))
    said = subject.waits(pending=5)
    assert said["due_at"] - said["pending_since"] >= timedelta(hours=1)
    subject.edit(**{"retrain.quiet": "0s"})
    subject.refitted(inserts=5)


def test_but_not_longer_than_max_wait(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "1h", "max_wait": "0s"})
    subject.unmoved()


def test_fits_keep_their_distance(subject: Subject) -> None:
    published = subject.fill().add(retrain={"quiet": "0s", "cooldown": "1h"})
    subject.rows.insert(row(20))
    assert subject.waits(pending=1)["due_at"] > published["created"] + timedelta(minutes=59)
    subject.edit(**{"retrain.cooldown": "0s"})
    subject.refitted(inserts=1)


def test_a_paused_model_keeps_its_changes(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(paused=True)
    wait_state(subject.store, subject.name, "paused")
    subject.rows.insert(row(20))
    subject.waits(pending=1)
    subject.edit(paused=False)
    subject.refitted(inserts=1)


def test_a_pinned_version_stays_live(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(live=1)
    subject.unmoved()
    assert subject.status["live"] == 1
    assert subject.seen() != subject.live_seen()
    subject.edit(live="latest")
    wait_state(subject.store, subject.name, "fresh", where={"live": 2})
    assert subject.seen() == subject.live_seen()


def test_a_pin_to_no_version_is_told(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(live=7)
    said = wait_for(subject.store, lambda: subject.status.get("error"), "the pin is told")
    assert "version 7" in said
    subject.edit(live="latest")
    wait_state(subject.store, subject.name, "fresh", where={"live": 1, "error": None})


def test_a_fit_on_request(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(retrain_now="please")
    subject.refitted("requested")
    subject.edit(retrain_now="please")
    subject.unmoved()
    subject.edit(retrain_now={"by": "me", "at": [1, 2.5, None]})
    subject.refitted("requested")
    subject.unmoved()


def test_a_schedule_instead_of_changes(subject: Subject) -> None:
    subject.fill().add(retrain={"on_change": False, "schedule": "0 3 1 1 *"})
    subject.rows.insert(row(20))
    assert "on_change" in subject.waits(pending=1)["reason"] or subject.status["due_at"]
    due = subject.pending()["due_at"]
    assert (due.month, due.day, due.hour) == (1, 1, 3)
    subject.store.alter("pending", {"model": subject.name}, due_at=due - timedelta(days=800))
    subject.edit(**{"retrain.quiet": "0s"})  # has it looked at
    subject.refitted("schedule", inserts=1)
    assert subject.pending()["due_at"] == due


def test_a_worse_version_is_not_promoted(subject: Subject) -> None:
    subject.rows.make(columns="id bigint PRIMARY KEY, x integer, y integer")
    subject.rows.insert(*({"id": n, "x": n % 2, "y": n % 2} for n in range(60)))
    subject.choose(fields=("x", "y"))
    gate = {"metric": "accuracy", "min": 0.9, "max_drop": 0.05}
    subject.add(
        object={"class": "sklearn.tree.DecisionTreeClassifier"}, train_X="x", train_y="y",
        validation={"split": 0.5, "promote": gate},
    )  # fmt: skip
    assert subject.status["live"] == 1
    subject.rows.set({}, x=0)  # tells nothing any more
    subject.number += 1
    second = wait_fresh(subject.store, subject.name, subject.number)
    assert not second["draft"]["promoted"]
    assert "below min 0.9" in second["draft"]["gate"]
    assert subject.status["live"] == 1
    subject.edit(**{"validation.promote": "always"})
    subject.refitted("edited")
    assert subject.status["live"] == 3


def test_an_edited_document_is_fitted_again(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(training_select=subject.choose(country="FR"))
    subject.refitted("edited")
    subject.rows.insert(row(20))  # no longer matches
    subject.rows.insert(row(21, country="FR"))
    subject.refitted(inserts=1)


def test_a_document_edited_there_and_back(subject: Subject) -> None:
    subject.fill(images=True).add()
    subject.edit(train_X=["id"], paused=True)
    wait_state(subject.store, subject.name, "paused")
    subject.rows.add({"id": 0}, v=1)  # nobody watches `v` now
    subject.rows.insert(row(20))
    wait_state(subject.store, subject.name, "paused", where={"pending": 1})
    subject.edit(train_X=["id", "v"], paused=False)
    subject.number += 1
    wait_fresh(subject.store, subject.name, subject.number)
    assert subject.seen() == subject.expected()


def test_a_document_written_anew_keeps_its_status(subject: Subject) -> None:
    subject.fill().add()
    written = subject.written()
    del written["status"]
    subject.store.documents.replace(written)
    wait_state(subject.store, subject.name, "fresh", where={"live": 1})
    subject.store.documents.replace({**written, "train_X": ["v", "id"]})
    subject.number += 1
    wait_fresh(subject.store, subject.name, subject.number)


def test_an_edit_that_writes_the_old_status_back(subject: Subject) -> None:
    """What a form does that reads the document, changes a field and sets them all."""
    subject.fill().add()
    whole = subject.written()
    whole["status"]["state"] = "waiting"
    whole["training_select"] = subject.choose(country="FR")
    subject.store.documents.set(subject.name, **whole)
    subject.refitted("edited")


def test_a_removed_document_is_not_fitted_and_comes_back(subject: Subject) -> None:
    subject.fill().add()
    written = subject.written()
    subject.store.documents.remove(subject.name)
    wait_for(subject.store, lambda: not subject.pending(), "its pending row is gone")
    subject.rows.insert(row(20))
    subject.store.documents.insert(written)  # with the status that it had
    subject.refitted("added")
    subject.unmoved()


def test_removed_and_added_again_in_one_breath(subject: Subject) -> None:
    subject.fill().add()
    written = subject.written()
    subject.store.documents.remove(subject.name)
    subject.rows.insert(row(20))
    subject.select = subject.store.select(subject.name, 100, country="DE")
    subject.store.documents.insert({**written, "training_select": subject.select})
    subject.number += 1
    wait_fresh(subject.store, subject.name, subject.number)
    assert subject.seen() == subject.expected()


def test_an_edit_during_the_fit_makes_another(subject: Subject, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    subject.fill()
    subject.insert(hold=str(hold))
    wait_for(subject.store, lambda: (subject.fit().get("progress") or {}).get("stage") == "fit", "the rows were read")
    before = subject.select
    subject.edit(training_select=subject.choose(country="FR"))
    hold.unlink()
    assert wait_version(subject.store, subject.name, 1)["document"]["training_select"] == before
    subject.number = 1
    subject.refitted("edited")


def test_removed_during_the_fit_it_is_not_published(subject: Subject, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    subject.fill()
    subject.insert(hold=str(hold))
    wait_for(subject.store, lambda: subject.fit().get("state") == "running", "it is fitted")
    subject.store.documents.remove(subject.name)
    wait_for(subject.store, lambda: subject.fit()["state"] == "cancelled", "it is cancelled")
    hold.unlink()
    subject.add()
    assert subject.newest()["number"] == 1


def test_a_reload_by_signal_changes_nothing(subject: Subject) -> None:
    subject.fill().add()
    subject.daemon.reload()
    subject.unmoved()
