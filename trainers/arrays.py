"""Arrow columns → the X and y that users of scikit-learn expect. Pure.

| fields | X |
|---|---|
| several, or `_base` (the whole row) | DataFrame with these column names; a vector's as `name.0`, `name.1`, … |
| one number, bool or date | n×1 array |
| one vector | n×d array of float64 |
| one text, or anything else | 1-D array of objects |

Missing numbers are NaN (a column of whole numbers or bools that lacks some is float64), missing dates NaT, missing
text NaN in a DataFrame and None elsewhere. `trainers.predict_rows` makes the same of what users hand to predict.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from registry.errors import RowsUnusable
from trainers.rows import KEY
from trainers.values import imprecise

#: The field that stands for the whole row.
BASE = "_base"


def base_fields(names: Iterable[str], exclude: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns that `_base` stands for: all but the key, `_id` and those excluded (the fields of y)."""
    return tuple(name for name in names if name not in (KEY, "_id") and name not in exclude)


def make_X(table: pa.Table, fields: Sequence[str], exclude: Sequence[str] = ()) -> Any:  # noqa: N802
    """X of these fields, n rows, see the module.

    Args:
        exclude: what `_base` leaves out: the fields of y.

    Raises:
        RowsUnusable: a field that no row has, vectors that differ in length or are missing.
    """
    names = _expanded(table, fields, exclude)
    if len(names) > 1 or BASE in fields:
        return _frame(table, names)
    values = column(table, names[0])
    return values.reshape(-1, 1) if values.ndim == 1 and values.dtype != object else values


def make_y(table: pa.Table, fields: Sequence[str]) -> NDArray[Any]:
    """y: one field as a 1-D array (a vector as n×d), several as an n×k array.

    Raises:
        RowsUnusable: as for `make_X`.
    """
    columns = [column(table, name) for name in fields]
    if len(columns) == 1:
        return columns[0]
    return np.column_stack(columns)


def column(table: pa.Table, field: str) -> NDArray[Any]:
    """One field as an array: n values, or n×d for a vector. Without a copy where its type and chunks allow.

    Raises:
        RowsUnusable: as for `make_X`.
    """
    chunks = _present(table, field)
    if _is_vector(chunks.type):
        return _matrix(chunks, field)
    dtype = _dtype(chunks)
    if dtype is not None and chunks.num_chunks != 1:
        return _filled(np.empty(len(chunks), dtype), chunks)
    return _values(chunks, field)


def explain_missing(table: pa.Table, fields: Sequence[str], exclude: Sequence[str] = ()) -> str:
    """`"`age` is missing in 12 of 400 rows; …"` for what is null or NaN in these fields; empty where nothing is."""
    said = []
    for name in _expanded(table, fields, exclude):
        chunks = table.column(name)
        missing = _missing(chunks)
        if missing:
            said.append(f"`{name}` is missing in {missing} of {len(chunks)} rows")
        elif _is_vector(chunks.type) and (holes := _missing(pc.list_flatten(chunks))):
            said.append(f"the vectors in `{name}` lack {holes} of their numbers")
    return "; ".join(said)


def unknown_field(field: str, known: Iterable[str]) -> RowsUnusable:
    """No row has this field; names those it may have meant."""
    names = [name for name in known if name not in (KEY, field)]
    near = difflib.get_close_matches(field, names, 3, 0.5)
    hint = f"did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else "check its spelling, and the select"
    return RowsUnusable(f"no row has a field `{field}`: {hint}")


