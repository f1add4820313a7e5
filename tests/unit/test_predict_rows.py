from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from registry.errors import RowsUnusable
from trainers.arrays import make_X
from trainers.predict_rows import lookup, rows_to_X

ROWS: list[dict[str, Any]] = [
    {"age": 31, "income": 1.5, "city": "Rom", "address": {"zip": "1", "geo": {"x": 1}}, "v": [1, 2], "flat.name": 7},
    {"age": None, "income": 2, "city": None, "address": {"zip": "2"}, "v": [3.5, 4], "flat.name": 8},
]
FIELDS = ("age", "income", "city", "address.zip", "address.geo.x", "v", "flat.name")


def fitted_table() -> pa.Table:
    """What a reader gives for ROWS."""
    return pa.table(
        {
            "age": pa.array([31, None]),
            "income": pa.array([1.5, 2.0]),
            "city": pa.array(["Rom", None]),
            "address.zip": pa.array(["1", "2"]),
            "address.geo.x": pa.array([1, None]),
            "v": pa.array([[1.0, 2.0], [3.5, 4.0]]),
            "flat.name": pa.array([7, 8]),
        }
    )


def test_predict_sees_what_fit_saw() -> None:
    fit = make_X(fitted_table(), FIELDS)
    pd.testing.assert_frame_equal(rows_to_X(ROWS, FIELDS), fit)
    pd.testing.assert_frame_equal(rows_to_X(ROWS[0], FIELDS), make_X(fitted_table().slice(0, 1), FIELDS))
    pd.testing.assert_frame_equal(rows_to_X(iter(ROWS), FIELDS), fit)
    pd.testing.assert_frame_equal(rows_to_X(fitted_table(), FIELDS), fit)
    pd.testing.assert_frame_equal(rows_to_X(fitted_table().to_batches()[0], FIELDS), fit)
    frame = fitted_table().to_pandas()
    frame["extra"] = 1
    pd.testing.assert_frame_equal(rows_to_X(frame[["extra", *reversed(FIELDS)]], FIELDS), fit)
    pd.testing.assert_frame_equal(rows_to_X(frame.iloc[0].astype(object), FIELDS)[["city"]], fit[["city"]][:1])
    values = [[31, 1.5, "Rom", "1", 1, [1, 2], 7], [None, 2, None, "2", None, [3.5, 4], 8]]
    pd.testing.assert_frame_equal(rows_to_X(values, FIELDS), fit)


@pytest.mark.parametrize(
    ("rows", "field", "values"),
    [
        ([1, 2.5], "a", [[1.0], [2.5]]),
        (3, "a", [[3]]),
        (["x", "y"], "a", ["x", "y"]),
        ("a text", "a", ["a text"]),
        ([[1, 2], [3, 4]], "a", [[1.0, 2.0], [3.0, 4.0]]),
        ([np.array([1.0, 2.0])], "a", [[1.0, 2.0]]),
        ([True, False], "a", [[True], [False]]),
        ([{"a": "x"}, {"b": 1}], "a", ["x", None]),
        ([{"a": {"b": 1}}], "a.b", [[1]]),
        (pd.Series(["x", "y"]), "a", ["x", "y"]),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), "b", [[3], [4]]),
    ],
)
def test_rows_of_one_field(rows: Any, field: str, values: list[Any]) -> None:
    X = rows_to_X(rows, (field,))
    assert isinstance(X, np.ndarray)
    assert X.tolist() == values


def test_arrays_are_taken_as_they_are() -> None:
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    for array in (np.ones((2, 3)), csr_matrix(np.ones((2, 3)))):
        assert rows_to_X(array, ("a", "b")) is array


def test_the_whole_row_at_predict() -> None:
    rows = [{"y": 1, "b": 2.0, "a": 1.0, "_id": 5, "new": "z"}]
    X = rows_to_X(rows, ("_base",), exclude=("y",), base=("a", "b"))
    assert X.columns.tolist() == ["a", "b"]
    assert rows_to_X([[1.0, 2.0]], ("_base",), base=("a", "b")).columns.tolist() == ["a", "b"]
    assert rows_to_X(rows, ("_base",), exclude=("y",)).columns.tolist() == ["b", "a", "new"]
    assert rows_to_X([{"b": 2.0}], ("_base",), base=("b",)).columns.tolist() == ["b"]


def test_rows_that_are_of_no_use() -> None:
    with pytest.raises(RowsUnusable, match="no rows to predict"):
        rows_to_X([], ("a",))
    with pytest.raises(RowsUnusable, match="no row has a field `incme`: did you mean `income`"):
        rows_to_X(ROWS, ("incme",))
    with pytest.raises(RowsUnusable, match="no row has a field `incme`: did you mean `income`"):
        rows_to_X(fitted_table().to_pandas(), ("incme",))
    with pytest.raises(RowsUnusable, match=r"row 1 is .*; give a mapping with a, b"):
        rows_to_X([[1, 2], [3]], ("a", "b"))
    with pytest.raises(RowsUnusable, match=r"`a` holds mixed types: int \(row 0\) and string \(row 1\)"):
        rows_to_X([{"a": 1}, {"a": "x"}], ("a",))


def test_a_field_that_is_null_in_every_row_is_missing_not_absent() -> None:
    X = rows_to_X([{"a": None, "b": 1}], ("a", "b"))
    assert X["a"].isna().all()
    assert X["a"].dtype == np.float64


def test_lookup() -> None:
    row = {"a": {"b": {"c": 1}}, "x.y": 2, "n": None}
    assert (lookup(row, "a.b.c"), lookup(row, "x.y"), lookup(row, "n")) == (1, 2, None)
    for path in ("a.c", "a.b.c.d", "n.m", "z"):
        with pytest.raises(KeyError):
            lookup(row, path)
