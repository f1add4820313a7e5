"""Which executor a `compute` setting means."""

from __future__ import annotations

import os
import re

from registry.errors import SettingsInvalid
from trainers.executor import Executor


def open_executor(compute: str) -> Executor:
    """The executor for `local`, `ray` (started here), `ray://HOST:10001`, `ray:auto`, or a head's `HOST:PORT`.

    Raises:
        SettingsInvalid: it means none of these, or Ray is not installed.
        WorkerLost: no Ray cluster answers there.
    """
    if compute == "local":
        from trainers.local import LocalExecutor

        return LocalExecutor()
    if compute != "ray" and not re.fullmatch(r"ray:auto|ray://[^/]+|(ray:)?[^/:\s]+:\d+|\[[0-9a-f:]+\]:\d+", compute):
        raise SettingsInvalid(
            f"compute is {compute!r}; write local, ray, ray://HOST:10001, or HOST:PORT of a running Ray head"
        )
    # Ray reads these when it is imported. A process that joins a cluster uses no token unless told to; a cluster that
    # we start listens on loopback alone (the variable's name is Ray's, and says little of what it does here).
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if compute == "ray":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        from trainers.ray import RayExecutor
    except ImportError as error:
        raise SettingsInvalid(f"compute is {compute!r}, but {error}; pip install 'refitd[ray]'") from error
    address = None if compute == "ray" else compute
    if address and not address.startswith("ray://"):
        address = address.removeprefix("ray:")
    return RayExecutor(address)