def _expanded(table: pa.Table, fields: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """The columns of these fields; those that are named, and not just part of `_base`, must be there."""
    names: list[str] = []
    for field in fields:
        if field == BASE:
            names += base_fields(table.column_names, exclude)
        else:
            _present(table, field)
            names.append(field)
    if not names:
        raise RowsUnusable("the rows have no field to train on beside the key and the target")
    return list(dict.fromkeys(names))


def _present(table: pa.Table, field: str) -> pa.ChunkedArray:
    if field not in table.column_names or (pa.types.is_null(table.column(field).type) and table.num_rows):
        raise unknown_field(field, table.column_names)
    return _stripped(table.column(field))


def _stripped(chunks: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries, extension types and decimals: what is left has numbers, dates and text as such."""
    if isinstance(chunks.type, pa.BaseExtensionType):
        chunks = pa.chunked_array([chunk.storage for chunk in chunks.chunks], chunks.type.storage_type)
    if pa.types.is_dictionary(chunks.type):
        chunks = chunks.cast(chunks.type.value_type)
    if pa.types.is_decimal(chunks.type):
        chunks = chunks.cast(pa.float64())
    return chunks


def _frame(table: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    columns = [(name, _stripped(table.column(name))) for name in names]
    dtypes = {_dtype(chunks) for _, chunks in columns}
    if len(dtypes) == 1 and None not in dtypes:  # one block, which to_numpy() gives back without a copy
        block = np.empty((len(columns), table.num_rows), dtypes.pop())
        for row, (_, chunks) in zip(block, columns, strict=True):
            _filled(row, chunks)
        return pd.DataFrame(block.T, columns=list(names), copy=False)
    series: dict[str, Any] = {}
    for name, chunks in columns:
        values = _matrix(chunks, name) if _is_vector(chunks.type) else _values(chunks, name)
        if values.ndim == 2:
            series |= {f"{name}.{index}": values[:, index] for index in range(values.shape[1])}
        elif values.dtype == object:
            there = np.where(pd.isna(values), np.nan, values) if chunks.null_count else values
            series[name] = pd.Series(there, dtype=object)
        else:
            series[name] = values
    return pd.DataFrame(series, copy=False)


def _is_vector(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))


def _dtype(chunks: pa.ChunkedArray) -> np.dtype[Any] | None:
    """What numpy holds these numbers as without looking at each; None where it can't."""
    kind = chunks.type
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if not pa.types.is_floating(kind) and (not whole or chunks.null_count):
        return None
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype


def _filled(out: NDArray[Any], chunks: pa.ChunkedArray) -> NDArray[Any]:
    """`out`, with the chunks' values one after another."""
    begin = 0
    for chunk in chunks.chunks:
        out[begin : begin + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
        begin += len(chunk)
    return out


def _values(chunks: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column that is no vector, as a 1-D array."""
    kind = chunks.type
    if pa.types.is_null(kind):
        return np.full(len(chunks), np.nan)
    if chunks.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        try:
            chunks = chunks.cast(pa.float64())
        except pa.ArrowInvalid as error:
            raise imprecise(name, error) from None
    if pa.types.is_date(kind):
        chunks = chunks.cast(pa.timestamp("ms"))
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_time(kind):
        values = np.empty(len(chunks), object)
        values[:] = chunks.to_pylist()
        return values
    array: NDArray[Any] = (
        chunks.chunk(0).to_numpy(zero_copy_only=False) if chunks.num_chunks == 1 else chunks.to_numpy()
    )
    return array


def _matrix(chunks: pa.ChunkedArray, name: str) -> NDArray[Any]:
    """A column of vectors, as n×d float64."""
    count = len(chunks)
    if chunks.null_count:
        raise RowsUnusable(
            f"`{name}` has no vector in {chunks.null_count} of {count} rows; filter them out in the select"
        )
    lengths = pc.list_value_length(chunks).to_numpy()
    other = np.flatnonzero(lengths != lengths[:1])
    if len(other):
        row = int(other[0])
        raise RowsUnusable(
            f"`{name}` holds vectors of different lengths: {lengths[0]} in row 0, {lengths[row]} in row {row}; "
            "all must be equally long"
        )
    items = [np.asarray(chunk.flatten().to_numpy(zero_copy_only=False), np.float64) for chunk in chunks.chunks]
    flat = items[0] if len(items) == 1 else np.concatenate([np.empty(0), *items])
    return flat.reshape(count, int(lengths[0]) if count else 0)


def _missing(chunks: pa.ChunkedArray) -> int:
    nan = pc.sum(pc.is_nan(chunks)).as_py() if pa.types.is_floating(chunks.type) else 0
    return int(chunks.null_count + (nan or 0))
