"""Must show 5: whatever a user writes, the document says what is wrong and how to mend it; nobody else is harmed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.bad_documents import Bad, crowd_of, is_told_and_fitted_when_mended, judged
from tests.fixtures.daemon import sklearn
from tests.fixtures.places import Place

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
    "a share that is none": Bad(judged(split=1.5), {"validation.split": "less than 1"}),
    "a field named twice": Bad({"train_X": ["id", "id"]}, {"train_X": "twice"}),
    "a pin that is none": Bad({"live": "newest"}, {"live": "newest"}),
    "a pin to nothing": Bad({"live": 0}, {"live": "greater than or equal to 1"}),
    "a thousand faults": Bad(
        {f"field_{n}": n for n in range(1000)}, {f"field_{n}": "no such field" for n in range(100)}
    ),
    "fifteen megabytes with a fault": Bad({"fit_kwargs": {"x" * (15 << 20): 1}}, {"fit_kwargs": "no keyword"}),
    "a hundred thousand faults": Bad({f"f{n}": n for n in range(100_000)}, {"f0": "no such field"}),
}


@pytest.fixture(scope="module")
def crowd(place: Place) -> Iterator[Place]:
    with crowd_of(place, DOCUMENTS):
        yield place


@pytest.mark.parametrize("bad", DOCUMENTS)
def test_a_bad_document_says_what_is_wrong_and_is_fitted_when_mended(crowd: Place, bad: str) -> None:
    is_told_and_fitted_when_mended(crowd, bad, DOCUMENTS[bad])
