"""Must show 3: a document by a plain driver is fitted, and again when its rows change; nothing else makes it fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.daemon import Daemons
from tests.fixtures.datastores import Datastore
from tests.fixtures.subject import Act, Subject, row
from tests.fixtures.waiting import counted, wait_for, wait_fresh, wait_state, wait_version

#: What is done to the nine rows of `Subject.fill`, and what the next version counts. Each touches a row of its own.
MATTERS: dict[str, tuple[Act, dict[str, int]]] = {
    "a matching insert": (lambda it: it.rows.insert(row(20)), {"inserts": 1}),
    "a trained field updated": (lambda it: it.rows.add({"id": 0}, v=5), {"updates": 1}),
    "a trained field removed": (lambda it: it.rows.unset({"id": 1}, "v"), {"updates": 1}),
    "a row moved out": (lambda it: it.rows.set({"id": 2}, country="FR"), {"updates": 1}),
    "a row replaced": (lambda it: it.rows.replace({"id": 3}, v=-1), {"updates": 1}),
    "a row moved out by replacing": (lambda it: it.rows.replace({"id": 4}, country="FR"), {"updates": 1}),
    "a row deleted": (lambda it: it.rows.delete({"id": 5}), {"deletes": 1}),
    "a row moved in": (lambda it: it.rows.set({"id": 6}, country="DE"), {"updates": 1}),
    "a row moved in by replacing": (lambda it: it.rows.replace({"id": 7}, country="DE"), {"updates": 1}),
    "many rows": (lambda it: it.rows.set({"country": "DE"}, v=77), {"updates": 6}),
}

MATTERS_NOT: dict[str, Act] = {
    "an insert that doesn't match": lambda it: it.rows.insert(row(30, country="FR")),
    "another field of the document": lambda it: it.edit(**{"retrain.max_wait": "20s"}),
}

#: Told from changes that matter by images, or where an update names the fields that it changed.
UNUSED: dict[str, Act] = {
    "an unused field updated": lambda it: it.rows.set({"id": 0}, note="new"),
    "an unused field removed": lambda it: it.rows.unset({"id": 0}, "note"),
    "an update that changes nothing": lambda it: it.rows.set({"id": 0}, country="DE"),
}

#: Without images these can't be told from changes that matter, and cost a fit.
ONLY_WITH_IMAGES: dict[str, Act] = {
    "an unused field replaced": lambda it: it.rows.replace({"id": 0}, note="newer"),
    "a row updated that doesn't match": lambda it: it.rows.add({"id": 8}, v=1),
    "a row replaced that doesn't match": lambda it: it.rows.replace({"id": 8}, v=-2),
    "a row deleted that doesn't match": lambda it: it.rows.delete({"id": 8}),
}


@pytest.mark.parametrize("images", [False, True], ids=["without images", "with images"])
def test_what_matters_makes_a_version_and_nothing_else_does(subject: Subject, images: bool) -> None:
    first = subject.fill(images=images).add()
    assert (first["draft"]["rows"], subject.status["live"]) == (6, 1)
    for act, counts in MATTERS.values():
        act(subject)
        subject.refitted(**counts)
    elsewhere = subject.store.table(f"{subject.name}_elsewhere")
    elsewhere.make()
    elsewhere.insert(row(1))
    unused = UNUSED if images or subject.store.names_changed else {}
    for act in {**MATTERS_NOT, **unused, **(ONLY_WITH_IMAGES if images else {})}.values():
        act(subject)
    subject.unmoved()


def test_what_can_not_be_known_counts(subject: Subject) -> None:
    subject.fill().add()
    unused = {} if subject.store.names_changed else UNUSED
    for name, act in {**unused, **ONLY_WITH_IMAGES}.items():
        act(subject)
        subject.refitted(**{"deletes" if "deleted" in name else "updates": 1})


def test_a_change_during_the_fit_makes_another(subject: Subject, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    subject.fill()
    subject.insert(hold=str(hold))
    subject.refitted("added")
    hold.touch()
    subject.rows.insert(row(20))
    wait_state(subject.store, subject.name, "fitting")
    wait_for(subject.store, lambda: subject.fit()["progress"].get("stage") == "fit", "the rows were read")
    subject.rows.insert(row(21))
    wait_for(subject.store, lambda: subject.pending()["seen"]["inserts"] == 2, "the second is pending")
    hold.unlink()
    wait_version(subject.store, subject.name, 2)
    assert len(subject.seen(2)) == 7
    subject.number = 2
    subject.refitted(inserts=1)


def test_several_models_on_the_same_rows(subject: Subject) -> None:
    other = f"{subject.name}_other"
    subject.fill().add()
    select = subject.store.select(subject.name, country="FR")
    subject.store.documents.insert({**subject.document(), "_id": other, "training_select": select})
    wait_fresh(subject.store, other, 1)
    subject.rows.insert(row(20, country="FR"))
    assert counted(wait_fresh(subject.store, other, 2)) == {"inserts": 1}
    subject.unmoved()


def test_rows_that_come_later(subject: Subject) -> None:
    subject.insert()
    assert subject.store.no_table(subject.name) in wait_state(subject.store, subject.name, "failing")["error"]
    subject.fill()
    wait_fresh(subject.store, subject.name, 1)
    assert subject.status["error"] is None


@pytest.mark.timeout(300)
def test_the_first_path_on_ray(datastore: Datastore, daemons: Daemons, ray_address: str) -> None:
    daemon = daemons(compute=ray_address).start()
    subject = Subject(datastore, daemon, "on_ray")
    subject.fill(images=not datastore.names_changed).add()
    subject.rows.insert(row(20, country="FR"))
    subject.rows.set({"id": 0}, note="new")
    subject.unmoved()
    subject.rows.set({"id": 0}, country="FR")
    subject.refitted(updates=1)
    subject.rows.delete({"id": 1})
    subject.refitted(deletes=1)
    seconds, code = daemon.stop()
    assert code == 0
    assert seconds < 10
