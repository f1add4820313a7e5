"""What a select on PostgreSQL depends on: which changes of which relations can give it other rows.

Always on the safe side: `None` says "can't be told", and counts as "everything"; a field too many costs a fit, one too
few would leave a model stale. Two things can't be seen here, and whoever knows the catalog mends them: a field that is
no column of the relation (PostgreSQL may read `t.f` as the function f of the whole row), and a generated column, which
changes with those it is made of. Where one is among the fields, take `None` for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from registry.sql_calls import RESERVED, calls_of
from registry.sql_functions import ROW_FUNCTIONS, SPECIAL_FORMS, words
from registry.sql_select import SqlSelect, is_plain
from registry.sql_text import Kind, Token, tokens_of
from registry.sql_tree import Names, Reading, readings
from registry.watch import Watch, merge

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})
"""Columns that change with each version of a row, and that no row of a change feed has."""

_GRAMMAR = words("""
    at boolean bigint by char character current cube day double dow doy epoch escape exclude filter first following
    float groups hour int integer interval isodow isoyear key last materialized microseconds millisecond milliseconds
    minute month next no nulls ordinality others over partition preceding precision quarter range recursive repeatable
    rollup row rows second sets smallint system bernoulli text ties time timestamp unbounded unknown varying week
    within without year zone distinct leading trailing ilike inner is isnull join left like natural notnull outer
    overlaps right similar tablesample cross full
""")
"""Words of the grammar that may stand where the parser keeps no name."""


@dataclass(frozen=True, slots=True)
class SqlPredicate:
    """Which rows count: the text after WHERE, the name that it knows the relation by, and the columns it reads."""

    alias: str
    text: str
    columns: frozenset[str]


def watches(select: SqlSelect, trained_fields: Iterable[str] | None) -> Mapping[str, Watch]:
    """One entry for each relation, by its `Relation.sql`; `trained_fields` None: all columns that come out.

    Fields are columns' names as the server stores them. A relation read more than once has what holds for all its
    readings together.
    """
    trained = None if trained_fields is None else frozenset(trained_fields)
    tokens = tokens_of(select.text)
    names = Names(tokens)
    places = readings(select.tree, names)
    uses = _Uses(select.tree, names, places)
    if _has_lost_names(select.tree, tokens):
        uses.everything()
    uses.read(select.tree, trained)
    predicate, fields = _predicate(select, names, places)
    found: dict[str, Watch] = {}
    for place, used in zip(places, uses.fields, strict=True):
        watch = Watch(predicate, fields, None if used is None else frozenset(used))
        key = place.relation.sql
        found[key] = merge(found[key], watch) if key in found else watch
    return found


class _Uses:
    """Which columns of each place are read: superset of the truth, None where that can't be told."""

    def __init__(self, tree: exp.Expr, names: Names, places: Sequence[Reading]) -> None:
        self.names = names
        self.places = places
        self.fields: list[set[str] | None] = [set() for _ in places]
        aliases = (each.this for each in tree.find_all(exp.TableAlias) if each.this is not None)
        tables = (each.this for each in tree.find_all(exp.Table) if isinstance(each.this, exp.Identifier))
        self.known = {names.of(each) for each in (*aliases, *tables)}
        for at, place in enumerate(places):
            alias = place.node.args.get("alias")
            if alias is not None and alias.args.get("columns"):
                self.fields[at] = None  # its columns have other names here

    def everything(self, alias: str | None = None) -> None:
        """All columns are read: of the places with this alias, or of all."""
        for at, place in enumerate(self.places):
            if alias is None or place.alias == alias:
                self.fields[at] = None

    def add(self, name: str, alias: str | None = None) -> None:
        """A column is read: of the places with this alias, or of any."""
        if name in SYSTEM_COLUMNS:
            self.everything(alias)
        for used, place in zip(self.fields, self.places, strict=True):
            if used is not None and (alias is None or place.alias == alias):
                used.add(name)

    def read(self, tree: exp.Expr, trained: frozenset[str] | None) -> None:
        """Note what the statement reads, but for what it gives out without being trained on."""
        without: list[exp.Expr] = []
        if trained is not None and isinstance(tree, exp.Select):
            without = [*_idle(tree, trained, self.names), *self._trained_stars(tree, trained)]
        for node in _walk(tree, {id(each) for each in without}):
            self._node(node)

    def _trained_stars(self, tree: exp.Select, trained: frozenset[str]) -> list[exp.Expr]:
        """The `*` and `t.*` that come out: of what they stand for, the trained fields alone are read."""
        if tree.args.get("distinct"):
            return []
        stars = [*_stars(tree.expressions)]
        if not stars and trained - {_output_name(each, self.names) for each in tree.expressions}:
            self.everything()
        for star in stars:
            table = star.args.get("table")
            for name in trained:
                self.add(name, None if table is None else self.names.of(table))
        return stars

    def _node(self, node: exp.Expr) -> None:
        if isinstance(node, exp.Join):
            if node.args.get("method"):
                self.everything()  # NATURAL
            for each in node.args.get("using") or ():
                self.add(self.names.of(each.this if isinstance(each, exp.Column) else each))
        elif isinstance(node, exp.Star):
            if not isinstance(node.parent, exp.Count | exp.Column):
                self.everything()
        elif isinstance(node, exp.Column):
            self._column(node)

    def _column(self, node: exp.Column) -> None:
        table = node.args.get("table")
        alias = None if table is None else self.names.of(table)
        if node.args.get("db") is not None or (alias is not None and alias not in self.known):
            self.everything()
        elif isinstance(node.this, exp.Star):
            self.everything(alias)
        else:
            name = self.names.of(node.this)
            self.add(name, alias)
            if alias is None:
                self.everything_named(name)  # the whole row
            elif name in ROW_FUNCTIONS:
                self.everything(alias)

    def everything_named(self, name: str) -> None:
        """A name alone that is a relation's here can be that relation's whole row."""
        if any(place.alias == name for place in self.places):
            self.everything(name)


