"""The daemon: one feed followed, its models reconciled, their fits watched over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from listener.catalogue import Catalogue
from listener.feeds import native_feed
from listener.follow import Follower
from listener.reaper import Reaper
from listener.reconcile import Reconciler
from listener.service import Service
from registry.errors import DatastoreUnavailable, Fenced
from registry.owner import this_process
from registry.records import Counts, Fit, FitState, Pending
from registry.store import Store
from registry.stores import open_store
from registry.trust import Trust
from trainers.catalog import names
from trainers.compute import open_executor
from trainers.executor import FitOrder

log: Any = structlog.get_logger("refitd.daemon")

_REAP_S = 2.0
#: Stopping takes at most 10 s: what runs gets this much of it to end by itself.
_DRAIN_S = 4.0
_JOIN_S, _HAND_OVER_BY_S = 1.5, 6.0
#: How long one call waits for a server that is away: every caller tries again, and stopping must not wait for long.
_SERVER_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """What the operator sets.

    Args:
        datastore: the datastore's URI.
        compute: where fits run, see `trainers.compute`.
        artifacts_url: where artifacts go; None: into the datastore.
        trust: what model documents may name.
        lease_s: how long another daemon waits before it takes over from one that fell silent.
    """

    datastore: str
    compute: str = "ray"
    artifacts_url: str | None = None
    trust: Trust = Trust()  # noqa: RUF009 (frozen)
    lease_s: float = 5.0


class Daemon:
    """Runs until stopped. A second one on the same datastore stands by."""

    def __init__(self, options: DaemonOptions) -> None:
        """Raises `SettingsInvalid` when the options can't be used. Connects in `run`."""
        self._options = options
        self._owner = this_process()
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._holding = threading.Event()
        self._leading = threading.Event()
        self._store: Store = open_store(
            options.datastore, artifacts_url=options.artifacts_url, timeout_s=_SERVER_TIMEOUT_S
        )
        self._feed, self._evaluator = native_feed(self._store)
        self._catalogue = Catalogue(self._store, options.trust, self._feed.origins)
        self._epoch = 0

    def stop(self) -> None:
        """Drain and stop, within 10 s. From any thread or signal handler; twice is safe."""
        self._stop.set()

    def reload(self) -> None:
        """Read every document again."""
        self._reload.set()

    def run(self) -> None:
        """Follow, reconcile and watch over fits until `stop`.

        Raises:
            DatastoreUnsuitable, SettingsInvalid, WorkerLost: what the operator has to mend before it can run.
        """
        self._wait_for_datastore()
        if self._stop.is_set():
            self._store.close()
            return
        self._executor = open_executor(self._options.compute)
        self._executor.warm(frozenset(names()), self._options.datastore)
        self._reconciler = Reconciler(self._store, self._catalogue, self._executor, self._pattern(), self._owner)
        self._reaper = Reaper(self._store, self._executor, self._reconciler.look)
        self._follower = Follower(self._store, self._feed, self._evaluator, self._catalogue, self._recorded)
        services = [
            Service("feed", self._follow, self._lead),
            Service("reconcile", self._reconcile),
            Service("keeper", self._keep),
        ]
        for service in services:
            service.start()
        log.info("ready", datastore=self._feed.name, compute=self._options.compute, owner=self._owner)
        self._stop.wait()
        self._shut_down(services)

    def _wait_for_datastore(self) -> None:
        """A daemon may start before its datastore does."""
        wait = 0.2
        while not self._stop.is_set():
            try:
                self._store.prepare()
                return
            except DatastoreUnavailable as error:
                log.warning("waiting for the datastore", reason=str(error))
                self._stop.wait(wait)
                wait = min(wait * 2, 5.0)

    def _lead(self) -> None:
        """Wait for the feed's lease, then open the feed."""
        self._leading.clear()
        self._holding.clear()
        self._feed.close()  # after an error it may be ahead of what is stored; and a server may wait for it to end
        self._store.prepare()  # somebody may have dropped the registry
        while not self._stop.is_set():
            row = self._store.feeds.acquire(self._feed.name, self._feed.kind, self._owner, self._options.lease_s)
            if row is not None:
                self._epoch = row.epoch
                self._holding.set()  # renewed from here on: opening the feed can take longer than the lease lasts
                self._follower.begin(row)
                self._leading.set()
                log.info("following", feed=self._feed.name, epoch=row.epoch, models=len(self._catalogue.entries))
                return
            self._stop.wait(self._options.lease_s / 5)

    def _follow(self) -> None:
        if self._reload.is_set():
            self._reload.clear()
            self._follower.reload()
        if not self._stop.is_set():
            self._follower.step()

    def _reconcile(self) -> None:
        if self._leading.wait(0.5):
            self._reconciler.step()

    def _keep(self) -> None:
        """Renew the lease, and reap."""
        until = time.monotonic() + _REAP_S
        while not self._stop.is_set() and time.monotonic() < until:
            if self._holding.is_set():
                self._renew()
            self._stop.wait(self._options.lease_s / 4)
        if self._leading.is_set() and not self._stop.is_set():
            self._reaper.step()

    def _renew(self) -> None:
        try:
            self._store.feeds.renew(self._feed.name, self._epoch, self._options.lease_s)
        except Fenced:
            self._holding.clear()
            self._leading.clear()  # the feed's own thread finds out with its next transaction
            raise

    def _recorded(self, models: Iterable[Any], rows: Mapping[str, Pending]) -> None:
        self._reconciler.look(models, rows)

    def _pattern(self) -> FitOrder:
        options = self._options
        nothing = Fit(
            id="", model="", state=FitState.QUEUED, attempt=0, token="", document={}, spec_hash="", reason={},
            generation=0, seen=Counts(), need=None, owner="", bound=True, created=self._store.now(),
        )  # fmt: skip
        return FitOrder(nothing, options.datastore, options.artifacts_url, options.trust)

    def _shut_down(self, services: list[Service]) -> None:
        began = time.monotonic()
        for service in services:
            service.ask_to_stop()
        self._reconciler.look([])
        for service in services:
            service.join(max(0.1, _JOIN_S - (time.monotonic() - began)))
        left = self._executor.running() if self._executor.bound else frozenset()
        self._executor.close(max(0.0, _DRAIN_S - (time.monotonic() - began)))
        word = threading.Thread(target=self._hand_over, args=(left,), daemon=True)
        word.start()
        word.join(max(0.5, _HAND_OVER_BY_S - (time.monotonic() - began)))
        if word.is_alive():
            log.warning("stopped without a word to the registry", reason="the datastore does not answer")
        log.info("stopped", seconds=round(time.monotonic() - began, 2))

    def _hand_over(self, fits: Iterable[str]) -> None:
        """Leave the registry so that the next daemon goes on at once."""
        try:
            for fit in fits:
                self._store.fits.end(fit, FitState.LOST, None)
            if self._leading.is_set():
                self._follower.store_position()
                self._store.feeds.release(self._feed.name, self._epoch)
        except (DatastoreUnavailable, Fenced) as error:
            log.warning("stopped without a word to the registry", reason=str(error))
        self._feed.close()
        self._evaluator.close()
        self._store.close()
