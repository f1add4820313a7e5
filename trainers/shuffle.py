"""The order in which one epoch goes through rows that may lie in a file. Pure.

Shuffling all of them would read the file from end to end for every few rows. So the blocks are shuffled, and then the
rows of several neighbouring blocks of that order with each other: a window. Where one window holds all rows, that is
a shuffle like any other.

The order follows from the seed and the epoch alone: an attempt that goes on where another was lost finds its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def epoch_windows(
    block_rows: Sequence[int], seed: int, epoch: int, window: int, *, shuffle: bool = True
) -> Iterator[NDArray[np.int64]]:
    """Numbers of all rows, each once, in windows.

    Args:
        block_rows: rows of each block; see `trainers.spool.Rows.block_rows`.
        window: how many rows are shuffled with each other, at least; a block is never parted. See `Rows.window`.
        shuffle: False: in the order in which they stand.
    """
    starts = np.concatenate([[0], np.cumsum(block_rows, dtype=np.int64)])
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(block_rows)) if shuffle else np.arange(len(block_rows))
    parts: list[NDArray[np.int64]] = []
    for at in order:
        if block_rows[at]:
            parts.append(np.arange(starts[at], starts[at + 1]))
        if sum(map(len, parts)) >= window:
            yield _mixed(parts, generator if shuffle else None)
            parts = []
    if parts:
        yield _mixed(parts, generator if shuffle else None)


def epoch_batches(
    block_rows: Sequence[int],
    size: int,
    seed: int,
    epoch: int,
    window: int,
    *,
    shuffle: bool = True,
    drop_last: bool = False,
    share: tuple[int, int] = (0, 1),
) -> Iterator[NDArray[np.int64]]:
    """The epoch in batches of `size` rows; the last may have fewer, unless it is dropped.

    Args:
        share: which of how many processes this one is. All make the same number of batches: what doesn't divide is
            filled up from the epoch's first batches.
    """
    index, count = share
    held: list[NDArray[np.int64]] = []
    first: list[NDArray[np.int64]] = []
    for batch in _batches(epoch_windows(block_rows, seed, epoch, window, shuffle=shuffle), size, drop_last):
        if len(first) < count:
            first.append(batch)
        held.append(batch)
        if len(held) == count:
            yield held[index]
            held = []
    if held and count > 1:
        filled = held + first
        yield filled[index % len(filled)]


def batches_in(rows: int, size: int, *, drop_last: bool = False, shares: int = 1) -> int:
    """How many batches `epoch_batches` makes of so many rows."""
    whole = rows // size if drop_last else -(-rows // size)
    return -(-whole // shares)


def _batches(windows: Iterator[NDArray[np.int64]], size: int, drop_last: bool) -> Iterator[NDArray[np.int64]]:
    rest = np.empty(0, np.int64)
    for window in windows:
        rows = np.concatenate([rest, window])
        whole = len(rows) // size * size
        yield from rows[:whole].reshape(-1, size)
        rest = rows[whole:]
    if len(rest) and not drop_last:
        yield rest


def _mixed(parts: Sequence[NDArray[np.int64]], generator: np.random.Generator | None) -> NDArray[np.int64]:
    rows = np.concatenate(parts)
    return rows if generator is None else generator.permutation(rows)
