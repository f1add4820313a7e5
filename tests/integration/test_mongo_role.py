"""deploy/mongo/role.js: with these roles, on a real server with access control, everything works and nothing more."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from listener.daemon import Daemon, DaemonOptions
from refitd._mongod import Options, free_port
from refitd.database import connect

SCRIPT = Path(__file__).parents[2] / "deploy" / "mongo" / "role.js"
DOCUMENT = {
    "_id": "churn",
    "trainer": "sklearn",
    "object": {"class": "sklearn.tree.DecisionTreeClassifier"},
    "training_select": {"collection": "customers", "filter": {"age": {"$gte": 0}}},
    "train_X": ["age"],
    "train_y": "churned",
    "retrain": {"quiet": 0},
}


@dataclass(frozen=True)
class Guarded:
    """A server that asks for passwords, with a login of each role."""

    port: int

    def uri(self, user: str) -> str:
        return f"mongodb://{user}:pw@127.0.0.1:{self.port}/shop?replicaSet=rs0"

    def shop(self, user: str) -> Database[dict[str, Any]]:
        return MongoClient[dict[str, Any]](self.uri(user)).get_default_database()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    (folder / "db").mkdir()
    key = folder / "key"
    key.write_text(secrets.token_hex(64))
    key.chmod(0o400)
    command = [*Options(folder, port, 256, 0.25).command(port), "--auth", "--keyFile", str(key)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _set_up(port)
        yield Guarded(port)
    finally:
        server.kill()
        server.wait()


def _set_up(port: int) -> None:
    """Initiate the set and make the first user, both by the localhost exception; then the roles, as the script does."""
    with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as local:
        members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
        wait_until(lambda: _done(local, {"replSetInitiate": {"_id": "rs0", "members": members}}))
        wait_until(lambda: bool(local.admin.command("hello")["isWritablePrimary"]))
        local.admin.command("createUser", "root", pwd="pw", roles=["root"])
    uri = f"mongodb://root:pw@127.0.0.1:{port}/admin?replicaSet=rs0"
    with MongoClient[dict[str, Any]](uri) as root:
        for name, role in roles().items():
            root.shop.command({"createRole": name, "privileges": role, "roles": []})
        root.shop.command("createUser", "daemon", pwd="pw", roles=["refitdDaemon"])
        root.shop.command("createUser", "ada", pwd="pw", roles=["refitdModels"])
        root.shop.command("createUser", "app", pwd="pw", roles=["readWrite"])


def roles() -> dict[str, Any]:
    """What the script hands to createRole: it is JSON but for the database's name."""
    text = SCRIPT.read_text().replace("db.getName()", '"shop"')
    made = re.findall(r'db\.createRole\(\{role: "(\w+)", privileges: (\w+), roles: \[\]\}\);', text)
    return {role: json.loads(re.findall(rf"const {name} = (\[.*?\]);", text, re.DOTALL)[0]) for role, name in made}


def _done(client: MongoClient[dict[str, Any]], command: dict[str, Any]) -> bool:
    try:
        client.admin.command(command)
    except PyMongoError:
        return False
    return True


def wait_until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def daemon(guarded: Guarded) -> Iterator[Daemon]:
    daemon = Daemon(DaemonOptions(datastore=guarded.uri("daemon"), compute="local"))
    thread = threading.Thread(target=daemon.run)
    thread.start()
    yield daemon
    daemon.stop()
    thread.join(15)


def test_the_daemon_keeps_a_model_fresh_by_its_role(guarded: Guarded, daemon: Daemon) -> None:
    app = guarded.shop("app")
    app.customers.insert_many([{"age": n, "churned": n % 2} for n in range(20)])
    guarded.shop("ada")["refitd.models"].insert_one(DOCUMENT)
    with connect(guarded.uri("daemon")) as db:
        wait_until(lambda: len(db.models()) == 1)
        assert db.wait("churn", timeout=60)["live"] == 1
        app.customers.insert_one({"age": 20, "churned": 0})
        wait_until(lambda: db.status("churn")["live"] == 2)
        assert db.load("churn").predict([{"age": 20}]) == [0]


def test_the_daemons_role_writes_no_rows_of_the_users(guarded: Guarded) -> None:
    rows = guarded.shop("daemon").customers
    writes: tuple[Callable[[], Any], ...] = (
        lambda: rows.insert_one({}),
        lambda: rows.update_many({}, {"$set": {"age": 0}}),
        lambda: rows.delete_many({}),
        rows.drop,
    )
    for write in writes:
        with pytest.raises(OperationFailure, match="not authorized"):
            write()


def test_who_adds_models_reads_no_rows(guarded: Guarded) -> None:
    with pytest.raises(OperationFailure, match="not authorized"):
        guarded.shop("ada").customers.find_one()
    with pytest.raises(OperationFailure, match="not authorized"):
        guarded.shop("ada")["refitd.versions"].insert_one({})
