"""How a running fit says that it lives, how far it is and what it logs; and hears that it should stop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from registry.errors import Cancelled, DatastoreUnavailable, Fenced, TimeLimit
from registry.records import Fit
from registry.store import Store

#: Seconds between heartbeats. The reaper gives a fit up after many of them are missing.
BEAT_S = 1.0
_LINES_KEPT = 2000
_NONE: Mapping[str, float | None] = {}

Watch = Callable[[Mapping[str, Any]], None]


class FitReport:
    """Implements `trainers.trainer.Report` over the registry. Use as a context manager: a thread beats inside it.

    The first beat says that the fit runs; the fit itself does not wait for that.
    """

    def __init__(self, store: Store, fit: Fit, timeout_s: float, watch: Watch | None = None) -> None:
        self._store, self._fit, self._watch = store, fit, watch
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._stop = threading.Event()
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._lines: list[str] = []
        self._state: dict[str, Any] = {"stage": "starting", "fraction": None, "message": ""}
        self._notes: dict[str, Any] = {}
        self._figures: Mapping[str, float | None] = {}
        self._ended: str | None = None
        self._fenced: Fenced | None = None
        self._running = False
        self.parts: dict[str, float] = {}
        self._thread = threading.Thread(target=self._beat, name=f"beat-{fit.id}", daemon=True)

    def __enter__(self) -> FitReport:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of the fit; it is what `progress` shows meanwhile."""
        self._set(name, None, "")
        self.check()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.parts[name] = round(self.parts.get(name, 0.0) + time.perf_counter() - began, 6)

    def progress(self, fraction: float | None, message: str, **figures: float | None) -> None:
        """See `trainers.trainer.Report`."""
        self._set(self._state["stage"], fraction, message, figures)
        self.check()

    def note(self, **what: Any) -> None:
        """Have this stand beside the progress from now on, and in the registry at once.

        Raises:
            Fenced: it is somebody else's turn.
            DatastoreUnavailable: it may stand there or not.
        """
        self._notes = {**self._notes, **what}
        self._set(self._state["stage"], self._state["fraction"], self._state["message"], self._figures)
        told = self._tell()
        if self._fenced:
            raise self._fenced
        if not told:
            raise DatastoreUnavailable("the registry did not answer")

    def line(self, text: str) -> None:
        """Log a line of the fit."""
        with self._lock:
            if len(self._lines) < _LINES_KEPT:
                self._lines.append(text)

    def check(self) -> None:
        """Raise what should end the fit here, if anything should."""
        if self._fenced:
            raise self._fenced
        if self._ended:
            raise Cancelled(f"cancelled: {self._ended}")
        if time.monotonic() > self._deadline:
            raise TimeLimit(
                f"stopped after {self._timeout_s:g} s, the document's `timeout`; raise it, or select fewer rows"
            )

    def _set(
        self, stage: str, fraction: float | None, message: str, figures: Mapping[str, float | None] = _NONE
    ) -> None:
        with self._lock:
            self._figures = figures
            told = {name: value for name, value in figures.items() if value is None or math.isfinite(value)}
            self._state = {"stage": stage, "fraction": fraction, "message": message, **told, **self._notes}
        if self._watch:
            self._watch(dict(self._state))

    def _beat(self) -> None:
        self._tell()
        while not self._stop.wait(BEAT_S):
            self._tell()

    def _tell(self) -> bool:
        """Whether the registry heard it."""
        with self._telling:  # one at a time: an older state must not come after a newer one
            return self._told()

    def _told(self) -> bool:
        with self._lock:
            state, lines, self._lines = dict(self._state), self._lines, []
        try:
            if not self._running:
                self._store.fits.run(self._fit.id, self._fit.token)
                self._running = True
            self._ended = self._store.fits.beat(self._fit.id, self._fit.token, state, lines) or self._ended
        except Fenced as error:
            self._fenced = error
            return False
        except DatastoreUnavailable:
            with self._lock:  # kept for the next beat; a fit that can't beat for long is given up by the reaper
                self._lines = (lines + self._lines)[-_LINES_KEPT:]
            return False
        return True
