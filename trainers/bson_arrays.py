"""One field of a batch of BSON documents → one Arrow array, by the type bytes of its values.

What lies under a null is zero, so that equal rows have equal bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import bson
import numpy as np
import pyarrow as pa
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from numpy.typing import NDArray

from registry.errors import RowsUnusable
from trainers.bson_scan import ARRAY, Found, Spots, size
from trainers.values import Who, decimal_to_float, imprecise

_DOUBLE, _INT32, _INT64, _DECIMAL = 0x01, 0x10, 0x12, 0x13
NULLS = (0x00, 0x06, 0x0A)
#: The kinds of `values.Shape`, by type byte; symbols are strings.
KINDS: Mapping[int, str] = {
    _DOUBLE: "float",
    0x02: "string",
    0x03: "object",
    ARRAY: "list",
    0x05: "binary",
    0x07: "ObjectId",
    0x08: "bool",
    0x09: "date",
    0x0E: "string",
    _INT32: "int",
    _INT64: "int",
    _DECIMAL: "decimal",
}
#: What no column can hold, by type byte.
OTHERS: Mapping[int, str] = {
    0x0B: "regular expression",
    0x0C: "DBPointer",
    0x0D: "piece of JavaScript",
    0x0F: "piece of JavaScript",
    0x11: "timestamp",
    0x7F: "MaxKey",
    0xFF: "MinKey",
}

_WIDTHS = {_DOUBLE: "<f8", _INT32: "<i4", _INT64: "<i8"}
_ZEROS = {_DOUBLE: 0.0, _INT32: 0, _INT64: Int64(0)}
_OLD_BINARY = 2
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)

#: Says which row of the batch, e.g. `_id 17`.
Namer = Callable[[int], str]
#: Which rows have a value; None: all.
Valid = NDArray[np.bool_] | None


def decode(raw: bytes, kind: int, at: int) -> Any:
    """The value of this type at this offset, as the driver decodes it; a time that Python can't hold as DatetimeMS."""
    content = bytes([kind]) + b"v\0" + raw[at : at + size(raw, kind, at)] + b"\0"
    return bson.decode((len(content) + 4).to_bytes(4, "little") + content, _CODEC)["v"]


def scalars(path: str, kind: str, spots: Spots, valid: Valid) -> pa.Array:
    """Values of one kind that is neither a number nor nested.

    Raises:
        RowsUnusable: text that is no UTF-8.
    """
    return _SCALARS[kind](path, spots, valid)


def numbers(path: str, found: Found, valid: Valid, present: list[int], who: Namer) -> pa.Array:
    """Whole numbers as int64; with any other number among them, all as float64.

    Args:
        present: the type bytes that occur, nulls aside.

    Raises:
        RowsUnusable: a whole number, or a decimal, that float64 can't hold.
    """
    dtype: type[Any] = np.int64 if set(present) <= {_INT32, _INT64} else np.float64
    if len(present) == 1 and present[0] in _WIDTHS:
        return _masked(found.spots.read(_WIDTHS[present[0]]).astype(dtype), valid)
    values = np.zeros(len(found.types), dtype)
    for kind in present:
        rows = np.flatnonzero(found.types == kind)
        spots = found.spots.only(rows)
        if kind == _DECIMAL:
            values[rows] = _decimals(path, spots, [partial(who, row) for row in rows.tolist()])
        else:
            read = spots.read(_WIDTHS[kind])
            values[rows] = read if dtype is np.int64 else _exact(path, read)
    return _masked(values, valid)


def vectors(found: Found, valid: Valid) -> tuple[str, pa.Array] | None:
    """The kind of number in lists that are equally long and all of one type, and the lists as `list<double>`.

    They are read as one block. None where they are not so: those are for `decode`.
    """
    spots = found.spots if valid is None else found.spots.only(np.flatnonzero(valid))
    raw, first = spots.raw, spots.one(0)
    length, kind = int.from_bytes(raw[first : first + 4], "little"), raw[first + 4]
    if kind not in _WIDTHS or not (spots.read("<i4") == length).all():
        return None
    dtype = np.dtype(_WIDTHS[kind])
    runs = _runs(length, dtype.itemsize)
    count = runs[-1].end
    buffer = bytearray().join([raw[at : at + length] for at in spots.at.tolist()])
    items = np.empty((spots.count, count), dtype)
    for run in runs:
        values = np.ndarray((spots.count, run.end - run.begin), dtype, buffer, run.at, (length, run.stride))
        items[:, run.begin : run.end] = values
        values[...] = 0
    frame = bson.encode({str(index): _ZEROS[kind] for index in range(count)})
    blocks = np.frombuffer(buffer, np.uint8).reshape(spots.count, length)
    if len(frame) != length or not (blocks == np.frombuffer(frame, np.uint8)).all():
        return None
    exact = _exact("", items.ravel(), refuse=False)
    if exact is None:
        return None
    lengths = count * (np.ones(len(found.types), np.int64) if valid is None else valid)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    mask = None if valid is None else pa.array(~valid)
    return KINDS[kind], pa.ListArray.from_arrays(offsets, pa.array(exact), mask=mask)


