"""Arrow columns → tensors' arrays, and what a first look at all rows finds. Pure.

A column of numbers is n values, one of lists n×d, one of lists of lists (images) n×h×w, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from registry.errors import RowsUnusable
from trainers.arrays import unknown_field

#: More different values than these are no classes.
MOST_CLASSES: Final = 10_000


@dataclass(slots=True)
class Seen:
    """What one column was seen to hold."""

    kind: pa.DataType | None = None
    missing: int = 0
    #: Different values so far; None: too many, or not looked for.
    distinct: set[Any] | None = None
    whole: bool = True


@dataclass(slots=True)
class Survey:
    """What a look at all rows finds."""

    rows: int = 0
    columns: dict[str, Seen] = field(default_factory=dict)

    def refuse_missing(self, names: Sequence[str], fix: str) -> None:
        """Raise when any of these fields lacks values.

        Raises:
            RowsUnusable: naming each field, and in how many rows.
        """
        for name in names:
            if self.rows and self.columns[name].missing == self.rows:
                raise unknown_field(name, self.columns)
        gaps = [(name, self.columns[name].missing) for name in names if self.columns[name].missing]
        if gaps:
            said = ", ".join(f"`{name}` is missing in {count} of {self.rows} rows" for name, count in gaps)
            raise RowsUnusable(f"{said}; {fix}")


def survey(batches: Iterable[pa.RecordBatch], fields: Sequence[str], labels: Sequence[str] = ()) -> Survey:
    """A look at these fields of all rows; of `labels`, the different values too.

    Raises:
        RowsUnusable: no row has a field.
    """
    found = Survey(0, {name: Seen(distinct=set() if name in labels else None) for name in fields})
    for batch in batches:
        found.rows += batch.num_rows
        for name, seen in found.columns.items():
            if name not in batch.schema.names:
                raise unknown_field(name, batch.schema.names)
            _look(plain(batch.column(name)), seen)
    return found


def _look(column: pa.Array, seen: Seen) -> None:
    seen.kind = column.type
    seen.missing += column.null_count
    flat = column
    while is_list(flat.type):
        flat = flat.flatten()
    if pa.types.is_floating(flat.type):
        nan = pc.sum(pc.is_nan(flat)).as_py() or 0
        seen.missing += int(nan) if flat is column else min(int(nan), len(column))
    if seen.distinct is not None and not is_list(column.type):
        seen.distinct.update(pc.unique(column.drop_null()).to_pylist())
        if len(seen.distinct) > MOST_CLASSES:
            seen.distinct = None
    if seen.whole and pa.types.is_floating(flat.type):
        seen.whole = bool(pc.all(pc.equal(pc.floor(flat), flat)).as_py() in (True, None))
    elif not (pa.types.is_integer(flat.type) or pa.types.is_boolean(flat.type)):
        seen.whole = False


def plain(column: pa.Array) -> pa.Array:
    """Without dictionaries, extension types and decimals."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def is_list(kind: pa.DataType) -> bool:
    """Whether the values are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether the values, or those in the innermost lists, are numbers or booleans."""
    while is_list(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def numbers(column: pa.Array, name: str) -> NDArray[Any]:
    """A column as n values, or n×d×… of lists.

    Raises:
        RowsUnusable: it holds no numbers, lacks some, or its lists differ in length.
    """
    column = plain(column)
    if not is_number(column.type):
        raise RowsUnusable(
            f"`{name}` holds {_kind(column.type)}, of which no tensor can be made: give the model a `preprocess` that "
            "makes one, or name fields of numbers"
        )
    if column.null_count:
        raise RowsUnusable(
            f"`{name}` is missing in {column.null_count} of {len(column)} rows; leave them out in the select"
        )
    if not is_list(column.type):
        array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return array
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    width = int(lengths[0]) if len(lengths) else 0
    other = np.flatnonzero(lengths != width)
    if len(other):
        raise RowsUnusable(
            f"`{name}` holds lists of different lengths: {width} in one row, {lengths[other[0]]} in another; all must "
            "be equally long, or a `preprocess` must make them so"
        )
    inner = numbers(column.flatten(), name)
    return inner.reshape(len(column), width, *inner.shape[1:])


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "dates" if pa.types.is_temporal(kind) else f"values of type {kind}"
