"""`refitd demo`: a model retrained before one's eyes, as rows of a real data set arrive in a real datastore.

Everything is as it would be in production: the rows and the model document are written by the datastore's plain
driver, and the daemon is a process of its own. Each step waits for what the registry says, never for time to pass.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from refitd.demo_data import MODEL, Digits, Scan, load_digits
from refitd.demo_servers import DaemonProcess, demo_daemon, demo_folder
from refitd.demo_text import WORDS, Voice
from refitd.demo_writer import Writer, writer_started
from refitd.session import Session
from refitd.settings import Settings
from refitd.signals import until
from refitd.standing import following, stand
from refitd.views import Row, version_row
from refitd.waiting import Fresh
from registry.errors import TimeLimit


def run_demo(kind: str, compute: str, *, keep: bool, timeout_s: float, as_json: bool) -> None:
    """Run it all, and clean up.

    Args:
        kind: of the datastore, one of `refitd.together.KINDS`.
        compute: where fits run; `ray` starts one.
        keep: afterwards, leave everything running until Ctrl-C.
        as_json: one JSON document at the end; the story goes to stderr.

    Raises:
        TimeLimit: something took too long; with the end of the daemon's log.
        RefitdError: a server could not be started, or the daemon ended.
    """
    voice = Voice(err=as_json)
    with _stopped_by_sigterm(), ExitStack() as stack:
        began = time.monotonic()
        folder = stack.enter_context(demo_folder())
        voice.title(folder)
        words = WORDS[kind]
        with voice.busy(f"starting {words.title}"):
            writer = stack.enter_context(writer_started(kind, folder))
        voice.done(f"{words.title} at {writer.uri}")
        session = stack.enter_context(Session(Settings(datastore=writer.uri)))
        daemon = stack.enter_context(demo_daemon(folder, writer.uri, compute))
        story = _Story(writer, session, daemon, voice, began + timeout_s)
        story.tell(load_digits())
        voice.summary(story.versions, time.monotonic() - began, words)
        if as_json:
            voice.json({"versions": story.versions, "seconds": round(time.monotonic() - began, 1)})
        if keep:
            voice.keep(writer.uri)
            story.stay()
        with voice.busy("stopping everything"):
            stack.close()


class _Story:
    """The steps, one after another."""

    def __init__(self, writer: Writer, session: Session, daemon: DaemonProcess, voice: Voice, limit: float) -> None:
        self._writer, self._session, self._daemon = writer, session, daemon
        self._voice, self._limit = voice, limit
        self.versions: list[Row] = []

    def tell(self, digits: Digits) -> None:
        """All of it."""
        self._await_daemon()
        self._writer.make_tables()
        self._writer.insert("held_out", digits.held_out)
        self._first(digits.waves[0], len(digits.held_out))
        for wave in digits.waves[1:]:
            self._wave(wave)
        self._unlabelled(digits)
        self._labelled(digits)

    def stay(self) -> None:
        """Until Ctrl-C."""
        try:
            self._daemon.process.wait()
        except KeyboardInterrupt:
            return

    def _await_daemon(self) -> None:
        began = time.monotonic()
        with self._voice.busy("starting the daemon and its Ray"):
            self._until(lambda: following(self._session.store) is not None, "the daemon to follow the datastore")
        self._voice.done(f"the daemon, with a Ray of its own ({time.monotonic() - began:.1f} s)")

    def _first(self, scans: Sequence[Scan], held: int) -> None:
        self._voice.step(f"{len(scans)} labelled digits ({held} more to judge on) and a model document are written")
        self._voice.document(self._writer.shown())
        self._voice.header()
        self._writer.insert("scans", scans)
        self._writer.insert_document()
        self._new_version()

    def _wave(self, scans: Sequence[Scan]) -> None:
        self._voice.step(f"{len(scans)} more labelled digits arrive")
        self._writer.insert("scans", scans)
        self._new_version()

    def _unlabelled(self, digits: Digits) -> None:
        self._voice.step(f"{len(digits.unlabelled)} scans arrive that nobody has labelled yet")
        self._writer.insert("scans", digits.unlabelled)
        look = Fresh(self._session.store, self._session.trust, MODEL)
        with self._voice.busy("the daemon goes over them"):
            self._until(look.look, "the daemon to go over the new rows")
        published = look.standing.pending.published
        stays = f"version {published.number} stays" if published else ""
        self._voice.nothing(f"no fit: none of them matches the select, so {stays}")

    def _labelled(self, digits: Digits) -> None:
        self._voice.step(f"somebody labels them: {len(digits.labels)} updates move them into the select")
        self._writer.label(digits.labels)
        self._new_version()

    def _new_version(self) -> None:
        """Wait for the version that covers what was just written, and show every one that came."""
        began = time.monotonic()
        store = self._session.store
        look = Fresh(store, self._session.trust, MODEL)
        with self._voice.busy("waiting for the new version"):
            self._until(look.look, f"a new version of {MODEL}")
        took = time.monotonic() - began
        known = len(self.versions)
        for version in reversed(store.versions.of(MODEL)[: -known or None]):
            row = {**version_row(version, version.number, store), "seconds_after_write": round(took, 2)}
            self.versions.append(row)
            self._voice.version(row)

    def _until(self, happened: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            self._daemon.check()
            return happened()

        if not until(self._session.store, look, self._limit - time.monotonic()):
            raise TimeLimit(
                f"the demo's time is over while waiting for {what} (--timeout gives it more); how it stands: "
                f"{self._how_it_stands()}; the end of the daemon's log:\n{self._daemon.tail()}"
            )

    def _how_it_stands(self) -> Any:
        if self._session.store.documents.get(MODEL) is None:
            return "no model yet"
        return dict(stand(self._session.store, self._session.trust, MODEL).status)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that everything is stopped and removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
