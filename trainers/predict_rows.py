"""What users hand to predict → the same X that `arrays.make_X` makes for fit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from registry.errors import RowsUnusable
from trainers.arrays import BASE, base_fields, make_X, unknown_field
from trainers.values import to_arrow

_ABSENT = object()


def rows_to_X(  # noqa: N802
    rows: Any, fields: Sequence[str], exclude: Sequence[str] = (), base: Sequence[str] | None = None
) -> Any:
    """X for rows as users write them.

    Args:
        rows: an array or sparse matrix (taken as it is); a DataFrame, an Arrow table, a mapping or a list of them (the
            fields are taken by name, dotted paths from nested mappings); a list of values of the one field; a
            list of rows that each list the fields' values in order; one such value alone is one row.
        fields: the document's X.
        exclude: what `_base` leaves out: the fields of y.
        base: `arrays.base_fields` of the rows that the model was fitted on; None: whatever the rows have.

    Raises:
        RowsUnusable: a field that no row has, or values that have no common type.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pd.Series) and not set(fields).isdisjoint(map(str, rows.index)):
        rows = rows.to_dict()  # one row of a frame
    if not isinstance(rows, pa.Table | pd.DataFrame | pd.Series) and _is_array(rows):
        return rows
    return make_X(_table(rows, fields, exclude, base), fields, exclude)


def lookup(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of nested mappings, or under the path itself as a key.

    Raises:
        KeyError: there is none.
    """
    if path in row:
        return row[path]
    outer, _, inner = path.partition(".")
    value = row[outer]
    if not inner or not isinstance(value, Mapping):
        raise KeyError(path)
    return lookup(value, inner)


def _is_array(rows: Any) -> bool:
    return hasattr(rows, "__array__") or hasattr(rows, "tocsr")


def _table(rows: Any, fields: Sequence[str], exclude: Sequence[str], base: Sequence[str] | None) -> pa.Table:
    if isinstance(rows, pa.Table):
        return _typed({name: rows.column(name) for name in _named(fields, exclude, base, rows.column_names)})
    if isinstance(rows, pd.DataFrame):
        known = [str(name) for name in rows.columns]
        return _typed({name: _series(rows[name], name) for name in _named(fields, exclude, base, known)})
    listed: list[Any] = (
        [rows] if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable) else list(rows)
    )
    if not listed:
        raise RowsUnusable("there are no rows to predict")
    if all(isinstance(row, Mapping) for row in listed):
        known = list(dict.fromkeys(str(name) for row in listed for name in row))
        names = _named(fields, exclude, base, known, nested=True)
        return _typed({name: _at_path(listed, name, known) for name in names})
    if len(fields) == 1 and fields[0] != BASE:
        return _typed({fields[0]: to_arrow(listed, fields[0], _row)})
    return _in_order(listed, list(base) if base and BASE in fields else list(fields))


def _named(
    fields: Sequence[str],
    exclude: Sequence[str],
    base: Sequence[str] | None,
    known: Sequence[str],
    *,
    nested: bool = False,
) -> list[str]:
    """The columns to take. Those that aren't there are an error; dotted paths may be found deeper down."""
    names: list[str] = []
    for field in fields:
        names += (base or base_fields(known, exclude)) if field == BASE else (field,)
    for name in names:
        if name not in known and not nested:
            raise unknown_field(name, known)
    return names


def _at_path(rows: Sequence[Mapping[str, Any]], path: str, known: Sequence[str]) -> pa.Array:
    values = []
    for row in rows:
        try:
            values.append(lookup(row, path))
        except KeyError:
            values.append(_ABSENT)
    if all(value is _ABSENT for value in values):
        raise unknown_field(path, known)
    return to_arrow([None if value is _ABSENT else value for value in values], path, _row)


def _in_order(rows: Sequence[Any], fields: Sequence[str]) -> pa.Table:
    """Rows that list their values in the order of the fields."""
    for index, row in enumerate(rows):
        width = len(row) if isinstance(row, Sequence | np.ndarray) and not isinstance(row, str | bytes) else None
        if width != len(fields):
            raise RowsUnusable(
                f"row {index} is {_shown(row)}; give a mapping with {', '.join(fields)}, or their values in this order"
            )
    return _typed({name: to_arrow([row[place] for row in rows], name, _row) for place, name in enumerate(fields)})


def _series(series: pd.Series[Any], name: str) -> pa.Array:
    if series.dtype == object:
        return to_arrow([None if _is_nan(value) else value for value in series], name, _row)
    return pa.array(series, from_pandas=True)


def _is_nan(value: Any) -> bool:
    return value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _typed(columns: Mapping[str, Any]) -> pa.Table:
    """A table; a column of nulls alone is taken for numbers, as the rows don't say."""
    table = pa.table(dict(columns))
    for place, kind in enumerate(table.schema.types):
        if pa.types.is_null(kind):
            table = table.set_column(place, table.schema.names[place], pa.nulls(table.num_rows, pa.float64()))
    return table


def _row(index: int) -> str:
    return f"row {index}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
