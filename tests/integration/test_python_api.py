"""The Python face on a real MongoDB: `fit` with a database, and what a database can be asked."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pymongo.database import Database as MongoDatabase
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, SVR

import refitd
from refitd import procedure
from registry.owner import this_process
from registry.records import Fit, FitState
from tests.fixtures.daemon import daemon, daemons
from trainers.check import check_document
from trainers.fit import new_fit

__all__ = ["daemon", "daemons"]

Shop = MongoDatabase[dict[str, Any]]
GERMANS = refitd.Collection("customers").find({"country": "DE"})


def customers(count: int, seed: int = 7) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    rows = []
    for number in range(count):
        age, income = dice.randint(18, 90), dice.randint(8_000, 120_000)
        country = "DE" if number % 2 else "AT"
        rows.append({"age": age, "income": income, "churned": age < 40, "country": country, "weight": 1.0})
    return rows


@pytest.fixture
def shop(mongo: Shop) -> Shop:
    mongo.customers.insert_many(customers(100))
    return mongo


@pytest.fixture
def db(shop: Shop, mongo_uri: str) -> Iterator[refitd.Database]:
    with refitd.connect(mongo_uri, compute="local") as opened:
        yield opened


def fit(db: refitd.Database, model: Any = None, **more: Any) -> refitd.Estimator:
    made = refitd.Estimator("churn", model or SVC(C=0.05))
    return made.fit(**{"X": ["age", "income"], "y": "churned", "select": GERMANS, "db": db, **more})


# --- the documentation page that this follows -----------------------------------------------------------------------


def test_the_procedural_snippet(db: refitd.Database) -> None:
    model = refitd.Estimator("mine", LogisticRegression())
    model.fit(
        X="age",
        y="churned",  # Optional, depending on whether supervised/ unsupervised,
        select=GERMANS,  # query which loads the training data
        db=db,
    )
    assert model.version == 1


def test_the_declarative_snippet(db: refitd.Database, shop: Shop) -> None:
    args: list[Any] = [SVC(C=0.05)]
    kwargs: dict[str, Any] = {"retrain": {"quiet": "1s"}}
    db.add(
        refitd.Model(
            *args,
            training_select=GERMANS,  # to be passed as `Model.fit(..., select=...)`
            train_X="age",  # to be passed as `Model.fit(X=...)`
            train_y="churned",  # to be passed as `Model.fit(..., y=...)`
            fit_kwargs={**{"sample_weight": "weight"}},  # noqa: PIE800 (as printed)
            **kwargs,
        )
    )
    written = shop["refitd.models"].find_one({"_id": "svc"}) or {}
    assert written["object"] == {"class": "sklearn.svm.SVC", "params": {"C": 0.05}}
    assert written["training_select"] == {"collection": "customers", "filter": {"country": "DE"}}
    assert written["retrain"] == {"quiet": "1s"}
    assert db.status("svc")["state"] == "waiting"


def test_the_scikit_learn_snippet(db: refitd.Database) -> None:
    from refitd import Estimator

    m = Estimator(SVC(C=0.05))
    m.fit(
        X="age",
        y="churned",
        select=GERMANS,  # MongoDB, Ibis or SQL query
        db=db,
    )
    assert (m.name, m.version) == ("svc", 1)


# --- fit with a database --------------------------------------------------------------------------------------------


def test_fit_publishes_and_predicts(db: refitd.Database) -> None:
    model = fit(db)
    assert model.predict([{"age": 80, "income": 1}]).tolist() == [False]
    assert model.predict([[80, 1]]).tolist() == [False]
    (version,) = db.versions("churn")
    assert set(version) == {"version", "created", "live", "rows", "metrics", "reason", "cut", "digest", "parts"}
    assert (version["version"], version["live"], version["rows"]) == (1, True, 50)
    assert version["reason"]["kind"] == "requested"
    assert db.load("churn").predict([[80, 1]]).tolist() == [False]
    assert model.fitted.C == 0.05
    assert db.models() == [
        {"model": "churn", "state": "fresh", "fresh": True, "live": 1, "pending": 0, "metric": None, "error": None}
    ]


def test_fit_keeps_what_the_document_says_otherwise(db: refitd.Database, shop: Shop) -> None:
    validation = {"split": 0.5, "metrics": ["accuracy"]}
    db.add(refitd.Estimator("churn", SVC(), training_select=GERMANS, train_X="age", train_y="churned",
                            validation=validation, retrain={"cooldown": "1h"}))  # fmt: skip
    model = fit(db, SVC(C=7), sample_weight="weight")
    written = shop["refitd.models"].find_one({"_id": "churn"}) or {}
    assert written["validation"] == validation
    assert written["retrain"] == {"cooldown": "1h"}
    assert written["object"]["params"] == {"C": 7}
    assert written["train_X"] == ["age", "income"]
    assert written["fit_kwargs"] == {"sample_weight": "weight"}
    assert set(model.metrics) == {"accuracy"}
    assert db.models()[0]["metric"] == model.metrics["accuracy"]
    model.fit(db=db)  # nothing said: the document's own rows and fields
    assert (shop["refitd.models"].find_one({"_id": "churn"}) or {})["train_X"] == ["age", "income"]
    assert model.version == 2


def test_fit_without_y_is_unsupervised(db: refitd.Database, shop: Shop) -> None:
    model = refitd.Estimator(KMeans(n_clusters=2, n_init=1)).fit(X=["age", "income"], select=GERMANS, db=db)
    assert "train_y" not in (shop["refitd.models"].find_one({"_id": "k-means"}) or {})
    assert len(model.predict([[1, 2], [80, 100_000]])) == 2


def test_the_database_can_be_given_by_its_address(shop: Shop, mongo_uri: str) -> None:
    assert fit(mongo_uri).version == 1  # type: ignore[arg-type]


def test_faults_are_told_before_anything_is_written(db: refitd.Database, shop: Shop) -> None:
    with pytest.raises(refitd.DocumentInvalid) as caught:
        fit(db, X=[], y=3)
    assert {fault.path for fault in caught.value.faults} == {"train_X", "train_y"}
    with pytest.raises(TypeError, match="leave db out"):
        fit(db, X=np.zeros((2, 2)))
    with pytest.raises(refitd.DocumentInvalid, match="is SQL"):
        fit(db, select="SELECT * FROM customers")
    with pytest.raises(refitd.DocumentInvalid, match="training_select: is missing"):
        refitd.Estimator(SVC()).fit(X="age", db=db)
    assert shop["refitd.models"].count_documents({}) == 0
    assert shop["refitd.fits"].count_documents({}) == 0


def test_another_model_of_the_name_is_not_overwritten(db: refitd.Database) -> None:
    fit(db)
    with pytest.raises(refitd.NameClash, match=r"it fits sklearn\.svm\.SVC, this one fits sklearn\.svm\.SVR"):
        fit(db, SVR())
    with pytest.raises(refitd.NameClash):
        db.add(refitd.Estimator("churn", SVR(), training_select=GERMANS, train_X="age", train_y="income"))
    db.add(refitd.Estimator("churn", SVR(), training_select=GERMANS, train_X="age", train_y="income"), replace=True)
    nameless: dict[str, Any] = {"X": "age", "y": "churned", "select": GERMANS, "db": db}
    refitd.Estimator(SVC()).fit(**nameless)
    refitd.Estimator(SVC()).fit(**nameless)
    with pytest.raises(refitd.NameClash, match="give it one"):
        refitd.Estimator(SVC(C=3)).fit(**nameless)
    assert [row["version"] for row in db.versions("svc")] == [2, 1]


def test_a_failing_fit_says_so_here_and_in_the_status(db: refitd.Database) -> None:
    with pytest.raises(refitd.FitError, match="no row has a field `agee`"):
        fit(db, X="agee")
    assert db.status("churn")["state"] == "failing"
    with pytest.raises(refitd.NoRows):
        fit(db, select={"collection": "customers", "filter": {"country": "XX"}})
    (second, first) = db.fits("churn")
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["state"] == second["state"] == "failed"
    assert fit(db).version == 1


def test_ctrl_c_leaves_no_claim(db: refitd.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(procedure, "run_fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(db)
    assert [(row["state"], row["error"]) for row in db.fits()] == [("cancelled", None)]
    monkeypatch.undo()
    assert fit(db).version == 1


def claim(db: refitd.Database, owner: str) -> Fit:
    """A fit of `churn` under way."""
    raw = {"_id": "churn", "trainer": "sklearn", "object": {"class": "sklearn.svm.SVC"},
           "training_select": {"collection": "customers"}, "train_X": "age", "train_y": "churned"}  # fmt: skip
    db.prepare()
    checked = check_document(raw, db.trust, db.store.selects)
    return db.store.fits.start(new_fit(db.store, checked, raw, {}, owner, bound=True))


def test_a_fit_under_way_is_waited_for(db: refitd.Database) -> None:
    other = claim(db, this_process())
    done: list[int | None] = []
    thread = threading.Thread(target=lambda: done.append(fit(db).version))
    thread.start()
    thread.join(1.0)
    assert thread.is_alive()
    assert not done
    db.store.fits.end(other.id, FitState.CANCELLED, None, token=other.token)
    thread.join(30)
    assert done == [1]


def test_a_fit_whose_owner_is_dead_is_ended(db: refitd.Database) -> None:
    parts = this_process().split("/")
    other = claim(db, "/".join([*parts[:3], "999999999", "1"]))
    assert fit(db).version == 1
    assert db.store.fits.get(other.id).state is FitState.LOST


def test_fit_on_ray(shop: Shop, mongo_uri: str, ray_address: str) -> None:
    with refitd.connect(mongo_uri, compute=ray_address) as db:
        model = fit(db)
        assert model.version == 1
        assert db.fits()[0]["state"] == "published"
        with pytest.raises(refitd.FitError, match="agee"):
            fit(db, X="agee")


# --- beside a daemon ------------------------------------------------------------------------------------------------


def test_beside_a_daemon(db: refitd.Database, shop: Shop, daemon: Any) -> None:
    model = fit(db)
    assert (model.version, len(db.fits())) == (1, 1)  # the daemon started none of its own
    shop.customers.insert_one(customers(2, seed=1)[1])
    status = db.wait("churn", timeout=60)
    assert (status["live"], status["fresh"]) == (2, True)
    assert db.versions("churn")[0]["rows"] == 51
    shop.customers.insert_one(customers(1)[0])  # an Austrian
    assert db.wait("churn", timeout=60)["live"] == 2
    assert fit(db, SVC(C=3)).version == 3  # the edited document is ours to fit
    assert len(db.fits()) == 3
    db.pause("churn")
    shop.customers.delete_many({"age": {"$lt": 30}})
    with pytest.raises(refitd.RefitdError, match="paused"):
        db.wait("churn", timeout=60)
    db.resume("churn")
    assert db.wait("churn", timeout=60)["live"] == 4
    db.retrain("churn")
    assert db.wait("churn", timeout=60)["live"] == 5
    db.add({**shop["refitd.models"].find_one({"_id": "churn"}), "train_X": "agee"})  # type: ignore[dict-item]
    with pytest.raises(refitd.FitError, match="no row has a field `agee`"):
        db.wait("churn", timeout=60)
    shop["refitd.models"].update_one({"_id": "churn"}, {"$set": {"object.class": "os.system"}})
    with pytest.raises((refitd.DocumentInvalid, refitd.FitError)):
        db.wait("churn", timeout=60)
    db.remove("churn")
    with pytest.raises(refitd.NotFound):
        db.wait("churn", timeout=60)


# --- what a database can be asked -----------------------------------------------------------------------------------


def test_versions_can_be_pinned(db: refitd.Database) -> None:
    for C in (1, 2, 3):
        fit(db, SVC(C=C))
    assert db.rollback("churn") == 2
    assert db.load("churn").model.C == 2
    assert [row["version"] for row in db.versions("churn") if row["live"]] == [2]
    assert db.rollback("churn", 1) == 1
    with pytest.raises(refitd.NotFound, match="no promoted version before"):
        db.rollback("churn")
    with pytest.raises(refitd.NotFound, match="has no version 9"):
        db.rollback("churn", 9)
    assert db.rollback("churn", "latest") == "latest"
    assert db.load("churn").version.number == 3
    assert db.load("churn", 1).model.C == 1


def test_what_is_not_there_is_not_found(db: refitd.Database) -> None:
    fit(db)
    for ask in (db.status, db.versions, db.load, db.pause, db.retrain, db.rollback, db.remove, db.wait):
        with pytest.raises(refitd.NotFound, match="did you mean churn"):
            ask("chrun")
    assert db.fits("chrun") == []


def test_wait_without_a_daemon_says_so(db: refitd.Database) -> None:
    fit(db)
    db.add(refitd.Estimator("other", SVC(), training_select=GERMANS, train_X="age", train_y="churned"))
    with pytest.raises(refitd.TimeLimit, match="no daemon follows this datastore"):
        db.wait("other", timeout=0.5)
    assert db.wait("churn", fresh=False, timeout=5)["live"] == 1


def test_add_takes_documents_and_files(db: refitd.Database, shop: Shop, tmp_path: Any) -> None:
    document = {"_id": "a", "trainer": "sklearn", "object": {"class": "sklearn.svm.SVC"}, "train_y": "churned",
                "training_select": {"collection": "customers"}, "train_X": "age"}  # fmt: skip
    assert db.add(document) == ["a"]
    (tmp_path / "two.json").write_text(str([{**document, "_id": "b"}, {**document, "_id": "c"}]).replace("'", '"'))
    assert db.add(tmp_path / "two.json", enable_images=True) == ["b", "c"]
    (listed,) = shop.list_collections(filter={"name": "customers"})
    assert listed["options"]["changeStreamPreAndPostImages"] == {"enabled": True}
    with pytest.raises(refitd.DocumentInvalid):
        db.add({**document, "_id": "d", "train_X": 3})
    assert {row["model"] for row in db.models()} == {"a", "b", "c"}


def test_settings_fill_in_what_is_not_given(monkeypatch: pytest.MonkeyPatch, mongo_uri: str) -> None:
    monkeypatch.setenv("REFITD_DATASTORE", mongo_uri)
    monkeypatch.setenv("REFITD_TRUST__MODULES", "mine")
    with refitd.connect() as db:
        assert db.models() == []
        assert db.trust.covers("mine.thing")
        assert mongo_uri in repr(db)
        db.close()
        db.close()
    assert refitd.connect(mongo_uri, trust=["other"]).trust.covers("other.thing")


def test_no_password_in_what_is_shown() -> None:
    assert "canary" not in repr(refitd.connect("mongodb://u:canary@127.0.0.1:1/shop"))


def test_a_stray_label_does_not_go_live(db: refitd.Database, shop: Shop) -> None:
    """One 2 among 0 and 1 makes numbers of labels: that is told, and who predicts gets what they got before."""
    shop.customers.update_many({}, [{"$set": {"left": {"$cond": ["$churned", 1, 0]}}}])
    linear = {"class": "torch.nn.Linear", "params": {"in_features": 1, "out_features": 1}}

    def fit_module() -> refitd.Module:
        return refitd.Module("left", linear).fit(X="age", y="left", select=GERMANS, db=db, max_epochs=1)

    assert set(fit_module().predict([{"age": 20}]).tolist()) <= {0, 1}
    shop.customers.update_one({"country": "DE"}, {"$set": {"left": 2}})
    fit_module()
    newest, first = db.versions("left")
    assert (first["live"], newest["live"]) == (True, False)
    assert "learned numbers where the live version learned labels" in db.store.versions.get("left", 2).draft.gate
    assert set(db.load("left").predict([{"age": 20}]).tolist()) <= {0, 1}
