"""Reads a MongoDB query, projection, expression or pipeline, and notes its faults and what it depends on.

The same reading checks a select (`mongo_select`) and tells what it depends on (`mongo_watch`), so the two
can't disagree on what is an operator, what a field and what data. Pure: nothing is evaluated.

Source: the MongoDB manual on query operators, stages and expressions. Whether a mapping is operators or a
document to compare with is told as the server tells it: its first key begins with `$` (DBRefs apart).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from bson.decimal128 import Decimal128

from registry import mongo_operators as ops
from registry.mongo_notes import Notes, Path, Sight, is_operators, shown
from registry.mongo_operators import Arg

GEOMETRIC = frozenset({"$geoWithin", "$within", "$geoIntersects", "$near", "$nearSphere"})

ORDERED = frozenset({"$top", "$topN", "$bottom", "$bottomN"})
"""Accumulators whose `sortBy` names fields of the row."""


def match(notes: Notes, value: object, path: Path, prefix: str = "") -> None:
    """A query document; `prefix` is the array whose elements it is about, within `$elemMatch`."""
    for key, each in notes.mapping(value, path, "a query"):
        at = (*path, key)
        if not key.startswith("$"):
            notes.see(Sight.FIELD, prefix + key, at)
            condition(notes, each, at, prefix + key)
        elif key in ("$and", "$or", "$nor"):
            for inner, query in notes.sequence(each, at, key):
                match(notes, query, inner, prefix)
        elif key == "$expr":
            expression(notes, each, at)
        elif key == "$text":
            notes.see(Sight.ROW, key, at)
            _options(notes, each, at, ops.TEXT_OPERATORS)
        elif key in ops.QUERY_OPERATORS:
            _note_query_operator(notes, key, at)
            notes.plain(each, at, literal=True)
        else:
            notes.unknown(key, at, "an operator for the top of a query", ops.QUERY_OPERATORS)


def _note_query_operator(notes: Notes, name: str, path: Path) -> None:
    if name in ops.VOLATILE:
        notes.see(Sight.VOLATILE, name, path)
    elif name == "$jsonSchema":
        notes.see(Sight.ANY_FIELD, name, path)


def condition(notes: Notes, value: object, path: Path, field: str) -> None:
    """What a query asks of one field: operators, or a value to be equal to."""
    if not is_operators(value):
        notes.plain(value, path)
        return
    for key, each in notes.mapping(value, path, "a condition"):
        at = (*path, key)
        if key == "$not":
            condition(notes, each, at, field)
        elif key == "$elemMatch":
            _elem_match(notes, each, at, field)
        elif key == "$all":
            for inner, item in notes.sequence(each, at, key):
                condition(notes, item, inner, field)
        elif key in GEOMETRIC:
            if key.startswith("$near"):
                notes.see(Sight.ROW, key, at)
            _options(notes, each, at, ops.GEOMETRY_OPERATORS)
        elif key in ops.FIELD_OPERATORS:
            notes.plain(each, at)
        else:
            notes.unknown(key, at, "a condition on a field", ops.FIELD_OPERATORS)


def _elem_match(notes: Notes, value: object, path: Path, field: str) -> None:
    """Conditions on an array's elements: operators, or a query on the fields of the elements."""
    logical = isinstance(value, Mapping) and bool(value.keys() & {"$and", "$or", "$nor"})
    if is_operators(value) and not logical:
        condition(notes, value, path, field)
    else:
        match(notes, value, path, f"{field}.")


def _options(notes: Notes, value: object, path: Path, allowed: Collection[str]) -> None:
    """The arguments of `$text` and of geometric conditions."""
    if not is_operators(value):
        notes.plain(value, path)
        return
    for key, each in notes.mapping(value, path, str(path[-1])):
        if key in allowed:
            notes.plain(each, (*path, key))
        else:
            notes.unknown(key, (*path, key), f"an argument of {path[-1]}", allowed)


