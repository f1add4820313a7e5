"""What an executor runs in a worker process."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from importlib import import_module

from registry.document import ModelDocument
from registry.errors import Fenced, FitError
from registry.store import Store
from registry.stores import open_store
from trainers.catalog import trainer
from trainers.executor import FitOrder
from trainers.fit import run_fit
from trainers.readers import modules_for

_ON_TORCH = frozenset({"torch", "transformers"})


def work(order: FitOrder) -> None:
    """Run one fit. How it ended stands in the registry, so an orderly failure is no failure of the worker."""
    with contextlib.suppress(FitError, Fenced):
        _take_cores(order)
        run_fit(order, store=_store(order.datastore, order.artifacts_url, os.getpid()), capture=True)


def _take_cores(order: FitOrder) -> None:
    """Have PyTorch use as many threads as the fit was given cores. Its own choice is all that the machine has, and
    threads of several fits that wait for each other's are many times slower than one."""
    if order.fit.document["trainer"] not in _ON_TORCH:
        return
    import torch

    torch.set_num_threads(max(1, int(ModelDocument.parse(order.fit.document).resources.num_cpus)))


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
