"""The Ray executor: fits are tasks on warm workers. The only file that imports Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from registry.document import ModelDocument
from registry.errors import SettingsInvalid, WorkerLost
from trainers import worker
from trainers.executor import Ended, FitOrder

_LOOPBACK = ("127.", "localhost", "[::1]")
_CONNECT_S = 60


class RayExecutor:
    """See `trainers.executor.Executor`. Ray ends the tasks of a process with it, whoever started the cluster."""

    bound = True

    def __init__(self, address: str | None = None, *, num_cpus: int | None = None) -> None:
        """Connect to the cluster at `address` (`ray://HOST:10001`, or `HOST:PORT` of its head), or start one here.

        A process that uses Ray already has its cluster: that one is used, and left as it is.

        Raises:
            SettingsInvalid: the address is another machine's and Ray's token authentication is switched off.
            WorkerLost: no cluster answers there.
        """
        _refuse_open_cluster(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._refs: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._closing = False
        self._connected_here = not ray.is_initialized()
        try:
            if self._connected_here:
                _connect(address, num_cpus)
        except (ConnectionError, RayError, RuntimeError, TimeoutError, ValueError) as error:
            raise WorkerLost(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error
        self._task = ray.remote(max_retries=0)(worker.work)
        self._warm = ray.remote(max_retries=0, num_cpus=1)(_warm)

    def start(self, order: FitOrder, ended: Ended) -> None:
        """Submit a fit as one task, never retried by Ray."""
        fit = order.fit
        resources = ModelDocument.parse(fit.document).resources
        options: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
        if resources.memory:
            options["memory"] = resources.memory
        try:
            _refuse_impossible(options)
            ref = self._task.options(name=f"refitd fit {fit.model} {fit.id}", **options).remote(order)
        except (RayError, ConnectionError, RuntimeError) as error:
            raise WorkerLost(f"Ray takes no fits now: {error}") from error
        with self._lock:
            self._refs[fit.id] = ref
        ref.future().add_done_callback(partial(self._done, fit.id, ended))

    def cancel(self, fit: str, grace_s: float) -> None:
        """Cancel a fit's task; its worker process is killed when it has not stopped after `grace_s`."""
        with self._lock:
            ref = self._refs.get(fit)
        if ref is not None:
            threading.Thread(target=_cancel, args=(ref, grace_s), daemon=True).start()

    def warm(self, trainers: frozenset[str], datastore: str) -> None:
        """Have every idle worker import what is needed: at once on all, so that each lands on another process."""
        for _ in range(_cpus()):
            self._warm.remote(trainers, datastore)

    def running(self) -> frozenset[str]:
        """The fits it was given that have not ended."""
        with self._lock:
            return frozenset(self._refs)

    def close(self, wait_s: float) -> None:
        """Wait so long for what runs; end it, and the cluster, if we started that."""
        until = time.monotonic() + wait_s
        while self.running() and time.monotonic() < until:
            with self._lock:
                refs = list(self._refs.values())
            ray.wait(refs, num_returns=len(refs), timeout=max(0.0, until - time.monotonic()))
            time.sleep(0.01)  # lets the callbacks of what has ended run
        self._closing = True
        if self._connected_here:
            ray.shutdown()

    def _done(self, fit: str, ended: Ended, future: Any) -> None:
        with self._lock:
            self._refs.pop(fit, None)
        error = future.exception()
        if not (error and self._closing):  # what we ended ourselves when closing did not fail
            ended(fit, _how_it_ended(error) if error else None)


def _cpus() -> int:
    resources: dict[str, float] = ray.cluster_resources()
    return max(1, int(resources.get("CPU", 1)))


def _connect(address: str | None, num_cpus: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    with _own_sigterm():
        if address is None:
            ray.init(num_cpus=num_cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself, and would abort the process on it: give it back to whoever had it."""
    mine = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if mine is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, mine)


def _refuse_open_cluster(address: str | None) -> None:
    host = (address or "127.").removeprefix("ray://")
    if host.startswith(_LOOPBACK) or host == "auto" or os.environ.get("RAY_AUTH_MODE", "token") != "disabled":
        return
    raise SettingsInvalid(
        f"the Ray cluster at {address} is on another machine and RAY_AUTH_MODE=disabled: whoever reaches it runs code "
        "as you; unset RAY_AUTH_MODE (Ray's default is token authentication) on both sides"
    )


def _refuse_impossible(options: dict[str, float]) -> None:
    """Ray would let a task wait for ever for what no node has. What every node has is not looked up."""
    if options["num_cpus"] <= 1 and not options["num_gpus"] and "memory" not in options:
        return
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
    for name, key in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory")):
        asked, largest = options.get(name, 0), max((node["Resources"].get(key, 0) for node in nodes), default=0)
        if asked > largest:
            raise WorkerLost(
                f"resources.{name} asks for {asked:g}, but the largest Ray node has {largest:g}: ask for less"
            )


def _warm(trainers: frozenset[str], datastore: str) -> None:
    worker.warm(trainers, datastore)
    time.sleep(0.2)  # holds this worker while the other tasks find theirs


def _cancel(ref: Any, grace_s: float) -> None:
    ready, _ = ray.wait([ref], timeout=grace_s)
    if not ready:
        ray.cancel(ref, force=True)


def _how_it_ended(error: BaseException) -> str:
    if isinstance(error, TaskCancelledError):
        return "Ray cancelled the fit's task"
    if isinstance(error, RayTaskError):
        return f"the fit's worker failed: {str(error).strip().splitlines()[-1]}"
    return f"the fit's worker is gone ({type(error).__name__}): {str(error).strip().splitlines()[0]}"