class _Run(NamedTuple):
    """Items of a list whose positions have equally many digits, so that they lie equally far apart."""

    begin: int
    end: int
    at: int
    stride: int


def _runs(length: int, width: int) -> list[_Run]:
    """Where the values lie in a list of this many bytes, if it holds nothing but values of this width."""
    runs: list[_Run] = []
    begin, header = 0, 4
    for digits in itertools.count(1):
        stride = 1 + digits + 1 + width
        end = min(begin + (length - 1 - header) // stride, 10**digits)
        runs.append(_Run(begin, end, header + 1 + digits + 1, stride))
        if end < 10**digits:
            return runs
        begin, header = end, header + (end - begin) * stride
    raise AssertionError("unreachable")


def _masked(values: NDArray[Any], valid: Valid) -> pa.Array:
    if valid is None:
        return pa.array(np.ascontiguousarray(values))
    return pa.array(np.where(valid, values, np.zeros((), values.dtype)), mask=~valid)


def _exact(path: str, values: NDArray[Any], *, refuse: bool = True) -> NDArray[np.float64] | None:
    """As float64; where whole numbers can't be that exactly, refused, or None."""
    try:
        array = pa.array(np.ascontiguousarray(values)).cast(pa.float64())
    except pa.ArrowInvalid as error:
        if refuse:
            raise imprecise(path, error) from None
        return None
    converted: NDArray[np.float64] = array.to_numpy()
    return converted


def _decimals(path: str, spots: Spots, names: list[Who]) -> list[float]:
    values = (Decimal128.from_bid(spots.raw[at : at + 16]).to_decimal() for at in spots.at.tolist())
    return [decimal_to_float(value, path, who) for value, who in zip(values, names, strict=True)]


def _slices(spots: Spots, valid: Valid, skip: int, less: int) -> list[bytes | None]:
    """The bytes of values that begin with their length: without these `skip` first, and `less` last ones."""
    raw = spots.raw
    begins = spots.at + skip
    ends = begins + spots.read("<i4") - less
    if valid is None:
        return [raw[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    rows = zip(begins.tolist(), ends.tolist(), valid.tolist(), strict=True)
    return [raw[begin:end] if there else None for begin, end, there in rows]


def _texts(path: str, spots: Spots, valid: Valid) -> pa.Array:
    try:
        return pa.array(_slices(spots, valid, 4, 1), pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise RowsUnusable(f"`{path}` holds text that is not UTF-8: {error}") from None


def _binaries(_: str, spots: Spots, valid: Valid) -> pa.Array:
    values = _slices(spots, valid, 5, 0)
    old = (spots.read("u1", 4) == _OLD_BINARY).tolist()  # these hold their length once more
    plain = [one[4:] if one and again else one for one, again in zip(values, old, strict=True)]
    return pa.array(plain, pa.binary())


def _object_ids(_: str, spots: Spots, valid: Valid) -> pa.Array:
    digits = np.stack([spots.read("<u4", skip) for skip in (0, 4, 8)], axis=1).astype("<u4").tobytes().hex()
    texts = np.array([digits[begin : begin + 24] for begin in range(0, len(digits), 24)], object)
    return pa.array(texts, pa.string(), mask=None if valid is None else ~valid)


def _bools(_: str, spots: Spots, valid: Valid) -> pa.Array:
    return _masked(spots.read("u1") != 0, valid)


def _dates(_: str, spots: Spots, valid: Valid) -> pa.Array:
    return _masked(spots.read("<i8").astype(np.int64), valid).view(pa.timestamp("ms"))


_SCALARS: Mapping[str, Callable[[str, Spots, Valid], pa.Array]] = {
    "string": _texts,
    "binary": _binaries,
    "ObjectId": _object_ids,
    "bool": _bools,
    "date": _dates,
}
