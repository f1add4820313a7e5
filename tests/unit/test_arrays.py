# ruff: noqa: DTZ001 (MongoDB's times and Arrow's are UTC, and don't say so)

from __future__ import annotations

import math
import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from registry.errors import RowsUnusable
from trainers.arrays import base_fields, column, explain_missing, make_X, make_y
from trainers.predict_rows import rows_to_X
from trainers.rows import KEY

COLUMNS: dict[str, Any] = {
    "age": pa.array([31, 45, None, 27]),
    "visits": pa.array([1, 2, 3, 4]),
    "income": pa.array([1.5, math.nan, 3.5, 4.5]),
    "member": pa.array([True, False, True, True]),
    "trial": pa.array([True, None, False, True]),
    "city": pa.array(["Rom", None, "Wien", "Rom"]),
    "since": pa.array([datetime(2024, 1, 1), None, datetime(2024, 1, 3), datetime(2024, 1, 4)], pa.timestamp("ms")),
    "embedding": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]),
    "tags": pa.array([["a"], ["b", "c"], [], None]),
    "address": pa.array([{"zip": "1"}, {"zip": "2"}, None, {"zip": "4"}]),
    "two words": pa.array([1.0, 2.0, 3.0, 4.0]),
    "nothing": pa.nulls(4),
    KEY: pa.array([1, 2, 3, 4], pa.uint64()),
}


@pytest.fixture(params=["one chunk", "several chunks", "sliced"])
def table(request: pytest.FixtureRequest) -> pa.Table:
    whole = pa.table(COLUMNS)
    if request.param == "several chunks":
        return pa.concat_tables([whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 3)])
    if request.param == "sliced":
        return pa.concat_tables([whole, whole]).combine_chunks().slice(4, 4)
    return whole


def test_several_fields_are_a_frame_with_their_names(table: pa.Table) -> None:
    X = make_X(table, ("income", "age", "visits", "member", "trial", "city", "since", "embedding", "two words"))
    names = ["income", "age", "visits", "member", "trial", "city", "since", "embedding.0", "embedding.1", "two words"]
    assert list(X.columns) == names
    kinds = [
        "float64",
        "float64",
        "int64",
        "bool",
        "float64",
        "object",
        "datetime64[ms]",
        "float64",
        "float64",
        "float64",
    ]
    assert [str(kind) for kind in X.dtypes] == kinds
    assert X["age"].tolist()[:2] == [31.0, 45.0]
    assert X.isna().sum().to_dict() == dict.fromkeys(names, 0) | {
        "age": 1,
        "income": 1,
        "trial": 1,
        "city": 1,
        "since": 1,
    }
    assert X["city"].dropna().tolist() == ["Rom", "Wien", "Rom"]
    assert isinstance(X["city"][1], float)
    assert X["embedding.1"].tolist() == [2.0, 4.0, 6.0, 8.0]
    assert list(X.index) == [0, 1, 2, 3]


def test_numbers_of_one_type_are_one_block(table: pa.Table) -> None:
    X = make_X(table, ("two words", "income"))
    assert X.to_numpy().dtype == np.float64
    assert np.shares_memory(X.to_numpy(), X["income"].to_numpy())
    assert X["two words"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert math.isnan(X["income"][1])


@pytest.mark.parametrize(
    ("field", "kind", "values"),
    [
        ("visits", "int64", [[1], [2], [3], [4]]),
        ("two words", "float64", [[1.0], [2.0], [3.0], [4.0]]),
        ("member", "bool", [[True], [False], [True], [True]]),
        ("embedding", "float64", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]),
        ("city", "object", ["Rom", None, "Wien", "Rom"]),
        ("tags", "object", [["a"], ["b", "c"], [], None]),
        ("address", "object", [{"zip": "1"}, {"zip": "2"}, None, {"zip": "4"}]),
    ],
)
def test_one_field(table: pa.Table, field: str, kind: str, values: list[Any]) -> None:
    X = make_X(table, (field,))
    assert isinstance(X, np.ndarray)
    assert X.dtype == kind
    assert X.tolist() == values
    expected = [
        one[0] if isinstance(one, list) and field in ("visits", "two words", "member") else one for one in values
    ]
    assert make_y(table, (field,)).tolist() == expected
    assert column(table, field).tolist() == expected


def test_one_field_with_gaps(table: pa.Table) -> None:
    assert make_X(table, ("age",)).shape == (4, 1)
    assert np.isnan(make_X(table, ("age",))[2, 0])
    assert np.isnat(make_X(table, ("since",))[1, 0])
    assert make_X(table, ("trial",)).dtype == np.float64


