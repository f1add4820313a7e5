"""psycopg's errors as ours. https://www.postgresql.org/docs/current/errcodes-appendix.html"""

from __future__ import annotations

import re

import psycopg

from registry.errors import DatastoreUnavailable, DatastoreUnsuitable
from registry.postgres.uri import Login
from registry.redaction import redact

#: By the first two characters of the code: no use in trying again. All else may pass.
_HOPELESS = {"0A", "0L", "0P", "22", "23", "26", "28", "2B", "34", "3D", "3F", "42", "44", "54"}
_NOT_PREPARED = {"42P01", "3F000", "42703"}
_FORBIDDEN = "42501"
_LOCKED = "55P03"
_NOBODY = Login("the login", "the database")
_UNTRANSLATABLE = {"22P05", "22021", "22P02", "22030"}

# libpq gives no code when a login fails.
_LOGIN = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|role \".*\" does not exist|"
    r"is not permitted to log in|authentication failed|permission denied for database|certificate"
)
_DATABASE = re.compile(r"database \"(?P<name>.*)\" does not exist")
_DENIED = re.compile(r"permission denied for (?P<kind>\w+)(?: (?P<name>\S+))?")


def translate(error: psycopg.Error, login: Login = _NOBODY) -> DatastoreUnavailable | DatastoreUnsuitable:
    """The driver's error as one of ours.

    Args:
        login: who was connected, so that the message can say the exact GRANT.
    """
    code = error.sqlstate
    if code is None:
        return _without_code(error, login)
    said = redact(error.diag.message_primary or error)
    if code == _FORBIDDEN:
        return DatastoreUnsuitable(f"PostgreSQL refuses: {said}; {_grant(said, login)}")
    if code in _NOT_PREPARED and "refitd" in said:
        return DatastoreUnsuitable(
            f"PostgreSQL refuses: {said}; the registry is not prepared in {login.database}: start the daemon once "
            "(`refitd run`), with a login that may make tables"
        )
    if code in _UNTRANSLATABLE:
        return DatastoreUnsuitable(f"PostgreSQL refuses: {said}; JSON in it can't hold NUL characters, NaN or infinity")
    if code == _LOCKED:
        return DatastoreUnavailable(
            f"PostgreSQL failed: {said}; somebody holds a lock on the registry's rows: end that transaction "
            "(SELECT pid, query FROM pg_stat_activity WHERE wait_event_type = 'Client' AND xact_start IS NOT NULL)"
        )
    if code[:2] in _HOPELESS:
        return DatastoreUnsuitable(f"PostgreSQL refuses: {said} ({code})")
    return DatastoreUnavailable(f"PostgreSQL failed: {said} ({code})")


def _without_code(error: psycopg.Error, login: Login) -> DatastoreUnavailable | DatastoreUnsuitable:
    said = redact(_short(str(error)))
    if isinstance(error, psycopg.OperationalError):
        if _LOGIN.search(said):
            return DatastoreUnsuitable(
                f"PostgreSQL refuses the login: {said}; check user and password in the datastore's URI, and that "
                f"pg_hba.conf lets {login.user} into {login.database}"
            )
        if found := _DATABASE.search(said):
            return DatastoreUnsuitable(
                f"PostgreSQL refuses: {said}; make it (CREATE DATABASE {_quoted(found['name'])}), or name the right "
                "one in the datastore's URI"
            )
        return DatastoreUnavailable(f"PostgreSQL does not answer: {said}")
    if isinstance(error, psycopg.InterfaceError):
        return DatastoreUnavailable(f"PostgreSQL does not answer: {said}")
    return DatastoreUnsuitable(f"PostgreSQL refuses: {said}")


def _short(text: str) -> str:
    """The first line, without what libpq asks back."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ") if lines else "no reason given"


def _grant(said: str, login: Login) -> str:
    """The statement that an administrator has to run."""
    to = _quoted(login.user) if login is not _NOBODY else "the login of the datastore's URI"
    found = _DENIED.search(said)
    kind, name = (found["kind"], found["name"] or "") if found else ("", "")
    if kind == "schema":
        return f"GRANT USAGE, CREATE ON SCHEMA {name} TO {to}"
    if kind == "database":
        return f"GRANT CREATE ON DATABASE {_quoted(login.database)} TO {to}"
    if kind == "function":
        return f"GRANT EXECUTE ON FUNCTION {name} TO {to}"
    return f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA refitd TO {to}"


def _quoted(name: str) -> str:
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name)
    return name if plain else '"' + name.replace('"', '""') + '"'
