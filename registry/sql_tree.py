"""A select's tree: parsed by sqlglot, held against the tokens, and read for the relations that it names.

sqlglot reads more than PostgreSQL does, and at times something else. So only kinds of nodes that are known here pass,
names are taken from the tokens, and every SELECT and FROM of the text must be one of the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlglot import TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError
from sqlglot.parsers.postgres import PostgresParser

from registry.sql_calls import FIELD_OF_VALUE, INTO, RESERVED, queries
from registry.sql_functions import SPECIAL_FORMS, TABLE_FUNCTIONS
from registry.sql_text import LITERALS, Kind, TextInvalid, Token, agrees

STEPS_PER_TOKEN = 200
"""How often the parser may look at each token, on average. It tries again within brackets, at worst at each level."""

STUMBLES = (SqlglotError, RecursionError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What sqlglot raises on text that it does not expect, besides its own errors."""

KNOWN = (
    *(
        exp.Select,
        exp.Union,
        exp.Intersect,
        exp.Except,
        exp.Subquery,
        exp.With,
        exp.CTE,
        exp.From,
        exp.Join,
        exp.Lateral,
    ),
    *(
        exp.Table,
        exp.TableAlias,
        exp.TableSample,
        exp.ColumnDef,
        exp.Values,
        exp.Unnest,
        exp.Tuple,
        exp.Where,
        exp.Group,
    ),
    *(exp.Cube, exp.Rollup, exp.GroupingSets, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Fetch),
    *(exp.LimitOptions, exp.Distinct, exp.Window, exp.WindowSpec, exp.Filter, exp.WithinGroup, exp.Variadic),
    *(exp.Column, exp.Identifier, exp.Star, exp.Alias, exp.Paren, exp.Literal, exp.Boolean, exp.Null, exp.Var),
    *(exp.DataType, exp.DataTypeParam, exp.Interval, exp.IntervalSpan, exp.Bracket, exp.Slice, exp.Kwarg, exp.In),
    *(exp.Between, exp.AtTimeZone, exp.Collate, exp.Func, exp.Binary, exp.Unary, exp.HexString, exp.ByteString),
    *(exp.Heredoc, exp.RawString, exp.Any, exp.All, exp.Exists, exp.PseudoType, exp.Predicate),
)
"""Kinds of nodes that only read."""

UNKNOWN_WITHIN = (exp.PropertyEQ, exp.Lambda, exp.Columns)
"""Kinds that the above would let through, and that PostgreSQL hasn't."""


class TreeInvalid(Exception):
    """The select is none that may be run; `args` say why, one reason each."""


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """A table or view, as the server stores its name. `schema` None: wherever the search path finds it first."""

    schema: str | None
    name: str

    @property
    def sql(self) -> str:
        """Its name as SQL, quoted: `"shop"."orders"`."""
        return ".".join(quoted(each) for each in (self.schema, self.name) if each is not None)


@dataclass(frozen=True, slots=True)
class Reading:
    """One place where a relation is read. `alias`: the name that its columns can be qualified with there."""

    relation: Relation
    alias: str
    node: exp.Table


def quoted(name: str) -> str:
    """A name as SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


class Names:
    """What the tree's names mean, read from the tokens: the parser does not fold and unquote as the server does."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._by_start = {token.start: token for token in tokens}

    def token(self, node: exp.Expr) -> Token | None:
        """The token that a node begins at; None where the parser does not tell."""
        return self._by_start.get(node.meta.get("start", -1))

    def of(self, node: Any) -> str:
        """What a name of the tree means. Raises `TreeInvalid` where there is no name in the text."""
        token = self.token(node) if isinstance(node, exp.Identifier) else None
        if token is None or not token.is_name():
            raise TreeInvalid(f"{str(node)[:60]} is not a name that a select can use here; write a plain name")
        return token.name


