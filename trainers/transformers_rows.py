"""Rows of a fit → what a model of transformers is shown: tokens and numbers of labels, made a batch at a time.

`survey` goes through the rows once, to see that nothing is missing and which labels there are. `TextRows` is a dataset
by row number: it holds no tokens, so rows may lie in a file that is larger than the memory.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from registry.document import ModelDocument
from registry.errors import RowsUnusable
from trainers.arrays import unknown_field
from trainers.shuffle import epoch_windows
from trainers.spool import Rows
from trainers.transformers_encoding import Encoder
from trainers.transformers_goal import Goal, goal_of
from trainers.transformers_tasks import Kind, Task

#: Blocks of a file that are at hand at a time: two windows of `trainers.spool`.
_BLOCKS_AT_HAND = 16


def text_field(column: Any, name: str) -> Any:
    """A column of texts, without dictionaries.

    Raises:
        RowsUnusable: it holds something else.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise RowsUnusable(
            f"`{name}` holds {kind}, and a text is needed: choose another field, or cast it in the select"
        )
    return column


def texts_field(column: Any, name: str) -> Any:
    """A column of lists of texts: words, tags, or several labels.

    Raises:
        RowsUnusable: it holds something else.
    """
    kind = column.type
    inner = kind.value_type if _is_list(kind) else None
    if inner is None or not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_null(inner)):
        raise RowsUnusable(f"`{name}` holds {kind}, and a list of texts is needed in each row: of words or tags")
    return column


