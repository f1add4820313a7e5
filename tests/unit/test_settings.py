"""Settings: precedence, all faults at once, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from refitd.settings import load_settings, variables
from refitd.signing import kept_key
from registry.code import Key
from registry.errors import SettingsInvalid
from registry.owner import this_process
from registry.redaction import redact
from registry.trust import DEFAULT_MODULES

GONE = "somewhere/boot/1/1/1"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and none of the developer's own variables."""
    import os

    for name in [name for name in os.environ if name.startswith("REFITD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def fault(**given: object) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(**given)  # type: ignore[arg-type]
    return str(caught.value)


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.datastore, settings.compute, settings.artifacts, settings.lease) == (None, None, None, 5.0)
    assert settings.trusted.modules == DEFAULT_MODULES
    assert (settings.log.format, settings.log.level) == (None, "info")


def test_the_stronger_source_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".refitd").mkdir()
    (tmp_path / ".refitd" / "up.toml").write_text(f'datastore = "mongodb://up/x"\nowner = "{this_process()}"\n')
    assert load_settings().datastore == "mongodb://up/x"
    (tmp_path / "refitd.toml").write_text('datastore = "mongodb://file/x"\nlease = "7s"\n[log]\nlevel = "debug"\n')
    assert load_settings().datastore == "mongodb://file/x"
    monkeypatch.setenv("REFITD_DATASTORE", "mongodb://env/x")
    monkeypatch.setenv("REFITD_LOG__FORMAT", "json")
    settings = load_settings()
    assert (settings.datastore, settings.lease) == ("mongodb://env/x", 7.0)
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert load_settings(datastore="mongodb://given/x", compute=None).datastore == "mongodb://given/x"


def test_a_dead_up_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".refitd").mkdir()
    (tmp_path / ".refitd" / "up.toml").write_text(f'datastore = "mongodb://up/x"\nowner = "{GONE}"\n')
    monkeypatch.setattr("refitd.settings.is_dead", lambda owner: owner == GONE)
    assert load_settings().datastore is None


def test_the_settings_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('compute = "local"\n')
    assert load_settings(tmp_path / "mine.toml").compute == "local"
    monkeypatch.setenv("REFITD_CONFIG", "mine.toml")
    assert load_settings().compute == "local"
    monkeypatch.setenv("REFITD_CONFIG", "missing.toml")
    assert "missing.toml can't be read" in fault()


@pytest.mark.parametrize("value", ["mycompany, other.models", '["mycompany", "other.models"]'])
def test_modules_are_added_to_the_trusted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("REFITD_TRUST__MODULES", value)
    assert load_settings().trusted.modules == (*DEFAULT_MODULES, "mycompany", "other.models")


def test_all_faults_are_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFITD_LEASE", "soon")
    monkeypatch.setenv("REFITD_DATASTROE", "mongodb://x/y")
    (tmp_path / "refitd.toml").write_text('computer = "ray"\n[log]\nformat = "xml"\n')
    said = fault(artifacts=3)
    assert "REFITD_LEASE: not a duration: 'soon'" in said
    assert "no setting REFITD_DATASTROE; did you mean REFITD_DATASTORE?" in said
    assert "no setting computer; did you mean compute?" in said
    assert "log.format in the settings file" in said
    assert "--artifacts" in said


def test_variables_of_others_are_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFITD_FAILPOINT", "after-record")
    assert load_settings().datastore is None


def test_a_group_given_as_one_variable_says_which_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFITD_LOG", "json")
    assert "REFITD_LOG is a group of settings: set REFITD_LOG__FORMAT, REFITD_LOG__LEVEL" in fault()


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "refitd.toml").write_text("datastore = mongodb://x\n")
    assert "refitd.toml is not TOML" in fault()


def test_without_a_datastore_it_says_how_to_set_one() -> None:
    with pytest.raises(SettingsInvalid, match=r"REFITD_DATASTORE=.*--datastore.*refitd up"):
        load_settings().need_datastore()


def test_no_secret_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFITD_LEASE", "mongodb://ada:canary@host/db")
    assert "canary" not in fault()


def test_every_setting_says_what_it_means() -> None:
    assert all(meaning for _, meaning in variables())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mongodb://u:pw@h:1/d?x=1", "mongodb://u:***@h:1/d?x=1"),
        ("mongodb+srv://u:p%40w@h/d", "mongodb+srv://u:***@h/d"),
        ("can't reach 'mongodb://u:p@ss/w@h,h2/d'.", "can't reach 'mongodb://u:***@h,h2/d'."),
        ("postgresql://h/d?user=u&password=pw&sslmode=x", "postgresql://h/d?user=u&password=***&sslmode=x"),
        ("mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:tok", "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:***"),
        ("mongodb://u@h:27017/d", "mongodb://u@h:27017/d"),
        ("mongodb://127.0.0.1:27017/d?replicaSet=rs0", "mongodb://127.0.0.1:27017/d?replicaSet=rs0"),
        (None, "None"),
    ],
)  # fmt: skip
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_signing_key_that_could_be_guessed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(" \n")
    (tmp_path / "good").write_text(f"{'k' * 16}\n")
    for given in ({"signing_key": ""}, {"signing_key_file": tmp_path / "key"}):
        with pytest.raises(SettingsInvalid, match="is empty, and anybody could sign with that"):
            _ = load_settings(**given).trusted
    with pytest.warns(UserWarning, match="so short"):
        assert load_settings(signing_key="short").key == Key(b"short")
    with pytest.raises(SettingsInvalid, match="can't be read"):
        _ = load_settings(signing_key_file=tmp_path / "none").trusted
    assert load_settings(signing_key_file=tmp_path / "good").key == Key(b"k" * 16)
    monkeypatch.setenv("REFITD_SIGNING_KEY", "s" * 20)
    assert load_settings().key == Key(b"s" * 20)
    assert "sss" not in f"{load_settings()!r}"


def test_a_key_of_this_places_own_is_made_once(tmp_path: Path) -> None:
    made = kept_key(tmp_path / "signing.key").read_text()
    assert kept_key(tmp_path / "signing.key").read_text() == made
    assert len(made) == 64
    assert (tmp_path / "signing.key").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["signing.key"]
