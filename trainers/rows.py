"""The contract of reading training rows: one data cut, as Arrow record batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from registry.records import Stamp

if TYPE_CHECKING:
    import pyarrow as pa

#: The column that identifies a row across reads: a 64-bit hash of its key. Never part of X or y.
KEY = "__key"


class Cut(Protocol):
    """One state of the datastore; every read through it sees exactly that state."""

    stamp: Stamp

    def rows(self, select: Any, fields: tuple[str, ...] | None) -> Iterator[pa.RecordBatch]:
        """The selected rows, in the select's order.

        Args:
            select: the document's `training_select` or `validation.select`.
            fields: dotted paths, one flat column each, named by the path, null where a row lacks it; None: every
                top-level field but `_id`. Every batch also has `KEY`, uint64. All batches of one read have one schema,
                numbers never lose precision, and a value of an unexpected type is never dropped: a column with mixed
                types that Arrow can't unify raises `RowsUnusable`, which names the field, both types and an example.

        Raises:
            RowsUnusable: see above, or the select names a collection or table that isn't there.
            DatastoreUnavailable: try again with a fresh cut.
        """


class Reader(Protocol):
    """Reads from one datastore."""

    def cut(self, need: Stamp | None) -> AbstractContextManager[Cut]:
        """A cut that provably covers every change up to `need`. Waits until there is one."""

    def close(self) -> None:
        """Give connections back. Twice is safe."""
