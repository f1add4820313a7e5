"""The local executor: a child process a fit, forked from a server that has the frameworks imported already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess

from trainers import worker
from trainers.executor import Ended, FitOrder
from trainers.readers import modules_for

#: The exit code of a child whose training code raised SystemExit.
_QUIT = 70


class LocalExecutor:
    """See `trainers.executor.Executor`. At most one fit a core at a time; the others wait their turn."""

    bound = True

    def __init__(self, slots: int | None = None) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["trainers.worker", "trainers.local"])
        self._turns = ThreadPoolExecutor(slots or os.cpu_count() or 1, thread_name_prefix="fit")
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._processes: dict[str, ForkServerProcess] = {}
        self._preloaded: frozenset[str] = frozenset()
        self._closed = False

    def start(self, order: FitOrder, ended: Ended) -> None:
        """Queue a fit; returns at once."""
        self._preload(frozenset({str(order.fit.document["trainer"])}), order.datastore)
        with self._lock:
            self._waiting.add(order.fit.id)
        self._turns.submit(self._run, order, ended)

    def cancel(self, fit: str, grace_s: float) -> None:
        """End a fit's process, after `grace_s`."""
        with self._lock:
            self._waiting.discard(fit)
            process = self._processes.get(fit)
        if process:
            threading.Thread(target=_end, args=(process, grace_s), daemon=True).start()

    def warm(self, trainers: frozenset[str], datastore: str) -> None:
        """Start the fork server with the modules of the trainers and the datastore imported. Without trainers it waits
        for the first fit's: what it has not imported when it starts, every fit imports anew."""
        if trainers:
            self._preload(trainers, datastore)
            self._turns.submit(self._start_server)

    def running(self) -> frozenset[str]:
        """The fits it was given that have not ended."""
        with self._lock:
            return frozenset(self._waiting) | frozenset(self._processes)

    def close(self, wait_s: float) -> None:
        """Wait so long for what runs, then end it."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            processes = list(self._processes.values())
        until = time.monotonic() + wait_s
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
            _end(process, 0.0)
        self._turns.shutdown(wait=True, cancel_futures=True)

    def _run(self, order: FitOrder, ended: Ended) -> None:
        fit = order.fit.id
        # No daemon in multiprocessing's sense: such a process may not have children, and a DataLoader's workers are.
        process = self._context.Process(target=_child, args=(order,), name=f"fit-{fit}")
        with self._lock:
            if fit not in self._waiting or self._closed:
                return
        process.start()  # the first one waits for the server's imports: never under the lock
        with self._lock:
            self._processes[fit] = process
            given_up = fit not in self._waiting or self._closed
            self._waiting.discard(fit)
        if given_up:
            process.kill()
        process.join()
        with self._lock:
            del self._processes[fit]
            closed = self._closed
        how = _how_it_ended(process)
        if how is None or not closed:  # what we ended ourselves when closing did not fail
            ended(fit, how)

    def _preload(self, trainers: frozenset[str], datastore: str) -> None:
        """Have the fork server import these too, if it isn't running yet."""
        with self._lock:
            self._preloaded |= {*(f"trainers.{name}" for name in trainers), *modules_for(datastore)}
            modules = sorted(self._preloaded)
        self._context.set_forkserver_preload(["trainers.worker", "trainers.local", *modules])

    def _start_server(self) -> None:
        process = self._context.Process(target=os.getpid, daemon=True)
        process.start()
        process.join()


def _child(order: FitOrder) -> None:
    """The child's whole life. It ends with the daemon's: the fork server would let it go on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_daemon, daemon=True).start()
    try:
        worker.work(order)
    except SystemExit:  # its code may well be 0, as if all had been done
        os._exit(_QUIT)


def _die_with_daemon() -> None:
    daemon = multiprocessing.parent_process()
    if daemon is not None:
        daemon.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _end(process: BaseProcess, grace_s: float) -> None:
    process.join(grace_s)
    if process.is_alive():
        process.kill()
        process.join()


def _how_it_ended(process: BaseProcess) -> str | None:
    code = process.exitcode
    if code == 0:
        return None
    if code == _QUIT:
        return "the training code ended its process (SystemExit)"
    if code is not None and code < 0:
        return f"the fit's process was killed by {signal.Signals(-code).name}; was it out of memory?"
    return f"the fit's process ended with code {code}"
