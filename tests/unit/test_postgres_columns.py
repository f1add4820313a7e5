from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from registry.errors import RowsUnusable
from registry.sql_text import tokens_of
from trainers.postgres_columns import BATCH, columns, from_values
from trainers.postgres_query import insert_column
from trainers.postgres_types import Guard, Output, PgType, hash_of, json_of, literal, output, resolve
from trainers.rows import KEY

INFINITY = 2**63 - 1


def batch(*arrays: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(arrays), names=[str(at) for at in range(len(arrays))])


def keys(count: int) -> pa.Array:
    return pa.array([-1] * count, pa.int64())


def numeric(digits: int, scale: int) -> int:
    return ((digits << 16) | (scale & 0x7FF)) + 4


@pytest.mark.parametrize(
    ("modifier", "kind"),
    [
        (-1, pa.float64()),
        (numeric(18, 0), pa.int64()),
        (numeric(19, 0), pa.float64()),
        (numeric(10, 1), pa.float64()),
        (numeric(3, -2), pa.int64()),
        (numeric(17, -2), pa.float64()),
        (numeric(1000, 1000), pa.float64()),
    ],
)
def test_numerics_without_a_fraction_are_whole_numbers(modifier: int, kind: pa.DataType) -> None:
    assert output("v", '"c0"', PgType("numeric", modifier=modifier)).kind == kind


def test_types_are_seen_through_domains() -> None:
    plain = {"schema": "pg_catalog", "kind": "b", "modifier": -1, "base": 0, "element": 0, "is_array": False}
    catalog = {
        1: plain | {"name": "numeric"},
        2: plain | {"name": "price", "schema": "shop", "kind": "d", "base": 1, "modifier": numeric(5, 0)},
        3: plain | {"name": "fair_price", "schema": "shop", "kind": "d", "base": 2},
        4: plain | {"name": "_fair_price", "schema": "shop", "element": 3, "is_array": True},
    }
    found = resolve(4, -1, catalog)
    assert found.element == PgType("numeric", modifier=numeric(5, 0), is_domain=True)
    assert found.shown == "numeric[]"
    assert resolve(99, -1, catalog).builtin == "unknown"


def test_a_type_of_the_users_with_a_name_of_postgresqls_is_text() -> None:
    assert output("v", '"c0"', PgType("float8", "shop")).kind == pa.string()
    assert json_of('"c0"', PgType("json", "shop")) is None
    assert hash_of("r", [PgType("int4", "shop")]).startswith("pg_catalog.hashtextextended")
    assert hash_of("r", [PgType("int4")]) == "pg_catalog.hash_record_extended(r, 0)"


def test_literals_stay_literals() -> None:
    assert literal("a'b\\") == "'a''b\\'"


def test_a_large_batch_is_cut_into_smaller_ones() -> None:
    made = batch(pa.array(range(BATCH + 1), pa.int32()), keys(BATCH + 1))
    found = list(columns([made, made.slice(0, 0)], [Output("v", "", pa.int64(), pa.int64())]))
    assert [one.num_rows for one in found] == [BATCH, 1]
    assert found[1].to_pylist() == [{"v": BATCH, KEY: 2**64 - 1}]


def test_batches_come_as_they_are_read() -> None:
    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield batch(pa.array([1]), keys(1))

    found = columns(endless(), [Output("v", "", pa.int64(), pa.int64())])
    assert next(found).num_rows == next(found).num_rows == 1


def test_a_guard_speaks_for_its_column() -> None:
    text = Output("a", "", pa.string(), pa.string())
    guarded = [Output(name, "", pa.string(), pa.string(), Guard("", f"{name} is wrong")) for name in ("b", "c")]
    made = [pa.array(["x", "y"])] * 3
    ok, met = pa.array([False, False]), pa.array([False, True])
    assert len(list(columns([batch(*made, ok, ok, keys(2))], [text, *guarded]))) == 1
    with pytest.raises(RowsUnusable, match="c is wrong"):
        list(columns([batch(*made, ok, met, keys(2))], [text, *guarded]))


def test_json_columns_have_one_type_in_all_batches() -> None:
    outputs = [Output("j", "", pa.string(), None), Output("v", "", pa.int64(), pa.int64())]
    texts: list[list[str | None]] = [["1", None], ["2.5"], [None], []]
    made = [batch(pa.array(each, pa.string()), pa.array([7] * len(each)), keys(len(each))) for each in texts]
    found = pa.Table.from_batches(columns(made, outputs))
    assert found.column("j").to_pylist() == [1.0, None, 2.5, None]
    assert found.schema.field("j").type == pa.float64()


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["1", '"a"'], r"`j` holds mixed types: int \(row 0\) and string \(row 2\)"),
        (['{"a": 1}', '{"a": true}'], r"`j.a` holds mixed types: int \(row 0\) and bool \(row 2\)"),
        (["1e999", "1"], "`j` holds 1e999, which is too large"),
        (["9007199254740993", "0.5"], "`j` holds numbers that no 64-bit column holds exactly"),
        (["9223372036854775808", "1"], "`j` holds numbers that no 64-bit column holds exactly"),
    ],
)
def test_json_that_no_column_holds(texts: list[str], says: str) -> None:
    made = [batch(pa.array([text, None]), keys(2)) for text in texts]
    with pytest.raises(RowsUnusable, match=says):
        list(columns(made, [Output("j", "", pa.string(), None)]))


@pytest.mark.parametrize("value", [INFINITY, -INFINITY - 1, INFINITY - 10**15 + 10**14])
def test_times_that_no_column_holds(value: int) -> None:
    kind = pa.timestamp("us")
    for wire, given in ((kind, value), (pa.list_(kind), [0, None, value])):
        made = from_values([(given, 1), (None, 2)], [wire, pa.int64()])
        with pytest.raises(RowsUnusable, match="`v` holds infinity or a time after the year 294246"):
            list(columns([made], [Output("v", "", wire, wire)]))
    made = from_values([(0, 1), (None, 2)], [kind, pa.int64()])
    (found,) = columns([made], [Output("v", "", kind, kind)])
    assert str(found.column("v")[0]) == "2000-01-01 00:00:00"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("SELECT a FROM t", "SELECT a \n, k FROM t"),
        ("SELECT a -- from\nFROM t", "SELECT a -- from\n\n, k FROM t"),
        ("SELECT a IS DISTINCT FROM 1, extract(year FROM b) from t",) * 1
        + ("SELECT a IS DISTINCT FROM 1, extract(year FROM b) \n, k from t",),
        (
            "SELECT 'from', \"from\", x[(1)] /* from */ FROM t",
            "SELECT 'from', \"from\", x[(1)] /* from */ \n, k FROM t",
        ),
        ("SELECT 1", None),
    ],
)
def test_a_column_more(text: str, made: str | None) -> None:
    assert insert_column(text, tokens_of(text), "k") == made
