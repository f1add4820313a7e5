"""`refitd up`: a datastore of one's own, Ray and the daemon, in the foreground, on one machine."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refitd.settings import UP_FILE
from refitd.signing import kept_key
from registry.errors import DatastoreUnavailable
from registry.owner import is_dead, short, this_process

if TYPE_CHECKING:
    from refitd._embedded_server import EmbeddedServer

DATABASE = "app"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of datastore that can be started here: what people call it, and where its data lie in `.refitd`."""

    title: str
    folder: str


#: By what `--datastore` says. Each has data of its own, so a folder may have seen both.
KINDS: Mapping[str, Kind] = {
    "mongodb": Kind("MongoDB", "data"),
    "postgresql": Kind("PostgreSQL", "postgres"),
}


@contextlib.contextmanager
def datastore_up(folder: Path, kind: str, port: int | None) -> Iterator[str]:
    """A datastore with its data below `folder`, and the settings file that other commands find it by; its URI.

    Raises:
        DatastoreUnavailable: another one uses the folder or the port.
        DatastoreUnsuitable: there is no server to run here.
    """
    _refuse_second()
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    key = kept_key(folder / "signing.key")
    with _started(kind, folder / KINDS[kind].folder, port) as server:
        uri = server.uri(DATABASE)
        with announced(uri, key):
            yield uri


def _started(kind: str, data: Path, port: int | None) -> EmbeddedServer[Any]:
    """Its driver is imported now."""
    if kind == "postgresql":
        from refitd.embedded_postgres import EmbeddedPostgres

        return EmbeddedPostgres.start(data, port=port, database=DATABASE)
    from refitd.embedded import EmbeddedMongo

    return EmbeddedMongo.start(data, port=port)


@contextlib.contextmanager
def announced(uri: str, key: Path) -> Iterator[None]:
    """Keep `.refitd/up.toml` for as long as this lasts. Whoever reads it sees whether its writer still lives.

    Args:
        key: the file of the signing key.
    """
    UP_FILE.parent.mkdir(parents=True, exist_ok=True)
    UP_FILE.write_text(
        "# Written by a running `refitd up`: other commands in this folder find its datastore by it.\n"
        f'datastore = "{uri}"\nsigning_key_file = "{key.resolve()}"\nowner = "{this_process()}"\n'
    )
    try:
        yield
    finally:
        UP_FILE.unlink(missing_ok=True)


def _refuse_second() -> None:
    """Two would write one `up.toml`, and the first to end would take it away from the other."""
    try:
        owner = tomllib.loads(UP_FILE.read_text()).get("owner")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return
    if isinstance(owner, str) and _is_alive(owner):
        raise DatastoreUnavailable(
            f"another `refitd up` runs in this folder ({short(owner)}): stop it, or use another folder for this one"
        )


def _is_alive(owner: str) -> bool:
    """Surely, that is: what another machine wrote, or this one before it was started again, hinders nobody."""
    machine = this_process().split("/")[:3]
    return owner.split("/")[:3] == machine and not is_dead(owner)