def expression(notes: Notes, value: object, path: Path) -> None:
    """An aggregation expression."""
    if isinstance(value, str):
        _reference(notes, value, path)
    elif isinstance(value, list | tuple):
        for at, each in notes.sequence(value, path, "an expression"):
            expression(notes, each, at)
    elif not isinstance(value, Mapping):
        notes.plain(value, path)
    elif any(isinstance(key, str) and key.startswith("$") for key in value):
        _operation(notes, value, path, ops.EXPRESSIONS, "an expression operator")
    else:
        for key, each in notes.mapping(value, path, "an expression"):
            expression(notes, each, (*path, key))


def _reference(notes: Notes, text: str, path: Path) -> None:
    """`$field.path` and `$$variable.path`; any other string is a constant."""
    if not text.startswith("$"):
        return
    if not text.startswith("$$"):
        notes.field(text[1:], path)
        return
    name, _, rest = text[2:].partition(".")
    if name in ("ROOT", "CURRENT"):
        if rest:
            notes.field(rest, path)
        else:
            notes.see(Sight.ROW, text, path)
    elif f"$${name}" in ops.VOLATILE:
        notes.see(Sight.VOLATILE, f"$${name}", path)
    elif name[:1].isupper() and f"$${name}" not in ops.VARIABLES:
        notes.unknown(f"$${name}", path, "a variable", ops.VARIABLES)


def _operation(notes: Notes, value: object, path: Path, allowed: Collection[str], what: str) -> None:
    """`{$operator: arguments}`: exactly one key, from a list."""
    items = notes.mapping(value, path, what)
    if isinstance(value, Mapping) and len(value) != 1:
        notes.fault(path, f"{what} stands alone in its mapping, not among {len(value)} keys; nest them")
    for key, each in items:
        at = (*path, key)
        if key not in allowed:
            notes.unknown(key, at, what, allowed)
        elif key == "$literal":
            notes.plain(each, at, literal=True)
        else:
            _note_operator(notes, key, each, at)
            expression(notes, each, at)


def _note_operator(notes: Notes, name: str, value: object, path: Path) -> None:
    if name in ops.VOLATILE:
        notes.see(Sight.VOLATILE, name, path)
    elif name == "$meta" or (name == "$getField" and not (isinstance(value, Mapping) and "input" in value)):
        notes.see(Sight.ROW, name, path)
    elif name in ORDERED and isinstance(value, Mapping):
        sort(notes, value.get("sortBy"), (*path, "sortBy"))


def projection(notes: Notes, value: object, path: Path, prefix: str = "") -> None:
    """`{path: 1 | 0 | expression | nested}`, of a find or of `$project`."""
    for key, each in notes.mapping(value, path, "a projection"):
        at = (*path, key)
        name = prefix + key.removesuffix(".$")
        if key.startswith("$"):
            notes.unknown(key, at, "a field to project", ())
            continue
        if each is False or (isinstance(each, int | float) and each == 0):
            continue
        if isinstance(each, Decimal128):  # the server keeps or drops by its number
            notes.fault(at, f"a field is kept with 1 and dropped with 0, not with {shown(each)}")
            continue
        if isinstance(each, Mapping) and each and not is_operators(each):
            projection(notes, each, at, f"{name}.")
            continue
        notes.field(name, at)
        if isinstance(each, Mapping) and "$elemMatch" in each and len(each) == 1:
            _elem_match(notes, each["$elemMatch"], (*at, "$elemMatch"), name)
        else:
            expression(notes, each, at)


def sort(notes: Notes, value: object, path: Path) -> None:
    """`{path: 1 | -1 | {$meta: …}}`."""
    for key, each in notes.mapping(value, path, "a sort"):
        at = (*path, key)
        if is_operators(each):
            expression(notes, each, at)
            continue
        notes.field(key, at)
        if isinstance(each, bool) or each not in (1, -1):
            notes.fault(at, f"a sort direction is 1 or -1, not {shown(each)}")


