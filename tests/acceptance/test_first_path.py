"""Must show 3: a document by plain pymongo is fitted, and again when its rows change; nothing else makes it fit."""

from __future__ import annotations

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