def test_the_whole_row(table: pa.Table) -> None:
    X = make_X(table, ("_base",), exclude=("member", "tags"))
    assert [one for one in X.columns if not one.startswith("embedding")] == [
        one for one in COLUMNS if one not in (KEY, "member", "tags", "embedding")
    ]
    assert X["nothing"].isna().all()
    assert base_fields(["_id", "a", KEY, "b"], ("b",)) == ("a",)
    only = make_X(table.select(["visits", KEY]), ("_base",))
    assert list(only.columns) == ["visits"]
    with pytest.raises(RowsUnusable, match="no field to train on"):
        make_X(table.select(["visits", KEY]), ("_base",), exclude=("visits",))


def test_several_targets(table: pa.Table) -> None:
    assert make_y(table, ("visits", "two words")).tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]
    assert make_y(table, ("embedding",)).shape == (4, 2)


def test_no_copy_where_arrow_allows() -> None:
    chunk = pa.array(np.arange(5.0))
    address = chunk.buffers()[1].address
    for made in (make_y(pa.table({"v": chunk}), ("v",)), make_X(pa.table({"v": chunk}), ("v",))):
        assert made.__array_interface__["data"][0] == address


@pytest.mark.parametrize("build", [make_X, make_y])
def test_vectors_that_do_not_fit(build: Any) -> None:
    ragged = pa.table({"v": pa.chunked_array([[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0, 3.0]]])})
    with pytest.raises(RowsUnusable, match=re.escape("`v` holds vectors of different lengths: 2 in row 0, 3 in row 2")):
        build(ragged, ("v",))
    missing = pa.table({"v": pa.array([[1.0], None, None])})
    with pytest.raises(RowsUnusable, match="`v` has no vector in 2 of 3 rows"):
        build(missing, ("v",))


def test_fixed_size_and_integer_vectors() -> None:
    for kind in (pa.list_(pa.float32(), 2), pa.list_(pa.int64()), pa.large_list(pa.float64())):
        assert make_X(pa.table({"v": pa.array([[1, 2], [3, 4]], kind)}), ("v",)).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_types_of_other_datastores() -> None:
    table = pa.table(
        {
            "price": pa.array([Decimal("1.50"), None]),
            "level": pa.array(["low", "high"]).dictionary_encode(),
            "day": pa.array([date(2024, 1, 1), date(2024, 1, 2)]),
            "small": pa.array([1, 2], pa.int16()),
            "big": pa.array(["a", "b"], pa.large_string()),
            "bytes": pa.array([b"a", b"b"]),
        }
    )
    X = make_X(table, tuple(table.column_names))
    assert [str(one) for one in X.dtypes] == ["float64", "object", "datetime64[ms]", "int16", "object", "object"]
    assert X["level"].tolist() == ["low", "high"]
    assert column(table, "price").tolist()[0] == 1.5


@pytest.mark.parametrize("build", [make_X, make_y])
def test_a_field_that_no_row_has(build: Any, table: pa.Table) -> None:
    with pytest.raises(RowsUnusable, match=re.escape("no row has a field `incme`: did you mean `income`")):
        build(table, ("incme",))
    with pytest.raises(RowsUnusable, match="no row has a field `nothing`"):
        build(table, ("nothing",))
    with pytest.raises(RowsUnusable, match="no row has a field `nothing`"):
        build(table, ("nothing", "visits"))


def test_whole_numbers_with_gaps_that_no_float_holds() -> None:
    table = pa.table({"id": pa.array([2**60 + 1, None])})
    with pytest.raises(RowsUnusable, match="`id` holds numbers"):
        make_X(table, ("id",))
    assert make_y(table.slice(0, 1), ("id",)).tolist() == [2**60 + 1]


def test_explain_missing(table: pa.Table) -> None:
    assert explain_missing(table, ("visits", "embedding", "member")) == ""
    said = explain_missing(table, ("age", "income", "city", "visits"))
    assert said == "; ".join(f"`{one}` is missing in 1 of 4 rows" for one in ("age", "income", "city"))
    assert "`nothing` is missing in 4 of 4 rows" in explain_missing(table, ("_base",))
    holes = pa.table({"v": pa.array([[1.0, None], [math.nan, 2.0]])})
    assert explain_missing(holes, ("v",)) == "the vectors in `v` lack 2 of their numbers"


def test_scikit_learn_takes_it() -> None:
    fields = ("age", "income", "city")
    table = pa.table({name: COLUMNS[name] for name in fields})
    y = make_y(pa.table({"y": COLUMNS["member"]}), ("y",))
    pipeline = make_pipeline(
        make_column_transformer(
            (SimpleImputer(), ["age", "income"]),
            (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False)), ["city"]),
        ),
        LogisticRegression(),
    ).fit(make_X(table, fields), y)
    assert list(pipeline.feature_names_in_) == list(fields)
    assert len(pipeline.predict(rows_to_X([{"age": 3, "income": None, "city": "Rom"}], fields))) == 1
    HistGradientBoostingClassifier().fit(make_X(table, ("age", "income")), y)
    TfidfVectorizer().fit(make_X(table.filter(pa.array([True, False, True, True])), ("city",)))
