"""The command on a real MongoDB: every subcommand in text and `--json`, without a daemon and beside one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import skops.io
from pymongo.database import Database as MongoDatabase
from sklearn.svm import SVC

import refitd
from refitd.cli import run
from refitd.signals import until
from registry.errors import FitError
from tests.fixtures.daemon import daemon, daemons
from tests.fixtures.servers import ROOT

__all__ = ["daemon", "daemons"]

Shop = MongoDatabase[dict[str, Any]]
Said = tuple[int, str, str]
Command = Callable[..., Said]

CHURN = """
_id: churn
trainer: sklearn
object: {class: sklearn.svm.SVC, params: {C: 0.05}}
training_select: {collection: customers, filter: {country: DE}}
train_X: [age, income]
train_y: churned
validation: {split: 0.2, metrics: [accuracy]}
retrain: {quiet: 0s}
"""
BAD = """
_id: bad
trainer: sklearn
object: {class: sklearn.svm.SVCC}
training_select: {collection: customers, filter: {$where: "1"}}
trainX: age
"""


def customers(count: int) -> list[dict[str, Any]]:
    return [
        {"age": 18 + n % 70, "income": 1000 * n, "churned": n % 70 < 30, "country": "DE" if n % 2 else "AT"}
        for n in range(count)
    ]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mongo_uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFITD_DATASTORE", mongo_uri)
    (tmp_path / "churn.yaml").write_text(CHURN)
    (tmp_path / "bad.yaml").write_text(BAD)


@pytest.fixture
def shop(mongo: Shop) -> Shop:
    mongo.customers.insert_many(customers(100))
    return mongo


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command here; its exit code, stdout and stderr."""

    def call(*arguments: str) -> Said:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def db(shop: Shop) -> Iterator[refitd.Database]:
    with refitd.connect(compute="local") as opened:
        yield opened


def fit(db: refitd.Database, **more: Any) -> None:
    model = refitd.Estimator("churn", SVC(), validation={"split": 0.2, "metrics": ["accuracy"]})
    model.fit(**{"X": ["age", "income"], "y": "churned", "select": {"collection": "customers"}, "db": db, **more})


def asked(command: Command, *arguments: str, code: int = 0) -> Any:
    """The one JSON document on stdout."""
    actual, out, _ = command(*arguments, "--json")
    assert actual == code, out
    return json.loads(out)


# --- models ---------------------------------------------------------------------------------------------------------


def test_without_models(shop: Shop, command: Command) -> None:
    assert command("status") == (0, "no models yet; `refitd add FILE` adds one\n", "")
    assert asked(command, "status") == asked(command, "feeds") == asked(command, "fits") == []
    code, out, err = command("show", "churn")
    assert (code, out) == (1, "")
    assert "there is no model 'churn', nor any other" in err
    assert asked(command, "doctor")[-1]["check"] == "models"


def test_add(shop: Shop, command: Command, tmp_path: Path) -> None:
    code, out, err = command("add", "churn.yaml")
    assert (code, out) == (0, "churn: added\n")
    assert "customers: MongoDB keeps no rows as they were before a change" in err
    assert "no daemon follows this datastore" in err
    assert asked(command, "add", "churn.yaml") == [{"model": "churn", "change": "unchanged"}]
    assert command("pause", "churn")[:2] == (0, "churn: paused\n")
    (tmp_path / "churn.yaml").write_text(CHURN.replace("0.05", "0.5"))
    code, out, err = command("add", "churn.yaml", "--enable-images")
    assert (code, out) == (0, "churn: changed\n")
    assert "keeps no rows" not in err
    written = shop["refitd.models"].find_one({"_id": "churn"}) or {}
    assert (written["paused"], written["object"]["params"]) == (True, {"C": 0.5})
    assert asked(command, "status")[0]["state"] == "paused"


def test_add_writes_nothing_when_anything_is_wrong(shop: Shop, command: Command, tmp_path: Path) -> None:
    code, out, err = command("add", "churn.yaml", "bad.yaml")
    assert (code, out) == (1, "")
    for said in ("bad: train_X: is missing", "bad: trainX: no such field", "bad: training_select.filter.$where",
                 "bad: object.class: there is no `SVCC`"):  # fmt: skip
        assert said in err
    error = asked(command, "add", "bad.yaml", code=1)
    assert {fault["path"] for fault in error["faults"]} >= {"train_X", "trainX", "object.class"}
    assert "train_X: is missing" in error["error"]
    assert "churn: is given 2 times" in command("add", "churn.yaml", "churn.yaml")[2]
    assert "none.yaml" in command("add", "churn.yaml", "none.yaml")[2]
    assert shop["refitd.models"].count_documents({}) == 0


