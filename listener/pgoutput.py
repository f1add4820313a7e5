"""PostgreSQL's logical replication messages, protocol version 1 in text format, as values.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html. One transaction comes after the other,
in commit order: Begin, changes, Commit. A relation is described before its first change and after it was altered.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from listener.pg_tuples import Column, Image, ProtocolError, Shape, check_tuple, tuple_end

#: From PostgreSQL's epoch, 2000-01-01, to Unix's, in seconds.
_EPOCH = 946_684_800
_INSERT, _UPDATE, _DELETE = b"IUD"
_KEY, _OLD, _NEW = b"KON"
_IDENTITIES = "dnfi"

_oid_and_kind = struct.Struct(">IB").unpack_from
_begin = struct.Struct(">QqI")
_commit = struct.Struct(">BQQq")
_column = struct.Struct(">Ii")
_relation = struct.Struct(">BH")
_truncate = struct.Struct(">IB")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


class Begin(NamedTuple):
    """A transaction begins. `lsn`: where its commit record begins; `at`: its commit's time, in Unix seconds.

    `xid` is the top level transaction's, also with savepoints and two-phase commit; 32 bits: see `widen`.
    """

    lsn: int
    at: float
    xid: int


class Commit(NamedTuple):
    """It ends. `end_lsn`, behind its commit record, is the position to go on from."""

    lsn: int
    end_lsn: int
    at: float


class Insert(NamedTuple):
    """A new row."""

    oid: int
    after: Image


class Update(NamedTuple):
    """A changed row.

    `before` is the old row, where the relation's replica identity has it in full; else what is known of it, the
    replica identity's columns; None if it has none. `after` has what the change left as it was, where `before` has it.
    """

    oid: int
    before: Image | None
    after: Image


class Delete(NamedTuple):
    """A row is gone; of `before` the replica identity's columns are known."""

    oid: int
    before: Image


class Truncate(NamedTuple):
    """These relations were emptied."""

    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


#: A `Shape` is what a relation message says.
Message = Begin | Commit | Shape | Insert | Update | Delete | Truncate


class Decoder:
    """Messages from the payloads of one stream's XLogData, from its start. `shapes`: its relations by oid, by now."""

    def __init__(self) -> None:
        self.shapes: dict[int, Shape] = {}
        self._readers: dict[int, Callable[[bytes], Message | None]] = {
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("B"): _read_begin,
            ord("C"): _read_commit,
            ord("R"): self._shape,
            ord("T"): _read_truncate,
            **dict.fromkeys(b"YOM", _ignored),
        }

    def decode(self, payload: bytes) -> Message | None:
        """One message; None for what concerns nobody (types, origins, messages of applications).

        Values are looked at when they are asked for, and damage in them is found then.

        Raises:
            ProtocolError: it is no message of this protocol, or of a relation that was never described.
        """
        try:
            return self._readers[payload[0]](payload)
        except (KeyError, IndexError):
            raise self._trouble(payload) from None
        except struct.error as error:
            raise ProtocolError(f"a whole {payload[:1]!r} message was expected: {error}") from None

    def _trouble(self, payload: bytes) -> ProtocolError:
        kinds = bytes(self._readers).decode()
        if not payload or payload[0] not in self._readers:
            return ProtocolError(f"a message (one of {kinds}) was expected at byte 0, not {payload[:1]!r}")
        if payload[0] in b"IUD" and len(payload) >= 6 and (oid := _oid_and_kind(payload, 1)[0]) not in self.shapes:
            return ProtocolError(f"a relation described before was expected at byte 1, not oid {oid}")
        return ProtocolError(f"a whole {payload[:1]!r} message was expected, but it ends at byte {len(payload)}")

    def _insert(self, payload: bytes) -> Insert:
        oid, kind = _oid_and_kind(payload, 1)
        if kind != _NEW:
            raise _unexpected(payload, 5, "a new tuple (N)")
        shape = self.shapes[oid]
        check_tuple(payload, 6, shape)
        return Insert(oid, Image(shape, payload[6:]))

    def _update(self, payload: bytes) -> Update:
        oid, kind = _oid_and_kind(payload, 1)
        shape = self.shapes[oid]
        if kind == _NEW:
            check_tuple(payload, 6, shape)
            after = Image(shape, payload[6:])
            # With no old tuple the replica identity is as it was; if that is all columns, one is always sent.
            known = shape.keys and shape.identity in "di"
            return Update(oid, Image(shape, after.data, True) if known else None, after)
        if kind != _KEY and kind != _OLD:
            raise _unexpected(payload, 5, "a tuple (K, O or N)")
        end = tuple_end(payload, 6, shape)
        if payload[end] != _NEW:
            raise _unexpected(payload, end, "a new tuple (N)")
        check_tuple(payload, end + 1, shape)
        before = Image(shape, payload[6:end], kind == _KEY)
        return Update(oid, before, Image(shape, payload[end + 1 :], False, before.data, before.only_keys))

    def _delete(self, payload: bytes) -> Delete:
        oid, kind = _oid_and_kind(payload, 1)
        if kind != _KEY and kind != _OLD:
            raise _unexpected(payload, 5, "an old tuple (K or O)")
        shape = self.shapes[oid]
        check_tuple(payload, 6, shape)
        return Delete(oid, Image(shape, payload[6:], kind == _KEY))

    def _shape(self, payload: bytes) -> Shape:
        oid = int.from_bytes(payload[1:5], "big")
        schema, at = _text(payload, 5)
        name, at = _text(payload, at)
        identity, many = _relation.unpack_from(payload, at)
        if chr(identity) not in _IDENTITIES:
            raise _unexpected(payload, at, f"a replica identity (one of {_IDENTITIES})")
        at += _relation.size
        columns = []
        for _ in range(many):
            flags = payload[at]
            column, at = _text(payload, at + 1)
            type_oid, typmod = _column.unpack_from(payload, at)
            columns.append(Column(column, type_oid, typmod, bool(flags & 1)))
            at += _column.size
        _ended(payload, at)
        shape = self.shapes[oid] = Shape(oid, schema or "pg_catalog", name, chr(identity), tuple(columns))
        return shape