def _fields(notes: Notes, value: object, path: Path) -> None:
    for key, each in notes.mapping(value, path, "new fields"):
        notes.field(key, (*path, key))  # `{a: {b: 1}}` depends on whether a is an array
        expression(notes, each, (*path, key))


def _group(notes: Notes, value: object, path: Path) -> None:
    for key, each in notes.mapping(value, path, "$group"):
        if key == "_id":
            expression(notes, each, (*path, key))
        else:
            _operation(notes, each, (*path, key), ops.ACCUMULATORS, "an accumulator")


def _output(notes: Notes, value: object, path: Path) -> None:
    for key, each in notes.mapping(value, path, "an output"):
        _operation(notes, each, (*path, key), ops.ACCUMULATORS, "an accumulator")


def _windows(notes: Notes, value: object, path: Path) -> None:
    for key, each in notes.mapping(value, path, "an output"):
        at = (*path, key)
        if isinstance(each, Mapping):
            notes.plain(each.get("window"), (*at, "window"))
            each = {name: inner for name, inner in each.items() if name != "window"}
        _operation(notes, each, at, ops.WINDOW_OPERATORS, "a window operator")


def pipeline(notes: Notes, value: object, path: Path) -> None:
    """A list of stages, in order."""
    for at, each in notes.sequence(value, path, "a pipeline"):
        stage(notes, each, at)


def stage(notes: Notes, value: object, path: Path) -> None:
    """`{$stage: arguments}`: exactly one key."""
    items = notes.mapping(value, path, "a stage")
    if isinstance(value, Mapping) and len(value) != 1:
        notes.fault(path, f"a stage has one key, its operator, not {len(value)}; write one mapping a stage")
    for name, each in items:
        at = (*path, name)
        shape = ops.STAGES.get(name)
        if shape is None:
            notes.unknown(name, at, "a pipeline stage", ops.STAGES)
            continue
        if name in ops.VOLATILE:
            notes.see(Sight.VOLATILE, name, at)
        if isinstance(shape, Arg):
            READERS[shape](notes, each, at)
        else:
            _arguments(notes, each, at, shape)


def _arguments(notes: Notes, value: object, path: Path, shape: Mapping[str, Arg]) -> None:
    short = ops.SHORT_FORMS.get(str(path[-1]))
    if short and not isinstance(value, Mapping):
        READERS[shape[short]](notes, value, path)
        return
    for key, each in notes.mapping(value, path, str(path[-1])):
        if key in shape:
            READERS[shape[key]](notes, each, (*path, key))
        else:
            notes.unknown(key, (*path, key), f"an argument of {path[-1]}", shape)


def _reference_only(notes: Notes, value: object, path: Path) -> None:
    if isinstance(value, str) and value.startswith("$") and not value.startswith("$$"):
        notes.field(value[1:], path)
    else:
        notes.fault(path, f"a field is written $a or $a.b here, not {shown(value)}")


def _foreign_match(notes: Notes, value: object, path: Path) -> None:
    with notes.foreign():
        match(notes, value, path)


def _foreign_pipeline(notes: Notes, value: object, path: Path) -> None:
    with notes.foreign():
        pipeline(notes, value, path)


def _facets(notes: Notes, value: object, path: Path) -> None:
    for key, each in notes.mapping(value, path, "$facet"):
        pipeline(notes, each, (*path, key))


READERS: Mapping[Arg, Callable[[Notes, object, Path], None]] = {
    Arg.MATCH: match,
    Arg.FOREIGN_MATCH: _foreign_match,
    Arg.EXPRESSION: expression,
    Arg.FIELDS: _fields,
    Arg.PROJECTION: projection,
    Arg.GROUP: _group,
    Arg.OUTPUT: _output,
    Arg.WINDOWS: _windows,
    Arg.SORT: sort,
    Arg.FIELD: Notes.field,
    Arg.REFERENCE: _reference_only,
    Arg.COLLECTION: Notes.collection,
    Arg.PIPELINE: _foreign_pipeline,
    Arg.FACETS: _facets,
    Arg.PLAIN: Notes.plain,
}
