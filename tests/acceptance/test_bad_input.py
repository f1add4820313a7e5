"""Must show 5: whatever a user writes, the document says what is wrong and how to mend it; nobody else is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Int64, ObjectId, Regex

from tests.fixtures.daemon import Daemons, document
from tests.fixtures.remembering import MODULE
from tests.fixtures.subject import Mongo, Place, Subject, row
from tests.fixtures.waiting import counted, status, wait_for, wait_fresh, wait_state

ABSENT = object()


def sklearn(name: str, **params: Any) -> dict[str, Any]:
    return {"class": f"sklearn.{name}", "params": params}


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
    "a schedule that never comes": Bad({"retrain": {"schedule": "0 0 31 2 *", "on_change": False}}, {"retrain.schedule": "never comes"}),
    "an unknown trainer": Bad({"trainer": "sklern"}, {"trainer": "did you mean `sklearn`"}),
    "an object without a class": Bad({"object": {"C": 1}}, {"object": "must say `class`"}),
    "an unknown class": Bad({"object": sklearn("svm.SVCC")}, {"object.class": "did you mean `sklearn.svm.SVC`"}),
    "os.system": Bad({"object": {"class": "os.system"}}, {"object.class": "REFITD_TRUST__MODULES"}),
    "subprocess.Popen": Bad({"object": {"class": "subprocess.Popen"}}, {"object.class": "outside the modules"}),
    "builtins.eval": Bad({"object": {"class": "builtins.eval"}}, {"object.class": "outside the modules"}),
    "a way around": Bad({"object": sklearn("base.warnings.catch_warnings")}, {"object.class": "outside the modules"}),
    "not an estimator": Bad({"object": sklearn("metrics.accuracy_score")}, {"object.class": "not a class"}),
    "not an estimator either": Bad({"object": sklearn("model_selection.KFold")}, {"object.class": "BaseEstimator"}),
    "an unknown parameter": Bad({"object": sklearn("svm.SVC", c=1), "train_y": "v"}, {"object.params.c": "did you mean `C`"}),
    "a value out of range": Bad({"object": sklearn("svm.SVC", C=-1.0), "train_y": "v"}, {"object.params.C": "in the range (0.0, inf"}),
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
        select(pipeline=[{"$facet": {"a": [{"$merge": "healthy"}]}}]), {"training_select.pipeline.0.$facet.a.0.$merge": "writes"}
    ),
    "an unknown operator": Bad(select(filter={"v": {"$gtt": 1}}), {"training_select.filter.v.$gtt": "did you mean $gt"}),
    "our own registry": Bad(select(collection="refitd.versions"), {"training_select.collection": "refitd.*"}),
    "our own registry, joined": Bad(
        select(pipeline=[{"$unionWith": "refitd.models"}]), {"training_select.pipeline.0.$unionWith": "refitd.*"}
    ),
    "an empty select": Bad({"training_select": {}}, {"training_select.collection": "non-empty string"}),
    "a select in SQL": Bad({"training_select": "SELECT * FROM rows"}, {"training_select": "the datastore is MongoDB"}),
    "a filter nested deep": Bad(select(filter=nested(70)), {"training_select.filter.$and.0.$and.0.$and": "flatten it"}),
    "a field with a dollar": Bad({"train_X": ["a", "$price"], "train_y": "$y"}, {"train_X.1": "`$price`", "train_y": "`$y`"}),
    "a field without a name": Bad({"train_X": ["a..b"], "train_y": ""}, {"train_X": "empty part", "train_y": "at least 1"}),
    "a field named twice": Bad({"train_X": ["id", "id"]}, {"train_X": "twice"}),
    "chance in a select": Bad(select(filter={"$sampleRate": 0.5}), {"training_select.filter.$sampleRate": "retrain.schedule"}),
    "a pin that is none": Bad({"live": "newest"}, {"live": "newest"}),
    "a pin to nothing": Bad({"live": 0}, {"live": "greater than or equal to 1"}),
    "a thousand faults": Bad({f"field_{n}": n for n in range(1000)}, {f"field_{n}": "no such field" for n in range(100)}),
    "faults everywhere": Bad(
        {
            "trainer": "sklearn", "object": sklearn("svm.SVC", C=-1, karnel="rbf"), "train_X": [], "train_y": "country",
            "training_select": {"collection": "healthy", "filter": {"$where": "1"}, "limt": 5},
            "validation": {"split": 0.5, "metrics": ["acuracy"]}, "retrain": {"schedule": "x", "quiet": "y"}, "tiemout": 1,
        },
        {
            "object.params.C": "", "object.params.karnel": "`kernel`", "train_X": "at least 1", "tiemout": "`timeout`",
            "training_select.filter.$where": "", "training_select.limt": "limit", "validation.metrics.0": "`accuracy`",
            "retrain.schedule": "", "retrain.quiet": "",
        },
    ),
    "fifteen megabytes with a fault": Bad({"fit_kwargs": {"x" * (15 << 20): 1}}, {"fit_kwargs": "no keyword"}),
    "a hundred thousand faults": Bad({f"f{n}": n for n in range(100_000)}, {"f0": "no such field"}),
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class BadRows:
    """Rows that can't be trained on as the document says: how it is told, and what mends them."""

    rows: list[dict[str, Any]]
    words: tuple[str, ...]
    mend: Any
    fields: dict[str, Any] = field(default_factory=dict)