class _Parser(PostgresParser):
    """sqlglot's parser, with bounded work, and with `->` as the operator of PostgreSQL.

    In sqlglot it also begins an anonymous function, and its right side is a path.
    """

    LAMBDAS: ClassVar[dict[Any, Any]] = {TokenType.FARROW: PostgresParser.LAMBDAS[TokenType.FARROW]}
    COLUMN_OPERATORS: ClassVar[dict[Any, Any]] = {
        **PostgresParser.COLUMN_OPERATORS,
        TokenType.ARROW: lambda self, this, key: self.expression(exp.JSONExtract(this=this, expression=key)),
        TokenType.DARROW: lambda self, this, key: self.expression(exp.JSONExtractScalar(this=this, expression=key)),
    }

    steps_left = 0

    def _advance(self, times: int = 1) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise ParseError("nested too deep")
        super()._advance(times)


def parse_tree(text: str, tokens: Sequence[Token]) -> exp.Expr:
    """The tree of one statement. Raises `TextInvalid` where the parser can't read it as the server does."""
    try:
        dialect = Dialect.get_or_raise("postgres")
        theirs = dialect.tokenize(text)
        if not agrees(tokens, ((each.start, each.end + 1) for each in theirs)):
            raise TextInvalid("can't be read in one way alone; write its strings, numbers and operators more plainly")
        parser = _Parser(dialect=dialect, error_level=ErrorLevel.IMMEDIATE)
        parser.steps_left = 1000 + STEPS_PER_TOKEN * len(tokens)
        trees = parser.parse(theirs, text)
    except STUMBLES as error:
        raise TextInvalid(f"can't be read as SQL: {_first_line(error)}") from error
    if len(trees) != 1 or not isinstance(trees[0], exp.Expr):
        raise TextInvalid("is not one statement; write one SELECT")
    return trees[0]


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def check_tree(tree: exp.Expr, tokens: Sequence[Token], groupings: int) -> None:
    """Raises `TreeInvalid` unless the tree only reads, and says all that the text says."""
    faults = []
    if not isinstance(tree, exp.Query):
        raise TreeInvalid("is not a SELECT; write SELECT … FROM …")
    counted = [0, 0, 0]
    for node in tree.walk():
        if reason := _refusal(node):
            faults.append(reason)
        for at, kind in enumerate((exp.Select, exp.From, (exp.Cube, exp.Rollup))):
            counted[at] += isinstance(node, kind)  # type: ignore[arg-type]  # mypy widens the tuple's items
    if not faults and counted != [*queries(tokens), groupings]:
        faults.append("can't be read in one way alone; give its relations and columns plain names")
    if faults:
        raise TreeInvalid(*dict.fromkeys(faults))


def _refusal(node: exp.Expr) -> str | None:
    """Why a node may not stand in a select; None when it may."""
    if isinstance(node, exp.DML | exp.DDL | exp.Merge) and not isinstance(node, exp.Query):
        return f"{node.key.upper()} writes, and a select only reads; write SELECT … FROM …"
    if isinstance(node, exp.Lock):
        return "FOR UPDATE and FOR SHARE lock rows, and a select only reads; leave it out"
    if isinstance(node, exp.Into):
        return INTO
    if isinstance(node, exp.Parameter | exp.Placeholder | exp.SessionParameter):
        return "has a parameter; write the value itself"
    if isinstance(node, UNKNOWN_WITHIN) or not isinstance(node, KNOWN):
        return f"{node.key} is not something that a select may use; write it another way, or make it a view"
    if isinstance(node, exp.Dot) and not _is_qualified(node):
        return FIELD_OF_VALUE
    if isinstance(node, exp.Join):
        kind = " ".join(str(node.args.get(each) or "") for each in ("method", "side", "kind")).upper().split()
        if not {"NATURAL", "LEFT", "RIGHT", "FULL", "INNER", "OUTER", "CROSS"}.issuperset(kind):
            return f"{' '.join(kind)} JOIN is not PostgreSQL's; write a join that is"
    if isinstance(node, exp.Table) and node.args.get("rows_from"):
        return "ROWS FROM is not read here; join the functions"
    return None


