"""The demo's folder, which goes away again, and its daemon, a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.errors import RefitdError

_STOP_S = 15.0
_REMOVE_S = 10.0
_LOOK_S = 0.05
_TAIL_LINES = 15

# The daemon is told to stop when we die, however that happens: then our end of the pipe closes without a line.
_STOP_WITH_PARENT = 'exec 3<&0 </dev/null; (read -r _ <&3 || kill -TERM $$) & exec 3<&-; exec "$@"'


@dataclass(frozen=True, slots=True)
class DaemonProcess:
    """The running daemon."""

    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises `RefitdError` with the end of its log when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise RefitdError(f"the daemon ended with code {code}; the end of its log:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])


@contextlib.contextmanager
def demo_folder() -> Iterator[Path]:
    """A folder for everything, removed at the end. Under /tmp: Ray's sockets lie in it, whose paths must be short."""
    short = Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix="refitd-demo-", dir=short if os.access(short, os.W_OK) else None))
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Again, while it comes back: an `initdb` that was cut short leaves a child that still writes for a moment."""
    deadline = time.monotonic() + _REMOVE_S
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def demo_daemon(folder: Path, datastore: str, compute: str) -> Iterator[DaemonProcess]:
    """`refitd run`, as an operator would start it."""
    log = folder / "daemon.log"
    run = [sys.executable, "-m", "refitd", "run", "--datastore", datastore, "--compute", compute]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _STOP_WITH_PARENT, "refitd", *run, "--log-format", "console"],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C is for us, who then stop it
        )
    try:
        yield DaemonProcess(process, log)
    finally:
        _stop(process)


def _environment(folder: Path) -> dict[str, str]:
    """Ours, without the user's own settings of refitd; what Ray writes goes to the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFITD_")}
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session is its own: Ray's processes too
        process.wait()
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(b"\n")  # tells the watching shell that there is nobody left to stop
        process.stdin.flush()
    process.stdin.close()
