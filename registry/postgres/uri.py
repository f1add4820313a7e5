"""The URI of a PostgreSQL datastore, read once. Nothing of it gets into a message: it holds a password.

https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

from __future__ import annotations

import getpass
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from registry.errors import SettingsInvalid

_FORM = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects to which database, for messages."""

    user: str
    database: str


def parameters(uri: str, timeout_s: float) -> dict[str, Any]:
    """What libpq is given: the URI's own words win over our defaults.

    Raises:
        SettingsInvalid: it can't be read or names no database.
    """
    given = _parsed(uri)
    _refuse_unescaped(given)
    if not given.get("dbname") and not given.get("service"):
        raise SettingsInvalid(f"the datastore's URI names no database; {_FORM}")
    probe_s = max(1, math.ceil(timeout_s / 3))
    defaults = {
        "application_name": "refitd",
        "connect_timeout": max(2, math.ceil(timeout_s)),  # libpq knows no less
        # A standby can't hold the registry: of several hosts the one that takes writes is meant.
        "target_session_attrs": "read-write",
        # A server that vanished without a word is noticed by the kernel.
        "keepalives": 1,
        "keepalives_idle": probe_s,
        "keepalives_interval": probe_s,
        "keepalives_count": 2,
        "tcp_user_timeout": max(1, round(timeout_s * 1000)),
    }
    return {**defaults, **given, "client_encoding": "UTF8"}


def login_of(given: Mapping[str, Any]) -> Login:
    """Whom the server is told."""
    return Login(user=str(given.get("user") or _system_user()), database=str(given.get("dbname") or "-"))


def _system_user() -> str:
    try:
        return getpass.getuser()  # libpq's default
    except (KeyError, OSError):
        return "-"


def _parsed(uri: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(uri))
    except psycopg.Error as error:
        said = str(error).strip()
        if not said.startswith("invalid URI query parameter"):
            said = (
                "it has a faulty part, perhaps in its password, whose @ : / ? # % are written %40 %3A %2F %3F %23 %25"
            )
        raise SettingsInvalid(f"the datastore's URI can't be used: {said}; {_FORM}") from None
    except UnicodeError:
        raise SettingsInvalid(f"the datastore's URI can't be used: it is no Unicode text; {_FORM}") from None


def _refuse_unescaped(given: Mapping[str, Any]) -> None:
    """A password with an @ or / of its own would else turn up in messages as a part of host, port or database."""
    host, port, database = (str(given.get(name) or "") for name in ("host", "port", "dbname"))
    if "@" in host or "@" in database or not all(part.isdecimal() or not part for part in port.split(",")):
        raise SettingsInvalid(
            "the datastore's URI can't be used: its host, port or database is none, as when the password holds one of "
            f"@ : / ? # % (write them %40 %3A %2F %3F %23 %25); {_FORM}"
        )
