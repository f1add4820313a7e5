"""Records and documents as PostgreSQL holds them, its URIs, and its errors as ours: without a server."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from bson import ObjectId

from registry.errors import DatastoreUnavailable, DatastoreUnsuitable, DocumentInvalid, SettingsInvalid
from registry.postgres.documents import document_of, spec_of, status_of
from registry.postgres.failures import translate
from registry.postgres.rows import parse_time, plain, show_time
from registry.postgres.schema import MIGRATIONS, _statements
from registry.postgres.stamps import PgStamp, Snapshot
from registry.postgres.store import end_of_records, parse_lsn, show_lsn, shown
from registry.postgres.uri import Login, parameters

AT = datetime(2026, 11, 23, 7, 0, 24, 123456, tzinfo=UTC)


class TestDocuments:
    def test_columns_win_over_what_the_spec_says_of_them(self) -> None:
        spec = {"_id": "x", "id": "y", "status": {"state": "fresh"}, "trainer": "sklearn"}
        assert document_of({"id": "m", "spec": json.dumps(spec), "status": None}) == {"_id": "m", "trainer": "sklearn"}

    def test_times_in_a_status_are_times_and_all_else_stays(self) -> None:
        stored = {"at": show_time(AT), "due_at": "soon", "fitted_at": 5, "state": "2026-11-23T07:00:24Z"}
        assert status_of(stored) == {"at": AT, "due_at": "soon", "fitted_at": 5, "state": "2026-11-23T07:00:24Z"}
        assert status_of([1]) == [1]

    def test_times_and_tuples_become_json(self) -> None:
        model, spec = spec_of({"_id": "m", "status": {}, "retrain_now": AT, "day": date(2026, 1, 2), "x": (1, 2.5)})
        assert (model, spec) == (
            "m",
            {"retrain_now": "2026-11-23T07:00:24.123456Z", "day": "2026-01-02", "x": [1, 2.5]},
        )

    def test_all_that_json_cannot_hold_is_told_at_once(self) -> None:
        with pytest.raises(DocumentInvalid) as caught:
            spec_of({"_id": "m", "a": {"b": [1, float("nan")]}, "c": b"x", "d": "x\0", "e": {1: 2}, "f": ObjectId()})
        assert [fault.path for fault in caught.value.faults] == ["a.b.1", "c", "d", "e", "f"]

    @pytest.mark.parametrize("name", [None, 5, "a\0b", "\ud800"])
    def test_a_name_is_text(self, name: Any) -> None:
        with pytest.raises(DocumentInvalid, match="no name"):
            spec_of({"_id": name})


class TestValues:
    def test_what_json_lacks_gets_a_name(self) -> None:
        value = {"a": float("inf"), "b": [float("nan")], 3: ("x\0y", "\udcff"), "t": AT, "s": PgStamp("h", lsn=3)}
        assert plain(value) == {
            "a": "inf", "b": ["nan"], "3": ["x\N{REPLACEMENT CHARACTER}y", "?"], "t": show_time(AT),
            "s": {"history": "h", "lsn": 3},
        }  # fmt: skip

    def test_times_are_in_utc(self) -> None:
        east = AT.astimezone(timezone(timedelta(hours=5)))
        assert show_time(east) == show_time(AT) == "2026-11-23T07:00:24.123456Z"
        assert parse_time(show_time(east)) == AT
        assert parse_time("2026-11-23T07:00:24.123456") == AT


class TestPlacesInTheLog:
    @pytest.mark.parametrize("lsn", ["0/0", "0/16B3748", "A/FF000028", "FFFFFFFF/FFFFFFFF"])
    def test_text_and_number(self, lsn: str) -> None:
        assert show_lsn(parse_lsn(lsn)) == lsn

    def test_no_lsn(self) -> None:
        with pytest.raises(ValueError, match="no LSN"):
            parse_lsn("16B3748")

    @pytest.mark.parametrize(
        ("lsn", "expected"),
        [
            (0x3000028, 0x3000000),  # a file begins
            (0x3002018, 0x3002000),  # a page begins
            (0x3002028, 0x3002028),  # 16 bytes of a record lie on the page
            (0x3002000, 0x3002000),
            (0x3000060, 0x3000060),
        ],
    )
    def test_the_end_of_a_record_at_a_border_is_the_border(self, lsn: int, expected: int) -> None:
        assert end_of_records(lsn, 8192, 16 << 20) == expected


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        (PgStamp("h", Snapshot(742)), "transactions before 742"),
        (PgStamp("h", Snapshot(742, frozenset({740})), lsn=5), "transactions before 742 but for 740"),
        (PgStamp("h", xids=frozenset({743, 742})), "742, 743"),
        (PgStamp("h", xids=frozenset(range(1, 9))), "1, 2, 3, 5 more"),
        (PgStamp("h", Snapshot(7), frozenset({9})), "transactions before 7 and 9"),
        (PgStamp("h", lsn=0x16B3748), "0/16B3748"),
    ],
)
def test_stamps_are_short(stamp: PgStamp, text: str) -> None:
    assert shown(stamp) == text


class TestUris:
    @pytest.mark.parametrize(
        ("uri", "says"),
        [
            ("postgresql://u:secret@h", "names no database"),
            ("postgresql://u:se/cret@h/db", "percent|%2F"),
            ("postgresql://u:secret@x@h/db", "%40"),
            ("postgresql://u:sec%zzret@h/db", "%25"),
            ("postgresql://u:secret@h:port/db", "port"),
            ("postgresql://u:secret@h/db?sslmod=require", "sslmod"),
        ],
    )
    def test_an_unusable_one_is_told_without_its_password(self, uri: str, says: str) -> None:
        with pytest.raises(SettingsInvalid, match=says) as caught:
            parameters(uri, 10)
        assert "sec" not in str(caught.value)

    def test_the_users_own_parameters_win(self) -> None:
        found = parameters(
            "postgresql://u@h/db?connect_timeout=7&application_name=mine&options=-c%20work_mem%3D1MB", 10
        )
        assert (found["connect_timeout"], found["application_name"]) == ("7", "mine")
        assert found["options"] == "-c work_mem=1MB"
        assert parameters("postgres://u@h/db", 0.5)["connect_timeout"] == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("said", "says"),
        [
            ('connection failed: … FATAL:  password authentication failed for user "u"', "check user and password"),
            ('connection failed: … FATAL:  role "u" does not exist', "check user and password"),
            ('connection failed: … FATAL:  database "My db" does not exist', 'CREATE DATABASE "My db"'),
        ],
    )
    def test_a_refused_login_says_the_fix(self, said: str, says: str) -> None:
        found = translate(psycopg.OperationalError(said), Login("u", "db"))
        assert isinstance(found, DatastoreUnsuitable)
        assert says in str(found)

    @pytest.mark.parametrize(
        "error",
        [
            psycopg.OperationalError("connection failed: Connection refused\n\tIs the server running?"),
            psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"),
            psycopg.InterfaceError("the connection is closed"),
            psycopg.errors.AdminShutdown("x"),
            psycopg.errors.TooManyConnections("x"),
            psycopg.errors.LockNotAvailable("x"),
            psycopg.errors.SerializationFailure("x"),
            psycopg.errors.QueryCanceled("x"),
            psycopg.errors.ReadOnlySqlTransaction("x"),
            psycopg.errors.DiskFull("x"),
        ],
    )
    def test_what_may_pass_is_unavailable(self, error: psycopg.Error) -> None:
        assert isinstance(translate(error), DatastoreUnavailable)

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (
                psycopg.errors.InsufficientPrivilege("permission denied for schema refitd"),
                "GRANT USAGE, CREATE ON SCHEMA",
            ),
            (psycopg.errors.InsufficientPrivilege("permission denied for table feeds"), "GRANT SELECT, INSERT"),
            (
                psycopg.errors.InsufficientPrivilege("permission denied for database db"),
                "GRANT CREATE ON DATABASE db TO",
            ),
            (psycopg.errors.InsufficientPrivilege("permission denied for function pg_x"), "ON FUNCTION pg_x"),
            (psycopg.errors.UndefinedTable('relation "refitd.feeds" does not exist'), "not prepared"),
            (psycopg.errors.UntranslatableCharacter("unsupported Unicode escape sequence"), "NUL"),
            (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), "NUL"),
        ],
    )
    def test_what_will_not_pass_says_the_fix(self, error: psycopg.Error, says: str) -> None:
        found = translate(error, Login("o'neil", "db"))
        assert isinstance(found, DatastoreUnsuitable)
        assert says in str(found)

    def test_a_password_is_not_told(self) -> None:
        said = "invalid dsn postgresql://u:secret@h/db"
        assert "secret" not in str(translate(psycopg.OperationalError(said)))


def test_a_migration_is_cut_into_its_statements() -> None:
    found = [statement for migration in MIGRATIONS for statement in _statements(migration)]
    assert all(statement.startswith(("CREATE ", "ALTER ")) for statement in found)
    assert _statements("CREATE a;\n-- it's; said\nCREATE b;\n") == ["CREATE a", "CREATE b"]
