"""What an independent encoder writes is what the decoder reads; damage is an error, never a value."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from listener.pg_tuples import UNKNOWN_VALUE, Column, Image, ProtocolError, Shape, Value, key, touched
from listener.pgoutput import (
    Begin,
    Commit,
    Decoder,
    Delete,
    Insert,
    Message,
    Truncate,
    Update,
    read_lsn,
    show_lsn,
    widen,
)

UNCHANGED = UNKNOWN_VALUE

# The encoder: the documentation's tables, field after field.


def int8(value: int) -> bytes:
    return struct.pack(">B", value)


def int16(value: int) -> bytes:
    return struct.pack(">H", value)


def int32(value: int) -> bytes:
    return struct.pack(">I", value)


def int64(value: int) -> bytes:
    return struct.pack(">Q", value)


def string(value: str) -> bytes:
    return value.encode(errors="surrogateescape") + b"\0"


def relation(shape: Shape) -> bytes:
    parts = [b"R", int32(shape.oid), string(shape.schema), string(shape.name), shape.identity.encode()]
    parts.append(int16(len(shape.columns)))
    for column in shape.columns:
        parts += [int8(column.key), string(column.name), int32(column.type_oid), struct.pack(">i", column.typmod)]
    return b"".join(parts)


def row_data(row: Sequence[Value]) -> bytes:
    parts = [int16(len(row))]
    for value in row:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            assert isinstance(value, bytes)
            parts += [b"t", int32(len(value)), value]
    return b"".join(parts)


def insert(oid: int, new: Sequence[Value]) -> bytes:
    return b"I" + int32(oid) + b"N" + row_data(new)


def update(oid: int, kind: bytes, old: Sequence[Value], new: Sequence[Value]) -> bytes:
    return b"U" + int32(oid) + (kind + row_data(old) if kind else b"") + b"N" + row_data(new)


def delete(oid: int, kind: bytes, old: Sequence[Value]) -> bytes:
    return b"D" + int32(oid) + kind + row_data(old)


uint32, uint64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
texts = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=6).map(lambda text: text.encode(errors="surrogatepass")),
    st.integers(1, 3).map(lambda many: b"ntuON\0" * many * 20_000),
)
cells = st.none() | texts
columns = st.builds(Column, names, uint32, st.integers(-1, 2**31 - 1), st.booleans())


@st.composite
def shapes(draw: st.DrawFn, identities: str = "dnfi", most: int = 40) -> Shape:
    identity = draw(st.sampled_from(identities))
    found = draw(st.lists(columns, max_size=most, unique_by=lambda column: column.name))
    always = {"f": True, "n": False}.get(identity)
    found = [column if always is None else column._replace(key=always) for column in found]
    return Shape(draw(uint32), draw(names), draw(names), identity, tuple(found))


@dataclass
class Changed:
    """An update, as the server sees it."""

    shape: Shape
    old: list[bytes | None]
    new: list[bytes | None]
    sent: list[Value]
    keys_sent: bool

    @property
    def kind(self) -> bytes:
        return b"O" if self.shape.identity == "f" else b"K" if self.keys_sent else b""

    def message(self) -> bytes:
        keys = [value if column.key else None for column, value in zip(self.shape.columns, self.old, strict=True)]
        return update(self.shape.oid, self.kind, self.old if self.kind == b"O" else keys, self.sent)


@st.composite
def updates(draw: st.DrawFn, identities: str = "dnfi") -> Changed:
    shape = draw(shapes(identities, most=12))
    old = draw(st.lists(cells, min_size=len(shape.columns), max_size=len(shape.columns)))
    new: list[bytes | None] = []
    sent: list[Value] = []
    keys_sent = shape.identity in "di" and draw(st.booleans())
    for column, value in zip(shape.columns, old, strict=True):
        fixed = column.key and shape.identity in "di" and not keys_sent
        new.append(value if fixed else draw(st.just(value) | cells))
        toast = value is not None and new[-1] == value and not fixed
        sent.append(UNCHANGED if toast and draw(st.booleans()) else new[-1])
    return Changed(shape, old, new, sent, keys_sent)


def decoded(*payloads: bytes) -> list[Message | None]:
    decoder = Decoder()
    return [decoder.decode(payload) for payload in payloads]


@given(shapes())
def test_a_relation_is_what_was_described(shape: Shape) -> None:
    decoder = Decoder()
    assert decoder.decode(relation(shape)) == shape
    assert decoder.shapes == {shape.oid: shape}
    assert decoder.shapes[shape.oid].keys == tuple(column.name for column in shape.columns if column.key)


def test_names_of_any_bytes_stay_apart() -> None:
    shape = Shape(1, "s\udcff", "t\udcfe", "f", (Column("a\udc80", 25, -1, True),))
    assert decoded(relation(shape)) == [shape]


def test_the_catalogue_is_named() -> None:
    (shape,) = decoded(relation(Shape(1, "", "pg_class", "n", ())))
    assert isinstance(shape, Shape)
    assert shape.schema == "pg_catalog"


def test_an_altered_relation_is_another_shape() -> None:
    before = Shape(1, "s", "t", "d", (Column("a", 25, -1, True),))
    after = Shape(1, "s", "t", "d", (*before.columns, Column("b", 23, -1, False)))
    row = [None, b"2"]
    *_, old, _, new = decoded(relation(before), insert(1, row[:1]), relation(after), insert(1, row))
    assert isinstance(old, Insert)
    assert isinstance(new, Insert)
    assert (old.after.shape, new.after.shape) == (before, after)
    assert new.after.values() == (None, b"2")
    assert touched(old.after, new.after) is None


@given(uint64, st.integers(-(2**62), 2**62), uint32, uint64)
def test_the_bounds_of_a_transaction(lsn: int, at: int, xid: int, end: int) -> None:
    begin, commit = decoded(
        b"B" + int64(lsn) + struct.pack(">q", at) + int32(xid),
        b"C" + int8(0) + int64(lsn) + int64(end) + struct.pack(">q", at),
    )
    unix = at / 1_000_000 + 946_684_800
    assert begin == Begin(lsn, unix, xid)
    assert commit == Commit(lsn, end, unix)


def test_the_time_of_a_commit() -> None:
    microseconds = 843_054_330_250_000  # 2026-09-18 13:05:30.25 UTC
    (begin,) = decoded(b"B" + int64(0) + int64(microseconds) + int32(1))
    assert isinstance(begin, Begin)
    assert begin.at == 1_789_739_130.25


@given(st.lists(uint32, max_size=5), st.booleans(), st.booleans())
def test_truncate(oids: list[int], cascade: bool, restart: bool) -> None:
    options = int8(cascade | restart << 1)
    (found,) = decoded(b"T" + int32(len(oids)) + options + b"".join(map(int32, oids)))
    assert found == Truncate(tuple(oids), cascade, restart)


def test_what_concerns_nobody() -> None:
    origin, kind = b"O" + int64(1) + string("o"), b"Y" + int32(1) + string("s") + string("t")
    assert decoded(origin, kind, b"M" + int8(1) + int64(1) + string("p") + int32(1) + b"x") == [None] * 3


@given(st.data())
def test_an_inserted_row(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    row = data.draw(st.lists(cells, min_size=len(shape.columns), max_size=len(shape.columns)))
    _, found = decoded(relation(shape), insert(shape.oid, row))
    assert isinstance(found, Insert)
    assert found.oid == shape.oid
    assert found.after.values() == tuple(row)
    assert found.after.full
    asked = data.draw(st.lists(st.sampled_from([*shape.names, *range(len(row)), "\0"]), max_size=8).map(tuple))
    by: dict[str | int, Value] = {"\0": UNKNOWN_VALUE}
    by.update(zip([*shape.names, *range(len(row))], row + row, strict=True))
    assert found.after.values(asked) == tuple(by[name] for name in asked)


@given(updates())
def test_an_updated_row(changed: Changed) -> None:
    shape = changed.shape
    _, found = decoded(relation(shape), changed.message())
    assert isinstance(found, Update)
    in_order = list(zip(shape.columns, changed.old, changed.new, changed.sent, strict=True))
    filled = [c.key if changed.kind == b"K" else changed.kind == b"O" for c in shape.columns]
    after = [
        sent if sent is not UNCHANGED or not fill else new
        for (_, _, new, sent), fill in zip(in_order, filled, strict=True)
    ]
    assert found.after.values() == tuple(after)
    if shape.identity == "f":
        assert found.before is not None
        assert found.before.values() == tuple(changed.old)
        assert found.before.full
        assert touched(found.before, found.after) == tuple(c.name for c, old, new, _ in in_order if old != new)
    elif changed.kind or (shape.identity != "n" and shape.keys):
        assert found.before is not None
        assert found.before.values() == tuple(old if c.key else UNKNOWN_VALUE for c, old, *_ in in_order)
        assert touched(found.before, found.after) is None
    else:
        assert found.before is None
        assert touched(found.before, found.after) is None


@given(updates("f"), st.data())
def test_some_values_are_those_of_all(changed: Changed, data: st.DataObject) -> None:
    assume(changed.shape.columns)
    _, found = decoded(relation(changed.shape), changed.message())
    assert isinstance(found, Update)
    asked = data.draw(st.lists(st.sampled_from(changed.shape.names), max_size=6).map(tuple))
    by = dict(zip(changed.shape.names, changed.new, strict=True))
    assert found.after.values(asked) == tuple(by[name] for name in asked)


@pytest.mark.parametrize("kind", [b"K", b"O"])
@given(st.data())
def test_a_deleted_row(kind: bytes, data: st.DataObject) -> None:
    shape = data.draw(shapes("f" if kind == b"O" else "di"))
    row = data.draw(st.lists(cells, min_size=len(shape.columns), max_size=len(shape.columns)))
    _, found = decoded(relation(shape), delete(shape.oid, kind, row))
    assert isinstance(found, Delete)
    known = [column.key or kind == b"O" for column in shape.columns]
    assert found.before.values() == tuple(v if k else UNKNOWN_VALUE for v, k in zip(row, known, strict=True))


TABLE = Shape(7, "s", "t", "d", (Column("id", 23, -1, True), Column("a", 25, -1, False), Column("b", 25, -1, True)))
FULL = Shape(7, "s", "t", "f", tuple(column._replace(key=True) for column in TABLE.columns))


def test_nothing_behind_what_is_asked_for_is_looked_at() -> None:
    image = Image(TABLE, row_data([b"1", b"x" * 9, b"2"])[:-1])
    assert image.values(("id",)) == (b"1",)
    assert image.values((1, 0)) == (b"x" * 9, b"1")
    with pytest.raises(ProtocolError, match="expected at byte 28"):
        image.values(("b",))
    with pytest.raises(ProtocolError, match="expected at byte 22"):
        Image(TABLE, image.data[:20]).values(("a",))


def test_nothing_is_known_of_an_old_row_that_should_have_been_sent() -> None:
    _, found = decoded(relation(FULL), update(7, b"", [], [b"1", b"2", b"3"]))
    assert isinstance(found, Update)
    assert found.before is None


def test_a_place_that_is_not_there() -> None:
    image = Image(TABLE, row_data([b"1", b"2", b"3"]))
    for place in (3, -1):
        with pytest.raises(IndexError, match="has 3 columns, so no column"):
            image.values((place,))


def test_a_key_is_the_same_for_the_same_row_and_no_other() -> None:
    rows: list[list[Value]] = [
        [b"1", b"x", b"2"],
        [b"1", b"y", b"2"],
        [b"1", b"x", None],
        [b"1", b"x", b""],
        [b"12", b"x", b""],
    ]
    _, *found = decoded(relation(TABLE), *(insert(7, row) for row in rows), delete(7, b"K", [b"1", None, b"2"]))
    images = [change.after if isinstance(change, Insert) else change.before for change in found]  # type: ignore[union-attr]
    keys = [key(image) for image in images if image]
    assert None not in keys
    assert keys[0] == keys[1] == keys[5]
    assert len(set(keys)) == 4


def test_a_key_of_all_columns() -> None:
    _, found = decoded(relation(FULL), update(7, b"O", [b"1", b"x", None], [b"1", UNCHANGED, b"2"]))
    assert isinstance(found, Update)
    assert found.before is not None
    assert key(found.before) == key(Image(FULL, row_data([b"1", b"x", None])))
    assert key(found.after) == key(Image(FULL, row_data([b"1", b"x", b"2"]))) != key(found.before)
    assert key(Image(FULL, row_data([b"1", UNCHANGED, b"2"]))) is None


@given(st.lists(cells, min_size=3, max_size=3))
def test_a_row_with_unchanged_values_has_the_key_of_the_whole_row(row: list[bytes | None]) -> None:
    whole, empty = Image(FULL, row_data(row)), row_data([UNCHANGED] * 3)
    assert key(whole) == key(Image(FULL, empty, False, whole.data))


def test_there_is_no_key_of_what_is_unknown() -> None:
    assert key(Image(TABLE, row_data([b"1", b"2", UNCHANGED]))) is None
    assert key(Image(Shape(7, "s", "t", "n", ()), row_data([]))) is None


def test_images_are_compared_and_hashed_by_what_they_hold() -> None:
    one, other = (Image(TABLE, row_data([b"1", value, b"2"])) for value in (b"x", b"y"))
    _, same = decoded(relation(TABLE), insert(7, [b"1", b"x", b"2"]))
    assert isinstance(same, Insert)
    assert {one, other, same.after} == {one, other}


@given(st.data())
def test_a_message_that_is_cut_off_is_an_error(data: st.DataObject) -> None:
    changed = data.draw(updates())
    shape = changed.shape
    payload = data.draw(
        st.sampled_from(
            [
                relation(shape),
                changed.message(),
                insert(shape.oid, changed.new),
                delete(shape.oid, b"O", changed.old),
                b"B" + int64(1) + int64(2) + int32(3),
                b"C" + int8(0) + int64(1) + int64(2) + int64(3),
                b"T" + int32(2) + int8(0) + int32(1) + int32(2),
            ]
        )
    )
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    for damaged in (cut, payload + b"\0"):
        with pytest.raises(ProtocolError, match="expected"):
            read_all(shape, damaged)


@example(TABLE, b"I\0\0\0\x07N\0\x03t\xff\xff\xff\xffnn")
@given(shapes(most=4), st.binary(max_size=40))
def test_rubbish_is_an_error_or_a_message(shape: Shape, payload: bytes) -> None:
    for front in (b"", *(bytes([kind]) + int32(shape.oid) for kind in b"IUDR")):
        with suppress(ProtocolError):
            read_all(shape, front + payload)


def read_all(shape: Shape, payload: bytes) -> None:
    decoder = Decoder()
    decoder.decode(relation(shape))
    found = decoder.decode(payload)
    for image in (getattr(found, "before", None), getattr(found, "after", None)):
        if image is not None:
            image.values(tuple(range(len(image.shape.columns))))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "a message (one of IUDBCRTYOM) was expected at byte 0, not b''"),
        (b"S\0\0\0\1", "a message (one of IUDBCRTYOM) was expected at byte 0, not b'S'"),
        (insert(8, []), "a relation described before was expected at byte 1, not oid 8"),
        (insert(7, [None]), "a tuple of the 3 columns of s.t was expected at byte 6, not b'\\x00\\x01'"),
        (insert(7, [None] * 3).replace(b"N", b"K"), "a new tuple (N) was expected at byte 5, not b'K'"),
        (insert(7, [None] * 3)[:-1] + b"b", "not a binary value: the stream must be in text format"),
        (delete(7, b"N", []), "an old tuple (K or O) was expected at byte 5, not b'N'"),
        (update(7, b"X", [], []), "a tuple (K, O or N) was expected at byte 5, not b'X'"),
        (update(7, b"O", [None] * 3, [])[:-3] + b"O\0\0", "a new tuple (N) was expected at byte 11, not b'O'"),
        (relation(Shape(7, "s", "t", "x", ())), "a replica identity (one of dnfi) was expected at byte 9, not b'x'"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[:40],
)
def test_an_error_says_what_was_expected_and_where(payload: bytes, said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_all(TABLE, payload)
    assert said in str(caught.value)
    assert isinstance(caught.value, ValueError)


@given(uint64)
def test_an_lsn_is_read_as_it_is_shown(lsn: int) -> None:
    assert read_lsn(show_lsn(lsn)) == lsn


def test_how_an_lsn_is_shown() -> None:
    assert show_lsn(0x16B3748) == "0/16B3748"
    assert read_lsn("1a/00000002") == 0x1A_0000_0002


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/123456789", "g/0", "0/0 ", " 0/0", "0x1/0", "0/1\n", "-1/0"])
def test_what_is_no_lsn(text: str) -> None:
    with pytest.raises(ProtocolError, match="an LSN such as 0/16B3748 was expected"):
        read_lsn(text)


@given(st.integers(0, 2**63), st.integers(-(2**31) + 1, 2**31 - 1))
@example(2**32, -1)
@example(2**32 - 1, 1)
@example(5 * 2**32 + 3, -4)
def test_an_xid_is_widened_to_the_nearest(reference: int, away: int) -> None:
    assume(reference + away >= 0)
    assert widen((reference + away) % 2**32, reference) == reference + away


@given(uint32, st.integers(0, 2**34))
def test_no_other_xid_is_nearer(xid: int, reference: int) -> None:
    wide: Any = widen(xid, reference)
    assert wide % 2**32 == xid
    assert abs(wide - reference) == min(abs(xid + era * 2**32 - reference) for era in range(6))
