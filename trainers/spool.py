"""The rows of one read, kept while a fit needs them: in memory while they are few, in a local file beyond that.

Blocks are Arrow IPC messages of one schema, in the select's order. Where a block begins depends on the rows alone,
not on how they were delivered, so equal rows in equal order have equal blocks, and one digest. The file has no name
in any folder: it goes with the process, however that ends. It is memory-mapped, and what was looked at is given back
to the system soon: a process that goes through it needs the memory of a few blocks.

Source: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainers.rows import KEY

#: Bytes of rows that are kept in memory; the rest goes to a file.
MEMORY = 128 << 20
#: What a block should have. Its number of rows is a power of two, found from the first rows.
_BLOCK_BYTES = 4 << 20
_FIRST_ROWS, _MOST_ROWS = 64, 65_536
#: Of a file, so many blocks are at hand at a time.
_WINDOW_BLOCKS = 8


class Rows:
    """All rows of one read, or those of them that `split` chose. Immutable; readable any number of times."""

    def __init__(self, blocks: _Blocks, chosen: Sequence[NDArray[np.int64]] | None = None) -> None:
        """`chosen`: for each block the places of the rows that belong here, ascending; None: all of them."""
        self._blocks, self._chosen = blocks, chosen
        counts = blocks.counts if chosen is None else [len(places) for places in chosen]
        #: Rows of each block; some may have none.
        self.block_rows: tuple[int, ...] = tuple(counts)
        self.num_rows = sum(counts)
        self.schema: pa.Schema = blocks.schema

    def __len__(self) -> int:
        return self.num_rows

    @property
    def in_memory(self) -> bool:
        """Whether they are few enough to be held at once without a thought."""
        return self._blocks.in_memory

    @property
    def window(self) -> int:
        """How many rows may be shuffled with each other: all that are in memory, some blocks of a file."""
        return self.num_rows if self.in_memory else _WINDOW_BLOCKS * max(self.block_rows)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The number of each block's first row, and of the row after the last."""
        return np.concatenate([[0], np.cumsum(self.block_rows, dtype=np.int64)]).astype(np.int64)

    def block(self, at: int) -> pa.RecordBatch:
        """The rows of one block. Of a file it is a view: its memory comes and goes with its use."""
        batch = self._blocks.read(at)
        return batch if self._chosen is None else batch.take(pa.array(self._chosen[at]))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All blocks that have rows, in the select's order."""
        return (self.block(at) for at, count in enumerate(self.block_rows) if count)

    def take(self, places: NDArray[np.int64]) -> pa.RecordBatch:
        """These rows, by their numbers among these rows, in this order. Quick where they lie in few blocks."""
        owner = np.searchsorted(self.starts, places, side="right") - 1
        parts: list[pa.RecordBatch] = []
        order = np.empty(len(places), np.int64)
        for at in np.unique(owner):
            here = np.flatnonzero(owner == at)
            order[here] = np.arange(len(here)) + sum(part.num_rows for part in parts)
            parts.append(self.block(int(at)).take(pa.array(places[here] - self.starts[at])))
        return _joined(parts, self.schema).take(pa.array(order))

    def table(self) -> pa.Table:
        """All rows at once, for who needs them so. Without a copy where they are in memory."""
        return pa.Table.from_batches(self.batches(), self.schema)

    def keys(self) -> NDArray[np.uint64]:
        """`KEY` of every row."""
        found = [np.asarray(batch.column(KEY).to_numpy(zero_copy_only=False)).copy() for batch in self.batches()]
        return np.concatenate([np.empty(0, np.uint64), *found])

    def choose(self, places: NDArray[np.int64]) -> Rows:
        """Only these rows, by their numbers, ascending. Nothing is copied."""
        cuts = np.searchsorted(places, self.starts)
        inner = [places[begin:end] - start for begin, end, start in zip(cuts, cuts[1:], self.starts, strict=False)]
        if self._chosen is not None:
            inner = [before[now] for before, now in zip(self._chosen, inner, strict=True)]
        return Rows(self._blocks, inner)

    def digest(self) -> str:
        """SHA-256 over the blocks of the whole read: equal rows in equal order, equal digest."""
        return self._blocks.digest


def spooled(batches: Iterable[pa.RecordBatch], memory: int = MEMORY) -> Rows:
    """The rows of a read, kept. All batches have one schema.

    Args:
        memory: bytes that may stay in memory.
    """
    spool = _Spool(memory)
    for batch in batches:
        spool.add(batch)
    return Rows(spool.finish())