def test_a_model_that_was_never_fitted(shop: Shop, command: Command) -> None:
    command("add", "churn.yaml")
    (row,) = asked(command, "status")
    assert (row.pop("model"), row.pop("state"), row.pop("fresh"), row.pop("pending")) == ("churn", "waiting", False, 0)
    assert row == {"live": None, "metric": None, "error": None}
    assert asked(command, "versions", "churn") == []
    assert "churn has no version yet" in command("versions", "churn")[1]
    why = asked(command, "why", "churn")
    assert (why["why"], why["kind"], why["followed"]) == ("it was never fitted", "added", False)
    assert "never fitted" in command("why", "churn")[1]
    assert "churn was never fitted" in command("logs", "churn")[2]
    assert asked(command, "predict", "churn", "churn.yaml", code=1)["error"].startswith("churn has no live version yet")


def test_a_fitted_model(db: refitd.Database, command: Command) -> None:
    fit(db)
    code, out, err = command("status")
    assert code == 0
    assert out.splitlines()[0].split() == ["MODEL", "STATE", "LIVE", "PENDING", "METRIC", "ROWS", "WHY"]
    assert out.splitlines()[1].split()[:3] == ["churn", "fresh", "1"]
    assert "no daemon follows this datastore" in err
    (row,) = asked(command, "status", "churn")
    assert set(row) == {"model", "state", "fresh", "live", "pending", "metric", "error"}
    assert (row["state"], row["fresh"], row["live"]) == ("fresh", True, 1)
    (version,) = asked(command, "versions", "churn")
    assert set(version) == {"version", "created", "live", "rows", "metrics", "reason", "cut", "digest", "parts"}
    assert (version["rows"], version["metrics"]["accuracy"]) == (100, row["metric"])
    assert "asked for" in command("versions", "churn")[1]
    shown = asked(command, "show", "churn")
    assert shown["document"]["object"] == {"class": "sklearn.svm.SVC"}
    assert shown["version"]["promoted"] is True
    assert "status" not in shown["document"]
    assert "sklearn.svm.SVC" in command("show", "churn")[1]
    assert asked(command, "why", "churn")["why"].startswith("nothing is pending")
    (run_,) = asked(command, "fits", "churn")
    assert {"fit", "model", "state", "attempt", "version", "progress", "error"} <= set(run_)
    assert run_["state"] == "published"
    assert run_["fit"] in command("fits")[1]


def test_logs(db: refitd.Database, command: Command) -> None:
    fit(db)
    logged = asked(command, "logs", "churn")
    assert logged["state"] == "published"
    assert "loaded 80 rows to train on" in "\n".join(one["line"] for one in logged["lines"])
    code, out, err = command("logs", logged["fit"], "-f")
    assert code == 0
    assert "loaded 80 rows" in out
    assert "published, version 1" in err
    with pytest.raises(FitError):
        fit(db, X="agee")
    code, _, err = command("logs", "churn")
    assert code == 1
    assert "no row has a field `agee`" in err
    assert "no fit has the id 'chrn'" in command("logs", "chrn")[2]


def test_what_is_wrong_is_told_by_the_exit_code(db: refitd.Database, command: Command) -> None:
    with pytest.raises(FitError):
        fit(db, X="agee")
    for arguments in (["status"], ["show", "churn"], ["why", "churn"]):
        code, out, _ = command(*arguments)
        assert code == 1
        assert "no row has a field `agee`" in out
    (row,) = asked(command, "status", code=1)
    assert (row["state"], row["error"]) == ("failing", "no row has a field `agee`: check its spelling, and the select")


def test_documents_of_foreign_clients_are_judged_without_a_daemon(shop: Shop, command: Command) -> None:
    models = shop["refitd.models"]
    base = {"trainer": "sklearn", "training_select": {"collection": "customers"}, "train_X": "age"}
    models.insert_one({"_id": "typo", "object": {"class": "sklearn.svm.SVCC"}, **base})
    models.insert_one({"_id": "good", "object": {"class": "sklearn.cluster.KMeans"}, **base})
    models.insert_one({"object": {"class": "sklearn.cluster.KMeans"}, **base})  # with an ObjectId
    models.insert_one({"_id": {"a": [1]}, "nothing": float("nan")})
    states = {row["model"]: (row["state"], row["error"]) for row in asked(command, "status", code=1)}
    assert states.pop("good") == ("waiting", None)
    assert {state for state, _ in states.values()} == {"invalid"}
    assert states["typo"][1].startswith("object.class: there is no `SVCC`")
    assert "object.class" in command("why", "typo")[1]
    assert command("show", "typo")[0] == 1
    assert command("status", "good")[0] == 0


