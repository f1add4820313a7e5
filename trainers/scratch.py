"""Arrow arrays put aside until all rows of a read are there: in memory while they are few, in a file beyond that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import IO

import pyarrow as pa

from trainers.spool import MEMORY

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
        file.write(message)
        schema, size = batch.schema, message.size

        def read() -> pa.Array:
            data = pa.py_buffer(os.pread(file.fileno(), size, begin))
            return pa.ipc.read_record_batch(data, schema).column(0)

        return read
