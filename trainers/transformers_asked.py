"""What users hand to predict → texts, or lists of words, a column for each field of X. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from registry.errors import RowsUnusable
from trainers.predict_rows import rows_to_X


def columns_of(rows: Any, fields: Sequence[str], *, words: bool) -> list[list[Any]]:
    """The values of each field, one a row.

    Args:
        rows: what `trainers.predict_rows.rows_to_X` takes; of one field also the texts alone, or one text.
        words: each value is a list of words; a text is parted at its spaces.

    Raises:
        RowsUnusable: a field that no row has, a missing text, or something that is no text.
    """
    if isinstance(rows, pd.Series):
        rows = rows.tolist() if set(fields).isdisjoint(map(str, rows.index)) else rows.to_dict()
    if isinstance(rows, Mapping):
        rows = [rows]
    if words and len(fields) == 1 and _is_plain(rows):
        columns = [[rows] if isinstance(rows, str) else list(rows)]
    else:
        X = rows_to_X(rows, fields)
        columns = [X[name].tolist() for name in fields] if isinstance(X, pd.DataFrame) else _of_array(X, len(fields))
    return [_texts(column, name, words=words) for name, column in zip(fields, columns, strict=True)]


def _is_plain(rows: Any) -> bool:
    """Whether these are the values of one field: rows_to_X would take a list of words for a row of several fields."""
    if isinstance(rows, str):
        return True
    return isinstance(rows, Sequence | np.ndarray) and all(isinstance(row, str | Sequence | np.ndarray) for row in rows)


def _of_array(X: Any, count: int) -> list[list[Any]]:
    found = np.asarray(X, dtype=object)
    if found.ndim == 2 and found.shape[1] == count:
        return [found[:, at].tolist() for at in range(count)]
    if found.ndim == 1 and count == 1:
        return [found.tolist()]
    raise RowsUnusable(f"the rows have the shape {found.shape}, and {count} texts a row are needed")


def _texts(values: Iterable[Any], name: str, *, words: bool) -> list[Any]:
    found: list[Any] = []
    for at, value in enumerate(values):
        if isinstance(value, str):
            found.append(value.split() if words else value)
        elif words and isinstance(value, Sequence | np.ndarray) and all(isinstance(word, str) for word in value):
            found.append(list(value))
        elif value is None or (isinstance(value, float) and value != value):
            raise RowsUnusable(f"`{name}` is missing in row {at}")
        else:
            raise RowsUnusable(
                f"`{name}` is {value!r:.80} in row {at}, and a {'list of words' if words else 'text'} is needed"
            )
    return found
