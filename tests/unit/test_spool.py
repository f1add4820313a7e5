"""Rows that may lie in a file: the same rows, in the same order, however they came and wherever they lie."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.servers import ROOT
from trainers.rows import KEY
from trainers.shuffle import batches_in, epoch_batches, epoch_windows
from trainers.spool import MEMORY, Rows, spooled, write_all


def table(count: int, width: int = 3) -> pa.Table:
    flat = pa.array(np.arange(count * width, dtype=np.float64))
    return pa.table(
        {
            KEY: np.arange(count, dtype=np.uint64),
            "vector": pa.FixedSizeListArray.from_arrays(flat, width),
            "text": [None if n % 7 == 0 else "é" * (n % 5) for n in range(count)],
            "flag": [n % 3 == 0 if n % 2 else None for n in range(count)],
            "nested": [{"a": [n] * (n % 3)} for n in range(count)],
        }
    )


@given(st.integers(1, 300), st.integers(1, 120), st.sampled_from([0, MEMORY]))
def test_all_rows_are_there_in_their_order(count: int, chunk: int, memory: int) -> None:
    rows = spooled(table(count).to_batches(max_chunksize=chunk), memory)
    assert rows.in_memory == (memory > 0)
    assert rows.table() == table(count)
    assert (len(rows), sum(rows.block_rows), rows.window) == (count, count, rows.window)


def test_equal_rows_have_one_digest_and_others_another() -> None:
    def digest(rows: pa.Table, chunk: int, memory: int = MEMORY) -> str:
        return spooled(rows.to_batches(max_chunksize=chunk), memory).digest()

    whole = digest(table(5000, 200), 5000)
    assert digest(table(5000, 200), 7) == whole
    assert digest(table(5000, 200).slice(0), 999, 0) == whole
    assert digest(table(5000, 200).slice(1), 999) != whole
    assert digest(table(5000, 200).rename_columns([KEY, "v", "text", "flag", "nested"]), 999) != whole


def of_many_blocks(memory: int) -> tuple[Rows, pa.Table]:
    whole = table(6000, 2000)
    rows = spooled(whole.to_batches(max_chunksize=500), memory)
    assert len(rows.block_rows) > 10
    return rows, whole


@pytest.mark.parametrize("memory", [0, 1 << 40], ids=["in a file", "in memory"])
def test_rows_are_taken_by_their_numbers(memory: int) -> None:
    rows, whole = of_many_blocks(memory)
    places = np.random.default_rng(0).integers(0, len(rows), 500)
    assert pa.Table.from_batches([rows.take(places)]) == whole.take(pa.array(places)).combine_chunks()


@pytest.mark.parametrize("memory", [0, 1 << 40], ids=["in a file", "in memory"])
def test_a_choice_of_rows_is_rows_again(memory: int) -> None:
    rows, whole = of_many_blocks(memory)
    odd = rows.choose(np.arange(1, 6000, 2))
    assert odd.keys().tolist() == list(range(1, 6000, 2))
    third = odd.choose(np.arange(0, 3000, 3))
    assert third.table() == whole.take(pa.array(np.arange(1, 6000, 6)))
    assert third.take(np.array([999, 0])).column(KEY).to_pylist() == [5995, 1]
    none = rows.choose(np.array([], dtype=np.int64))
    assert (len(none), list(none.batches())) == (0, [])


def test_a_read_that_gives_nothing_has_no_rows() -> None:
    assert len(spooled([])) == 0
    assert len(spooled(table(0).to_batches())) == 0


def test_a_file_that_takes_little_at_a_time_gets_all() -> None:
    class Reluctant(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[:7])

    file = Reluctant()
    write_all(file, pa.py_buffer(b"x" * 100))
    assert file.getvalue() == b"x" * 100


def test_dictionaries_become_what_they_stand_for() -> None:
    coded = pa.record_batch({KEY: pa.array([1], pa.uint64()), "c": pa.array(["x"]).dictionary_encode()})
    assert spooled([coded]).table().column("c").to_pylist() == ["x"]


_GROWTH = """
import resource, sys
import numpy as np, pyarrow as pa
from trainers.spool import spooled
def batches():
    for begin in range(0, 60):
        yield pa.record_batch({"x": pa.FixedSizeListArray.from_arrays(pa.array(np.full(1_000_000, begin * 1.0)), 1000)})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = spooled(batches(), 16 << 20)
total = sum(np.asarray(batch.column("x").flatten()).sum() for batch in rows.batches())
assert total == sum(range(60)) * 1_000_000, total
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


def test_rows_in_a_file_need_little_memory() -> None:
    """480 MB of rows, of which 16 may stay in memory."""
    done = subprocess.run([sys.executable, "-c", _GROWTH], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150 << 20


def test_the_file_has_no_name(tmp_path: object) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    rows = [spooled(table(10).to_batches(), 0) for _ in range(50)]
    assert all(len(one) == 10 for one in rows)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 50), st.integers(1, 100), st.booleans(),
    st.integers(1, 3), st.booleans(),
)  # fmt: skip
def test_an_epoch_has_every_row_once(
    blocks: list[int], size: int, window: int, shuffle: bool, shares: int, drop_last: bool
) -> None:
    count = sum(blocks)
    windows = [row for rows in epoch_windows(blocks, 1, 0, window, shuffle=shuffle) for row in rows.tolist()]
    assert sorted(windows) == list(range(count))
    assert shuffle or windows == list(range(count))
    parts = [
        [
            batch.tolist()
            for batch in epoch_batches(
                blocks, size, 1, 0, window, shuffle=shuffle, drop_last=drop_last, share=(share, shares)
            )
        ]
        for share in range(shares)
    ]
    wanted = batches_in(count, size, drop_last=drop_last, shares=shares)
    assert {len(part) for part in parts} <= {wanted, 0 if count < size else wanted}
    seen = {row for part in parts for batch in part for row in batch}
    assert len(seen) == (count // size * size if drop_last else count)


def test_epochs_differ_and_seeds_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(row) for rows in epoch_windows([50, 50], seed, epoch, 100) for row in rows]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
