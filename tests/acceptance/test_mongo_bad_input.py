"""Must show 5, where MongoDB has ways of its own: names of any type, operators, documents as large as can be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId

from tests.fixtures.bad_documents import ABSENT, Bad, crowd_of, is_told_and_fitted_when_mended, judged
from tests.fixtures.daemon import document, sklearn
from tests.fixtures.datastores import MONGODB
from tests.fixtures.places import Place

pytestmark = pytest.mark.parametrize("kind", MONGODB, indirect=True)


def nested(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {"country": "DE"}
    for _ in range(depth):
        made = {"$and": [made]}
    return made


def select(**fields: Any) -> dict[str, Any]:
    return {"training_select": {"collection": "healthy", **fields}}


DOCUMENTS: dict[str, Bad] = {
    "a name that is a number": Bad({}, {"_id": "valid string"}, name=7),
    "a name that is a long number": Bad({}, {"_id": "valid string"}, name=Int64(2**40)),
    "a name that is true": Bad({}, {"_id": "valid string"}, name=True),
    "a name that is one": Bad({}, {"_id": "valid string"}, name=1),
    "a name that is nan": Bad({}, {"_id": "valid string"}, name=float("nan")),
    "a name that is an ObjectId": Bad({}, {"_id": "valid string"}, name=ObjectId()),
    "a name that is a date": Bad({}, {"_id": "valid string"}, name=datetime(2026, 1, 1, tzinfo=UTC)),
    "a name that is a document": Bad({}, {"_id": "valid string"}, name={"name": "churn", "of": {"whom": "us"}}),
    "a name that is nothing": Bad({}, {"_id": "valid string"}, name=ABSENT),
    "rows to judge on twice": Bad(judged(select={"collection": "x"}), {"validation": "either `split` or `select`"}),
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
    "chance in a select": Bad(
        select(filter={"$sampleRate": 0.5}), {"training_select.filter.$sampleRate": "retrain.schedule"}
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
}


@pytest.fixture(scope="module")
def crowd(place: Place) -> Iterator[Place]:
    with crowd_of(place, DOCUMENTS):
        # Nothing can be told in this one, and it must not hold up the others.
        full = {**document("no room for a status"), "unknown": "", "more": ""}
        full["more"] = "x" * (16 * 1024 * 1024 - len(bson.encode(full)))
        place.store.documents.insert(full)
        yield place


@pytest.mark.parametrize("bad", DOCUMENTS)
def test_a_bad_document_says_what_is_wrong_and_is_fitted_when_mended(crowd: Place, bad: str) -> None:
    is_told_and_fitted_when_mended(crowd, bad, DOCUMENTS[bad])