class _Blocks:
    """Finished blocks: messages in memory, or in a file."""

    def __init__(self, schema: pa.Schema, counts: list[int], digest: str) -> None:
        self.schema, self.counts, self.digest = schema, counts, digest
        self.in_memory = True

    def message(self, at: int) -> pa.Buffer:
        """One block's bytes."""
        raise NotImplementedError

    def read(self, at: int) -> pa.RecordBatch:
        """One block."""
        return pa.ipc.read_record_batch(self.message(at), self.schema)


class _InMemory(_Blocks):
    def __init__(self, schema: pa.Schema, counts: list[int], digest: str, messages: list[pa.Buffer]) -> None:
        super().__init__(schema, counts, digest)
        self._messages = messages

    def message(self, at: int) -> pa.Buffer:
        return self._messages[at]


class _InFile(_Blocks):
    def __init__(
        self, schema: pa.Schema, counts: list[int], digest: str, file: IO[bytes], places: list[tuple[int, int]]
    ) -> None:
        super().__init__(schema, counts, digest)
        self.in_memory = False
        self._file, self._places = file, places
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._buffer = pa.py_buffer(self._map)
        self._seen = 0

    def message(self, at: int) -> pa.Buffer:
        begin, size = self._places[at]
        self._seen += size
        if self._seen > MEMORY // 4:  # what is read again comes back by itself
            self._map.madvise(mmap.MADV_DONTNEED)
            self._seen = size
        return self._buffer.slice(begin, size)


class _Spool:
    """Takes batches as they come; cuts them into blocks."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._hash = hashlib.sha256()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._rows: int | None = None
        self._messages: list[pa.Buffer] = []
        self._counts: list[int] = []
        self._size = 0
        self._file: IO[bytes] | None = None
        self._places: list[tuple[int, int]] = []
        self._schema: pa.Schema | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        batch = _plain(batch)
        if self._schema is None:
            self._schema = batch.schema
            self._hash.update(batch.schema.serialize())
        if batch.num_rows:
            self._waiting.append(batch)
            self._waiting_rows += batch.num_rows
        while self._waiting_rows >= (self._rows or _FIRST_ROWS):
            self._rows = self._rows or self._fitting()
            if self._waiting_rows < self._rows:
                return
            self._cut(self._rows)

    def finish(self) -> _Blocks:
        if self._schema is None:  # a read that finds nothing may give nothing
            self._schema = pa.schema([])
        if self._waiting_rows:
            self._cut(self._waiting_rows)
        digest = self._hash.hexdigest()
        if self._file is None:
            return _InMemory(self._schema, self._counts, digest, self._messages)
        self._file.flush()
        return _InFile(self._schema, self._counts, digest, self._file, self._places)

    def _fitting(self) -> int:
        """Rows of a block, as the first rows have it."""
        assert self._schema is not None
        first = _joined(self._waiting, self._schema).slice(0, _FIRST_ROWS)
        each = max(1, pa.ipc.get_record_batch_size(first) // _FIRST_ROWS)
        return 1 << int(np.clip(np.log2(_BLOCK_BYTES / each), np.log2(_FIRST_ROWS), np.log2(_MOST_ROWS)))

    def _cut(self, rows: int) -> None:
        """Make one block of the first rows that wait."""
        assert self._schema is not None
        whole = _joined(self._waiting, self._schema)
        # Taken, not sliced: how a slice is written depends on what it was sliced from.
        block, rest = whole.take(pa.array(np.arange(rows))), whole.slice(rows)
        self._waiting, self._waiting_rows = ([rest] if rest.num_rows else []), rest.num_rows
        message = block.serialize()
        self._hash.update(message)
        self._counts.append(block.num_rows)
        self._size += message.size
        if self._file is None and self._size > self._memory:
            self._to_file()
        if self._file is None:
            self._messages.append(message)
        else:
            self._write(message)

    def _to_file(self) -> None:
        # The file must outlive this call, and closes with its last user.
        self._file = tempfile.TemporaryFile(prefix="refitd-rows-", buffering=0)  # noqa: SIM115
        for message in self._messages:
            self._write(message)
        self._messages = []

    def _write(self, message: pa.Buffer) -> None:
        assert self._file is not None
        self._places.append((self._file.tell(), message.size))
        write_all(self._file, message)


def write_all(file: IO[bytes], data: pa.Buffer) -> None:
    """Write all of it: an unbuffered file takes what fits. Raises OSError: the disk is full."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without dictionaries: those would have to be kept beside the blocks."""
    for at, kind in enumerate(batch.schema.types):
        if pa.types.is_dictionary(kind):
            batch = batch.set_column(at, batch.schema.names[at], batch.column(at).cast(kind.value_type))
    return batch


def _joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches, schema).combine_chunks()
    return next(iter(table.to_batches()), None) or pa.RecordBatch.from_pylist([], schema)
