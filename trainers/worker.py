"""What an executor runs in a worker process."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from importlib import import_module

from registry.errors import Fenced, FitError
from registry.store import Store
from registry.stores import open_store
from trainers.catalog import trainer
from trainers.executor import FitOrder
from trainers.fit import run_fit
from trainers.readers import modules_for


def work(order: FitOrder) -> None:
    """Run one fit. How it ended stands in the registry, so an orderly failure is no failure of the worker."""
    with contextlib.suppress(FitError, Fenced):
        run_fit(order, store=_store(order.datastore, order.artifacts_url, os.getpid()), capture=True)


def warm(names: frozenset[str], datastore: str) -> int:
    """Import what these trainers, and reading from this datastore, need; the process's id."""
    for name in names:
        trainer(name)
    for module in modules_for(datastore):
        import_module(module)
    return os.getpid()


@lru_cache(maxsize=4)
def _store(datastore: str, artifacts_url: str | None, _pid: int) -> Store:
    """One connection a process: opening one costs more than many a fit. A fork must not use its parent's."""
    return open_store(datastore, artifacts_url=artifacts_url)
