"""PostgreSQL's types as columns. Pure.

| in PostgreSQL | column |
|---|---|
| smallint, integer, bigint, oid; numeric(p, 0) of up to 18 digits | int64 |
| real, double precision; other numeric, money | float64, the nearest; NaN and infinity stay |
| boolean, text, varchar, bytea | bool, string, string, binary |
| date, timestamp, timestamptz | timestamp[us] (UTC); `infinity` is refused |
| time, timetz, interval | float64: seconds since midnight (UTC); seconds, a month as 30 days, a year as 365.25 |
| array of one dimension | list, of doubles where it holds numbers; of more dimensions: refused |
| vector, halfvec, sparsevec (pgvector) | list of floats |
| json, jsonb; composite types and hstore, as `to_jsonb` has them | struct, list, or what all of their values are |
| anything else: char(n) (without its padding), enum, uuid, inet, xml, ranges, geometry, bits, … | string: as text |
| domain | as what it is over |
| NULL | null |

The server casts to what both drivers give alike (`Output.expression`), the rest is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_TIME = pa.timestamp("us")
_DOUBLES = pa.list_(pa.float64())
#: Every numeric of so many digits fits into 64 bits.
_WHOLE_DIGITS = 18
_NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8"})
#: As they are: sent alike to both drivers.
_PLAIN: Mapping[str, pa.DataType] = {
    "int2": pa.int64(),
    "int4": pa.int64(),
    "int8": pa.int64(),
    "float4": pa.float64(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bytea": pa.binary(),
    "timestamp": _TIME,
    "timestamptz": _TIME,
}
_CAST: Mapping[str, tuple[str, pa.DataType]] = {
    "oid": ("{}::bigint", pa.int64()),
    "numeric": ("{}::double precision", pa.float64()),
    "money": ("{}::numeric::double precision", pa.float64()),
    "date": ("{}::timestamp", _TIME),
    "time": ("extract(epoch FROM {})::double precision", pa.float64()),
    "timetz": ("extract(epoch FROM {})::double precision", pa.float64()),
    "interval": ("extract(epoch FROM {})::double precision", pa.float64()),
}
#: pgvector's.
_VECTORS = frozenset({"vector", "halfvec", "sparsevec"})
#: Whose hash doesn't depend on how a value is stored, and is there for all of them.
HASHABLE = _NUMBERS | {
    "numeric", "bool", "text", "varchar", "bpchar", "uuid", "date", "timestamp", "timestamptz", "bytea"
}  # fmt: skip

#: The text of any value.
AS_TEXT = "{}::pg_catalog.text"


@dataclass(frozen=True, slots=True)
class PgType:
    """A type that is no domain. `modifier` is -1, or what the type's own rules say, as of numeric(10, 2)."""

    name: str
    schema: str = "pg_catalog"
    kind: str = "b"
    modifier: int = -1
    element: PgType | None = None
    is_domain: bool = False

    @property
    def builtin(self) -> str | None:
        """Its name if it is one of PostgreSQL's own."""
        return self.name if self.schema == "pg_catalog" else None

    @property
    def shown(self) -> str:
        """For messages."""
        return f"{self.element.shown}[]" if self.element else self.name


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that no row may meet, in SQL, and what is said if one does."""

    condition: str
    says: str


@dataclass(frozen=True, slots=True)
class Output:
    """One column to read: how the server makes it, how it travels, and what becomes of it."""

    name: str
    expression: str
    wire: pa.DataType
    kind: pa.DataType | None
    """None: JSON; what it becomes is known when all of it was read."""
    guard: Guard | None = None


def resolve(oid: int, modifier: int, catalog: Mapping[int, Mapping[str, Any]]) -> PgType:
    """The type of this number, seen through domains. One that the catalog doesn't have is some other type.

    Args:
        catalog: rows of pg_type, by oid, with all that they refer to; see `postgres_query.TYPES`.
    """
    row, is_domain = catalog.get(oid), False
    while row is not None and row["kind"] == "d":
        is_domain = True
        modifier = row["modifier"] if row["modifier"] != -1 else modifier
        row = catalog.get(row["base"])
    if row is None:
        return PgType("unknown", is_domain=is_domain)
    element = resolve(row["element"], modifier, catalog) if row["is_array"] else None
    return PgType(row["name"], row["schema"], row["kind"], modifier, element, is_domain)


def output(name: str, reference: str, kind: PgType) -> Output:
    """The column that a value of this type becomes.

    Args:
        reference: the column, in SQL.
    """
    if (made := json_of(reference, kind)) is not None:
        return Output(name, AS_TEXT.format(made[1]), pa.string(), None)
    if kind.element is not None:
        return _array(name, reference, kind.element)
    if kind.name in _VECTORS and kind.builtin is None:
        return Output(name, _vector(reference, kind), pa.list_(pa.float32()), pa.list_(pa.float32()))
    expression, arrow = _scalar(kind)
    return Output(name, expression.format(reference), arrow, arrow)


def json_of(reference: str, kind: PgType) -> tuple[str, str] | None:
    """The value as JSON: its type (`json`, `jsonb`), and the SQL. None where this type becomes no JSON."""
    inner = kind.element or kind
    if inner.builtin in ("json", "jsonb") and kind.element is None:
        return inner.name, reference
    if inner.builtin in ("json", "jsonb", "record") or inner.kind == "c" or (inner.name, inner.kind) == ("hstore", "b"):
        return "jsonb", f"pg_catalog.to_jsonb({reference})"
    return None


def at_path(name: str, made: tuple[str, str], path: Sequence[str]) -> Output:
    """What lies at a path within a JSON value.

    Args:
        made: of `json_of`.
        path: at least one name.
    """
    family, outer = made
    steps = [outer, *(_extract(family, outer, path[:depth]) for depth in range(1, len(path) + 1))]
    lists = " OR ".join(f"pg_catalog.{family}_typeof({step}) = 'array'" for step in steps[:-1])
    says = (
        f"`{name}` leads through a list; take one value from it in the select (->0, jsonb_array_length, …), "
        "or train on the list itself"
    )
    guard = Guard(f"coalesce({lists}, false)", says)
    return Output(name, AS_TEXT.format(steps[-1]), pa.string(), None, guard)


def literal(text: str) -> str:
    """A string as SQL, with `standard_conforming_strings`."""
    return "'" + text.replace("'", "''") + "'"


def hash_of(row: str, kinds: Iterable[PgType]) -> str:
    """A 64-bit hash of a row, in SQL: the same for equal rows, on every server.

    Args:
        row: the row, in SQL.
        kinds: the types in it.
    """
    if all(kind.builtin in HASHABLE for kind in kinds):
        return f"pg_catalog.hash_record_extended({row}, 0)"
    return f"pg_catalog.hashtextextended({AS_TEXT.format(row)}, 0)"


def _scalar(kind: PgType) -> tuple[str, pa.DataType]:
    name = kind.builtin or ""
    if name in _PLAIN:
        return "{}", _PLAIN[name]
    if name == "numeric" and _is_whole(kind.modifier):
        return "{}::bigint", pa.int64()
    return _CAST.get(name, (AS_TEXT, pa.string()))


def _is_whole(modifier: int) -> bool:
    """Whether a numeric's modifier says that it has no fraction, and few digits enough.

    Source: PostgreSQL's `src/backend/utils/adt/numeric.c`, make_numeric_typmod.
    """
    if modifier < 4:
        return False
    digits, scale = (modifier - 4) >> 16 & 0xFFFF, ((modifier - 4 & 0x7FF) ^ 1024) - 1024
    return scale <= 0 and digits - scale <= _WHOLE_DIGITS


def _array(name: str, reference: str, element: PgType) -> Output:
    said = f"`{name}` holds arrays of several dimensions; write to_jsonb(…) AS {name} for lists in lists, or unnest it"
    many = f"coalesce(pg_catalog.array_ndims({reference}), 0) > 1"
    made, arrow = _items(reference, element)
    # ADBC knows no array whose first index isn't 1; a slice's always is.
    made = f"CASE WHEN pg_catalog.array_lower({reference}, 1) <> 1 THEN ({made})[:] ELSE {made} END"
    kind = _DOUBLES if element.builtin in _NUMBERS or arrow == pa.int64() else pa.list_(arrow)
    expression = f"CASE WHEN {reference} IS NULL OR {many} THEN NULL ELSE {made} END"
    return Output(name, expression, pa.list_(arrow), kind, Guard(many, said))


def _items(reference: str, element: PgType) -> tuple[str, pa.DataType]:
    """An array of one dimension in SQL, its items as drivers give them, and what each is then."""
    inner = element.builtin or ""
    if inner in _PLAIN:
        return (f"{reference}::pg_catalog.{inner}[]" if element.is_domain else reference), _PLAIN[inner]
    if inner == "numeric":
        return f"{reference}::double precision[]", pa.float64()
    expression, arrow = _CAST.get(inner, (AS_TEXT, pa.string()))
    each = expression.format("v")
    return f"ARRAY(SELECT {each} FROM pg_catalog.unnest({reference}) WITH ORDINALITY AS u (v, n) ORDER BY n)", arrow


def _vector(reference: str, kind: PgType) -> str:
    if kind.name != "sparsevec":
        return f"{reference}::real[]"
    schema = '"' + kind.schema.replace('"', '""') + '"'
    return f"{reference}::{schema}.vector::real[]"


def _extract(family: str, outer: str, path: Sequence[str]) -> str:
    return f"pg_catalog.{family}_extract_path({', '.join([outer, *map(literal, path)])})"