def _is_qualified(node: exp.Dot) -> bool:
    """Whether this is `pg_catalog.f(x)`, or the type `schema.type`; other schemas' calls are refused in the tokens."""
    return isinstance(node.parent, exp.DataType) or (
        isinstance(node.this, exp.Identifier) and isinstance(node.expression, exp.Func)
    )


def readings(tree: exp.Expr, names: Names) -> list[Reading]:
    """Every place where a relation is read, in the order of the text. Raises `TreeInvalid` with all that may not be."""
    found: list[Reading] = []
    faults: list[str] = []
    for node, visible in _from_items(tree, names):
        try:
            if not isinstance(node, exp.Table) or isinstance(node.this, exp.Func):
                _check_function(node, names)
            elif reading := _reading(node, names, visible):
                found.append(reading)
        except TreeInvalid as error:
            faults.extend(error.args)
    if faults:
        raise TreeInvalid(*dict.fromkeys(faults))
    return sorted(found, key=lambda each: int(each.node.this.meta["start"]))


def _from_items(tree: exp.Expr, names: Names) -> Iterator[tuple[exp.Expr, frozenset[str]]]:
    """What stands in every FROM, each with the names of the WITH queries that are visible there.

    Without RECURSIVE a WITH query sees those before it alone. Source: PostgreSQL's `parse_cte.c`.
    """
    stack: list[tuple[exp.Expr, frozenset[str]]] = [(tree, frozenset())]
    while stack:
        node, visible = stack.pop()
        if isinstance(node, exp.From | exp.Join | exp.Lateral):
            if not isinstance(node.this, exp.Subquery | exp.Lateral | exp.Values):
                yield node.this, visible
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            yield node.this, visible  # FROM (a JOIN b …)
        with_ = node.args.get("with_")
        if with_ is not None:
            own = [names.of(each.args["alias"].this) for each in with_.expressions]
            for at, each in enumerate(with_.expressions):
                stack.append((each.this, visible.union(own if with_.args.get("recursive") else own[:at])))
            visible = visible.union(own)
        stack.extend((each, visible) for each in node.iter_expressions() if each is not with_)


def _reading(node: exp.Table, names: Names, visible: frozenset[str]) -> Reading | None:
    """The relation that a FROM item reads; None for a WITH query."""
    if node.args.get("catalog") is not None:
        raise TreeInvalid(f"{node.sql()[:80]} reads another database; name a table of this one, as schema.table")
    name = names.of(node.this)
    schema = names.of(node.args["db"]) if node.args.get("db") is not None else None
    token = names.token(node.this)
    if token and token.kind is Kind.WORD and name in RESERVED | SPECIAL_FORMS and schema is None:
        raise TreeInvalid(f"{name} is a keyword and no table; if a table has this name, quote it")
    if schema is None and name in visible:
        return None
    _check_relation(schema, name)
    alias = node.args.get("alias")
    named = alias.this if alias is not None else None
    return Reading(Relation(schema, name), name if named is None else names.of(named), node)


def _check_relation(schema: str | None, name: str) -> None:
    shown = name if schema is None else f"{schema}.{name}"
    if schema == "refitd":
        raise TreeInvalid(f"{shown} is refitd's own registry; select from tables of yours")
    if schema == "information_schema" or (name if schema is None else schema).startswith("pg_"):
        raise TreeInvalid(f"{shown} holds the server's own state; select from tables of yours")


def _check_function(node: Any, names: Names) -> None:
    """A function in FROM: one that gives rows out of values."""
    call = node.this if isinstance(node, exp.Table) else node
    at = next((each for each in call.walk() if names.token(each) is not None), None) if call is not None else None
    token = names.token(call) or (names.token(at) if at is not None else None)
    named = "unnest" if isinstance(call, exp.Unnest) else token.name if token else ""
    if (
        not isinstance(call, exp.Func | exp.Unnest)
        or named not in TABLE_FUNCTIONS
        or (token and token.kind in LITERALS)
    ):
        raise TreeInvalid(f"{named or 'what stands there'} can't stand in FROM; select from a table, or make it a view")