def numbered(*values: Any, name: str = "v") -> list[dict[str, Any]]:
    return [{"_id": n, "id": n, name: value} for n, value in enumerate(values) if value is not ABSENT]


SVC = {"object": sklearn("svm.SVC"), "train_X": ["id"], "train_y": "v"}

ROWS: dict[str, BadRows] = {
    "no collection": BadRows([], ("there is no collection",), lambda it: it.insert_one(row(1))),
    "no rows": BadRows(
        numbered(1, 2), ("finds no rows", "matching rows come"), lambda it: it.insert_one({"id": 1, "v": 2, "a": 1}), select(filter={"a": 1})
    ),
    "mixed types": BadRows(
        numbered(1, "two", 3), ("`v` holds mixed types", "int", "string"), lambda it: it.update_one({"_id": 1}, {"$set": {"v": 2}})
    ),
    "text for numbers": BadRows(
        numbered("a", "b"), ("could not convert string to float",), lambda it: it.update_many({}, {"$set": {"v": 2}})
    ),
    "no such field": BadRows(
        numbered(1, 2, name="w"), ("no row has a field `v`", "check its spelling"), lambda it: it.insert_one({"id": 1, "v": 2})
    ),
    "targets missing": BadRows(
        [*numbered("a", "b", "a", "b"), {"_id": 9, "id": 3}], ("`v` is missing in 1 of 5 rows",), lambda it: it.delete_one({"_id": 9}), SVC
    ),
    "values missing": BadRows(
        [*numbered("a", "b"), {"_id": 9, "v": "a"}], ("`id` is missing in 1 of 3 rows", "NaN"),
        lambda it: it.update_one({"_id": 9}, {"$set": {"id": 7}}), SVC,
    ),
    "vectors of different lengths": BadRows(
        numbered([1, 2], [1, 2, 3]), ("`v` holds vectors of different lengths", "2", "3"),
        lambda it: it.update_one({"_id": 1}, {"$pop": {"v": 1}}), {"train_X": "v"},
    ),
    "one class": BadRows(
        numbered("a", "a"), ("SVC.fit raised ValueError", "classes"), lambda it: it.insert_one({"id": 3, "v": "b"}), SVC
    ),
    "infinite": BadRows(
        [*numbered("a", "b"), {"_id": 9, "id": float("inf"), "v": "a"}], ("infinity",), lambda it: it.delete_one({"_id": 9}), SVC
    ),
    "too few to split": BadRows(
        numbered("a"), ("`validation.split` needs at least 2 rows",), lambda it: it.insert_many(numbered(*"abababab")[1:]),
        {**SVC, "object": sklearn("dummy.DummyClassifier"), "validation": {"split": 0.5}},
    ),
    "a metric that can't be computed": BadRows(
        numbered(*"ababab"), ("`roc_auc`", "rows held out"), lambda it: it.insert_many(numbered(*"ab" * 20)[6:]),
        {**SVC, "object": sklearn("linear_model.LogisticRegression"), "validation": {"split": 0.1, "metrics": ["roc_auc"]}},
    ),
    "numbers too large": BadRows(
        numbered(2**53 + 1, 0.5), ("`v` holds numbers that no 64-bit column holds exactly",), lambda it: it.delete_one({"_id": 0})
    ),
    "objects for numbers": BadRows(numbered({"$a": 1}, {"b": 2}), ("not 'dict'",), lambda it: it.update_many({}, {"$set": {"v": 2}})),
    "a value of a strange type": BadRows(
        numbered(Regex("a")), ("`v` holds a", "can't be trained on"), lambda it: it.update_many({}, {"$set": {"v": 2}})
    ),
    "an estimator that raises": BadRows(
        numbered(1), ("the answer is not in these rows", "in fit"), None, {"object": {"class": f"{MODULE}.Faulty"}}
    ),
    "an estimator that shouts": BadRows(
        numbered(1), ("xxx",), None, {"object": {"class": f"{MODULE}.Faulty", "params": {"how": "shout"}}}
    ),
    "an estimator that quits": BadRows(
        numbered(1), ("SystemExit",), None, {"object": {"class": f"{MODULE}.Faulty", "params": {"how": "quit"}}}
    ),
    "an estimator that dies": BadRows(
        numbered(1), ("ended with code 3",), None, {"object": {"class": f"{MODULE}.Faulty", "params": {"how": "die"}}}
    ),
    "an estimator that takes too long": BadRows(
        numbered(1), ("stopped after 1 s", "`timeout`"), None,
        {"object": {"class": f"{MODULE}.Remembering", "params": {"hold": "/dev/null"}}, "timeout": "1s"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_bad_rows_are_told_and_fitted_when_mended(subject: Subject, kind: str) -> None:
    bad = ROWS[kind]
    if bad.rows:
        subject.rows.insert_many(dict(one) for one in bad.rows)
    select = {"collection": subject.name, **bad.fields.get("training_select", {}), "collection": subject.name}
    subject.models.insert_one(document(subject.name, **{**bad.fields, "training_select": select}))
    said = wait_state(subject.mongo, subject.name, "failing")
    assert all(words in said["error"] for words in bad.words), said["error"]
    assert len(said["error"]) < 10_000
    assert said["live"] is None
    if bad.mend:
        bad.mend(subject.rows)
    else:
        subject.edit(object={"class": f"{MODULE}.Remembering"})
    wait_fresh(subject.mongo, subject.name, 1)
    assert subject.status["error"] is None


def test_what_looks_bad_and_is_not(subject: Subject) -> None:
    """Rows of fifteen megabytes, names in any script and with dots in them, an estimator that prints a lot."""
    subject.mongo.create_collection(subject.name, changeStreamPreAndPostImages={"enabled": True})
    big = "x" * (15 << 20)
    subject.rows.insert_one({"_id": 1, "größe": 1.0, "数": 2, "a b": {"c.d": 1, "e": 3}, "__key": 1, "big": big})
    subject.filter = {"数": {"$gte": 1}}
    subject.models.insert_one(
        subject.document(
            object={"class": f"{MODULE}.Faulty", "params": {"how": "print"}}, train_X=["größe", "数", "a b.e"], train_y="__key"
        )
    )
    wait_fresh(subject.mongo, subject.name, 1)
    assert subject.mongo["refitd.logs"].count_documents({"fit": subject.fit()["_id"]}) < 100
    subject.rows.update_one({"_id": 1}, {"$set": {"big": big[1:]}})
    subject.rows.update_one({"_id": 1}, {"$set": {"数": 3}})
    assert counted(wait_fresh(subject.mongo, subject.name, 2)) == {"updates": 2}  # the first is too large for its images
    subject.rows.replace_one({"_id": 1}, {"größe": 1.5, "数": 2, "a b": {"e": 3}, "__key": 2, "big": big})
    wait_fresh(subject.mongo, subject.name, 3)
    subject.rows.delete_one({"_id": 1})
    said = wait_state(subject.mongo, subject.name, "failing")
    assert "finds no rows" in said["error"]
    assert said["live"] == 3


@pytest.mark.timeout(300)
def test_resources_that_the_cluster_does_not_have(mongo: Mongo, daemons: Daemons, ray_address: str) -> None:
    daemon = daemons(compute=ray_address).start()
    subject = Subject(mongo, daemon, "greedy").fill()
    subject.models.insert_one(subject.document(resources={"num_gpus": 8}))
    wanting = wait_for(mongo, lambda: subject.status.get("error"), "the status says what is missing")
    assert "num_gpus" in wanting
    assert "8" in wanting
    subject.edit(resources={"num_gpus": 0})
    wait_fresh(mongo, subject.name, 1)