def _walk(tree: exp.Expr, without: set[int]) -> Iterator[exp.Expr]:
    stack = [tree]
    while stack:
        node = stack.pop()
        if id(node) not in without:
            yield node
            stack.extend(node.iter_expressions())


def _stars(expressions: Iterable[exp.Expr]) -> Iterator[exp.Expr]:
    for each in expressions:
        if isinstance(each, exp.Star) or (isinstance(each, exp.Column) and isinstance(each.this, exp.Star)):
            yield each


def _output_name(node: exp.Expr, names: Names) -> str | None:
    """What a column is called that comes out; None where the server derives a name."""
    if isinstance(node, exp.Alias):
        return names.of(node.args["alias"])
    if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
        return names.of(node.this)
    return None


def _idle(tree: exp.Select, trained: frozenset[str] | None, names: Names) -> list[exp.Expr]:
    """Columns that come out and change nothing: not trained on, and no part of which rows come, and in which order."""
    if trained is None or any(tree.args.get(each) for each in ("distinct", "group", "having")):
        return []
    if any(True for _ in _row_makers(tree)):
        return []
    named = {each.name.lower() for each in tree.find_all(exp.Identifier) if each.find_ancestor(exp.Order) is not None}
    ordered = tree.args.get("order")
    if ordered is not None and ordered.find(exp.Literal) is not None:
        return []  # ORDER BY 1
    return [
        each
        for each in tree.expressions
        if (name := _output_name(each, names)) is not None and name not in trained and name.lower() not in named
    ]


def _row_makers(tree: exp.Select) -> Iterator[exp.Expr]:
    """What in the select list can change how many rows come: aggregates, and calls that may give several rows."""
    simple = (exp.Coalesce, exp.Cast, exp.Case, exp.If, exp.Extract, exp.Lower, exp.Upper, exp.Length, exp.Round)
    for each in tree.expressions:
        for node in each.walk():
            if isinstance(node, exp.Func | exp.Unnest) and not isinstance(node, (*simple, exp.And, exp.Or, exp.Xor)):
                yield node


def _predicate(
    select: SqlSelect, names: Names, places: Sequence[Reading]
) -> tuple[Mapping[str, object] | SqlPredicate | None, frozenset[str] | None]:
    """Which rows of the only relation count, and the columns that decide it."""
    sampled = select.tree.find(exp.TableSample) is not None
    if len(places) != 1 or sampled or not is_plain(select.tree) or _has_lost_names(select.tree, tokens_of(select.text)):
        return None, None
    where = select.tree.args.get("where")
    if where is None or select.where is None:
        return {}, frozenset()
    if calls_of(select.where, tokens_of(select.where), ()).volatile:
        return None, None
    fields: set[str] = set()
    for column in where.find_all(exp.Column):
        table = column.args.get("table")
        if isinstance(column.this, exp.Star) or column.args.get("db") is not None:
            return None, None
        name = names.of(column.this)
        by_alias = table is not None and names.of(table) == select.alias
        whole = name in ROW_FUNCTIONS if by_alias else table is not None or name == select.alias
        if whole or name in SYSTEM_COLUMNS:
            return None, None
        fields.add(name)
    return SqlPredicate(places[0].alias, select.where, frozenset(fields)), frozenset(fields)


def _has_lost_names(tree: exp.Expr, tokens: Sequence[Token]) -> bool:
    """Whether a name of the text is none of the tree's: the parser took it for something else than a column."""
    kept = {each.meta.get("start") for each in tree.find_all(exp.Identifier)}
    for at, token in enumerate(tokens):
        if not token.is_name() or token.start in kept:
            continue
        after = tokens[at + 1] if at + 1 < len(tokens) else None
        before = tokens[at - 1] if at else None
        if token.kind is Kind.WORD and token.name in RESERVED | SPECIAL_FORMS | _GRAMMAR:
            continue
        is_type = before is not None and (before.is_mark("::", ".") or before.is_word("as", "collate"))
        calls = after is not None and after.is_mark("(", ".", "=>")
        literal = after is not None and after.kind is Kind.STRING
        if not (is_type or calls or literal or (after is not None and after.name == "=>")):
            return True
    return False
