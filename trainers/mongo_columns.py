"""Raw batches of BSON documents → Arrow columns, exactly: every value's type byte is looked at.

| in MongoDB | column |
|---|---|
| int, long | int64; float64 beside doubles, if none of them lies beyond ±2**53 |
| double, decimal | float64; a decimal becomes the nearest double, NaN stays NaN |
| bool, string, date, binary | bool, string, timestamp[ms] (UTC), binary |
| ObjectId | string: its 24 hex digits |
| array | list, of doubles where it holds numbers |
| object | struct |
| null, undefined, no such field | null |

Anything else, and types that don't go together, is an error that names the field and a row.

(Not pymongoarrow, which is a little slower and loses what it didn't expect: NaN becomes null in a column of any
type, 2.5 becomes 2 in one of whole numbers, and a string null without a schema.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from registry.errors import RowsUnusable
from trainers.bson_arrays import KINDS, NULLS, OTHERS, Namer, Valid, decode, numbers, scalars, vectors
from trainers.bson_scan import ARRAY, DOCUMENT, Found, Template, documents, locate, within
from trainers.row_keys import row_keys
from trainers.rows import KEY
from trainers.scratch import Kept, Scratch
from trainers.values import NUMBERS, Shape, build, imprecise, unusable


@dataclass(slots=True)
class _Node:
    """What is wanted of the documents at one depth."""

    column: str | None = None
    children: dict[bytes, _Node] = field(default_factory=dict)
    template: Template = field(default_factory=Template)


class MongoColumns:
    """Collects batches; gives them back as record batches of one schema, with `KEY`.

    Keeps the Arrow columns of what was added, which take about what the rows take on the wire: in memory while they
    are few, in a local file beyond that.
    """

    def __init__(self, fields: tuple[str, ...] | None, scratch: Scratch | None = None) -> None:
        """`fields`: dotted paths; None: every top-level field but `_id`."""
        self._fields, self._root = fields, _Node()
        self._scratch = scratch or Scratch()
        self._columns: dict[str, _Column] = {}
        self._keys: list[NDArray[np.uint64]] = []
        self.rows = 0
        for name in fields or ():
            node = self._root
            for part in name.encode().split(b"."):
                node = node.children.setdefault(part, _Node())
            node.column = name
            self._columns[name] = _Column(name, self._scratch)

    def add(self, raw: bytes) -> None:
        """Take in a batch: BSON documents, one after another.

        Raises:
            RowsUnusable: a field holds types that don't go together, or one that no column can hold.
        """
        docs = documents(raw)
        if not docs.count:
            return
        wanted = None if self._fields is None else {b"_id", *self._root.children}
        found = locate(docs, self._root.template, wanted)
        ids = found.get(b"_id")
        who = partial(_who, ids, self.rows)
        batch = len(self._keys)
        self._keys.append(row_keys(ids, docs.count, self.rows))
        self.rows += docs.count
        for name, one in self._named(found, who):
            self._columns.setdefault(name, _Column(name, self._scratch)).add(batch, one, who)

    def finish(self) -> Iterator[pa.RecordBatch]:
        """All batches, in the order they were added; none for no rows.

        Raises:
            RowsUnusable: a column's numbers, over all batches, can't be held exactly; or a column has our key's name.
        """
        if KEY in self._columns:
            raise RowsUnusable(f"`{KEY}` is a name of refitd's own; rename that field, or leave it out with a pipeline")
        names = [*self._columns, KEY]
        for batch, keys in enumerate(self._keys):
            arrays = [column.finish(batch, len(keys)) for column in self._columns.values()]
            yield pa.RecordBatch.from_arrays([*arrays, pa.array(keys)], names=names)

    def _named(self, found: Mapping[bytes, Found], who: Namer) -> Iterator[tuple[str, Found]]:
        if self._fields is None:
            return ((name.decode(), one) for name, one in found.items() if name != b"_id")
        return _descend(self._root, found, "", who)


def _descend(node: _Node, found: Mapping[bytes, Found], path: str, who: Namer) -> Iterator[tuple[str, Found]]:
    """The columns wanted below a node, among what was found of its children."""
    for name, child in node.children.items():
        one = found.get(name)
        if one is None:
            continue
        if child.column is not None:
            yield child.column, one
        if child.children:
            inside = path + name.decode()
            yield from _descend(child, _inner(child, one, inside, who), f"{inside}.", who)


def _inner(node: _Node, outer: Found, path: str, who: Namer) -> dict[bytes, Found]:
    """What is wanted of the sub-documents found at a path; nothing where there is none."""
    lists = np.flatnonzero(outer.types == ARRAY)
    if len(lists):
        below = ".".join([path, next(iter(node.children)).decode()])
        raise RowsUnusable(
            f"`{below}` leads through a list (`{path}` of {who(int(lists[0]))}); "
            "take one value from it with a pipeline ($first, $avg, $size, ...), or train on the list itself"
        )
    return within(outer, node.template, node.children.keys())


def _who(ids: Found | None, before: int, row: int) -> str:
    """A row's name in messages."""
    if ids is None or not ids.types[row]:
        return f"row {before + row}"
    return f"_id {decode(ids.spots.raw, int(ids.types[row]), ids.spots.one(row))!r}"


