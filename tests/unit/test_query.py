"""Selects and models in Python become what a document spells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from refitd import merging
from refitd.faces import Estimator, Model
from refitd.model import name_of
from refitd.query import Collection, to_select
from registry.errors import DocumentInvalid, NameClash, RefitdError, Untrusted
from registry.mongo_select import parse_mongo_select
from registry.mongo_selects import MongoSelects
from registry.trust import Trust
from trainers.check import check_document

CUSTOMERS = Collection("customers")


@pytest.mark.parametrize(
    ("query", "select"),
    [
        (CUSTOMERS, {"collection": "customers"}),
        (CUSTOMERS.find(), {"collection": "customers"}),
        (CUSTOMERS.find({"country": "DE"}), {"collection": "customers", "filter": {"country": "DE"}}),
        (CUSTOMERS.find({}, ["age"]), {"collection": "customers", "projection": {"age": 1}}),
        (CUSTOMERS.find({}, {"_id": 0}), {"collection": "customers", "projection": {"_id": 0}}),
        (
            CUSTOMERS.find({"a": 1}).sort("at", -1).skip(5).limit(10),
            {"collection": "customers", "filter": {"a": 1}, "sort": [["at", -1]], "skip": 5, "limit": 10},
        ),
        (
            CUSTOMERS.find({"a": 1}, sort=[("at", -1), ("b", 1)], limit=10),
            {"collection": "customers", "filter": {"a": 1}, "sort": [["at", -1], ["b", 1]], "limit": 10},
        ),
        (CUSTOMERS.find(sort={"at": 1}), {"collection": "customers", "sort": [["at", 1]]}),
        (CUSTOMERS.find(sort="at"), {"collection": "customers", "sort": [["at", 1]]}),
        (
            CUSTOMERS.aggregate([{"$match": {"a": 1}}, {"$limit": 3}]),
            {"collection": "customers", "pipeline": [{"$match": {"a": 1}}, {"$limit": 3}]},
        ),
        ({"collection": "customers", "filter": {}}, {"collection": "customers", "filter": {}}),
    ],
)
def test_a_query_is_a_select(query: Any, select: dict[str, Any]) -> None:
    assert to_select(query) == select
    parse_mongo_select(to_select(query))  # and a valid one


def test_queries_are_not_changed_by_what_is_made_of_them() -> None:
    base = CUSTOMERS.find({"a": 1})
    base.limit(3)
    assert to_select(base) == {"collection": "customers", "filter": {"a": 1}}


@pytest.mark.parametrize(("select", "said"), [(5, "is a builtins.int"), (None, "NoneType")])
def test_what_is_no_select_says_what_is(select: Any, said: str) -> None:
    with pytest.raises(DocumentInvalid, match=said) as caught:
        to_select(select)
    assert caught.value.faults[0].path == "training_select"
    assert "Collection(NAME).find" in caught.value.faults[0].message


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (SVC(), "svc"),
        (KMeans(), "k-means"),
        (SGDClassifier(), "sgd-classifier"),
        (GradientBoostingClassifier(), "gradient-boosting-classifier"),
        (make_pipeline(StandardScaler(), SVC()), "pipeline"),
    ],
)
def test_a_model_without_a_name_has_its_class_s(model: Any, name: str) -> None:
    assert name_of(model) == name
    assert Estimator(model).name == name
    assert not Estimator(model).named
    assert Estimator("mine", model).name == Estimator(model, name="mine").name == "mine"


def test_an_estimator_becomes_a_valid_document() -> None:
    model = Estimator(
        "churn",
        make_pipeline(StandardScaler(), SVC(C=0.05)),
        training_select=CUSTOMERS.find({"country": "DE"}),
        train_X=("age", "income"),
        train_y="churned",
        validation={"select": Collection("held_out").find(), "metrics": ["accuracy"]},
        retrain={"quiet": "2s"},
        resources={"num_cpus": 2},
        timeout="10m",
        paused=True,
    )
    document = model.document()
    checked = check_document(document, Trust(), MongoSelects())
    assert checked.fields_X == ("age", "income")
    assert checked.validation is not None
    assert checked.validation.select == {"collection": "held_out"}
    assert (checked.retrain.quiet, checked.resources.num_cpus, checked.timeout, checked.paused) == (2, 2, 600, True)
    assert document["object"]["class"] == "sklearn.pipeline.Pipeline"


def test_model_picks_the_class_of_its_object() -> None:
    assert type(Model(SVC())) is Estimator
    assert type(Model("mine", SVC())) is Estimator
    assert type(Model(object=SVC())) is Estimator


def test_what_no_trainer_fits_is_refused() -> None:
    with pytest.raises(RefitdError, match="of no framework that refitd fits here"):
        Model("mine", lambda x: x)
    for args in ((), ("name",), (SVC(), SVC(), 3), ("a", "b")):
        with pytest.raises((TypeError, RefitdError)):
            Model(*args)


def test_a_function_inside_can_t_be_written_down() -> None:
    with pytest.raises(Untrusted, match="kernel"):
        Estimator(SVC(kernel=lambda a, b: a @ b.T)).document()


def test_on_arrays_it_is_as_in_scikit_learn() -> None:
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    model = Estimator(SVC(C=10)).fit(X, [0, 0, 1, 1], sample_weight=[1, 1, 1, 1])
    assert model.predict([[0.1], [2.9]]).tolist() == [0, 1]
    assert model.fitted is model.object
    assert model.version is None
    assert model.metrics == {}
    assert Estimator(KMeans(n_clusters=2, n_init=1)).fit(X=X).predict(X).shape == (4,)
    with pytest.raises(TypeError, match="give db"):
        model.fit(X="age", y="churned")
    with pytest.raises(TypeError, match=r"give db=refitd\.connect"):
        model.fit(X="age", y="churned", select=CUSTOMERS)


OLD = {
    "_id": "svc",
    "trainer": "sklearn",
    "object": {"class": "sklearn.svm.SVC", "params": {"C": 0.05}},
    "training_select": {"collection": "customers"},
    "train_X": "age",
    "live": 3,
    "paused": True,
    "status": {"state": "fresh"},
}
NEW = {key: value for key, value in OLD.items() if key not in ("live", "paused", "status")}
OTHER_C = {"class": "sklearn.svm.SVC", "params": {"C": 1}}


@pytest.mark.parametrize(
    ("change", "given", "clash"),
    [
        ({}, False, None),
        ({}, True, None),
        ({"object": OTHER_C}, True, None),
        ({"object": OTHER_C}, False, "with another object"),
        ({"train_X": "income"}, False, "with another train_X"),
        ({"object": {"class": "sklearn.svm.SVR"}}, True, "it fits sklearn.svm.SVC, this one fits sklearn.svm.SVR"),
    ],
)
def test_names_clash_where_another_model_has_them(change: dict[str, Any], given: bool, clash: str | None) -> None:
    if clash is None:
        merging.refuse_clash({**NEW, **change}, OLD, given=given)
        merging.refuse_clash({**NEW, **change}, None, given=given)
        return
    with pytest.raises(NameClash, match=clash):
        merging.refuse_clash({**NEW, **change}, OLD, given=given)


def test_merging() -> None:
    assert merging.with_controls(NEW, OLD) == {**NEW, "live": 3, "paused": True}
    assert merging.with_controls({**NEW, "live": "latest"}, OLD)["live"] == "latest"
    assert merging.with_controls(NEW, None) == NEW
    assert merging.over({"_id": "svc", "train_X": "b"}, OLD)["training_select"] == OLD["training_select"]
    assert "status" not in merging.over(NEW, OLD)
    assert merging.same({**NEW, "live": 3, "paused": True}, OLD)
    assert not merging.same(NEW, OLD)
    assert not merging.same(NEW, None)