def test_controls(db: refitd.Database, command: Command, shop: Shop) -> None:
    for _ in range(3):
        fit(db)
    assert command("rollback", "churn")[:2] == (0, "churn: version 2 is live, pinned\n")
    assert asked(command, "rollback", "churn", "--to", "1") == {"model": "churn", "live": 1}
    assert "version 1 (pinned)" in command("show", "churn")[1]
    assert [row["version"] for row in asked(command, "versions", "churn") if row["live"]] == [1]
    assert "no promoted version before" in asked(command, "rollback", "churn", code=1)["error"]
    assert "has no version 9" in asked(command, "rollback", "churn", "--to", "9", code=1)["error"]
    assert command("rollback", "churn", "--to", "latest")[0] == 0
    assert (shop["refitd.models"].find_one() or {})["live"] == "latest"
    assert asked(command, "pause", "churn") == {"model": "churn", "paused": True}
    code, out, err = command("retrain", "churn")
    assert (code, out) == (0, "churn: a fit was asked for\n")
    assert "churn is paused" in err
    first = (shop["refitd.models"].find_one() or {})["retrain_now"]
    assert asked(command, "retrain", "churn")["retrain_now"] != first
    assert asked(command, "resume", "churn") == {"model": "churn", "paused": False}
    assert asked(command, "status")[0]["state"] == "fresh"


def test_names_that_are_near(db: refitd.Database, command: Command) -> None:
    fit(db)
    for name in ("show", "why", "versions", "fits", "retrain", "pause", "resume", "rollback", "predict", "rm", "logs"):
        code, _, err = command(name, "chrun")
        assert (code, "did you mean churn?" in err) == (1, True), name
        assert "did you mean churn?" in asked(command, name, "chrun", code=1)["error"]


