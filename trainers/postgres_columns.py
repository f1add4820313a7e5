"""What a driver gives → the columns of `trainers.postgres_types`: record batches of one schema, with `KEY`. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from registry.errors import RowsUnusable
from trainers.postgres_types import Output
from trainers.rows import KEY
from trainers.values import Shape, build, imprecise

#: Rows of a batch, at most.
BATCH = 65_536
#: Microseconds from 1970 to 2000, where PostgreSQL begins to count.
EPOCH = 946_684_800_000_000
#: Before all that PostgreSQL has: infinity, and years that don't fit, come out below it.
_FIRST = -300_000_000_000_000_000


def columns(batches: Iterable[pa.RecordBatch], outputs: Sequence[Output]) -> Iterator[pa.RecordBatch]:
    """The rows, as they come; where there is JSON when all have come, for its types are known only then.

    Args:
        batches: a column for each output, one for each guard in their order, and the hash of the row's key.

    Raises:
        RowsUnusable: a value that its column can't hold, or one that a guard found.
    """
    made = _finished(batches, outputs)
    if all(output.kind is not None for output in outputs):
        return made
    return _with_json(made, outputs)


def _finished(batches: Iterable[pa.RecordBatch], outputs: Sequence[Output]) -> Iterator[pa.RecordBatch]:
    names = [*(output.name for output in outputs), KEY]
    guards = [output.guard for output in outputs if output.guard is not None]
    for large in batches:
        for start in range(0, large.num_rows, BATCH):
            batch = large.slice(start, BATCH)
            for guard, met in zip(guards, batch.columns[len(outputs) : -1], strict=True):
                if pc.any(met).as_py():
                    raise RowsUnusable(guard.says)
            arrays = [_finish(output, batch.column(at)) for at, output in enumerate(outputs)]
            key = batch.column(batch.num_columns - 1).view(pa.uint64())
            yield pa.RecordBatch.from_arrays([*arrays, key], names=names)


def _finish(output: Output, array: pa.Array) -> pa.Array:
    kind = output.kind
    if kind is None:
        return array
    if array.type != kind:
        try:
            array = array.cast(kind)
        except pa.ArrowInvalid as error:
            raise imprecise(output.name, error) from None
    _check_times(output.name, array)
    return array


def _check_times(name: str, array: pa.Array) -> None:
    values = array.flatten() if pa.types.is_list(array.type) else array
    if not pa.types.is_timestamp(values.type):
        return
    first = pc.min(values.view(pa.int64())).as_py()
    if first is not None and first < _FIRST:
        raise RowsUnusable(
            f"`{name}` holds infinity or a time after the year 294246, which no timestamp column holds; "
            f"filter it out in the select: WHERE isfinite({name})"
        )


def _with_json(batches: Iterable[pa.RecordBatch], outputs: Sequence[Output]) -> Iterator[pa.RecordBatch]:
    texts = {at: _Json(output.name) for at, output in enumerate(outputs) if output.kind is None}
    held: list[list[pa.Array | None]] = []
    names: list[str] = []
    before = 0
    for batch in batches:
        names = batch.schema.names
        arrays: list[pa.Array | None] = list(batch.columns)
        for at, column in texts.items():
            column.add(batch.column(at), before)
            arrays[at] = None
        held.append(arrays)
        before += batch.num_rows
    for index, arrays in enumerate(held):
        for at, column in texts.items():
            arrays[at] = column.finish(index)
        held[index] = []
        yield pa.RecordBatch.from_arrays(arrays, names=names)


class _Json:
    """One column of JSON, as far as it was read."""

    def __init__(self, path: str) -> None:
        self._path, self._shape = path, Shape()
        self._pieces: list[pa.Array | None] = []
        self._load = json.JSONDecoder(parse_float=self._number, parse_constant=self._number).decode

    def add(self, texts: pa.Array, before: int) -> None:
        """Take in a batch's values.

        Args:
            before: how many rows came before these.
        """
        values = []
        for row, text in enumerate(texts.to_pylist()):
            value = None if text is None else self._load(text)
            values.append(self._shape.take(value, self._path, partial(_row, before + row)))
        self._pieces.append(build(values, self._shape.arrow(self._path), self._path))

    def finish(self, index: int) -> pa.Array:
        """The values of one batch, in the type that all of them need. Once for each."""
        piece, self._pieces[index] = self._pieces[index], None
        assert piece is not None
        kind = self._shape.arrow(self._path)
        return piece if piece.type == kind else build(piece.to_pylist(), kind, self._path)

    def _number(self, text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise RowsUnusable(f"`{self._path}` holds {text[:40]}, which is too large for a 64-bit float")
        return number


def _row(row: int) -> str:
    return f"row {row}"


def from_values(rows: Sequence[Sequence[Any]], kinds: Sequence[pa.DataType]) -> pa.RecordBatch:
    """A batch of Python's values, times as microseconds since 2000. Wraps around, as the other driver does."""
    arrays = [
        _times([row[at] for row in rows], kind) if _has_times(kind) else pa.array([row[at] for row in rows], kind)
        for at, kind in enumerate(kinds)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[str(at) for at in range(len(kinds))])


def _has_times(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind.value_type if pa.types.is_list(kind) else kind))


def _times(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_list(kind):
        plain = [value and [_since_1970(each) for each in value] for value in values]
        return pa.array(plain, pa.list_(pa.int64())).cast(kind)
    return pa.array([_since_1970(value) for value in values], pa.int64()).view(kind)


def _since_1970(value: int | None) -> int | None:
    return None if value is None else (value + EPOCH + 2**63) % 2**64 - 2**63
