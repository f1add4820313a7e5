"""Must show 3, where MongoDB has ways of its own: pipelines, fields within fields, collations, transactions, views."""

from __future__ import annotations

import pytest

from tests.fixtures.datastores import MONGODB
from tests.fixtures.subject import Subject, mongo_of, row
from tests.fixtures.waiting import wait_fresh, wait_state

pytestmark = pytest.mark.parametrize("kind", MONGODB, indirect=True)


def test_an_unused_field_within_a_field_is_added(subject: Subject) -> None:
    subject.fill().add()
    mongo_of(subject)[subject.name].update_one({"_id": 0}, {"$set": {"more.of": {"it": 1}}})
    subject.unmoved()


def test_a_pipeline_reacts_to_the_collection_it_joins(subject: Subject) -> None:
    scores = mongo_of(subject)[f"{subject.name}.scores"]  # a name with a dot
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
    subject.rows.set({"id": 0}, note="unused")
    mongo_of(subject)[subject.name].insert_one({**row(6, country="FR"), "_id": 6.5, "id": 6.5})
    subject.unmoved()


def test_fields_within_fields(subject: Subject) -> None:
    rows = mongo_of(subject)[subject.name]
    rows.insert_many({"in": {"a": n, "b": n}, "vec": [n, n + 1]} for n in range(4))
    subject.choose()
    subject.add(object={"class": "sklearn.cluster.KMeans", "params": {"n_clusters": 2}}, train_X=["in.a", "vec"])
    one = {"in.a": 2}
    rows.update_one(one, {"$set": {"in.b": 7}})
    rows.update_one(one, {"$inc": {"in.a": 1}})
    subject.refitted(updates=1)
    rows.update_one({"in.a": 0}, {"$set": {"vec.1": 5}})
    subject.refitted(updates=1)
    rows.update_one({"in.a": 0}, {"$set": {"in": {"a": 1}}})
    subject.refitted(updates=1)


def test_text_compares_as_in_its_collection(subject: Subject) -> None:
    mongo_of(subject).create_collection(subject.name, collation={"locale": "en", "strength": 2})
    subject.choose(country="de")
    assert subject.fill().add()["draft"]["rows"] == 6
    subject.unmoved()


def test_a_transaction_is_one_piece(subject: Subject) -> None:
    subject.fill().add(retrain={"quiet": "100ms"})
    rows = mongo_of(subject)[subject.name]
    with mongo_of(subject).client.start_session() as session:
        session.start_transaction()
        rows.insert_one({**row(20), "_id": 20}, session=session)
        session.abort_transaction()
        with session.start_transaction():
            rows.insert_one({**row(21), "_id": 21}, session=session)
            rows.delete_one({"_id": 0}, session=session)
    subject.refitted(inserts=1, deletes=1)


def test_a_select_on_a_view_does_not_lose_changes_in_silence(subject: Subject) -> None:
    """Change streams tell nothing of views: so either their rows' changes count or the document is told."""
    subject.fill()
    view = f"{subject.name}_view"
    mongo_of(subject).command("create", view, viewOn=subject.name, pipeline=[{"$match": {"country": "DE"}}])
    subject.insert(training_select={"collection": view})
    said = wait_state(subject.store, subject.name, "invalid", "failing", "fresh")
    if said["state"] == "fresh":
        subject.number = 1
        subject.rows.insert(row(20))
        subject.number += 1
        wait_fresh(subject.store, subject.name, 2, deadline_s=15)
    else:
        assert "view" in said["error"]
        assert subject.name in said["error"]
