"""What the command reads and prints, without a server: files, rows, JSON, tables, options, errors."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from bson import ObjectId

from refitd import __version__
from refitd.checks.mongo_rights import allowed
from refitd.cli import COMMANDS, cli, run
from refitd.cli.output import pairs, table
from refitd.plain import plain, show_time, to_json
from refitd.reading import read_documents
from refitd.rows import read_rows
from refitd.views import ago, describe_reason
from registry.errors import DocumentInvalid, RowsUnusable

AT = datetime(2026, 11, 23, 7, 0, 24, 123456, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REFITD_DATASTORE", raising=False)


# --- values as JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AT, "2026-11-23T07:00:24.123Z"),
        (AT.replace(tzinfo=None), "2026-11-23T07:00:24.123Z"),
        (date(2026, 11, 23), "2026-11-23"),
        (math.nan, None),
        ([math.inf, 1.5, True, None], [None, 1.5, True, None]),
        ({1: (2, {"a": np.float64("nan")})}, {"1": [2, {"a": None}]}),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.int64(3), 3),
        (ObjectId("6b03f0a07a1246db1c77a218"), "6b03f0a07a1246db1c77a218"),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_json_has_no_nan_and_no_secrets() -> None:
    shown = to_json({"a": math.nan, "b": "mongodb://u:canary@h/d"})
    assert json.loads(shown) == {"a": None, "b": "mongodb://u:***@h/d"}


def test_times_for_people() -> None:
    assert show_time(AT) == "2026-11-23T07:00:24.123Z"
    assert [ago(AT, later) for later in (AT.replace(second=25), AT.replace(minute=5), AT.replace(hour=9))] == [
        "1s ago", "5m ago", "2h ago",
    ]  # fmt: skip
    assert ago(None, AT) == "-"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ({"kind": "changes", "inserts": 2, "updates": 0, "deletes": 1}, "2 inserts, 1 delete"),
        ({"kind": "added"}, "new model"),
        ({"kind": "requested", "updates": 1}, "asked for (1 update)"),
        ({"kind": "resync", "resyncs": 1}, "resync (1 resync)"),
        ({"kind": "changes", "other": 1}, "1 other"),
    ],
)
def test_reasons_for_people(reason: dict[str, Any], said: str) -> None:
    assert describe_reason(reason) == said


def test_a_table_is_plain_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    table(("NAME", "N"), [("a", 1), ("bcd\ne", None), ("x", 0.123456), ("y", True)])
    assert capsys.readouterr().out == "NAME   N\na      1\nbcd e  -\nx      0.1235\ny      yes\n"
    pairs([("name", "x"), ("longer", "1\n2"), ("nothing", None)])
    assert capsys.readouterr().out == "name    x\nlonger  1\n        2\n"


# --- files of documents ---------------------------------------------------------------------------------------------


def documents(tmp_path: Path, text: str, name: str = "m.yaml") -> list[Any]:
    (tmp_path / name).write_text(text)
    return list(read_documents(tmp_path / name))


def test_several_documents_in_one_file(tmp_path: Path) -> None:
    assert documents(tmp_path, "_id: a\n---\n_id: b\n---\n") == [{"_id": "a"}, {"_id": "b"}]
    assert documents(tmp_path, "- _id: a\n- _id: b\n") == [{"_id": "a"}, {"_id": "b"}]
    assert documents(tmp_path, '[{"_id": "a"}, {"_id": "b"}]', "m.json") == [{"_id": "a"}, {"_id": "b"}]


def test_extended_json_and_yaml_days(tmp_path: Path) -> None:
    text = (
        '{"a": {"$oid": "6b03f0a07a1246db1c77a218"}, "b": {"$gt": {"$date": "2026-11-23T07:00:00Z"}},'
        ' "c": {"$numberLong": "5"}}'
    )
    (found,) = documents(tmp_path, text, "m.json")
    assert found["a"] == ObjectId("6b03f0a07a1246db1c77a218")
    assert found["b"] == {"$gt": datetime(2026, 11, 23, 7, tzinfo=UTC)}
    assert found["c"] == 5
    (found,) = documents(tmp_path, "since: 2026-11-23\nat: 2026-11-23T07:00:00\nname: {$regex: ^a, $options: i}\n")
    assert found["since"] == datetime(2026, 11, 23, tzinfo=UTC)
    assert found["at"] == datetime(2026, 11, 23, 7, tzinfo=UTC)
    assert found["name"] == {"$regex": "^a", "$options": "i"}


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "m.yaml", "is empty"),
        ("- 5", "m.yaml", "holds int '5'"),
        ("a: [", "m.yaml", "is not YAML"),
        ("{", "m.json", "is not JSON"),
        ('{"a": {"$oid": "x"}}', "m.json", "faulty value of extended JSON"),
        ("!!python/object/apply:os.system [true]", "m.yaml", "is not YAML"),
    ],
)
def test_files_that_hold_no_documents(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(DocumentInvalid, match=said) as caught:
        documents(tmp_path, text, name)
    assert name in caught.value.faults[0].path


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentInvalid, match="can't be read"):
        read_documents(tmp_path / "none.yaml")


# --- rows to predict ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("[1, 2]\n[3, 4]\n", [[1, 2], [3, 4]]),
        ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        ('["good", "bad"]', ["good", "bad"]),
        ('"good"\n"bad"\n', ["good", "bad"]),
        ("5\n-6.5\n", [5, -6.5]),
        ("a,b,c,d\n1,x,,true\n-2.5,007,nan,false\n",
         [{"a": 1, "b": "x", "c": None, "d": True}, {"a": -2.5, "b": "007", "c": "nan", "d": False}]),
        ('name\n"a, b"\n', [{"name": "a, b"}]),
    ],
)  # fmt: skip
def test_rows_are_read_in_every_form(text: str, rows: list[Any]) -> None:
    assert read_rows(text, "-") == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "stdin is empty"),
        ("a,b\n", "holds no rows"),
        ("[]", "holds no rows"),
        ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
    ],
)
def test_rows_that_can_t_be_read(text: str, said: str) -> None:
    with pytest.raises(RowsUnusable, match=said):
        read_rows(text, "-")


# --- options, help, errors ------------------------------------------------------------------------------------------


def test_every_command_has_help_and_the_global_options() -> None:
    with click.Context(cli) as context:
        assert cli.list_commands(context) == list(COMMANDS)
        for name, (_, line) in COMMANDS.items():
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert command.help
            assert line.endswith(".")
            assert {"datastore", "config", "json"} <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize(("name", "takes"), [("up", "KIND"), ("demo", "KIND"), ("run", "URI")])
def test_what_starts_a_datastore_takes_a_kind(name: str, takes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"--datastore {takes} " in capsys.readouterr().out


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"refitd {__version__}"
    assert run(["--help"]) == 0
    assert all(name in capsys.readouterr().out for name in ("Commands:",))
    assert run(["status", "-h"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["statsu"], 2, "did you mean `refitd status`?"),
        (["nothing-like-it"], 2, "No such command"),
        (["show"], 2, "Missing argument 'MODEL'"),
        (["rollback", "m", "--to", "x"], 2, "neither a version's number nor `latest`"),
        (["status"], 2, "no datastore is set"),
        (["--datastore", "redis://x", "status"], 2, "mongodb://HOST:PORT/DATABASE"),
        (["status", "--datastore", "mongodb://127.0.0.1"], 2, "the datastore's URI can't be used"),
        (["--config", "none.toml", "status"], 2, "none.toml can't be read"),
        (["up", "--datastore", "postgresql://u:canary@h/d"], 2, "it is `refitd run --datastore URI`"),
        (["--datastore", "mysql", "up"], 2, "--datastore names a kind here: mongodb or postgresql"),
        (["demo", "--datastore", "mongodb://u:canary@h/d"], 2, "`refitd demo` starts a datastore"),
    ],
)
def test_errors_in_both_forms(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "canary" not in captured.err
    assert run([*arguments, "--json"]) == code
    captured = capsys.readouterr()
    assert said in json.loads(captured.out)["error"]
    assert "canary" not in captured.out


def test_the_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"_id", "trainer", "object", "training_select", "train_X"} == set(schema["required"])


def test_the_command_starts_without_the_frameworks() -> None:
    code = (
        "import sys; from refitd.cli import run; run(['schema']); import refitd.standing, refitd.session;"
        "heavy = ('sklearn', 'torch', 'ray', 'pandas', 'rich', 'yaml');"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.stderr.strip() == "[]"


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from refitd.cli import main; main(['schema'])"
    done = subprocess.run(
        f"{sys.executable} -c \"{code}\" | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("{", "", 0)


# --- rights ---------------------------------------------------------------------------------------------------------


def test_what_privileges_allow() -> None:
    privileges = [
        {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]},
        {"resource": {"db": "shop", "collection": "refitd.models"}, "actions": ["insert"]},
        {"resource": {"db": "", "collection": ""}, "actions": ["changeStream"]},
        {"resource": {"db": "other", "collection": ""}, "actions": ["remove"]},
        {"resource": {"cluster": True}, "actions": ["shutdown"]},
        {"resource": {"anyResource": True}, "actions": ["anyAction"]},
    ]
    assert allowed(privileges, "shop", "refitd.models") == {"find", "insert", "changeStream", "anyAction"}
    assert allowed(privileges, "shop", "customers") == {"find", "changeStream", "anyAction"}
