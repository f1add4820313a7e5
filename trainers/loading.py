"""The rows of one fit: read through one cut, parted into those to train on and those to judge on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.document import ModelDocument
from registry.errors import DatastoreUnavailable, NoRows
from registry.records import Stamp
from registry.store import Store
from trainers.evaluation import split
from trainers.readers import open_reader
from trainers.rows import Cut
from trainers.spool import Rows, spooled
from trainers.trainer import Report, Trainer

if TYPE_CHECKING:
    import pyarrow as pa

#: A read that outlives the datastore's snapshot history is begun again with a fresh cut, this often.
_READS = 3


@dataclass(frozen=True, slots=True)
class Read:
    """The rows of one cut. `digest` is that of all of them."""

    stamp: Any
    train: Rows
    held: Rows | None
    digest: str

    @property
    def count(self) -> int:
        """Of all rows."""
        return self.train.num_rows + (self.held.num_rows if self.held is not None else 0)


def load(store: Store, trainer: Trainer, document: ModelDocument, need: Stamp | None, report: Report) -> Read:
    """All rows of the document, from a cut that covers `need`.

    Raises:
        NoRows, RowsUnusable: see `trainers.rows.Cut`.
        DatastoreUnavailable: it gave them up half way, several times.
    """
    for attempt in range(_READS):
        try:
            return _Loader(trainer, document, report).load(store, need)
        except DatastoreUnavailable:
            if attempt == _READS - 1:
                raise
            report.line("the datastore gave the rows up half way; reading them again from a fresh cut")
    raise AssertionError("unreachable")


class _Loader:
    def __init__(self, trainer: Trainer, document: ModelDocument, report: Report) -> None:
        self._trainer, self._document, self._report = trainer, document, report

    def load(self, store: Store, need: Stamp | None) -> Read:
        document, validation = self._document, self._document.validation
        with open_reader(store) as reader, reader.cut(need) as cut:
            rows = self._rows(cut, document.training_select, "training_select")
            if validation is None:
                return Read(cut.stamp, rows, None, rows.digest())
            if validation.select is not None:
                held = self._rows(cut, validation.select, "validation.select")
                both = hashlib.sha256(f"{rows.digest()} {held.digest()}".encode()).hexdigest()
                return Read(cut.stamp, rows, held, both)
            train, judged = split(rows.keys(), validation.split or 0.0)
            return Read(cut.stamp, rows.choose(train), rows.choose(judged), rows.digest())

    def _rows(self, cut: Cut, select: Any, path: str) -> Rows:
        rows = spooled(self._counted(cut.rows(select, self._trainer.fields(self._document))))
        if not rows.num_rows:
            raise NoRows(f"{path} finds no rows to train on; it is fitted when matching rows come")
        return rows

    def _counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        count = 0
        for batch in batches:
            count += batch.num_rows
            self._report.progress(None, f"{count} rows")
            yield batch