def _read_begin(payload: bytes) -> Begin:
    _ended(payload, 1 + _begin.size)
    lsn, at, xid = _begin.unpack_from(payload, 1)
    return Begin(lsn, at / 1e6 + _EPOCH, xid)


def _read_commit(payload: bytes) -> Commit:
    _ended(payload, 1 + _commit.size)
    _, lsn, end_lsn, at = _commit.unpack_from(payload, 1)
    return Commit(lsn, end_lsn, at / 1e6 + _EPOCH)


def _read_truncate(payload: bytes) -> Truncate:
    many, options = _truncate.unpack_from(payload, 1)
    at = 1 + _truncate.size
    _ended(payload, at + 4 * many)
    return Truncate(struct.unpack_from(f">{many}I", payload, at), bool(options & 1), bool(options & 2))


def _ignored(payload: bytes) -> None:
    return None


def _text(payload: bytes, at: int) -> tuple[str, int]:
    """The string that begins here, and where what follows its zero byte begins.

    A database without an encoding (SQL_ASCII) has names that are not UTF-8: they stay apart from all others (PEP 383).
    """
    end = payload.find(0, at)
    if end < 0:
        raise ProtocolError(f"a string that ends with a zero byte was expected at byte {at}")
    return payload[at:end].decode(errors="surrogateescape"), end + 1


def _ended(payload: bytes, at: int) -> None:
    if len(payload) != at:
        raise ProtocolError(f"the end of a {payload[:1]!r} message was expected at byte {at}, it has {len(payload)}")


def _unexpected(payload: bytes, at: int, expected: str) -> ProtocolError:
    return ProtocolError(f"{expected} was expected at byte {at}, not {payload[at : at + 1]!r}")


def show_lsn(lsn: int) -> str:
    """A place in the WAL as the server writes it: `0/16B3748`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def read_lsn(text: str) -> int:
    """The place in the WAL that `show_lsn` shows so.

    Raises:
        ProtocolError: it is no LSN.
    """
    halves = _LSN.fullmatch(text)
    if not halves:
        raise ProtocolError(f"an LSN such as 0/16B3748 was expected, not {text!r}")
    return int(halves[1], 16) << 32 | int(halves[2], 16)


def widen(xid: int, reference: int) -> int:
    """A 32-bit transaction id as xid8: of those that end in it the one nearest to `reference`, an xid8 of that time.

    https://www.postgresql.org/docs/current/transaction-id.html: those in use at one time span less than 2^31.
    """
    wide = reference + (xid - reference + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000
    return wide if wide >= 0 else wide + 0x1_0000_0000
