"""Where fits run: what the `compute` setting names is installed, reachable and protected."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from refitd.checks.check import Check, bad, good
from refitd.settings import Settings

_LOOPBACK = ("localhost", "127.", "::1")
_REACH_S = 3.0


def compute_checks(settings: Settings) -> Iterator[Check]:
    """Ray, unless fits run locally; and the trainers' packages."""
    compute = settings.compute or "ray"
    if compute == "local":
        yield good("compute", "local: fits run in processes of the daemon's own")
    else:
        yield _installed("ray", "ray", f"compute is {compute}")
        yield from _cluster(compute)
    yield _installed("scikit-learn", "sklearn", "the trainer `sklearn`")
    yield _installed("skops", "sklearn", "artifacts of the trainer `sklearn`")


def _installed(package: str, extra: str, purpose: str) -> Check:
    try:
        return good(package, f"{version(package)}, for {purpose}")
    except PackageNotFoundError:
        return bad(package, f"is not installed, but {purpose} needs it", f"pip install 'refitd[{extra}]'")


def _cluster(compute: str) -> Iterator[Check]:
    found = re.fullmatch(r"(?:ray://|ray:)?\[?([^\]/]+?)\]?:(\d+)", compute)
    if not found:
        return
    host, port = found[1], int(found[2])
    try:
        socket.create_connection((host, port), _REACH_S).close()
        yield good("ray cluster", f"{host}:{port} answers")
    except OSError as error:
        fix = f"start Ray there (ray start --head), open the port, or set REFITD_COMPUTE; the error was: {error}"
        yield bad("ray cluster", f"nothing answers at {host}:{port}", fix)
    if host.startswith(_LOOPBACK):
        return
    if os.environ.get("RAY_AUTH_MODE", "token") == "disabled":
        fix = "unset RAY_AUTH_MODE (Ray's default is token authentication) here and on the cluster"
        yield bad("ray authentication", "RAY_AUTH_MODE=disabled: whoever reaches the cluster runs code", fix)
    else:
        yield good("ray authentication", "by token")
