"""Replication messages put together to batches of changes: whole transactions, or parts of one that is too large."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from listener.feed import Change, Kind
from listener.pg_tuples import UNKNOWN_VALUE, Image, Shape, touched
from listener.pg_tuples import key as key_of_row
from listener.pgoutput import Begin, Commit, Decoder, Delete, Insert, Truncate, Update, widen
from listener.postgres_catalog import Relation
from listener.postgres_late import News
from registry.canonical import key_of
from registry.postgres.stamps import PgStamp

_MODELS, _VERSIONS = ("refitd", "models"), ("refitd", "versions")
#: What a reader of model documents looks at; `status`, which is ours, is not among it.
_SAID = ("id", "spec")


class Taken(NamedTuple):
    """What some messages tell. `lsn` None: in the middle of a transaction.

    `news` of documents and versions are by transactions, which are in the log before others see what they wrote.
    """

    changes: tuple[Change, ...]
    lsn: int | None
    news: Mapping[int, News] = MappingProxyType({})


class Assembler:
    """Takes messages in, gives what they complete. Pure but for what it has taken in."""

    def __init__(self, history: str, newest_xid: int, lsn: int) -> None:
        """`history`: of the server; `newest_xid`: an xid8 of these days; `lsn`: where the stream begins."""
        self._decoder = Decoder()
        self._history, self.newest_xid = history, newest_xid
        self._names: Mapping[int, str] = {}
        self._bare: Mapping[tuple[str, str], str] = {}
        self._primary: Mapping[str, tuple[str, ...]] = {}
        self.lsn = lsn
        """The end of the last transaction that was taken in whole, or a later place that nothing lies before."""
        self.torn = False
        """Whether a part of a transaction was given, but not yet its end."""
        self._open: PgStamp | None = None
        self._part: list[Change] = []
        self._news: dict[int, News] = {}

    def follow(self, relations: Iterable[Relation]) -> None:
        """Tell changes of these from now on: known by oid, and by name where one was made anew since."""
        listed = list(relations)
        self._names = {one.oid: one.name for one in listed}
        self._bare = {(one.schema, one.table): one.name for one in listed}
        self._primary = {one.name: one.primary for one in listed}

    def take(self, messages: Iterable[bytes], sent: int) -> Taken | None:
        """What these messages complete; None for nothing, not even progress.

        Args:
            sent: up to where the server has sent everything.
        """
        done: list[Change] | None = None
        before = self.lsn
        for payload in messages:
            message = self._decoder.decode(payload)
            if isinstance(message, Commit):
                done = (done or []) + self._part
                self._part, self._open, self.lsn, self.torn = [], None, message.end_lsn, False
            elif message is not None:
                self._add(message)
        if self._open is not None and done is None:
            part, self._part = self._part, []
            self.torn = self.torn or bool(part)
            return Taken(tuple(part), None) if part else None
        if self._open is None:
            self.lsn = max(self.lsn, sent)
        if self.lsn == before and not done:
            return None
        news, self._news = self._news, {}
        return Taken(tuple(done or ()), self.lsn, news)

    def _add(self, message: Any) -> None:
        if isinstance(message, Begin):
            xid = widen(message.xid, self.newest_xid)
            self.newest_xid = max(self.newest_xid, xid)
            self._open = PgStamp(self._history, None, frozenset({xid}))
        elif isinstance(message, Truncate):
            for oid in message.oids:
                self._emptied(self._decoder.shapes.get(oid), oid)
        elif isinstance(message, Insert | Update | Delete):
            self._row(message)

    def _row(self, message: Insert | Update | Delete) -> None:
        shape = self._decoder.shapes[message.oid]
        name = self._names.get(message.oid) or self._bare.get((shape.schema, shape.name))
        if name is not None:
            self._part.append(_change(name, message, self._open, self._primary.get(name, ())))
        elif (shape.schema, shape.name) == _MODELS:
            self._note(_written(message))
        elif (shape.schema, shape.name) == _VERSIONS and isinstance(message, Insert):
            self._note(News(versions=frozenset({_text(message.after, "model")})))

    def _note(self, news: News) -> None:
        for xid in self._open.xids if self._open and news else ():
            self._news[xid] = self._news.get(xid, News()) | news

    def _emptied(self, shape: Shape | None, oid: int) -> None:
        bare = (shape.schema, shape.name) if shape else ("", "")
        name = self._names.get(oid) or self._bare.get(bare)
        if name is not None:
            self._part.append(Change(name, Kind.OTHER, self._open))
        elif bare == _MODELS:
            self._note(News(documents=None))


def _written(message: Insert | Update | Delete) -> News:
    """A document was written. A change of its status alone is ours, and none; but not one that takes it away."""
    images = [one for one in (_before(message), _after(message)) if one is not None]
    same = len(images) == 2 and len({one.values(_SAID) for one in images}) == 1
    if same and isinstance(message, Update) and message.after.values(("status",)) != (None,):
        return News()
    return News(frozenset(key_of(_text(one, "id")) for one in images))


def _change(name: str, message: Insert | Update | Delete, stamp: PgStamp | None, primary: tuple[str, ...]) -> Change:
    if isinstance(message, Insert):
        return Change(name, Kind.INSERT, stamp, _key(message.after, primary), None, message.after)
    if isinstance(message, Delete):
        return Change(name, Kind.DELETE, stamp, _key(message.before, primary), message.before)
    before, after = message.before, message.after
    return Change(name, Kind.UPDATE, stamp, _key(after, primary), before, after, touched(before, after))


def _key(image: Image, primary: tuple[str, ...]) -> bytes | None:
    """The primary key's values, where there is one: with REPLICA IDENTITY FULL the identity is the whole row."""
    if not primary or image.shape.keys == primary:
        return key_of_row(image)
    values = image.values(primary)
    return None if UNKNOWN_VALUE in values else repr(values).encode()


def _before(message: Insert | Update | Delete) -> Image | None:
    return None if isinstance(message, Insert) else message.before


def _after(message: Insert | Update | Delete) -> Image | None:
    return None if isinstance(message, Delete) else message.after


def _text(image: Image, column: str) -> str:
    (value,) = image.values((column,))
    return value.decode() if isinstance(value, bytes) else ""
