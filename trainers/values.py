"""The type of a column of Python or BSON values, strictly: what would lose something is refused.

Arrow's own inference is lenient (a list of numbers and booleans becomes numbers), and says nothing of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from registry.errors import RowsUnusable

#: Says which row a value is of, e.g. `_id 17`. Called only for the first row of each kind.
Who = Callable[[], str]

NUMBERS = frozenset({"int", "float", "decimal"})
_ARROW = {
    "bool": pa.bool_(),
    "string": pa.string(),
    "date": pa.timestamp("ms"),
    "binary": pa.binary(),
    "ObjectId": pa.string(),
}


@dataclass(slots=True)
class Shape:
    """What kinds of values one place in the rows was seen to hold, each with the first row that has it.

    Kinds: `bool int float decimal string date binary ObjectId list object`. Null is no kind.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    items: Shape | None = None
    fields: dict[str, Shape] = field(default_factory=dict)

    def note(self, kind: str, who: Who) -> None:
        """A value of this kind was seen."""
        if kind not in self.kinds:
            self.kinds[kind] = who()

    def item(self) -> Shape:
        """The shape of a list's items."""
        if self.items is None:
            self.items = Shape()
        return self.items

    def arrow(self, path: str) -> pa.DataType:
        """The Arrow type that holds all of it: int64 only where all numbers are whole, lists of numbers as
        `list<double>`, `null` for nothing seen.

        Raises:
            RowsUnusable: there is none; names the place, two kinds, and a row of each.
        """
        kinds = self.kinds
        if not kinds:
            return pa.null()
        if kinds.keys() <= NUMBERS:
            return pa.int64() if kinds.keys() == {"int"} else pa.float64()
        if len(kinds) > 1:
            raise mixed(path, kinds)
        kind = next(iter(kinds))
        if kind == "list":
            items = self.item().arrow(f"{path}[]")
            return pa.list_(pa.float64() if items == pa.int64() else items)
        if kind == "object":
            return pa.struct([(name, shape.arrow(f"{path}.{name}")) for name, shape in self.fields.items()])
        return _ARROW[kind]

    def take(self, value: Any, path: str, who: Who) -> Any:
        """Note a value with all that is in it; gives it back as Arrow takes it.

        Raises:
            RowsUnusable: no column can hold such a value; names the place and the row.
        """
        value = value.item() if isinstance(value, np.generic) else value
        if value is None:
            return None
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, Mapping):
            self.note("object", who)
            return {name: self._field(name).take(each, f"{path}.{name}", who) for name, each in value.items()}
        if isinstance(value, list | tuple):
            self.note("list", who)
            item = self.item()
            return [item.take(each, f"{path}[]", who) for each in value]
        for kind, types, plain in _SCALARS:
            if isinstance(value, types):
                self.note(kind, who)
                return _plain(plain, value, path, who)
        raise unusable(path, type(value).__name__, who())

    def _field(self, name: str) -> Shape:
        return self.fields.setdefault(name, Shape())


def to_arrow(values: Sequence[Any], path: str, who: Callable[[int], str]) -> pa.Array:
    """A column of Python values: scalars, BSON's types, lists, mappings.

    Raises:
        RowsUnusable: they have no common type, or one of them has none.
    """
    shape = Shape()
    plain = [shape.take(value, path, partial(who, row)) for row, value in enumerate(values)]
    return build(plain, shape.arrow(path), path)


def build(plain: Iterable[Any], kind: pa.DataType, path: str) -> pa.Array:
    """An array of this type.

    Raises:
        RowsUnusable: a number would lose precision.
    """
    try:
        return pa.array(plain, kind)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise imprecise(path, error) from None


def imprecise(path: str, error: Exception) -> RowsUnusable:
    """A number that doesn't fit its column's type."""
    return RowsUnusable(
        f"`{path}` holds numbers that no 64-bit column holds exactly ({error}): whole numbers beyond 2**53 beside "
        "fractions, or beyond 2**63; if it is an identifier leave it out, or store it as text"
    )


def mixed(path: str, kinds: Mapping[str, str]) -> RowsUnusable:
    """Kinds that no column can hold together."""
    numbers = [kind for kind in kinds if kind in NUMBERS]
    shown = [kind for kind in kinds if kind not in numbers[1:]]
    said = " and ".join(f"{kind} ({kinds[kind]})" for kind in shown)
    return RowsUnusable(
        f"`{path}` holds mixed types: {said}; store one type, or filter the others out in the select "
        f"(MongoDB: {{{path.replace('[]', '')!r}: {{$type: ...}}}})"
    )


def unusable(path: str, kind: str, who: str) -> RowsUnusable:
    """A value that no estimator could use."""
    return RowsUnusable(f"`{path}` holds a {kind} ({who}), which can't be trained on; leave it out or convert it")


def decimal_to_float(value: Decimal, path: str, who: Who) -> float:
    """The nearest double: what an estimator would compute with.

    Raises:
        RowsUnusable: it is too large for one.
    """
    number = float(value)
    if value.is_finite() and not np.isfinite(number):
        raise RowsUnusable(f"`{path}` holds {value} ({who()}), which is too large for a 64-bit float")
    return number


def _naive(value: datetime) -> datetime:
    """In UTC, without saying so: as the datastore keeps it."""
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _plain(plain: Callable[[Any], Any], value: Any, path: str, who: Who) -> Any:
    simple = plain(value)
    return decimal_to_float(simple, path, who) if isinstance(simple, Decimal) else simple


def _same(value: Any) -> Any:
    return value


_SCALARS: tuple[tuple[str, type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    ("bool", bool, _same),
    ("int", int, int),
    ("float", float, _same),
    ("string", str, _same),
    ("date", datetime, _naive),
    ("date", date, lambda value: datetime(value.year, value.month, value.day)),  # noqa: DTZ001 (UTC, see _naive)
    ("date", DatetimeMS, int),
    ("ObjectId", ObjectId, str),
    ("decimal", Decimal, _same),
    ("decimal", Decimal128, Decimal128.to_decimal),
    ("binary", UUID, lambda value: value.bytes),
    ("binary", bytes, bytes),
)
