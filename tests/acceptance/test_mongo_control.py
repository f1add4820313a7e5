"""The document is the control surface: what only a document of MongoDB's can hold."""

from __future__ import annotations

import pytest

from tests.fixtures.datastores import MONGODB
from tests.fixtures.subject import Subject, mongo_of

pytestmark = pytest.mark.parametrize("kind", MONGODB, indirect=True)


def test_a_fit_on_request_by_what_is_not_even_equal_to_itself(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(retrain_now=float("nan"))
    subject.refitted("requested")
    subject.unmoved()


def test_a_limit_is_added_by_writing_into_the_select(subject: Subject) -> None:
    subject.fill().add()
    mongo_of(subject)["refitd.models"].update_one({"_id": subject.name}, {"$set": {"training_select.limit": 100}})
    subject.refitted("edited")
    subject.unmoved()


def test_a_fit_also_trained_on_the_key(subject: Subject) -> None:
    subject.fill().add()
    subject.edit(train_X=["id", "v", "_id"])
    subject.refitted("edited")
