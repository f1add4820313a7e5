"""What the embedded servers have in common: a process on loopback that never outlives the one that started it."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar

from registry.errors import DatastoreUnavailable, DatastoreUnsuitable

HOST = "127.0.0.1"
STARTUP_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
POLL_S = 0.02

# How long a killed server's children are waited for. They end by themselves as soon as they notice.
_CHILDREN_LIMIT_S = 10.0

# The shell becomes the server (`exec` keeps its pid, `$$`), and leaves behind a reader of our pipe. When we die,
# however, the pipe ends without a line and the reader kills the server; a line says that it was waited for.
# The reader is not the server's child (hence two pairs of parentheses): PostgreSQL takes the death of a child that
# it doesn't know for a crash. PR_SET_PDEATHSIG is not used: it fires when the starting *thread* ends.
_DIE_WITH_PARENT = (
    'exec 3<&0 </dev/null; ( (read -r _ <&3 || kill -9 $$) >/dev/null 2>&1 & ); exec 3<&-; exec "$@"'  # POSIX sh
)


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
class ServerOptions:
    """Where one embedded server keeps its files, and its port; `port` None means any free one."""

    program: ClassVar[str]

    data_dir: Path
    port: int | None

    @property
    def db(self) -> Path:
        """The server's own folder."""
        return self.data_dir / "db"

    @property
    def log(self) -> Path:
        """Appended to by each run."""
        return self.data_dir / f"{self.program}.log"

    @property
    def port_file(self) -> Path:
        """Holds the port of the last run."""
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


@dataclass(frozen=True, slots=True)
class Ended:
    """A server that ended while it was starting: its exit code, and what it wrote to its log in that run."""

    code: int
    written: str


@dataclass(frozen=True, slots=True)
class RunAs:
    """Under whose name a server runs: a prefix of its command line, or a user and group to become. Else ours."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None


OptionsT = TypeVar("OptionsT", bound=ServerOptions)


class EmbeddedServer(ABC, Generic[OptionsT]):
    """One server process and its life; a subclass says how it is called and when it is up. Not thread-safe."""

    _stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, options: OptionsT) -> None:
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._run_as = RunAs()
        self._port = 0
        self._log_start = 0

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
        """The server's log file."""
        return self._options.log

    @abstractmethod
    def uri(self, database: str) -> str:
        """The address of one database, for any driver and for `refitd.connect`."""

    def stop(self) -> None:
        """Shut down cleanly; does nothing if it isn't running. A server that takes over 30 s is killed."""
        if self._process is None or self._was_reaped():
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()
        self._wait_for_children()

    def kill(self) -> None:
        """SIGKILL, as a power failure would: for tests of what survives it."""
        if self._process is None or self._was_reaped():
            return
        self._process.kill()
        self._reap()
        self._wait_for_children()

    def restart(self) -> None:
        """Start again on the same data; a server that still runs is stopped first."""
        self.stop()
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _command(self, port: int) -> list[str]:
        """How the server is called."""

    @abstractmethod
    def _readiness(self) -> Callable[[], bool]:
        """For the process just started: what to call, with short pauses, until it says that the server is up."""

    @abstractmethod
    def _is_port_taken(self, ended: Ended) -> bool:
        """Did it end because another program has its port?"""

    @abstractmethod
    def _failure(self, ended: Ended) -> DatastoreUnavailable | DatastoreUnsuitable:
        """Why it ended, in words for the user."""

    def _launch(self) -> None:
        for port in self._options.ports():
            ended = self._attempt(port)
            if ended is None:
                self._options.port_file.write_text(str(port))
                return
            if not self._is_port_taken(ended):
                raise self._failure(ended)
        raise DatastoreUnavailable(f"{HOST}:{self._port} is in use: stop what listens there or choose another port")

    def _attempt(self, port: int) -> Ended | None:
        """Start it on `port` and wait until it is up; how it ended, if it did that instead."""
        self._spawn(port)
        try:
            if self._wait_until_up():
                return None
            return Ended(self._reap(), self._written())
        except BaseException:
            self.kill()
            raise

    def _spawn(self, port: int) -> None:
        log = self._options.log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._port = port
        command = self._command(port)
        with log.open("ab") as sink:
            # Belongs to the open file, which the server and all its children inherit: see `_is_log_free`.
            with contextlib.suppress(OSError):
                fcntl.flock(sink, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _DIE_WITH_PARENT, self._options.program, *self._run_as.prefix, *command],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                bufsize=0,
                env=self._environment(),
                cwd=self._options.data_dir,  # ours may be closed to the user it runs as
                user=self._run_as.uid,
                group=self._run_as.gid,
                extra_groups=None if self._run_as.uid is None else [],
                start_new_session=True,  # Ctrl-C is for the daemon, which still has to write while it drains
            )

    def _environment(self) -> dict[str, str] | None:
        """The server's environment; None means ours."""
        return None

    def _was_reaped(self) -> bool:
        pipe = self._process.stdin if self._process is not None else None
        return pipe is None or pipe.closed

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

    def _wait_for_children(self) -> None:
        """Wait until the processes of a killed server have ended: the last one's end frees the lock on the log."""
        deadline = time.monotonic() + _CHILDREN_LIMIT_S
        while not self._is_log_free() and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _is_log_free(self) -> bool:
        """Is no server alive, nor a child of one, that was started on this folder? Unknown counts as yes."""
        try:
            with self._options.log.open("r+b") as log:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # the folder is gone, or its file system has no locks
            return True
        return True

    def _wait_until_up(self) -> bool:
        """True once it is up; False if the process ended instead."""
        deadline = time.monotonic() + STARTUP_LIMIT_S
        is_up = self._readiness()
        while self.running:
            if is_up():
                return True
            if time.monotonic() > deadline:
                raise DatastoreUnavailable(
                    f"{self._options.program} on {self._options.data_dir} did not take writes within "
                    f"{STARTUP_LIMIT_S:.0f} s; see {self.log}"
                )
            time.sleep(POLL_S)
        return False

    def _written(self) -> str:
        """What the server wrote to its log since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")