def label_field(column: Any) -> Any:
    """A column of labels or numbers as its plain type: dictionaries and decimals are taken apart."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


@dataclass(slots=True)
class _Seen:
    """What a pass over the rows found."""

    missing: Counter[str] = field(default_factory=Counter)
    labels: set[Any] = field(default_factory=set)
    fractions: bool = False
    uneven: int = 0


def survey(
    document: ModelDocument, task: Task, rows: Rows, ordered: Sequence[Any] | None = None, judging: Goal | None = None
) -> Goal:
    """Look through all the rows.

    Args:
        ordered: the document's `labels`.
        judging: what a model has learned, where the rows are there to judge it: they may have any labels.

    Returns:
        What there is to learn.

    Raises:
        RowsUnusable: a field that isn't there or not of the right type, missing texts or labels, words without tags.
    """
    fields = (*document.fields_X, *document.fields_y)
    for name in fields:
        if name not in rows.schema.names or (pa.types.is_null(rows.schema.field(name).type) and rows.num_rows):
            raise unknown_field(name, rows.schema.names)
    kind = _kind(document, task, rows)
    seen = _Seen()
    for batch in rows.batches():
        _look(document, kind, batch, seen)
    if seen.missing:
        lacking = "; ".join(
            f"`{name}` is missing in {seen.missing[name]} of {rows.num_rows} rows" for name in seen.missing
        )
        raise RowsUnusable(f"{lacking}; leave them out in the select")
    if seen.uneven:
        x, y = document.fields_X[0], document.fields_y[0]
        raise RowsUnusable(
            f"`{x}` and `{y}` differ in length in {seen.uneven} of {rows.num_rows} rows: each word has one tag"
        )
    if judging is not None:
        return judging
    if kind == Kind.LABEL and seen.fractions:
        kind = Kind.NUMBER
    return goal_of(kind, seen.labels, ordered, document.fields_y[0] if document.fields_y else "")


def _kind(document: ModelDocument, task: Task, rows: Rows) -> Kind:
    """What y is by its type."""
    if len(task.kinds) == 1 and task.kinds[0] != Kind.NUMBER:
        return task.kinds[0]
    name = document.fields_y[0]
    kind = rows.schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    number = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    if task.kinds == (Kind.NUMBER,):
        if not number:
            raise RowsUnusable(f"`{name}` holds {kind}, and {task.name} learns numbers")
        return Kind.NUMBER
    if _is_list(kind):
        return Kind.LABELS
    if number or pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Kind.LABEL
    raise RowsUnusable(f"`{name}` holds {kind}; labels are texts, whole numbers or true/false")


def _look(document: ModelDocument, kind: Kind, batch: pa.RecordBatch, seen: _Seen) -> None:
    for name in document.fields_X:
        column = batch.column(name)
        column = texts_field(column, name) if kind == Kind.TAGS else text_field(column, name)
        absent = column.null_count or (pc.list_flatten(column).null_count if kind == Kind.TAGS else 0)
        seen.missing.update({name: absent} if absent else {})
    for name in document.fields_y:
        column = label_field(batch.column(name))
        values = pc.list_flatten(texts_field(column, name)) if kind in (Kind.LABELS, Kind.TAGS) else column
        absent = column.null_count or values.null_count or _not_a_number(values)
        seen.missing.update({name: absent} if absent else {})
        if kind == Kind.TAGS:
            lengths = pc.not_equal(
                pc.list_value_length(column), pc.list_value_length(batch.column(document.fields_X[0]))
            )
            seen.uneven += pc.sum(lengths).as_py() or 0
        if kind not in (Kind.NUMBER, Kind.TEXT):
            _look_at_labels(values.drop_null(), seen)


def _look_at_labels(values: Any, seen: _Seen) -> None:
    if pa.types.is_floating(values.type) and pc.any(pc.not_equal(values, pc.floor(values))).as_py():
        seen.fractions = True
    if not seen.fractions:
        seen.labels.update(pc.unique(values).to_pylist())


def _not_a_number(values: Any) -> int:
    return (pc.sum(pc.is_nan(values)).as_py() or 0) if pa.types.is_floating(values.type) else 0


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


class TextRows(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows by number, encoded when they are asked for. Processes that load batches may share it after a fork."""

    def __init__(self, rows: Rows, document: ModelDocument, encoder: Encoder) -> None:
        self._rows, self._fields = rows, [*document.fields_X, *document.fields_y]
        self._width, self._encoder = len(document.fields_X), encoder
        self._blocks: OrderedDict[int, pa.RecordBatch] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """What PyTorch's loader asks for a batch with."""
        columns = self._take(np.asarray(places, np.int64))
        y = columns[self._width] if len(columns) > self._width else None
        return self._encoder.encode(columns[: self._width], y, learn=True)

    def _take(self, places: NDArray[np.int64]) -> list[list[Any]]:
        """The fields' values at these places, in their order."""
        starts = self._rows.starts
        owner = np.searchsorted(starts, places, side="right") - 1
        found: list[list[Any]] = [[None] * len(places) for _ in self._fields]
        for at in np.unique(owner):
            here = np.flatnonzero(owner == at)
            batch = self._block(int(at)).take(pa.array(places[here] - starts[at]))
            for values, column in zip(found, batch.columns, strict=True):
                for place, value in zip(here, label_field(column).to_pylist(), strict=True):
                    values[place] = value
        return found

    def _block(self, at: int) -> pa.RecordBatch:
        """One block of the fields; the blocks asked for last are kept."""
        block = self._blocks.pop(at, None)
        if block is None:
            block = self._rows.block(at).select(self._fields)
        self._blocks[at] = block
        if not self._rows.in_memory and len(self._blocks) > _BLOCKS_AT_HAND:
            self._blocks.popitem(last=False)
        return block


class BlockSampler(torch.utils.data.Sampler[int]):
    """The numbers of all rows in the order of `trainers.shuffle`: another each epoch, the same for the same seed."""

    def __init__(self, rows: Rows, seed: int, *, shuffle: bool = True) -> None:
        self._rows, self._seed, self._shuffle = rows, seed, shuffle
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """What Accelerate's loader calls when an epoch begins."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rows = self._rows
        for window in epoch_windows(rows.block_rows, self._seed, self._epoch, rows.window, shuffle=self._shuffle):
            yield from window.tolist()
