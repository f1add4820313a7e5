"""A training set several times larger than the memory that its fit may use.

Rows are made in a PostgreSQL of its own, and fitted by a process that may not have more private memory than the limit
(RLIMIT_DATA: what it allocates; pages of files that are mapped don't count, but the peak of all resident pages is told
too). Source: https://man7.org/linux/man-pages/man2/getrlimit.2.html
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from bench.measure import Line
from bench.servers import ROOT
from refitd.embedded_postgres import EmbeddedPostgres

WIDTH = 1000
_GIB = 1 << 30

_FIT = """
import json, resource, sys
import torch
from registry.owner import this_process
from registry.postgres.store import PostgresStore
from registry.sql_selects import SqlSelects
from registry.trust import Trust
from trainers.check import check_document
from trainers.executor import FitOrder
from trainers.fit import new_fit, run_fit

uri, limit, raw = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
torch.set_num_threads(1)
store = PostgresStore(uri)
store.prepare()
document = check_document(raw, Trust(), SqlSelects())
store.documents.put(raw)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
fit = store.fits.start(new_fit(store, document, raw, {"kind": "requested"}, this_process(), bound=True))
version = run_fit(FitOrder(fit, uri, None, Trust()), store=store)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"before": before << 10, "peak": peak << 10, "rows": version.draft.rows, **version.draft.parts}))
"""


def run(quick: bool) -> list[Line]:
    """3 GiB of rows under a limit of 1 GiB; quick: a tenth of the rows."""
    size = (3 * _GIB) // (10 if quick else 1)
    with tempfile.TemporaryDirectory(prefix="refitd-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres.start(Path(folder), database="bench")
        try:
            return [_measure(server.uri("bench"), size)]
        finally:
            server.stop()


def _measure(uri: str, size: int) -> Line:
    count = size // (8 * WIDTH)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE UNLOGGED TABLE big (id bigint PRIMARY KEY, x float8[], y bigint)")
        connection.execute("ALTER TABLE big ALTER x SET STORAGE EXTERNAL")
        # One row of numbers, turned by another angle each time: made quickly, and no two alike.
        connection.execute(
            "INSERT INTO big SELECT n, (SELECT array_agg(x + n * 1e-9) FROM unnest(base) AS x), n %% 2"
            " FROM generate_series(1, %s) AS n,"
            " (SELECT array_agg(random()) AS base FROM generate_series(1, %s)) AS one",
            (count, WIDTH),
        )
    raw = {
        "_id": "big",
        "trainer": "torch",
        "object": {"class": "torch.nn.Linear", "params": {"in_features": WIDTH, "out_features": 2}},
        "training_select": "SELECT id, x, y FROM big",
        "train_X": "x",
        "train_y": "y",
        "fit_kwargs": {"max_epochs": 1, "batch_size": 256},
    }
    done = subprocess.run(
        [sys.executable, "-c", _FIT, uri, str(_GIB), json.dumps(raw)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the fit under the limit failed: {done.stderr[-2000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    seconds = {name: said[name] for name in ("load", "fit", "save", "upload")}
    note = (
        f"{count:,} rows of {8 * WIDTH:,} bytes; peak {said['peak'] / _GIB:.2f} GiB resident, of which "
        f"{said['before'] / _GIB:.2f} before the fit; {count / said['fit']:,.0f} samples/s"
    )
    return Line(
        "memory", f"{size / _GIB:.1f} GiB of rows under 1 GiB", size, said["peak"], "≤ 1 GiB", said["peak"] <= _GIB,
        parts=seconds, note=note,
    )  # fmt: skip
