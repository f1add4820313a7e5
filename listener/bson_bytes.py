"""The elements of a BSON document, found in its bytes without decoding what nobody asks for.

https://bsonspec.org/spec.html. Only the level that is asked for is read and checked: a value is a place in the
bytes until someone decodes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bson.errors import InvalidBSON

#: The types that are looked for by name.
STRING, DOCUMENT, ARRAY, INT64, TIMESTAMP = 0x02, 0x03, 0x04, 0x12, 0x11

#: By name: its type, where its value begins, and where that ends.
Elements = dict[bytes, tuple[int, int, int]]

#: Types whose values have one size: double, undefined, ObjectId, boolean, date, null, int32, timestamp, int64,
#: decimal128, min key, max key.
_FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, TIMESTAMP: 8, INT64: 8, 0x13: 16}
_FIXED |= {0xFF: 0, 0x7F: 0}
#: Types whose values begin with an int32: what it leaves out of the value's size, the smallest size, whether a zero
#: byte ends it. String, document, array, binary, DBPointer, code, symbol, code with scope.
_COUNTED = {STRING: (4, 5, True), DOCUMENT: (0, 5, True), ARRAY: (0, 5, True), 0x05: (5, 5, False)}
_COUNTED |= {0x0C: (16, 17, False), 0x0D: (4, 5, True), 0x0E: (4, 5, True), 0x0F: (0, 14, True)}
_REGEX = 0x0B

_int32 = struct.Struct("<i").unpack_from
_SIZES = [_FIXED.get(kind, -1) for kind in range(256)]


def elements(data: bytes, start: int = 0, limit: int | None = None) -> Elements:
    """The elements of the document (or array) that begins at `start` and ends before `limit`.

    Raises:
        InvalidBSON: it is damaged at this level.
    """
    return elements_between(data, start + 4, end_of(data, start, limit))


def end_of(data: bytes, start: int, limit: int | None = None) -> int:
    """Where the zero byte is that ends the document which begins at `start`.

    Raises:
        InvalidBSON: it does not end there, or not before `limit`.
    """
    limit = len(data) if limit is None else limit
    if start + 5 > limit:
        raise InvalidBSON(f"damaged BSON at byte {start}: too short")
    end: int = start + _int32(data, start)[0] - 1
    if not start + 4 <= end < limit or data[end]:
        raise InvalidBSON(f"damaged BSON at byte {start}: a document without an end")
    return end


def elements_between(data: bytes, at: int, end: int) -> Elements:
    """The elements from here to the end of their document.

    Raises:
        InvalidBSON: they are damaged at this level.
    """
    found: Elements = {}
    try:
        while at < end:
            kind = data[at]
            value = data.index(0, at + 1, end) + 1
            name = data[at + 1 : value - 1]
            if kind == DOCUMENT:  # as `_end` would, without a call: most of what is looked at are documents
                at = value + _int32(data, value)[0]
                if not value + 4 < at <= end or data[at - 1]:
                    raise InvalidBSON(f"damaged BSON at byte {value}: a document without an end")
            else:
                size = _SIZES[kind]
                at = value + size if size >= 0 else _end(data, kind, value, end)
            found[name] = (kind, value, at)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise InvalidBSON(f"damaged BSON at byte {at}: {error}") from error
    if at != end:
        raise InvalidBSON(f"damaged BSON at byte {at}: an element ends behind its document")
    return found


def documents(data: bytes, start: int, limit: int | None = None) -> Iterator[tuple[int, int]]:
    """Where each document of an array begins and ends.

    Raises:
        InvalidBSON: it is damaged at this level, or holds something else.
    """
    at, end = start + 4, end_of(data, start, limit)
    while at < end:
        first = data.find(0, at + 1, end) + 1
        if data[at] != DOCUMENT or not first:
            raise InvalidBSON(f"a document was expected at byte {at}")
        at = end_of(data, first, end) + 1
        yield first, at


def _end(data: bytes, kind: int, value: int, end: int) -> int:
    """Where a value ends that says so itself."""
    if kind == _REGEX:  # two strings that end with zero bytes
        return data.index(0, data.index(0, value, end) + 1, end) + 1
    more, least, closed = _COUNTED[kind]
    size = _int32(data, value)[0] + more
    if size < least or value + size > end or (closed and data[value + size - 1]):
        raise InvalidBSON(f"damaged BSON at byte {value}: a value of {size} bytes")
    after: int = value + size
    return after


def text_at(data: bytes, place: tuple[int, int, int]) -> str:
    """A string's text; as for names, bytes that are not UTF-8 are kept.

    Raises:
        InvalidBSON: it is no string.
    """
    kind, start, end = place
    if kind != STRING:
        raise InvalidBSON(f"a string was expected at byte {start}, not type {kind}")
    return name_of(data[start + 4 : end - 1])


def name_of(name: bytes) -> str:
    """An element's name. The server stores names that are not UTF-8: they stay apart from every other one (PEP 383)."""
    return name.decode(errors="surrogateescape")
