"""The embedded servers: which port is tried, and what is read out of PostgreSQL's words."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from refitd._embedded_server import HOST, free_port, is_free
from refitd._postgres import Options, environment, evidence, is_ready, was_left_behind


def options(folder: Path, port: int | None = None) -> Options:
    return Options(folder, port, folder / "bin")


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        assert not is_free(taken.getsockname()[1])
    assert is_free(free_port())


def test_the_port_asked_for_is_the_only_one_tried(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("4711")
    assert options(tmp_path, 5432).ports() == [5432]


def test_the_port_of_the_last_run_is_tried_first(tmp_path: Path) -> None:
    last = free_port()
    (tmp_path / "port").write_text(str(last))
    ports = options(tmp_path).ports()
    assert ports[0] == last
    assert len(ports) == 4


def test_the_port_of_the_last_run_is_not_tried_while_it_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        last = taken.getsockname()[1]
        (tmp_path / "port").write_text(str(last))
        assert last not in options(tmp_path).ports()


def test_a_damaged_port_file_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("")
    assert len(options(tmp_path).ports()) == 3


def test_further_arguments_come_last_so_that_they_win(tmp_path: Path) -> None:
    command = Options(tmp_path, None, tmp_path, ("-c", "wal_level=minimal")).command(7)
    assert command[-2:] == ["-c", "wal_level=minimal"]
    assert "port=7" in command


def test_the_environment_has_none_of_postgresqls_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert not [name for name in environment() if name.startswith("PG")]
    assert environment()["LC_ALL"] == "C"


@pytest.mark.parametrize(
    ("lines", "ready"),
    [
        (["41", "/db", "0", "5432", "", "127.0.0.1", "1 2", "ready   "], True),
        (["41", "/db", "0", "5432", "", "127.0.0.1", "1 2", "starting"], False),
        (["42", "/db", "0", "5432", "", "127.0.0.1", "1 2", "ready   "], False),
        (["41", "/db", "0", "5432"], False),
        ([], False),
    ],
)
def test_it_is_ready_when_this_process_says_so(tmp_path: Path, lines: list[str], ready: bool) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "postmaster.pid").write_text("\n".join(lines))
    assert is_ready(options(tmp_path), 41) is ready


def test_without_a_lock_it_is_not_ready(tmp_path: Path) -> None:
    assert not is_ready(options(tmp_path), 41)
    assert not was_left_behind(options(tmp_path))


def test_a_lock_is_not_taken_for_left_behind_while_its_holder_is_in_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    assert was_left_behind(options(tmp_path))
    monkeypatch.chdir(tmp_path / "db")
    assert not was_left_behind(options(tmp_path))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "it wrote nothing"),
        ("libx.so: cannot open shared object file\n", "libx.so: cannot open shared object file"),
        ("2026-11-23 11:34:23 UTC [9] LOG:  starting\n2026 UTC [9] FATAL:  no\n2026 UTC [9] HINT:  do\n", "no; do"),
        ("FATAL:  first\nDETAIL:  of the first\nFATAL:  last\n", "last"),
        ('initdb: error: invalid locale name "x"\ninitdb: hint: another\n', 'invalid locale name "x"; another'),
    ],
)
def test_what_is_wrong_is_said_in_the_programs_words(written: str, said: str) -> None:
    assert evidence(written) == said
