"""The real servers that the benchmarks use: each run's own, in a temporary folder."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refitd.embedded import EmbeddedMongo

ROOT = Path(__file__).parents[1]


@contextmanager
def mongod(oplog_mb: int = 4096) -> Iterator[EmbeddedMongo]:
    """A MongoDB with room for a backlog."""
    folder = Path(tempfile.mkdtemp(prefix="refitd-bench-"))
    server = EmbeddedMongo.start(folder, oplog_mb=oplog_mb, cache_gb=2.0)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_head() -> Iterator[str]:
    """A Ray head in this process, on loopback, with token authentication; its address. Ray is imported here first."""
    # Ray's sockets lie below it, and a socket's path has 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="refitd-bench-ray-", dir="/tmp"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    import ray

    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address="local", num_cpus=2, object_store_memory=200 << 20, _temp_dir=str(folder), **options)
        yield str(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def daemon(environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """`refitd run` in a process of its own, as a user would run it."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "refitd", "run"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
