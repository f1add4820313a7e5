"""Running the daemon in the foreground: its options from the settings, its signals."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from listener.daemon import Daemon, DaemonOptions
from refitd.settings import Settings

#: Where fits run when nobody says: on a Ray that the daemon starts.
DEFAULT_COMPUTE = "ray"


def options_of(settings: Settings) -> DaemonOptions:
    """What the daemon is told. Raises `SettingsInvalid` when no datastore is set."""
    return DaemonOptions(
        datastore=settings.need_datastore(),
        compute=settings.compute or DEFAULT_COMPUTE,
        artifacts_url=settings.artifacts,
        trust=settings.trusted,
        lease_s=settings.lease,
    )


def serve(settings: Settings) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; SIGHUP has it read every document again.

    Raises:
        SettingsInvalid, DatastoreUnsuitable, WorkerLost: what the operator has to mend.
    """
    daemon = Daemon(options_of(settings))
    with _handled({signal.SIGTERM: daemon.stop, signal.SIGINT: daemon.stop, signal.SIGHUP: daemon.reload}):
        daemon.run()


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Handle these signals; each in a thread, since a handler may interrupt whoever holds the lock it needs."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return

    def handle(number: int, _frame: Any) -> None:
        threading.Thread(target=handlers[signal.Signals(number)], daemon=True).start()

    before = {number: signal.signal(number, handle) for number in handlers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
