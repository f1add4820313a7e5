"""A service: a thread that repeats a step, and after an error tries again. Stopping twice is safe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from registry.errors import DatastoreUnavailable, Fenced

log: Any = structlog.get_logger("refitd.service")

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0


class Service:
    """Repeats `step` until stopped; `begin` comes before the first step and again after every error."""

    def __init__(self, name: str, step: Callable[[], None], begin: Callable[[], None] = lambda: None) -> None:
        self._name, self._step, self._begin = name, step, begin
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """No further step after the present one."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end; whether it came."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        wait = _FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                self._begin()
                while not self._stop.is_set():
                    self._step()
                    wait = _FIRST_WAIT_S
            except Fenced as error:
                log.warning("taken over", service=self._name, reason=str(error))
            except DatastoreUnavailable as error:
                log.warning("waiting for the datastore", service=self._name, reason=str(error), again_in_s=wait)
            except Exception:  # the edge of a service: it says what broke, and tries again
                log.exception("failed", service=self._name, again_in_s=wait)
            if self._stop.wait(wait):
                return
            wait = min(wait * 2, _LONGEST_WAIT_S)