class _Column:
    """One column, as far as it was read. One of sub-documents is made of columns itself."""

    def __init__(self, path: str, scratch: Scratch) -> None:
        self._path, self._scratch, self._shape = path, scratch, Shape()
        self._pieces: dict[int, Kept] = {}
        self._inner: dict[bytes, _Column] = {}
        self._template = Template()
        self._objects: dict[int, NDArray[np.bool_]] = {}

    def add(self, batch: int, found: Found, who: Namer) -> None:
        """Take in a batch's values.

        Raises:
            RowsUnusable: they don't go together with each other, or with those before.
        """
        types = found.types
        seen = np.flatnonzero(np.bincount(types, minlength=256)).tolist()
        present = [kind for kind in seen if kind not in NULLS]
        for first, kind in sorted((int(np.argmax(types == kind)), kind) for kind in present):
            if kind not in KINDS:
                raise unusable(self._path, OTHERS[kind], who(first))
            self._shape.note(KINDS[kind], partial(who, first))
        if not present:
            return
        self._shape.arrow(self._path)  # refuses what doesn't go together
        if present == [DOCUMENT]:
            self._objects[batch] = types == DOCUMENT
            for name, one in within(found, self._template, None).items():
                path = f"{self._path}.{name.decode()}"
                self._inner.setdefault(name, _Column(path, self._scratch)).add(batch, one, who)
        else:
            valid = None if len(present) == len(seen) else ~np.isin(types, NULLS)
            self._pieces[batch] = self._scratch.keep(self._piece(found, valid, present, who))

    def _piece(self, found: Found, valid: Valid, present: list[int], who: Namer) -> pa.Array:
        kind = KINDS[present[0]]
        if kind in NUMBERS:
            return numbers(self._path, found, valid, present, who)
        if kind != "list":
            return scalars(self._path, kind, found.spots, valid)
        read = vectors(found, valid)
        if read is None:
            return self._lists(found, who)
        self._shape.item().note(read[0], partial(who, int(np.argmax(found.types == ARRAY))))
        return read[1]

    def _lists(self, found: Found, who: Namer) -> pa.Array:
        """Lists of any kind, decoded one by one."""
        raw, values = found.spots.raw, []
        for row, (kind, at) in enumerate(zip(found.types.tolist(), found.spots.at.tolist(), strict=True)):
            value = list(decode(raw, kind, at)) if kind == ARRAY else None
            values.append(self._shape.take(value, self._path, partial(who, row)))
        return build(values, self._shape.arrow(self._path), self._path)

    def finish(self, batch: int, count: int) -> pa.Array:
        """The array of one batch, of this length; one type for all batches. Asked for once, when all is added.

        Raises:
            RowsUnusable: numbers can't be held exactly in the type that all of them need.
        """
        if self._objects:
            return self._struct(batch, count)
        kind = self._shape.arrow(self._path)
        piece = self._pieces.pop(batch, None)
        return pa.nulls(count, kind) if piece is None else self._cast(piece(), kind)

    def _struct(self, batch: int, count: int) -> pa.Array:
        there = self._objects.get(batch, np.zeros(count, np.bool_))
        if not self._inner:
            return pa.array([{} if one else None for one in there], pa.struct([]))
        inner = [column.finish(batch, count) for column in self._inner.values()]
        names = [name.decode() for name in self._inner]
        return pa.StructArray.from_arrays(inner, names=names, mask=pa.array(~there))

    def _cast(self, piece: pa.Array, kind: pa.DataType) -> pa.Array:
        if piece.type == kind:
            return piece
        if pa.types.is_nested(kind):
            return build(piece.to_pylist(), kind, self._path)
        try:
            return piece.cast(kind)
        except pa.ArrowInvalid as error:
            raise imprecise(self._path, error) from None
