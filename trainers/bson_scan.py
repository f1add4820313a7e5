"""Where each field's value lies in a batch of raw BSON documents, found for all documents at once.

Documents of one collection mostly have the same fields in the same order. So a batch is read in lock-step: at
each field of a template, one numpy operation looks at that place in every document. A document that the template
doesn't fit (other fields, another order) is tried again with a wider template, and walked by itself in the end.
All ways look at the type byte of every value: nothing is converted here, so nothing can be lost.

The layout is that of https://bsonspec.org/spec.html: an int32 length, then elements (type byte, name, NUL, value),
then a NUL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The type byte of no value at all: the document lacks the field.
MISSING = 0
ARRAY, DOCUMENT = 0x04, 0x03

_FIXED = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}
#: Sizes that the value begins with, as an int32 that doesn't count these bytes.
_PREFIXED = {2: 4, 3: 0, 4: 0, 5: 5, 12: 16, 13: 4, 14: 4, 15: 0}
_REGEX = 11

_FIXED_SIZE = np.full(256, -1, np.int64)
_FIXED_SIZE[list(_FIXED)] = list(_FIXED.values())
_EXTRA_SIZE = np.full(256, -1, np.int64)
_EXTRA_SIZE[list(_PREFIXED)] = list(_PREFIXED.values())
#: What can be stepped over in lock-step: every type but a regex, which ends at its second NUL.
_STEPPABLE = (_FIXED_SIZE >= 0) | (_EXTRA_SIZE >= 0)

#: Reads in lock-step may go this far past a document's end; longer names are left to the walk.
_PAD = 1024
_LONGEST_NAME = 1000
#: Beyond this many field names documents have no common shape worth following.
_WIDEST_TEMPLATE = 1000
#: How often the documents left over are tried again with a wider template, and when that is not worth it.
_ROUNDS, _FEW = 4, 16


class Spots:
    """One place in each of n documents: byte offsets into `raw`.

    While the documents are equally long and alike so far, these are `start + stride * i`, and reading is a
    strided view; else they are the array `at`.
    """

    __slots__ = ("_at", "_start", "_stride", "count", "raw")

    def __init__(self, raw: bytes, at: NDArray[np.int64] | None, start: int = 0, stride: int = 0, count: int = 0):
        self.raw, self._at, self._start, self._stride = raw, at, start, stride
        self.count = count if at is None else len(at)

    @property
    def at(self) -> NDArray[np.int64]:
        """The offsets, int64[n]."""
        if self._at is None:
            return self._start + self._stride * np.arange(self.count, dtype=np.int64)
        return self._at

    def read(self, dtype: str, skip: int = 0) -> NDArray[Any]:
        """The little-endian value of this dtype that lies `skip` bytes after each spot."""
        if self._at is None:
            return np.ndarray((self.count,), dtype, self.raw, self._start + skip, (self._stride,))
        overlapping = np.ndarray((len(self.raw) - np.dtype(dtype).itemsize + 1,), dtype, self.raw, 0, (1,))
        read: NDArray[Any] = overlapping[self._at + skip]
        return read

    def moved(self, by: int | NDArray[np.int64]) -> Spots:
        """These spots, `by` bytes further on."""
        if self._at is None and isinstance(by, int):
            return Spots(self.raw, None, self._start + by, self._stride, self.count)
        return Spots(self.raw, self.at + by)

    def only(self, chosen: NDArray[Any]) -> Spots:
        """The spots of some documents, by number or mask."""
        return Spots(self.raw, self.at[chosen])

    def one(self, index: int) -> int:
        """One document's offset."""
        return self._start + self._stride * index if self._at is None else int(self._at[index])

    def hold(self, name: bytes, skip: int) -> NDArray[np.bool_]:
        """Whether these bytes lie `skip` bytes after each spot."""
        same = np.ones(self.count, np.bool_)
        for begin in range(0, len(name), 8):
            part = name[begin : begin + 8]
            mask = np.uint64((1 << 8 * len(part)) - 1)
            same &= (self.read("<u8", skip + begin) & mask) == np.uint64(int.from_bytes(part, "little"))
        return same


@dataclass(frozen=True, slots=True)
class Found:
    """One field in n documents: BSON type bytes (`MISSING` where it isn't) and where the values begin."""

    types: NDArray[np.uint8]
    spots: Spots


@dataclass(slots=True)
class Template:
    """The field names that documents were seen to have, in their order; it grows with what it sees."""

    names: list[bytes] = field(default_factory=list)

    def learn(self, raw: bytes, document: int) -> None:
        """Take in one document's names, each new one after the one it follows there."""
        place = 0
        for name, _, _ in walk(raw, document):
            if name in self.names:
                place = self.names.index(name) + 1
            elif len(name) <= _LONGEST_NAME:
                self.names.insert(place, name)
                place += 1


