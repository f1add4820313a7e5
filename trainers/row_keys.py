"""A row's key as 64 bits: the same for the same row in every read, process and machine.

Fixed-width `_id`s are mixed as whole columns with SplitMix64's finaliser (Steele, Lea, Flood 2014,
doi:10.1145/2660193.2660195); others go through BLAKE2b one by one. Which of the two depends on the type alone.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from trainers.bson_scan import Found, size

_INT32, _INT64, _OBJECT_ID = 0x10, 0x12, 0x07
_EIGHT_BYTES = (0x01, 0x09, 0x11)
#: What takes the place of a type byte for rows that have no key: no BSON type.
_POSITION = 0x20


def mix(values: NDArray[np.uint64], salt: int = 0) -> NDArray[np.uint64]:
    """A bijection of 64-bit words that spreads every bit over all of them; another one for every salt."""
    z = (values ^ np.uint64(salt)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def row_keys(ids: Found | None, count: int, before: int) -> NDArray[np.uint64]:
    """The keys of `count` rows with these `_id`s; of a row without one, its position in the read.

    A whole number has one key, however wide it is stored.

    Args:
        before: how many rows of the read came before these.
    """
    if ids is None:
        return _by_position(before + np.arange(count))
    present = np.flatnonzero(np.bincount(ids.types, minlength=256)).tolist()
    if len(present) == 1:
        return _of_type(present[0], ids, before + np.arange(count))
    keys = np.empty(count, np.uint64)
    for kind in present:
        rows = np.flatnonzero(ids.types == kind)
        keys[rows] = _of_type(kind, Found(ids.types[rows], ids.spots.only(rows)), before + rows)
    return keys


def _by_position(positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    return mix(positions.astype(np.uint64), _POSITION)


def _of_type(kind: int, ids: Found, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    spots = ids.spots
    if not kind:
        return _by_position(positions)
    if kind == _OBJECT_ID:
        return mix(mix(spots.read("<u8").astype(np.uint64), _OBJECT_ID) ^ spots.read("<u4", 8).astype(np.uint64))
    if kind in (_INT32, _INT64):
        whole = spots.read("<i4" if kind == _INT32 else "<i8").astype(np.int64)
        return mix(whole.view(np.uint64), _INT64)
    if kind in _EIGHT_BYTES:
        return mix(spots.read("<u8").astype(np.uint64), kind)
    raw, head = spots.raw, bytes([kind])
    values = (raw[at : at + size(raw, kind, at)] for at in spots.at.tolist())
    digests = b"".join(hashlib.blake2b(head + value, digest_size=8).digest() for value in values)
    return np.frombuffer(digests, "<u8").astype(np.uint64)
