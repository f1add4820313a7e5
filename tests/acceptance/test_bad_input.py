"""Must show 5: whatever a user writes, the document says what is wrong and how to mend it; nobody else is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId

from tests.fixtures.daemon import document, sklearn
from tests.fixtures.subject import Mongo, Place, Subject
from tests.fixtures.waiting import status, wait_fresh, wait_state

ABSENT = object()


def nested(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {"country": "DE"}
    for _ in range(depth):
        made = {"$and": [made]}
    return made


def select(**fields: Any) -> dict[str, Any]:
    return {"training_select": {"collection": "healthy", **fields}}


def judged(**fields: Any) -> dict[str, Any]:
    return {"object": sklearn("svm.SVC"), "train_y": "country", "validation": {"split": 0.5, **fields}}


@dataclass(frozen=True, slots=True)
class Bad:
    """A document with faults: what differs from a good one, and for each fault its path and words of its message."""

    fields: dict[str, Any]
    faults: dict[str, str]
    name: Any = None
    mended: dict[str, Any] = field(default_factory=dict)


DOCUMENTS: dict[str, Bad] = {
    "an unknown field": Bad({"train_x": "id"}, {"train_x": "did you mean `train_X`"}),
    "an unknown field within": Bad({"retrain": {"quite": "1s"}}, {"retrain.quite": "did you mean `quiet`"}),
    "nothing at all": Bad(
        dict.fromkeys(("trainer", "object", "training_select", "train_X", "retrain")),
        dict.fromkeys(("trainer", "object", "training_select", "train_X"), "is missing"),
    ),
    "wrong types": Bad(
        {"trainer": 5, "train_X": {"a": 1}, "paused": "yes", "retrain": [], "fit_kwargs": "C", "timeout": None},
        {"trainer": "5", "train_X": "{'a': 1}", "paused": "yes", "retrain": "[]", "fit_kwargs": "C"},
    ),
    "a name that is a number": Bad({}, {"_id": "valid string"}, name=7),
    "a name that is a long number": Bad({}, {"_id": "valid string"}, name=Int64(2**40)),
    "a name that is true": Bad({}, {"_id": "valid string"}, name=True),
    "a name that is one": Bad({}, {"_id": "valid string"}, name=1),
    "a name that is nan": Bad({}, {"_id": "valid string"}, name=float("nan")),
    "a name that is an ObjectId": Bad({}, {"_id": "valid string"}, name=ObjectId()),
    "a name that is a date": Bad({}, {"_id": "valid string"}, name=datetime(2026, 1, 1, tzinfo=UTC)),
    "a name that is a document": Bad({}, {"_id": "valid string"}, name={"name": "churn", "of": {"whom": "us"}}),
    "a name that is nothing": Bad({}, {"_id": "valid string"}, name=ABSENT),
    "a name with a slash": Bad({}, {"_id": "no slash"}, name="a/b"),
    "an empty name": Bad({}, {"_id": "1 to 128 characters"}, name=""),
    "a bad duration": Bad(
        {"retrain": {"quiet": "soon", "cooldown": -1}, "timeout": True},
        {"retrain.quiet": "500ms", "retrain.cooldown": "at least 0", "timeout": "not true or false"},
    ),
    "a duration without end": Bad(
        {"retrain": {"max_wait": 1e300}, "timeout": "99999999w"}, {"retrain.max_wait": "36500d", "timeout": "36500d"}
    ),
    "a bad schedule": Bad({"retrain": {"schedule": "every day"}}, {"retrain.schedule": "five fields"}),
    "a schedule out of range": Bad({"retrain": {"schedule": "61 0 * * *"}}, {"retrain.schedule": "61"}),
    "a schedule that never comes": Bad(
        {"retrain": {"schedule": "0 0 31 2 *", "on_change": False}}, {"retrain.schedule": "never comes"}
    ),
    "an unknown trainer": Bad({"trainer": "sklern"}, {"trainer": "did you mean `sklearn`"}),
    "an object without a class": Bad({"object": {"C": 1}}, {"object": "must say `class`"}),
    "an unknown class": Bad({"object": sklearn("svm.SVCC")}, {"object.class": "did you mean `sklearn.svm.SVC`"}),
    "os.system": Bad({"object": {"class": "os.system"}}, {"object.class": "REFITD_TRUST__MODULES"}),
    "subprocess.Popen": Bad({"object": {"class": "subprocess.Popen"}}, {"object.class": "outside the modules"}),
    "builtins.eval": Bad({"object": {"class": "builtins.eval"}}, {"object.class": "outside the modules"}),
    "a way around": Bad({"object": sklearn("base.warnings.catch_warnings")}, {"object.class": "outside the modules"}),
    "not an estimator": Bad({"object": sklearn("metrics.accuracy_score")}, {"object.class": "not a class"}),
    "not an estimator either": Bad({"object": sklearn("model_selection.KFold")}, {"object.class": "BaseEstimator"}),
    "an unknown parameter": Bad(
        {"object": sklearn("svm.SVC", c=1), "train_y": "v"}, {"object.params.c": "did you mean `C`"}
    ),
    "a value out of range": Bad(
        {"object": sklearn("svm.SVC", C=-1.0), "train_y": "v"}, {"object.params.C": "in the range (0.0, inf"}
    ),
    "no target": Bad({"object": sklearn("svm.SVC")}, {"train_y": "learns from a target"}),
    "an unknown keyword of fit": Bad({"fit_kwargs": {"epochs": 3}}, {"fit_kwargs.epochs": "no keyword"}),
    "an unknown scorer": Bad(judged(metrics=["acuracy"]), {"validation.metrics.0": "did you mean `accuracy`"}),
    "a gate without a metric": Bad(judged(promote={"min": 0.5}), {"validation.promote.metric": "is missing"}),
    "rows to judge on twice": Bad(judged(select={"collection": "x"}), {"validation": "either `split` or `select`"}),
    "a share that is none": Bad(judged(split=1.5), {"validation.split": "less than 1"}),
    "$where": Bad(select(filter={"$where": "sleep(9999)"}), {"training_select.filter.$where": "JavaScript"}),
    "$function": Bad(
        select(filter={"$expr": {"$function": {"body": "", "args": [], "lang": "js"}}}),
        {"training_select.filter.$expr.$function": "JavaScript"},
    ),
    "$out": Bad(select(pipeline=[{"$out": "healthy"}]), {"training_select.pipeline.0.$out": "writes"}),
    "$merge within": Bad(
        select(pipeline=[{"$facet": {"a": [{"$merge": "healthy"}]}}]),
        {"training_select.pipeline.0.$facet.a.0.$merge": "writes"},
    ),
    "an unknown operator": Bad(
        select(filter={"v": {"$gtt": 1}}), {"training_select.filter.v.$gtt": "did you mean $gt"}
    ),
    "our own registry": Bad(select(collection="refitd.versions"), {"training_select.collection": "refitd.*"}),
    "our own registry, joined": Bad(
        select(pipeline=[{"$unionWith": "refitd.models"}]), {"training_select.pipeline.0.$unionWith": "refitd.*"}
    ),
    "an empty select": Bad({"training_select": {}}, {"training_select.collection": "non-empty string"}),
    "a select in SQL": Bad({"training_select": "SELECT * FROM rows"}, {"training_select": "the datastore is MongoDB"}),
    "a filter nested deep": Bad(select(filter=nested(70)), {"training_select.filter.$and.0.$and.0.$and": "flatten it"}),
    "a field with a dollar": Bad(
        {"train_X": ["a", "$price"], "train_y": "$y"}, {"train_X.1": "`$price`", "train_y": "`$y`"}
    ),
    "a field without a name": Bad(
        {"train_X": ["a..b"], "train_y": ""}, {"train_X": "empty part", "train_y": "at least 1"}
    ),
    "a field named twice": Bad({"train_X": ["id", "id"]}, {"train_X": "twice"}),
    "chance in a select": Bad(
        select(filter={"$sampleRate": 0.5}), {"training_select.filter.$sampleRate": "retrain.schedule"}
    ),
    "a pin that is none": Bad({"live": "newest"}, {"live": "newest"}),
    "a pin to nothing": Bad({"live": 0}, {"live": "greater than or equal to 1"}),
    "a thousand faults": Bad(
        {f"field_{n}": n for n in range(1000)}, {f"field_{n}": "no such field" for n in range(100)}
    ),
    "faults everywhere": Bad(
        {
            "trainer": "sklearn",
            "object": sklearn("svm.SVC", C=-1, karnel="rbf"),
            "train_X": [],
            "train_y": "country",
            "training_select": {"collection": "healthy", "filter": {"$where": "1"}, "limt": 5},
            "validation": {"split": 0.5, "metrics": ["acuracy"]},
            "retrain": {"schedule": "x", "quiet": "y"},
            "tiemout": 1,
        },
        {
            "object.params.C": "",
            "object.params.karnel": "`kernel`",
            "train_X": "at least 1",
            "tiemout": "`timeout`",
            "training_select.filter.$where": "",
            "training_select.limt": "limit",
            "validation.metrics.0": "`accuracy`",
            "retrain.schedule": "",
            "retrain.quiet": "",
        },
    ),
    "fifteen megabytes with a fault": Bad({"fit_kwargs": {"x" * (15 << 20): 1}}, {"fit_kwargs": "no keyword"}),
    "a hundred thousand faults": Bad({f"f{n}": n for n in range(100_000)}, {"f0": "no such field"}),
}


@pytest.fixture(scope="module")
def crowd(place: Place) -> Iterator[Place]:
    """A healthy model, and all the bad documents at once beside it."""
    healthy = Subject(place.mongo, place.daemon, "healthy")
    healthy.fill().add()
    for name, bad in DOCUMENTS.items():
        made = {**document(name, **select(filter={"country": "DE"})), **bad.fields}
        made = {key: value for key, value in made.items() if value is not None}
        if bad.name is ABSENT:
            made["_id"] = None
        elif bad.name is not None:
            made["_id"] = bad.name
        place.mongo["refitd.models"].insert_one(made)
    # Nothing can be told in this one, and it must not hold up the others.
    full = {**document("no room for a status"), "unknown": "", "more": ""}
    full["more"] = "x" * (16 * 1024 * 1024 - len(bson.encode(full)))
    place.mongo["refitd.models"].insert_one(full)
    yield place
    healthy.number = 1 + place.mongo["refitd.versions"].count_documents({"model": "healthy"}) - 1
    healthy.unmoved()
    assert "Traceback" not in place.daemon.log, place.daemon.log[-6000:]


def key_of(kind: str) -> Any:
    bad = DOCUMENTS[kind]
    return None if bad.name is ABSENT else kind if bad.name is None else bad.name


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_bad_document_says_what_is_wrong_and_is_fitted_when_mended(crowd: Place, kind: str) -> None:
    mongo, bad, key = crowd.mongo, DOCUMENTS[kind], key_of(kind)
    said = wait_state(mongo, key, "invalid")
    messages = {fault["path"]: fault["message"] for fault in said["faults"]}
    for path, words in bad.faults.items():
        found = [message for at, message in messages.items() if at == path or at.startswith(f"{path}.")]
        assert found, f"no fault at {path}: {messages}"
        assert any(words in message for message in found), found
        assert path[:80] in said["error"]
    assert len(said["error"]) < 100_000
    assert said["live"] is None
    mend(mongo, kind, key)
    wait_fresh(mongo, kind, 1)
    assert status(mongo, kind).get("error") is None
    mongo["refitd.models"].delete_one({"_id": kind})


def mend(mongo: Mongo, kind: str, key: Any) -> None:
    """Bring the document in order by plain writes; a bad name only goes away with its document."""
    models = mongo["refitd.models"]
    good = document(kind, **select(filter={"country": "DE"}))
    if DOCUMENTS[kind].name is not None:
        assert models.delete_one({"_id": key}).deleted_count == 1
        models.insert_one(good)
        return
    extra = [name for name in DOCUMENTS[kind].fields if name not in good]
    fields = {name: value for name, value in good.items() if name != "_id"}
    models.update_one({"_id": kind}, {"$set": fields, **({"$unset": dict.fromkeys(extra, 1)} if extra else {})})