def documents(raw: bytes) -> Spots:
    """Where the concatenated documents of a batch begin; `raw` of the result has room to read beyond the end."""
    padded = raw + bytes(_PAD)
    if not raw:
        return Spots(padded, np.empty(0, np.int64))
    length = int.from_bytes(raw[:4], "little")
    if len(raw) % length == 0:
        alike = Spots(padded, None, 0, length, len(raw) // length)
        if (alike.read("<i4") == length).all():
            return alike
    starts = []
    start = 0
    while start < len(raw):
        starts.append(start)
        start += int.from_bytes(raw[start : start + 4], "little")
    return Spots(padded, np.array(starts, np.int64))


def walk(raw: bytes, document: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, type byte and the value's offset of each element of the document that begins at `document`.

    Raises:
        ValueError: an element of a type that BSON doesn't have.
    """
    at = document + 4
    while kind := raw[at]:
        end = raw.index(0, at + 1)
        yield raw[at + 1 : end], kind, end + 1
        at = end + 1 + size(raw, kind, end + 1)


def size(raw: bytes, kind: int, value: int) -> int:
    """How many bytes the value at this offset takes.

    Raises:
        ValueError: BSON has no such type.
    """
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _PREFIXED:
        return int.from_bytes(raw[value : value + 4], "little") + _PREFIXED[kind]
    if kind == _REGEX:
        return raw.index(0, raw.index(0, value) + 1) + 1 - value
    raise ValueError(f"BSON has no type {kind:#x}")


def spread(found: Found, into: NDArray[np.int64], count: int) -> Found:
    """What was found in some of `count` documents, those numbered `into`; `MISSING` in the others."""
    types, at = np.zeros(count, np.uint8), np.zeros(count, np.int64)
    types[into], at[into] = found.types, found.spots.at
    return Found(types, Spots(found.spots.raw, at))


def within(outer: Found, template: Template, wanted: Collection[bytes] | None) -> dict[bytes, Found]:
    """As `locate`, in the sub-documents that were found; `MISSING` where there is none."""
    there = outer.types == DOCUMENT
    if there.all():
        return locate(outer.spots, template, wanted)
    rows = np.flatnonzero(there)
    found = locate(outer.spots.only(rows), template, wanted)
    return {name: spread(one, rows, len(outer.types)) for name, one in found.items()}


def locate(docs: Spots, template: Template, wanted: Collection[bytes] | None) -> dict[bytes, Found]:
    """Each wanted field (None: every one that is there) in these documents. The template learns from them."""
    if not docs.count:
        return {}
    if not template.names:
        template.learn(docs.raw, docs.one(0))
    found, fits = _in_step(docs, template.names, wanted)
    if fits.all():
        return found
    merged = _Merged(docs.raw, docs.count)
    merged.take(found, np.flatnonzero(fits), fits)
    left = np.flatnonzero(~fits)
    for _ in range(_ROUNDS):
        if len(left) <= _FEW or len(template.names) > _WIDEST_TEMPLATE:
            break
        rest = docs.only(left)
        template.learn(docs.raw, rest.one(0))
        found, fits = _in_step(rest, template.names, wanted)
        if not fits[0]:  # an order of its own, which no widening of the template can follow
            own = [name for name, _, _ in walk(docs.raw, rest.one(0)) if len(name) <= _LONGEST_NAME]
            found, fits = _in_step(rest, own, wanted)
        merged.take(found, left[fits], fits)
        left = left[~fits]
    for index in left.tolist():
        for name, kind, value in walk(docs.raw, docs.one(index)):
            if wanted is None or name in wanted:
                merged.put(name, index, kind, value)
    return merged.found()


def _in_step(
    docs: Spots, names: list[bytes], wanted: Collection[bytes] | None
) -> tuple[dict[bytes, Found], NDArray[np.bool_]]:
    """The fields as far as the documents follow these names, and which documents do so to their end."""
    found = {}
    here = docs.moved(4)
    for name in names:
        types, value, here = _field(here, name)
        if wanted is None or name in wanted:
            found[name] = Found(types, value)
    return found, here.read("u1") == 0


def _field(here: Spots, name: bytes) -> tuple[NDArray[np.uint8], Spots, Spots]:
    """Type bytes and values of the field where it comes next, and the spots after it (elsewhere: unmoved)."""
    header = name + b"\0"
    types = here.read("u1")
    value = here.moved(1 + len(header))
    match = here.hold(header, 1) & _STEPPABLE[types]
    if match.all():
        first = int(types[0])
        if first in _FIXED and (types == first).all():
            return types, value, value.moved(_FIXED[first])
        return types, value, value.moved(_sizes(types, value))
    if not match.any():
        return np.zeros(here.count, np.uint8), value, here
    types = np.where(match, types, np.uint8(0))
    return types, value, Spots(here.raw, np.where(match, value.at + _sizes(types, value), here.at))


def _sizes(types: NDArray[np.uint8], value: Spots) -> NDArray[np.int64]:
    """How many bytes each value takes; what it says of a `MISSING` one means nothing."""
    sizes = _FIXED_SIZE[types]
    prefixed = sizes < 0
    if prefixed.any():
        sizes = np.where(prefixed, value.read("<i4") + _EXTRA_SIZE[types], sizes)
    return sizes


class _Merged:
    """What several rounds found, put together."""

    def __init__(self, raw: bytes, count: int) -> None:
        self._raw, self._count = raw, count
        self._fields: dict[bytes, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}

    def _field(self, name: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if name not in self._fields:
            self._fields[name] = np.zeros(self._count, np.uint8), np.zeros(self._count, np.int64)
        return self._fields[name]

    def take(self, found: dict[bytes, Found], into: NDArray[np.int64], which: NDArray[np.bool_]) -> None:
        """Those of `found` that `which` picks are the documents numbered `into`."""
        for name, one in found.items():
            types, at = self._field(name)
            types[into], at[into] = one.types[which], one.spots.at[which]

    def put(self, name: bytes, index: int, kind: int, value: int) -> None:
        """One document's value."""
        types, at = self._field(name)
        types[index], at[index] = kind, value

    def found(self) -> dict[bytes, Found]:
        return {name: Found(types, Spots(self._raw, at)) for name, (types, at) in self._fields.items()}
