"""`refitd up`: a datastore of one's own, Ray and the daemon, in the foreground, on one machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from refitd.embedded import EmbeddedMongo
from refitd.settings import UP_FILE
from registry.owner import this_process

DATABASE = "app"


@contextlib.contextmanager
def datastore_up(folder: Path, port: int | None) -> Iterator[str]:
    """A MongoDB with its data below `folder`, and the settings file that other commands find it by; its URI.

    Raises:
        DatastoreUnavailable: another one uses the folder or the port.
        DatastoreUnsuitable: there is no server to run here.
    """
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    with EmbeddedMongo.start(folder / "data", port=port) as server:
        uri = server.uri(DATABASE)
        with announced(uri):
            yield uri


@contextlib.contextmanager
def announced(uri: str) -> Iterator[None]:
    """Keep `.refitd/up.toml` for as long as this lasts. Whoever reads it sees whether its writer still lives."""
    UP_FILE.parent.mkdir(parents=True, exist_ok=True)
    UP_FILE.write_text(
        "# Written by a running `refitd up`: other commands in this folder find its datastore by it.\n"
        f'datastore = "{uri}"\nowner = "{this_process()}"\n'
    )
    try:
        yield
    finally:
        UP_FILE.unlink(missing_ok=True)
