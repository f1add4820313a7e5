"""Must show 3: a document by plain pymongo is fitted, and again when its rows change; nothing else makes it fit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.daemon import Daemons
from tests.fixtures.subject import Act, Mongo, Subject, row
from tests.fixtures.waiting import counted, wait_for, wait_fresh, wait_state, wait_version


def replace(subject: Subject, number: int, **fields: Any) -> None:
    """Replace a whole row by itself with some fields changed."""
    before = subject.rows.find_one({"_id": number}) or {}
    subject.rows.replace_one({"_id": number}, {**before, **fields})


#: What is done to the nine rows of `Subject.fill`, and what the next version counts. Each touches a row of its own.
MATTERS: dict[str, tuple[Act, dict[str, int]]] = {
    "a matching insert": (lambda it: it.rows.insert_one(row(20)), {"inserts": 1}),
    "a trained field updated": (lambda it: it.rows.update_one({"_id": 0}, {"$inc": {"v": 5}}), {"updates": 1}),
    "a trained field removed": (lambda it: it.rows.update_one({"_id": 1}, {"$unset": {"v": 1}}), {"updates": 1}),
    "a row moved out": (lambda it: it.rows.update_one({"_id": 2}, {"$set": {"country": "FR"}}), {"updates": 1}),
    "a row replaced": (lambda it: replace(it, 3, v=-1), {"updates": 1}),
    "a row moved out by replacing": (lambda it: replace(it, 4, country="FR"), {"updates": 1}),
    "a row deleted": (lambda it: it.rows.delete_one({"_id": 5}), {"deletes": 1}),
    "a row moved in": (lambda it: it.rows.update_one({"_id": 6}, {"$set": {"country": "DE"}}), {"updates": 1}),
    "a row moved in by replacing": (lambda it: replace(it, 7, country="DE"), {"updates": 1}),
    "many rows": (lambda it: it.rows.update_many({"country": "DE"}, {"$inc": {"v": 1}}), {"updates": 6}),
}

MATTERS_NOT: dict[str, Act] = {
    "an insert that doesn't match": lambda it: it.rows.insert_one(row(30, country="FR")),
    "an unused field updated": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"note": "new"}}),
    "an unused field added": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"more.of": {"it": 1}}}),
    "an unused field removed": lambda it: it.rows.update_one({"_id": 0}, {"$unset": {"note": 1}}),
    "an update that changes nothing": lambda it: it.rows.update_one({"_id": 0}, {"$set": {"country": "DE"}}),
    "a row of another collection": lambda it: it.mongo["elsewhere"].insert_one({"country": "DE"}),
    "another field of the document": lambda it: it.edit(**{"retrain.max_wait": "20s"}),
}

#: Without images these can't be told from changes that matter, and cost a fit.
ONLY_WITH_IMAGES: dict[str, Act] = {
    "an unused field replaced": lambda it: replace(it, 0, note="newer"),
    "a row updated that doesn't match": lambda it: it.rows.update_one({"_id": 8}, {"$inc": {"v": 1}}),
    "a row replaced that doesn't match": lambda it: replace(it, 8, v=-2),
    "a row deleted that doesn't match": lambda it: it.rows.delete_one({"_id": 8}),
}


@pytest.mark.parametrize("images", [False, True], ids=["without images", "with images"])
def test_what_matters_makes_a_version_and_nothing_else_does(subject: Subject, images: bool) -> None:
    first = subject.fill(images=images).add()
    assert (first["draft"]["rows"], subject.status["live"]) == (6, 1)
    for act, counts in MATTERS.values():
        act(subject)
        subject.refitted(**counts)
    for act in {**MATTERS_NOT, **(ONLY_WITH_IMAGES if images else {})}.values():
        act(subject)
    subject.unmoved()


def test_what_can_not_be_known_counts(subject: Subject) -> None:
    subject.fill().add()
    for act in ONLY_WITH_IMAGES.values():
        act(subject)
        kind = "deletes" if act is ONLY_WITH_IMAGES["a row deleted that doesn't match"] else "updates"
        subject.refitted(**{kind: 1})


def test_changes_wait_until_there_are_enough(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "0s", "min_changes": 3})
    subject.rows.insert_many([row(20), row(21)])
    assert "1 more until `retrain.min_changes`" in subject.waits(pending=2)["reason"]
    subject.rows.delete_one({"_id": 0})
    subject.refitted(inserts=2, deletes=1)


def test_changes_wait_until_it_is_quiet(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "1h", "max_wait": "2h"})
    for number in range(20, 25):
        subject.rows.insert_one(row(number))
    said = subject.waits(pending=5)
    assert said["due_at"] - said["pending_since"] >= timedelta(hours=1)
    subject.edit(**{"retrain.quiet": "0s"})
    subject.refitted(inserts=5)


def test_but_not_longer_than_max_wait(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "1h", "max_wait": "0s"})
    subject.unmoved()


def test_fits_keep_their_distance(subject: Subject) -> None:
    published = subject.fill().add(retrain={"quiet": "0s", "cooldown": "1h"})
    subject.rows.insert_one(row(20))
    assert subject.waits(pending=1)["due_at"] > published["created"] + timedelta(minutes=59)
    subject.edit(**{"retrain.cooldown": "0s"})
    subject.refitted(inserts=1)


def test_a_paused_model_keeps_its_changes(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(paused=True)
    wait_state(subject.mongo, subject.name, "paused")
    subject.rows.insert_one(row(20))
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
    wait_state(subject.mongo, subject.name, "fresh", where={"live": 2})
    assert subject.seen() == subject.live_seen()


def test_a_pin_to_no_version_is_told(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(live=7)
    said = wait_for(subject.mongo, lambda: subject.status.get("error"), "the pin is told")
    assert "version 7" in said
    subject.edit(live="latest")
    wait_state(subject.mongo, subject.name, "fresh", where={"live": 1, "error": None})


def test_a_fit_on_request(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(retrain_now="please")
    subject.refitted("requested")
    subject.edit(retrain_now="please")
    subject.unmoved()
    subject.edit(retrain_now={"by": "me", "at": [1, 2.5, None]})
    subject.refitted("requested")
    subject.edit(retrain_now=float("nan"))  # which is not even equal to itself
    subject.refitted("requested")
    subject.unmoved()


def test_a_schedule_instead_of_changes(subject: Subject) -> None:
    subject.fill().add(retrain={"on_change": False, "schedule": "0 3 1 1 *"})
    subject.rows.insert_one(row(20))
    assert "on_change" in subject.waits(pending=1)["reason"] or subject.status["due_at"]
    pending = subject.mongo["refitd.pending"]
    due = pending.find_one({"_id": subject.name})["due_at"]
    assert (due.month, due.day, due.hour) == (1, 1, 3)
    pending.update_one({"_id": subject.name}, {"$set": {"due_at": due - timedelta(days=800)}})
    subject.edit(**{"retrain.quiet": "0s"})  # has it looked at
    subject.refitted("schedule", inserts=1)
    assert pending.find_one({"_id": subject.name})["due_at"] == due


def test_a_worse_version_is_not_promoted(subject: Subject) -> None:
    subject.rows.insert_many({"x": n % 2, "y": n % 2} for n in range(60))
    subject.filter = {}
    gate = {"metric": "accuracy", "min": 0.9, "max_drop": 0.05}
    subject.add(
        object={"class": "sklearn.tree.DecisionTreeClassifier"}, train_X="x", train_y="y",
        validation={"split": 0.5, "promote": gate},
    )  # fmt: skip
    assert subject.status["live"] == 1
    subject.rows.update_many({}, [{"$set": {"y": {"$round": {"$rand": {}}}}}])
    subject.number += 1
    second = wait_fresh(subject.mongo, subject.name, subject.number)
    assert not second["draft"]["promoted"]
    assert "below min 0.9" in second["draft"]["gate"]
    assert subject.status["live"] == 1
    subject.edit(**{"validation.promote": "always"})
    subject.refitted("edited")
    assert subject.status["live"] == 3


def test_an_edited_document_is_fitted_again(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(training_select={"collection": subject.name, "filter": {"country": "FR"}})
    subject.filter = {"country": "FR"}
    subject.refitted("edited")
    subject.rows.insert_one(row(20))  # no longer matches
    subject.rows.insert_one(row(21, country="FR"))
    subject.refitted(inserts=1)


def test_a_document_edited_there_and_back(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(train_X=["id"], paused=True)
    wait_state(subject.mongo, subject.name, "paused")
    subject.rows.update_one({"_id": 0}, {"$inc": {"v": 1}})  # nobody watches `v` now
    subject.rows.insert_one(row(20))
    wait_state(subject.mongo, subject.name, "paused", where={"pending": 1})
    subject.edit(train_X=["id", "v"], paused=False)
    subject.number += 1
    wait_fresh(subject.mongo, subject.name, subject.number)
    assert subject.seen() == subject.expected()


def test_a_document_written_anew_keeps_its_status(subject: Subject) -> None:
    subject.fill().add()
    written = subject.models.find_one({"_id": subject.name}, {"status": 0})
    subject.models.replace_one({"_id": subject.name}, written)
    wait_state(subject.mongo, subject.name, "fresh", where={"live": 1})
    subject.models.replace_one({"_id": subject.name}, {**written, "train_X": ["id", "v", "_id"]})
    subject.number += 1
    wait_fresh(subject.mongo, subject.name, subject.number)


def test_an_edit_that_writes_the_old_status_back(subject: Subject) -> None:
    """What a form does that reads the document, changes a field and sets them all."""
    subject.fill().add()
    whole = subject.models.find_one({"_id": subject.name})
    whole["status"]["state"] = "waiting"
    whole["training_select"]["filter"] = subject.filter = {"country": "FR"}
    subject.models.update_one({"_id": subject.name}, {"$set": whole})
    subject.refitted("edited")


def test_a_removed_document_is_not_fitted_and_comes_back(subject: Subject) -> None:
    subject.fill().add()
    written = subject.models.find_one_and_delete({"_id": subject.name})
    pending = subject.mongo["refitd.pending"]
    wait_for(subject.mongo, lambda: not pending.find_one({"_id": subject.name}), "its pending row is gone")
    subject.rows.insert_one(row(20))
    subject.models.insert_one(written)  # with the status that it had
    subject.refitted("added")
    subject.unmoved()


def test_removed_and_added_again_in_one_breath(subject: Subject) -> None:
    subject.fill().add()
    written = subject.models.find_one_and_delete({"_id": subject.name})
    subject.rows.insert_one(row(20))
    subject.models.insert_one({**written, "training_select": {**written["training_select"], "limit": 100}})
    subject.number += 1
    wait_fresh(subject.mongo, subject.name, subject.number)
    assert subject.seen() == subject.expected()


def test_a_pipeline_reacts_to_the_collection_it_joins(subject: Subject) -> None:
    scores = subject.mongo[f"{subject.name}.scores"]  # a name with a dot
    subject.fill()
    scores.insert_many({"_id": n, "score": n * 0.5} for n in range(6))
    subject.add(
        training_select={
            "collection": subject.name,
            "pipeline": [
                {"$match": {"country": "DE"}},
                {"$lookup": {"from": scores.name, "localField": "id", "foreignField": "_id", "as": "scores"}},
                {"$set": {"v": {"$first": "$scores.score"}}},
                {"$project": {"id": 1, "v": 1}},
            ],
        }
    )
    assert subject.seen() == [(n, n * 0.5) for n in range(6)]
    scores.update_one({"_id": 3}, {"$set": {"score": 9}})
    subject.refitted(updates=1)
    assert subject.seen()[3] == (3, 9)
    subject.rows.update_one({"_id": 0}, {"$set": {"note": "unused"}})
    subject.rows.insert_one(row(6.5, country="FR"))
    subject.unmoved()


def test_fields_within_fields(subject: Subject) -> None:
    subject.rows.insert_many({"in": {"a": n, "b": n}, "vec": [n, n + 1]} for n in range(4))
    subject.filter = {}
    subject.add(object={"class": "sklearn.cluster.KMeans", "params": {"n_clusters": 2}}, train_X=["in.a", "vec"])
    one = {"in.a": 2}
    subject.rows.update_one(one, {"$set": {"in.b": 7}})
    subject.rows.update_one(one, {"$inc": {"in.a": 1}})
    subject.refitted(updates=1)
    subject.rows.update_one({"in.a": 0}, {"$set": {"vec.1": 5}})
    subject.refitted(updates=1)
    subject.rows.update_one({"in.a": 0}, {"$set": {"in": {"a": 1}}})
    subject.refitted(updates=1)


def test_text_compares_as_in_its_collection(subject: Subject) -> None:
    subject.mongo.create_collection(subject.name, collation={"locale": "en", "strength": 2})
    subject.filter = {"country": "de"}
    assert subject.fill().add()["draft"]["rows"] == 6
    subject.unmoved()


def test_a_transaction_is_one_piece(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "100ms"})
    with subject.mongo.client.start_session() as session:
        session.start_transaction()
        subject.rows.insert_one(row(20), session=session)
        session.abort_transaction()
        with session.start_transaction():
            subject.rows.insert_one(row(21), session=session)
            subject.rows.delete_one({"_id": 0}, session=session)
    subject.refitted(inserts=1, deletes=1)


def test_a_change_during_the_fit_makes_another(subject: Subject, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    subject.fill()
    subject.models.insert_one(subject.document(hold=str(hold)))
    subject.refitted("added")
    hold.touch()
    subject.rows.insert_one(row(20))
    wait_state(subject.mongo, subject.name, "fitting")
    wait_for(subject.mongo, lambda: subject.fit()["progress"].get("stage") == "fit", "the rows were read")
    subject.rows.insert_one(row(21))
    wait_for(subject.mongo, lambda: subject.pending()["seen"]["inserts"] == 2, "the second is pending")
    hold.unlink()
    wait_version(subject.mongo, subject.name, 2)
    assert len(subject.seen(2)) == 7
    subject.number = 2
    subject.refitted(inserts=1)


def test_several_models_on_one_collection(subject: Subject) -> None:
    other = Subject(subject.mongo, subject.daemon, f"{subject.name}_other")
    subject.fill().add()
    select = {"collection": subject.name, "filter": {"country": "FR"}}
    subject.models.insert_one({**subject.document(), "_id": other.name, "training_select": select})
    wait_fresh(subject.mongo, other.name, 1)
    subject.rows.insert_one(row(20, country="FR"))
    assert counted(wait_fresh(subject.mongo, other.name, 2)) == {"inserts": 1}
    subject.unmoved()
    subject.models.delete_one({"_id": other.name})


def test_a_collection_that_comes_later(subject: Subject) -> None:
    subject.models.insert_one(subject.document())
    assert f"no collection `{subject.name}`" in wait_state(subject.mongo, subject.name, "failing")["error"]
    subject.fill()
    wait_fresh(subject.mongo, subject.name, 1)
    assert subject.status["error"] is None


def test_a_select_on_a_view_does_not_lose_changes_in_silence(subject: Subject) -> None:
    """Change streams tell nothing of views: so either their rows' changes count or the document is told."""
    subject.fill()
    view = f"{subject.name}_view"
    subject.mongo.command("create", view, viewOn=subject.name, pipeline=[{"$match": {"country": "DE"}}])
    subject.models.insert_one(subject.document(training_select={"collection": view}))
    said = wait_state(subject.mongo, subject.name, "invalid", "failing", "fresh")
    if said["state"] == "fresh":
        subject.number = 1
        subject.rows.insert_one(row(20))
        subject.number += 1
        wait_fresh(subject.mongo, subject.name, 2, deadline_s=15)
    else:
        assert "view" in said["error"]
        assert subject.name in said["error"]


def test_a_reload_by_signal_changes_nothing(subject: Subject) -> None:
    subject.fill().add()
    subject.daemon.reload()
    subject.unmoved()


@pytest.mark.timeout(300)
def test_the_first_path_on_ray(mongo: Mongo, daemons: Daemons, ray_address: str) -> None:
    daemon = daemons(compute=ray_address).start()
    subject = Subject(mongo, daemon, "on_ray")
    subject.fill().add()
    subject.rows.insert_one(row(20, country="FR"))
    subject.rows.update_one({"_id": 0}, {"$set": {"note": "new"}})
    subject.unmoved()
    subject.rows.update_one({"_id": 0}, {"$set": {"country": "FR"}})
    subject.refitted(updates=1)
    subject.rows.delete_one({"_id": 1})
    subject.refitted(deletes=1)
    seconds, code = daemon.stop()
    assert code == 0
    assert seconds < 10