def test_predict(db: refitd.Database, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(db)
    (tmp_path / "rows.csv").write_text("age,income\n20,2000\n80,62000\n")
    expected = asked(command, "predict", "churn", "rows.csv")
    assert (expected["model"], expected["version"], len(expected["predictions"])) == ("churn", 1, 2)
    lines = "".join(json.dumps(value) + "\n" for value in expected["predictions"])
    assert command("predict", "churn", "rows.csv") == (0, lines, "")
    for text in ('{"age": 20, "income": 2000}\n{"age": 80, "income": 62000}\n', "[[20, 2000], [80, 62000]]"):
        (tmp_path / "rows").write_text(text)
        assert command("predict", "churn", "rows", "--version", "1")[:2] == (0, lines)
    read, write = os.pipe()
    os.write(write, b"age,income\n20,2000\n80,62000\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert command("predict", "churn")[1] == lines
    (tmp_path / "rows").write_text('{"agee": 20}\n')
    assert "no row has a field `age`" in asked(command, "predict", "churn", "rows", code=1)["error"]
    assert "can't be read" in asked(command, "predict", "churn", "none", code=2)["error"]
    assert "has no version 2" in asked(command, "predict", "churn", "rows", "--version", "2", code=1)["error"]


def test_export(db: refitd.Database, command: Command, tmp_path: Path) -> None:
    fit(db)
    said = asked(command, "export", "churn", "out")
    assert said == {"model": "churn", "version": 1, "folder": "out", "files": ["model.skops"]}
    assert hasattr(skops.io.load(tmp_path / "out" / "model.skops", trusted=[]), "predict")
    assert "is not empty" in asked(command, "export", "churn", "out", code=2)["error"]
    assert "has no version 9" in asked(command, "export", "churn", "other", "--version", "9", code=1)["error"]
    assert not (tmp_path / "other").exists()


def test_cancel_where_there_is_nothing_to_cancel(db: refitd.Database, command: Command) -> None:
    fit(db)
    assert "has no fit under way" in asked(command, "cancel", "churn", code=1)["error"]
    assert "no model" in asked(command, "cancel", "chrun", code=1)["error"]


def test_gc_keeps_the_code_that_is_needed(
    db: refitd.Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = refitd.Module("coded", torch.nn.Linear(1, 1), preprocess=lambda x: torch.tensor([float(x)]))
    rows = refitd.Collection("customers").find({})
    with pytest.warns(UserWarning, match="this process may fit it"):
        model.fit(X="age", y="income", select=rows, db=db, max_epochs=1)
    db.store.documents.change("coded", {"object": {"class": "torch.nn.Linear", "params": [1, 1]}})
    asked(command, "gc")
    assert db.load("coded", 1).predict([20]).shape == (1,)


def test_rm_and_gc(db: refitd.Database, command: Command) -> None:
    for _ in range(3):
        fit(db)
    db.rollback("churn", 1)
    sizes = db.store.artifacts.all()
    orphan = db.store.artifacts.put(b"left by a fit that was killed")
    found = asked(command, "gc", "--dry-run")
    assert (found["versions"], found["artifacts"], found["held"]) == ({}, [orphan], None)
    assert asked(command, "gc")["artifacts"] == [orphan]
    assert db.store.artifacts.all() == sizes
    assert asked(command, "gc", "--keep", "1")["versions"] == {"churn": [2]}  # 1 is live, 3 the newest
    assert [row["version"] for row in db.versions("churn")] == [3, 1]
    assert db.load("churn").version.number == 1
    assert command("rm", "churn", "chrun")[0] == 1
    assert asked(command, "rm", "churn") == {"removed": ["churn"]}
    assert asked(command, "status") == []
    assert len(asked(command, "versions", "churn")) == 2
    code, out, _ = command("gc")
    assert code == 0
    assert "churn: removed: version 1, 3" in out
    assert db.store.artifacts.all() == {}
    assert asked(command, "versions", "churn", code=1)


def test_gc_leaves_artifacts_alone_while_a_fit_is_under_way(db: refitd.Database, command: Command) -> None:
    from registry.owner import this_process
    from tests.integration.test_python_api import claim

    fit(db)
    orphan = db.store.artifacts.put(b"may be this fit's")
    claim(db, this_process())
    found = asked(command, "gc")
    assert found["artifacts"] == []
    assert "1 fits are under way" in found["held"]
    assert orphan in db.store.artifacts.all()


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor(db: refitd.Database, command: Command, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFITD_COMPUTE", "local")
    fit(db)
    checks = {row["check"]: row for row in asked(command, "doctor")}
    assert {"datastore", "version", "replica set", "transactions", "change streams", "oplog"} <= set(checks)
    assert all(set(row) == {"check", "ok", "evidence", "fix", "warning"} for row in checks.values())
    assert checks["images"]["warning"]
    assert 'db.runCommand({collMod: "customers"' in checks["images"]["fix"]
    assert checks["daemon"]["fix"] == "refitd run"
    code, out, err = command("doctor", "--fix")
    assert code == 0
    assert "✓ images: MongoDB keeps them for customers" in out
    assert "fixed: images are kept for customers" in err
    with pytest.raises(FitError):
        fit(db, X="agee")
    shop.create_collection("log", capped=True, size=10_000)
    shop.create_collection("germans", viewOn="customers", pipeline=[])
    for name in ("log", "germans", "nowhere"):
        select = {"training_select": {"collection": name}}
        shop["refitd.models"].update_one({"_id": f"of {name}"}, {"$set": {**BASE, **select}}, upsert=True)
    failed = {row["check"]: row for row in asked(command, "doctor", code=1)}
    assert "no row has a field `agee`" in failed["model churn"]["evidence"]
    assert failed["model churn"]["fix"] == "refitd why churn"
    assert "is capped" in failed["collection log"]["evidence"]
    assert "is a view" in failed["collection germans"]["evidence"]
    assert failed["collection nowhere"]["warning"]


BASE = {"trainer": "sklearn", "object": {"class": "sklearn.cluster.KMeans"}, "train_X": "age"}


def test_doctor_finds_models_in_the_wrong_place(command: Command, shop: Shop) -> None:
    wrong = shop.client["refitd"]["models"]
    wrong.insert_one({"_id": "lost", "trainer": "sklearn"})
    try:
        checks = {row["check"]: row for row in asked(command, "doctor")}
    finally:
        shop.client.drop_database("refitd")
    assert 'getCollection("refitd.models")' in checks["misplaced models"]["fix"]


def test_doctor_without_a_server(command: Command) -> None:
    nowhere = "mongodb://u:canary@127.0.0.1:1/shop?serverSelectionTimeoutMS=100"
    rows = asked(command, "doctor", "--datastore", nowhere, code=1)
    assert rows[0]["check"] == "datastore"
    assert not rows[0]["ok"]
    assert "correct the datastore's URI" in rows[0]["fix"]
    assert "canary" not in json.dumps(rows)


def test_doctor_looks_for_the_cluster(command: Command, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFITD_COMPUTE", "ray://127.0.0.1:1")
    checks = {row["check"]: row for row in asked(command, "doctor", code=1)}
    assert "nothing answers at 127.0.0.1:1" in checks["ray cluster"]["evidence"]


# --- beside a daemon ------------------------------------------------------------------------------------------------


def test_beside_a_daemon(daemon: Any, db: refitd.Database, command: Command, shop: Shop) -> None:
    code, _, err = command("add", "churn.yaml")
    assert (code, "no daemon" in err) == (0, False)
    db.wait("churn", timeout=60)
    assert command("status")[2] == ""
    (feed,) = asked(command, "feeds")
    assert set(feed) == {"feed", "kind", "position", "lag_s", "retained_bytes", "resyncs", "dead_letters", "owner"}
    assert (feed["kind"], feed["resyncs"], feed["owner"] is not None) == ("mongodb", 0, True)
    assert "customers" in command("feeds")[1]
    shop.customers.insert_one({"age": 30, "income": 1, "churned": True, "country": "DE"})
    db.wait("churn", timeout=60)
    assert asked(command, "versions", "churn")[0]["reason"]["inserts"] == 1
    assert command("retrain", "churn", "--wait", "--timeout", "60")[:2] == (0, "churn: version 3\n")
    command("pause", "churn")
    shop.customers.insert_one({"age": 31, "income": 1, "churned": True, "country": "DE"})
    assert until(db.store, lambda: db.models()[0]["pending"] == 1, 60)
    assert asked(command, "status")[0]["state"] == "paused"
    assert asked(command, "why", "churn")["counts"]["inserts"] == 1
    command("resume", "churn")
    db.wait("churn", timeout=60)
    shop["refitd.models"].update_one({"_id": "churn"}, {"$set": {"object.class": "os.system"}})
    assert until(db.store, lambda: db.models()[0]["state"] == "invalid", 60)
    (row,) = asked(command, "status", code=1)
    assert (row["live"], row["error"].startswith("object.class: `os.system`")) == (4, True)
    shop["refitd.models"].update_one({"_id": "churn"}, {"$set": {"object.class": "sklearn.svm.SVC"}})
    assert db.wait("churn", timeout=60)["live"] >= 4


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "refitd", *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended without {text!r}:\n{said}")


def test_run_stops_on_a_signal(shop: Shop, tmp_path: Path, db: refitd.Database) -> None:
    process = start(tmp_path, "run", "--compute", "local", "--log-format", "json")
    try:
        read_until(process, '"following"')
        process.send_signal(signal.SIGHUP)
        db.add(tmp_path / "churn.yaml")
        db.wait("churn", timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.communicate()
    assert db.store.feeds.all()[0].owner is None


def test_demo(tmp_path: Path) -> None:
    process = start(tmp_path, "demo", "--json", "--timeout", "150")
    out, _ = process.communicate(timeout=170)
    assert process.returncode == 0, out
    story, _, document = out.partition("\n{\n")
    versions = json.loads("{" + document.partition("\n}\n")[0] + "}")["versions"]
    assert [row["rows"] for row in versions] == [457, 597, 1197, 1797]
    accuracies = [row["metrics"]["accuracy"] for row in versions]
    assert accuracies == sorted(accuracies)
    assert [row["reason"]["kind"] for row in versions] == ["added", "changes", "changes", "changes"]
    assert "no fit: none of them matches the select, so version 3 stays" in story
    assert "/tmp/refitd-demo-" in story
    assert not Path(story.partition("lies in ")[2].splitlines()[0]).exists()


def test_ctrl_c_in_the_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    process = start(tmp_path, "demo", "--compute", "local")
    folder = Path(read_until(process, "lies in ").partition("lies in ")[2].strip())
    read_until(process, "the daemon, with")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.communicate()
    assert not folder.exists()


def test_run_says_what_the_operator_must_mend(tmp_path: Path) -> None:
    done = start(tmp_path, "run", "--compute", "clouds")
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 2
    assert "error: compute is 'clouds'" in out
    assert "Traceback" not in out


def test_up_is_found_by_other_commands_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFITD_DATASTORE")
    process = start(tmp_path, "up", "--compute", "local")
    try:
        said = read_until(process, "following")
        assert "refitd add model.yaml" in said
        with refitd.connect() as db:
            db.store.connection.database.customers.insert_many(customers(50))  # type: ignore[attr-defined]
            db.add(tmp_path / "churn.yaml")
            assert db.wait("churn", timeout=60)["live"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / ".refitd" / "up.toml").exists()
    assert (tmp_path / ".refitd" / "data").is_dir()
