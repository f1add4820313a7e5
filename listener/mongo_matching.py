"""MongoDB judges rows: `$documents` carries them, one `$facet` holds every predicate.

https://www.mongodb.com/docs/manual/reference/operator/aggregation/documents/
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from registry.mongo.connection import Connection, translate

#: The field that carries a row's index; predicates that could see it (`$$ROOT`) are not evaluated at all.
_INDEX = "__refitd_row__"
_ELEMENT = b"\x10" + _INDEX.encode() + b"\x00"
#: A row's new size, and the index as its first element.
_HEAD = struct.Struct(f"<i{len(_ELEMENT)}si").pack
_ROWS_AT_ONCE = 2000
_BYTES_AT_ONCE = 8 * 1024 * 1024
_PREDICATES_AT_ONCE = 100
_TRANSIENT = {91, 189, 11600, 11602, 10107, 13435, 13436}


class MongoEvaluator:
    """See `listener.matching.Evaluator`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._collations: dict[str, Mapping[str, Any] | None] = {}

    def evaluate(
        self, relation: str, predicates: Sequence[Mapping[str, Any]], rows: Sequence[bytes]
    ) -> list[Collection[int]]:
        """For each predicate the indices of the rows that match it, or may."""
        found: list[set[int]] = [set() for _ in predicates]
        for first in range(0, len(predicates), _PREDICATES_AT_ONCE):
            some = predicates[first : first + _PREDICATES_AT_ONCE]
            for indices in _chunks(rows):
                for place, hits in enumerate(self._judge(relation, some, rows, indices), first):
                    found[place].update(hits)
        return list(found)

    def forget(self, relations: Collection[str]) -> None:
        """Read these collections' collations again."""
        for relation in relations:
            self._collations.pop(relation, None)

    def close(self) -> None:
        """Nothing: the connection is the store's."""

    def _judge(
        self, relation: str, predicates: Sequence[Mapping[str, Any]], rows: Sequence[bytes], indices: range
    ) -> list[Collection[int]]:
        """One query; where it fails, each predicate alone; where that fails, every row may match."""
        try:
            return self._ask(relation, predicates, rows, indices)
        except OperationFailure as error:
            if error.code in _TRANSIENT:
                raise translate(error) from error
            if len(predicates) == 1:
                return [indices]
            return [self._judge(relation, [one], rows, indices)[0] for one in predicates]
        except ConnectionFailure as error:
            raise translate(error) from error
        except PyMongoError:  # a row too large for a command
            return [indices for _ in predicates]

    def _ask(
        self, relation: str, predicates: Sequence[Mapping[str, Any]], rows: Sequence[bytes], indices: range
    ) -> list[Collection[int]]:
        facets = {
            f"p{number}": [{"$match": predicate}, {"$group": {"_id": None, "rows": {"$push": f"${_INDEX}"}}}]
            for number, predicate in enumerate(predicates)
        }
        command: dict[str, Any] = {
            "aggregate": 1,
            "pipeline": [{"$documents": RawBSONDocument(_literal(rows, indices))}, {"$facet": facets}],
            "cursor": {},
        }
        collation = self._collation(relation)
        if collation:
            command["collation"] = collation
        answer = self._connection.database.command(command)["cursor"]["firstBatch"][0]
        return [answer[f"p{n}"][0]["rows"] if answer[f"p{n}"] else () for n in range(len(predicates))]

    def _collation(self, relation: str) -> Mapping[str, Any] | None:
        """A collection's own collation decides how its strings compare."""
        if relation not in self._collations:
            listed = self._connection.database.command("listCollections", filter={"name": relation})
            options = [one.get("options", {}) for one in listed["cursor"]["firstBatch"]]
            self._collations[relation] = options[0].get("collation") if options else None
        return self._collations[relation]


def _chunks(rows: Sequence[bytes]) -> Iterator[range]:
    """Runs of rows that fit into one command."""
    first, size = 0, 0
    for index, row in enumerate(rows):
        if index > first and (size + len(row) > _BYTES_AT_ONCE or index - first >= _ROWS_AT_ONCE):
            yield range(first, index)
            first, size = index, 0
        size += len(row)
    if first < len(rows):
        yield range(first, len(rows))


def _literal(rows: Sequence[bytes], indices: range) -> bytes:
    """`{$literal: [row, …]}`, each with its index as a first field, without decoding a row.

    https://bsonspec.org/spec.html: a document is its size, its elements and a zero byte; an element is its type, its
    name and a value; an array is a document whose names are 0, 1, ….
    """
    pieces: list[bytes] = []
    for place, index in enumerate(indices):
        row = rows[index]
        pieces += (b"\x03%d\x00" % place, _HEAD(len(row) + len(_ELEMENT) + 4, _ELEMENT, index), row[4:])
    array = _document(b"".join(pieces))
    return _document(b"\x04$literal\x00" + array)


def _document(elements: bytes) -> bytes:
    return struct.pack("<i", len(elements) + 5) + elements + b"\x00"
