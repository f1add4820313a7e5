"""Arrow arrays put aside until all rows of a read are there: in memory while they are few, in a file beyond that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

import pyarrow as pa

from trainers.spool import MEMORY, write_all

#: Gives an array back.
Kept = Callable[[], pa.Array]


class Scratch:
    """Keeps arrays. Its file has no name in any folder, and goes with the process, however that ends."""

    def __init__(self, memory: int = MEMORY) -> None:
        """`memory`: bytes that may stay in memory."""
        self._left = memory
        self._file: IO[bytes] | None = None

    def keep(self, array: pa.Array) -> Kept:
        """Put one aside."""
        self._left -= array.nbytes
        if self._left >= 0:
            return lambda: array
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="refitd-read-", buffering=0)  # noqa: SIM115 (outlives this call)
        file, begin = self._file, self._file.tell()
        batch = pa.record_batch([array], names=["kept"])
        message = batch.serialize()
        write_all(file, message)
        schema, size = batch.schema, message.size

        def read() -> pa.Array:
            data = b"".join(_read(file.fileno(), size, begin))
            return pa.ipc.read_record_batch(pa.py_buffer(data), schema).column(0)

        return read


def _read(file: int, size: int, begin: int) -> Iterator[bytes]:
    """One call reads 2 GiB at most."""
    while size:
        part = os.pread(file, size, begin)
        if not part:
            raise OSError(f"{size} bytes are missing from a temporary file")
        yield part
        size, begin = size - len(part), begin + len(part)
