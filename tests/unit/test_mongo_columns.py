# ruff: noqa: DTZ001 (MongoDB's times and Arrow's are UTC, and don't say so)

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

import bson
import numpy as np
import pyarrow as pa
import pytest
from bson import Binary, Code, DatetimeMS, Int64, MaxKey, ObjectId, Regex, Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import RowsUnusable
from tests.fixtures.documents import PATHS, Refused, documents, expected, number, same
from trainers.mongo_columns import MongoColumns
from trainers.rows import KEY


def read(*batches: list[dict[str, Any]], fields: tuple[str, ...] | None = None) -> pa.Table:
    columns = MongoColumns(fields)
    for batch in batches:
        columns.add(b"".join(map(bson.encode, batch)))
    return pa.Table.from_batches(columns.finish(), None if columns.rows else pa.schema([(KEY, pa.uint64())]))


@settings(deadline=None)
@given(documents(), st.data())
def test_random_documents_are_read_as_the_driver_decodes_them(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    fields = tuple(data.draw(st.lists(st.sampled_from(PATHS), unique=True, min_size=1, max_size=6)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    batches = [rows[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    decoded = [bson.decode(bson.encode(row)) for row in rows]
    try:
        wanted = {name: expected(decoded, name) for name in fields}
    except Refused:
        with pytest.raises(RowsUnusable):
            read(*batches, fields=fields)
        return
    table = read(*batches, fields=fields)
    assert table.num_rows == len(rows)
    for name in fields if rows else ():
        assert same(table.column(name), wanted[name]), name


@settings(deadline=None)
@given(documents())
def test_the_whole_row_is_every_field_but_the_id(rows: list[dict[str, Any]]) -> None:
    names = {name for row in rows for name in row} - {"_id"}
    try:
        wanted = {name: expected(rows, name) for name in names}
    except Refused:
        return
    table = read(rows[:5], rows[5:])
    assert set(table.column_names) == names | {KEY}
    assert all(same(table.column(name), wanted[name]) for name in names)


@settings(deadline=None)
@given(documents(), st.randoms())
def test_a_key_depends_on_the_id_alone(rows: list[dict[str, Any]], random: Any) -> None:
    def keys(*batches: list[dict[str, Any]]) -> dict[str, int]:
        ordered = [row for batch in batches for row in batch]
        values = read(*batches, fields=("a",)).column(KEY).to_pylist()
        return dict(zip([repr(row["_id"]) for row in ordered], values, strict=True))

    bare = [{"x": 1.0, "_id": row["_id"]} for row in rows]
    shuffled = random.sample(bare, len(bare))
    once = keys([{"_id": row["_id"]} for row in rows])
    assert once == keys(shuffled[:7], shuffled[7:])
    assert (
        len(set(once.values())) == len({0.0 if row["_id"] == 0.0 else repr(row["_id"]) for row in rows}) or rows == []
    )


def test_keys_never_change_between_releases() -> None:
    ids = [ObjectId("0123456789abcdef01234567"), 17, Int64(17), "17", 17.0, {"a": 1}, datetime(2024, 1, 1), None]
    keys = read([{"_id": one} for one in ids], [{"x": 1}], fields=("x",)).column(KEY).to_pylist()
    assert keys[1] == keys[2]
    assert keys == PINNED


PINNED = [
    7393455611331687405,
    2092789425003139053,
    2092789425003139053,
    12935551000423574920,
    6301500379205284816,
    78556045253254612,
    11791172340568215291,
    14333068496861278288,
    3935774486848180498,
]


def test_half_a_million_object_ids_have_as_many_keys() -> None:
    start = int("0123456789abcdef01234567", 16)
    ids = [ObjectId((start + index).to_bytes(12, "big")) for index in range(100_000)]
    keys = read([{"_id": one} for one in ids]).column(KEY).to_numpy()
    assert len(np.unique(keys)) == len(ids)
    assert abs(np.mean(keys < 2**63) - 0.5) < 0.01


_UP, _DOWN = [float(index) for index in range(105)], [float(index) for index in range(105, 0, -1)]


def test_rows_without_an_id_are_known_by_their_position() -> None:
    rows = [{"x": index} for index in range(10)]
    one, other = read(rows), read(rows[:3], rows[3:])
    assert one.column(KEY).to_pylist() == other.column(KEY).to_pylist()
    assert len(set(one.column(KEY).to_pylist())) == 10


@pytest.mark.parametrize(
    ("values", "kind", "result"),
    [
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([1, Int64(2)], pa.int64(), [1, 2]),
        ([2**53, 0.5], pa.float64(), [2.0**53, 0.5]),
        ([Int64(2**63 - 1), None], pa.int64(), [2**63 - 1, None]),
        ([number("1.5"), 2], pa.float64(), [1.5, 2.0]),
        ([number("0.1")], pa.float64(), [0.1]),
        ([True, None], pa.bool_(), [True, None]),
        (["", "naïve", "a\0b"], pa.string(), ["", "naïve", "a\0b"]),
        ([datetime(2024, 5, 1, 12, 0, 0, 5000)], pa.timestamp("ms"), [datetime(2024, 5, 1, 12, 0, 0, 5000)]),
        ([ObjectId("0" * 23 + "a"), None], pa.string(), ["0" * 23 + "a", None]),
        ([Binary(b"xy", 128), b""], pa.binary(), [b"xy", b""]),
        ([[1, 2], [0.5]], pa.list_(pa.float64()), [[1.0, 2.0], [0.5]]),
        ([[1, 2], [3, 4]], pa.list_(pa.float64()), [[1.0, 2.0], [3.0, 4.0]]),
        ([[0.5, 1.5], [0.5, Int64(3)]], pa.list_(pa.float64()), [[0.5, 1.5], [0.5, 3.0]]),
        ([list(range(105)), list(range(105, 0, -1)), None], pa.list_(pa.float64()), [_UP, _DOWN, None]),
        ([[], [0.5], None], pa.list_(pa.float64()), [[], [0.5], None]),
        ([["a"], []], pa.list_(pa.string()), [["a"], []]),
        ([{"b": 1}, {"b": 2.5}], pa.struct([("b", pa.float64())]), [{"b": 1.0}, {"b": 2.5}]),
        ([None, None], pa.null(), [None, None]),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_types(values: list[Any], kind: pa.DataType, result: list[Any], together: bool) -> None:
    rows = [{"_id": index, "v": value} for index, value in enumerate(values)]
    table = read(rows, fields=("v",)) if together else read(*([row] for row in rows), fields=("v",))
    assert table.schema.field("v").type == kind
    assert same(table.column("v"), result)


def test_nan_stays_and_null_stays() -> None:
    column = read([{"v": math.nan}, {"v": None}, {}, {"v": 1.0}], fields=("v",)).column("v")
    assert column.null_count == 2
    assert math.isnan(column[0].as_py())


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (True, 1, "`v` holds mixed types: bool (_id 'x') and int (_id 'y')"),
        ("1", 1.5, "`v` holds mixed types: string (_id 'x') and float (_id 'y')"),
        (ObjectId("0" * 24), "0" * 24, "ObjectId (_id 'x') and string (_id 'y')"),
        ([1.0], 1.0, "list (_id 'x') and float (_id 'y')"),
        ([1.0], ["a"], "`v[]` holds mixed types: float (_id 'x') and string (_id 'y')"),
        ({"b": 1}, {"b": "1"}, "`v.b` holds mixed types: int (_id 'x') and string (_id 'y')"),
        ([1.0], [datetime(2024, 1, 1)], "`v[]` holds mixed types: float (_id 'x') and date (_id 'y')"),
        ([True], [1], "`v[]` holds mixed types: bool (_id 'x') and int (_id 'y')"),
        (math.nan, "x", "float (_id 'x') and string (_id 'y')"),
        (Int64(2**53 + 1), 0.5, "`v` holds numbers that no 64-bit column holds exactly"),
        ([Int64(2**53 + 1)], [0.5], "`v` holds numbers that no 64-bit column holds exactly"),
        (number("1E6000"), 0.5, "`v` holds 1E+6000 (_id 'x'), which is too large"),
        (Regex("a"), None, "`v` holds a regular expression (_id 'x')"),
        (None, Timestamp(1, 1), "`v` holds a timestamp (_id 'y')"),
        (Code("x"), None, "`v` holds a piece of JavaScript (_id 'x')"),
        ({"b": MaxKey()}, None, "`v.b` holds a MaxKey (_id 'x')"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_does_not_go_together_is_refused_by_name(first: Any, second: Any, says: str, together: bool) -> None:
    rows = [{"_id": "x", "v": first}, {"_id": "y", "v": second}]
    with pytest.raises(RowsUnusable, match=re.escape(says)):
        read(*([rows] if together else ([row] for row in rows)), fields=("v",))


def test_a_path_through_a_list_is_refused() -> None:
    with pytest.raises(RowsUnusable, match=r"`orders\.total` leads through a list \(`orders` of _id 2\)"):
        read([{"_id": 1, "orders": {"total": 1}}, {"_id": 2, "orders": [{"total": 1}]}], fields=("orders.total",))


def test_a_field_and_one_within_it() -> None:
    rows: list[dict[str, Any]] = [
        {"_id": 1, "a": {"b": 1, "c": {"d": "x"}}},
        {"_id": 2, "a": None},
        {"_id": 3, "a": "flat"},
    ]
    table = read(rows[:2], fields=("a", "a.c.d", "a.b", "_id"))
    assert table.column("a.c.d").to_pylist() == ["x", None]
    assert table.column("a.b").to_pylist() == [1, None]
    assert table.column("_id").to_pylist() == [1, 2]
    assert table.column("a").to_pylist() == [{"b": 1, "c": {"d": "x"}}, None]
    assert read(rows, fields=("a.b",)).column("a.b").to_pylist() == [1, None, None]


def test_times_that_python_cannot_hold() -> None:
    far = 2**50
    column = read([{"v": DatetimeMS(far)}], fields=("v",)).column("v")
    assert column.cast(pa.int64()).to_pylist() == [far]
    nested = read([{"v": [DatetimeMS(far)]}], fields=("v",)).column("v").chunk(0).flatten()
    assert nested.cast(pa.int64()).to_pylist() == [far]


def test_equal_rows_have_equal_bytes_under_their_nulls() -> None:
    def buffers(rows: list[dict[str, Any]]) -> list[bytes]:
        chunk = read(rows, fields=("v",)).column("v").chunk(0)
        return [bytes(buffer) for buffer in chunk.buffers() if buffer is not None]

    assert buffers([{"v": 1.5}, {"v": None, "w": 7.25}]) == buffers([{"v": 1.5}, {"v": None, "w": "abcdefgh"}])


@pytest.mark.parametrize("count", [1, 5, 300])
def test_documents_of_many_layouts(count: int) -> None:
    names = [f"n{index}" * (1 + index % 4) for index in range(12)] + ["x" * 2000]
    random = np.random.default_rng(7)
    rows = []
    for key in range(count):
        chosen = random.permutation(len(names))[: random.integers(0, len(names))]
        rows.append({"_id": key} | {names[one]: float(random.normal()) for one in chosen})
    table = read(rows, fields=tuple(names))
    assert all(same(table.column(name), [row.get(name) for row in rows]) for name in names)
