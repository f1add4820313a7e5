"""Places in BSON bytes are where the driver's own decoder finds the same values; damage is an error, never a value."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from listener.bson_bytes import documents, elements, name_of, text_at

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.binary(max_size=8),
    st.builds(Binary, st.binary(max_size=8), st.sampled_from([2, 4, 5, 128])),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.datetimes().map(lambda at: at.replace(microsecond=0)),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Regex, texts, st.sampled_from(["", "i", "mx"])),
    st.builds(Code, texts, st.none() | st.dictionaries(texts, st.integers(0, 3), max_size=2)),
    st.integers(-1000, 1000).map(lambda number: Decimal128(str(number))),
    st.sampled_from([MinKey(), MaxKey(), DBRef("c", 1)]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
rows = st.dictionaries(texts, values, max_size=6)


def alone(data: bytes, name: bytes, place: tuple[int, int, int]) -> bytes:
    """A document that holds this one element."""
    kind, start, end = place
    body = bytes([kind]) + name + b"\0" + data[start:end] + b"\0"
    return (len(body) + 4).to_bytes(4, "little") + body


@given(rows, st.binary(max_size=5), st.binary(max_size=5))
def test_every_element_lies_where_it_is_said_to(row: dict[str, Any], front: bytes, behind: bytes) -> None:
    data = front + bson.encode(row) + behind
    found = elements(data, len(front), len(data) - len(behind))
    assert [name_of(name) for name in found] == list(row)
    for name, place in found.items():
        assert bson.decode(alone(data, name, place)) == {name_of(name): row[name_of(name)]}


#: Types that drivers no longer write: undefined, DBPointer, symbol.
OLD = [b"\x06x\0", b"\x0cx\0\x02\0\0\0a\0" + b"i" * 12, b"\x0ex\0\x02\0\0\0a\0"]


@pytest.mark.parametrize("element", OLD)
def test_types_that_nobody_writes_any_more_are_passed_over(element: bytes) -> None:
    body = element + b"\x10y\0\x07\0\0\0\0"
    data = (len(body) + 4).to_bytes(4, "little") + body
    assert bson.decode(data)["y"] == 7
    found = elements(data)
    assert list(found) == [b"x", b"y"]
    assert data[found[b"y"][1] : found[b"y"][2]] == b"\x07\0\0\0"


@given(st.lists(rows, max_size=4))
def test_documents_of_an_array(some: list[dict[str, Any]]) -> None:
    data = bson.encode({"a": some})
    _, start, end = elements(data)[b"a"]
    assert [bson.decode(data[first:last]) for first, last in documents(data, start, end)] == [*map(_plain, some)]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(row))


def test_an_array_of_something_else_is_no_array_of_documents() -> None:
    data = bson.encode({"a": [{}, 1]})
    _, start, end = elements(data)[b"a"]
    with pytest.raises(InvalidBSON):
        list(documents(data, start, end))


def test_a_text_is_a_string() -> None:
    data = bson.encode({"a": "é", "b": 1})
    found = elements(data)
    assert text_at(data, found[b"a"]) == "é"
    with pytest.raises(InvalidBSON):
        text_at(data, found[b"b"])


def test_bytes_that_are_no_utf8_stay_what_they_are() -> None:
    data = bson.encode({"a": "é"}).replace("é".encode(), b"\xff\xfe")
    assert text_at(data, elements(data)[b"a"]).encode(errors="surrogateescape") == b"\xff\xfe"
    assert name_of(b"\xff") != name_of(b"\xfe")


damage = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3)


def damaged(data: bytes, some: list[tuple[int, int]]) -> bytes:
    new = bytearray(data)
    for at, byte in some:
        new[at % len(new)] = byte
    return bytes(new)


@given(rows, damage, st.integers(0, 20))
def test_damaged_bytes_are_an_error_or_what_the_driver_reads(
    row: dict[str, Any], some: list[tuple[int, int]], cut: int
) -> None:
    data = damaged(bson.encode(row), some)
    data = data[: len(data) - cut] if cut > 10 else data
    try:
        found = elements(data)
    except InvalidBSON:
        return
    try:
        expected = dict(RawBSONDocument(data))
    except (InvalidBSON, ValueError, OverflowError):
        return  # a value is damaged that was not looked into
    assert [name_of(name) for name in found] == list(expected)
    for name, place in found.items():
        assert bson.encode({"": expected[name_of(name)]}) == bson.encode(
            {"": RawBSONDocument(alone(data, name, place))[name_of(name)]}
        )


@given(st.binary(max_size=60))
def test_any_bytes_are_an_error_or_a_document(data: bytes) -> None:
    try:
        elements(data)
        list(documents(data, 0))
    except InvalidBSON:
        pass
