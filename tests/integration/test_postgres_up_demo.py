"""`refitd up` and `refitd demo` with PostgreSQL, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

import refitd
from refitd._embedded_server import free_port
from tests.fixtures.embedded import wait_until
from tests.integration.test_cli import Command, asked, command, read_until, start

__all__ = ["command"]

SPEC = {
    "trainer": "sklearn",
    "object": {"class": "sklearn.svm.SVC"},
    "training_select": "SELECT age, income, churned FROM customers WHERE country = 'DE'",
    "train_X": ["age", "income"],
    "train_y": "churned",
    "retrain": {"quiet": "0s"},
}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REFITD_DATASTORE", raising=False)


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command in that folder, killed in the end if it still runs."""
    process = start(folder, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`refitd up`, following; afterwards ended by SIGTERM, in time and with nothing left."""
    with running(folder, "up", "--compute", "local", *arguments) as process:
        read_until(process, "following")
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not (folder / ".refitd" / "up.toml").exists()
    assert wait_until(lambda: not processes_in(folder)), processes_in(folder)


def processes_in(folder: Path) -> list[str]:
    """What else has its current folder there, removed or not, or below: the servers and the fits do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            where = str((process / "cwd").readlink()).removesuffix(" (deleted)")
            if Path(where).is_relative_to(folder) and process.name != str(os.getpid()):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def insert_customers(connection: psycopg.Connection[tuple[Any, ...]], first: int, count: int) -> None:
    connection.execute(
        "INSERT INTO customers SELECT n, 18 + n %% 70, 1000 * n, n %% 70 < 30, 'DE'"
        " FROM generate_series(%s::int, %s::int) AS n",
        [first, first + count - 1],
    )


def test_demo(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--datastore", "postgresql", "--compute", "local", "--json") as process:
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    story, _, document = out.partition("\n{\n")
    versions = json.loads("{" + document.partition("\n}\n")[0] + "}")["versions"]
    assert [row["rows"] for row in versions] == [457, 597, 1197, 1797]
    accuracies = [row["metrics"]["accuracy"] for row in versions]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] < accuracies[-1]
    assert [row["reason"]["kind"] for row in versions] == ["added", "changes", "changes", "changes"]
    assert [(row["reason"]["inserts"], row["reason"]["updates"]) for row in versions[1:]] == [
        (140, 0), (600, 0), (0, 600),
    ]  # fmt: skip
    assert "ALTER TABLE scans REPLICA IDENTITY FULL;" in story
    assert "INSERT INTO refitd.models (id, spec) VALUES ('digits', '{" in story
    assert "no fit: none of them matches the select, so version 3 stays" in story
    assert "replication slot" in story
    assert "MongoDB" not in story
    assert_nothing_left(story)


@pytest.mark.parametrize(
    ("which", "code", "after"),
    [
        (signal.SIGINT, 130, "the daemon, with"),
        (signal.SIGTERM, 143, "PostgreSQL at"),
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_the_demo_ended_by_a_signal_leaves_nothing_behind(
    tmp_path: Path, which: signal.Signals, code: int, after: str
) -> None:
    with running(tmp_path, "demo", "--datastore", "postgresql", "--compute", "local") as process:
        story = read_until(process, after)
        process.send_signal(which)
        assert process.wait(30) == code
    assert_nothing_left(story)


def test_the_demo_ended_while_initdb_runs_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--datastore", "postgresql", "--compute", "local") as process:
        story = read_until(process, "lies in")
        assert wait_until(lambda: any(folder_of(story).glob("postgres/db.new/base/1/*")))  # its child writes there
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert_nothing_left(story)


def folder_of(story: str) -> Path:
    return Path(story.partition("lies in ")[2].splitlines()[0])


def assert_nothing_left(story: str) -> None:
    folder = folder_of(story)
    assert folder.name.startswith("refitd-demo-")
    assert wait_until(lambda: not processes_in(folder)), processes_in(folder)
    assert not folder.exists()


def test_up_fits_what_plain_sql_writes_and_keeps_it(tmp_path: Path, command: Command) -> None:
    with up(tmp_path, "--datastore", "postgresql"), refitd.connect() as db:
        assert asked(command, "status") == []
        with psycopg.connect(db.datastore, autocommit=True) as client:
            client.execute(
                "CREATE TABLE customers (id int PRIMARY KEY, age int, income float8, churned bool, country text)"
            )
            insert_customers(client, 0, 100)
            client.execute("INSERT INTO refitd.models (id, spec) VALUES ('churn', %s)", [json.dumps(SPEC)])
        assert db.wait("churn", timeout=60)["live"] == 1
        assert asked(command, "status")[0]["state"] == "fresh"
        first = db.datastore
    assert (tmp_path / ".refitd" / "postgres").is_dir()
    assert not (tmp_path / ".refitd" / "data").exists()
    with up(tmp_path, "--datastore", "postgres"), refitd.connect() as db:
        assert db.datastore == first  # on the same port
        with psycopg.connect(db.datastore, autocommit=True) as client:
            insert_customers(client, 100, 10)
        assert db.wait("churn", timeout=60)["live"] == 2
        newest, oldest = asked(command, "versions", "churn")
        assert (newest["rows"], newest["reason"]["inserts"], oldest["rows"]) == (110, 10, 100)


def test_up_on_a_port_beside_the_data_of_the_other_kind(tmp_path: Path, command: Command) -> None:
    with up(tmp_path), refitd.connect() as db:
        assert db.datastore.startswith("mongodb://")
        with running(tmp_path, "up", "--datastore", "postgresql") as second:
            out, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert "another `refitd up` runs in this folder" in out
        assert asked(command, "status") == []
    port = free_port()
    with running(tmp_path, "up", "--compute", "local", "--datastore", "postgresql", "--port", str(port)) as process:
        said = read_until(process, "following")
    uri = f"postgresql://postgres@127.0.0.1:{port}/app"
    assert f"PostgreSQL  {uri}" in said
    assert "the data stay in .refitd/postgres." in said
    assert {one.name for one in (tmp_path / ".refitd").iterdir() if one.is_dir()} == {"data", "postgres"}
    assert wait_until(lambda: not processes_in(tmp_path)), processes_in(tmp_path)  # though it was killed
