"""A select on PostgreSQL: one SELECT that reads tables and views, checked without asking a server.

Parsing refuses what writes, locks, leaves the database, reads the server's own state, or calls a function that is not
on the list of `sql_functions`. A read-only login of its own, which is no superuser, is the other half of that
promise: what views, operators and types of the user's do can't be seen from here.

Who runs the text passes no parameters with it (`%` is the modulo), prepares it (so that it stays one statement), and
sets `standard_conforming_strings = on` and a `search_path` without `refitd`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from registry import sql_functions as known
from registry.errors import DocumentInvalid, Fault
from registry.sql_calls import Calls, calls_of
from registry.sql_functions import words
from registry.sql_text import TextInvalid, Token, tokens_of
from registry.sql_tree import Names, Reading, Relation, TreeInvalid, check_tree, parse_tree, readings

WRITES = words("""
    insert update delete merge truncate create alter drop copy call do set reset grant revoke explain analyze vacuum
    lock declare fetch prepare execute begin commit rollback listen notify show load import refresh reindex cluster
    comment
""")

_USUAL = ("key", "value", "ordinality")
"""What the columns of functions in FROM are called by themselves, besides the function's name."""

_ENDS_WHERE = ("group", "having", "window", "order", "limit", "offset", "fetch", "for", "union", "intersect", "except")


@dataclass(frozen=True, slots=True)
class SqlSelect:
    """A SELECT. Checked: it reads, and only what `relations` says."""

    text: str
    """As the user wrote it, without a semicolon, blanks or a comment at its end."""

    relations: tuple[Relation, ...]
    """Every table or view that it names, in the order of the text."""

    single: bool
    """Whether each row that comes out is made of one row of the only relation, and of nothing else."""

    alias: str | None
    """The name that the only relation's columns can be qualified with; None where several places are read."""

    where: str | None
    """What stands after WHERE, as the user wrote it, where one SELECT reads one relation once and alone (it may count
    and group); None where there is no WHERE, or where the shape is another."""

    volatile: tuple[str, ...]
    """What gives another answer on the same rows, as the user wrote it: `now()`, `'today'`, `TABLESAMPLE`."""

    tree: exp.Expr = field(compare=False, repr=False)
    """The parsed statement. Its names are neither folded nor unquoted; `sql_tree.Names` reads them."""


def parse_sql_select(value: object) -> SqlSelect:
    """The select that a document spells out.

    Raises `DocumentInvalid` with all that can be found wrong with it; every fault's path is "", the select itself.
    """
    if isinstance(value, Mapping):
        raise _invalid("is a MongoDB select, but the datastore is PostgreSQL: write it as SQL: SELECT … FROM …")
    if not isinstance(value, str):
        raise _invalid(f"a select on PostgreSQL is a string, SELECT … FROM …, not {type(value).__name__}")
    try:
        return _parse(str(value))
    except TextInvalid as error:
        raise _invalid(str(error)) from error
    except TreeInvalid as error:
        raise _invalid(*error.args) from error


def _invalid(*messages: str) -> DocumentInvalid:
    return DocumentInvalid(Fault("", each) for each in messages)


def _parse(given: str) -> SqlSelect:
    tokens = tokens_of(given)
    if tokens and tokens[-1].is_mark(";"):
        tokens.pop()
    _check_statement(tokens)
    text = given[: tokens[-1].end]
    tree = parse_tree(text, tokens)
    names = Names(tokens)
    calls = calls_of(text, tokens, _lists(tree, names))
    places = _check(tree, tokens, names, calls)
    plain = is_plain(tree) and len(places) == 1
    return SqlSelect(
        text=text,
        relations=tuple(dict.fromkeys(each.relation for each in places)),
        single=plain and _keeps_rows(tree, calls, names),
        alias=places[0].alias if len(places) == 1 else None,
        where=_where(text, tokens) if plain else None,
        volatile=tuple(calls.volatile),
        tree=tree,
    )


def _check_statement(tokens: Sequence[Token]) -> None:
    """One statement, which begins as a SELECT does."""
    if not tokens:
        raise TextInvalid("is empty; write SELECT … FROM …")
    if any(each.is_mark(";") for each in tokens):
        raise TextInvalid("holds more than one statement; write one SELECT")
    first = next((each for each in tokens if not each.is_mark("(")), tokens[0])
    if first.is_word("values"):
        raise TextInvalid("reads no table; write SELECT … FROM …")
    if first.is_word(*WRITES):
        raise TextInvalid(f"is a {first.name.upper()}, and a select only reads; write SELECT … FROM …")
    if first.is_word("table"):
        raise TextInvalid("begins with TABLE, which can't be read here; write SELECT * FROM …")
    if not first.is_word("select", "with"):
        raise TextInvalid(f"begins with {first.name[:30]!r}; write SELECT … FROM …")


def _lists(tree: exp.Expr, names: Names) -> frozenset[int]:
    """Where names stand that a list of column names follows."""
    aliases = [
        each.this for each in tree.find_all(exp.TableAlias) if each.args.get("columns") and each.this is not None
    ]
    return frozenset(token.start for token in map(names.token, aliases) if token is not None)


def _check(tree: exp.Expr, tokens: Sequence[Token], names: Names, calls: Calls) -> list[Reading]:
    """The places that the statement reads. Raises `TreeInvalid` with all that is wrong with it."""
    faults = list(calls.faults)
    places: list[Reading] = []
    try:
        check_tree(tree, tokens, calls.groupings)
        places = readings(tree, names)
        _check_columns(tree, names)
        if not places:
            faults.append("reads no table; write SELECT … FROM …")
    except TreeInvalid as error:
        faults.extend(error.args)
    if faults:
        raise TreeInvalid(*dict.fromkeys(faults))
    return places


def _check_columns(tree: exp.Expr, names: Names) -> None:
    """Qualified by a function in FROM that gives plain values, `f.name` is a call of the function `name`."""
    for alias in tree.find_all(exp.Alias, exp.TableAlias):
        names.of(alias.args["alias"] if isinstance(alias, exp.Alias) else alias.this)
    given = dict(_function_columns(tree, names))
    for column in tree.find_all(exp.Column):
        if isinstance(column.this, exp.Star):
            continue
        name, table = names.of(column.this), column.args.get("table")
        of = None if table is None else names.of(table)
        if of is not None and name.startswith("pg_"):
            raise TreeInvalid(
                f"{of}.{name} can't be told from a call of a function; give the column another name in a view"
            )
        if (of in given or of in known.TABLE_FUNCTIONS) and name not in {of, *_USUAL, *given.get(str(of), ())}:
            raise TreeInvalid(f"{of}.{name} can't be told from a call of a function; name {of}'s columns: {of}({name})")


def _function_columns(tree: exp.Expr, names: Names) -> Iterator[tuple[str, set[str]]]:
    """The alias of each function in FROM, and the columns that it is given there."""
    for item in tree.find_all(exp.Table, exp.Unnest, exp.Lateral):
        alias = item.args.get("alias")
        if alias is not None and (isinstance(item, exp.Unnest) or isinstance(item.this, exp.Func)):
            columns = (each.this if isinstance(each, exp.ColumnDef) else each for each in alias.columns)
            yield names.of(alias.this), {names.of(each) for each in columns}


def is_plain(tree: exp.Expr) -> bool:
    """Whether this is one SELECT on one relation, read once and as it is: nothing joined, nothing nested."""
    if not isinstance(tree, exp.Select) or sum(1 for _ in tree.find_all(exp.Query)) > 1:
        return False
    tables = [each for each in tree.find_all(exp.Table, exp.Unnest, exp.Values, exp.Lateral) if _is_item(each)]
    if len(tables) != 1 or not isinstance(tables[0], exp.Table) or isinstance(tables[0].this, exp.Func):
        return False
    table = tables[0]
    alias = table.args.get("alias")
    renamed = alias is not None and alias.args.get("columns")
    return not (tree.args.get("joins") or tree.args.get("with_") or table.args.get("joins") or renamed)


def _is_item(node: exp.Expr) -> bool:
    """Whether this stands in FROM; unnest can also stand in the select list."""
    return not isinstance(node, exp.Unnest) or isinstance(node.parent, exp.From | exp.Join | exp.Lateral)


def _keeps_rows(tree: exp.Expr, calls: Calls, names: Names) -> bool:
    """Whether a plain SELECT gives one row for each that its WHERE lets through."""
    if any(tree.args.get(each) for each in ("group", "having", "distinct", "windows")):
        return False
    if calls.names & (known.AGGREGATES | known.WINDOWS | known.ROW_SETS) or tree.find(exp.Window, exp.TableSample):
        return False
    qualified = (each for each in tree.find_all(exp.Column) if each.args.get("table") and each.this.name)
    return not any(
        names.of(each.this) in known.AGGREGATES for each in qualified if isinstance(each.this, exp.Identifier)
    )


def _where(text: str, tokens: Sequence[Token]) -> str | None:
    """The text after the outermost WHERE, up to the next clause."""
    depth, start, last = 0, None, None
    for at, token in enumerate(tokens):
        if depth == 0 and start is not None and token.is_word(*_ENDS_WHERE) and not tokens[at - 1].is_mark("."):
            break
        if start is not None:
            last = token.end
        elif (
            depth == 0
            and token.is_word("where")
            and not tokens[at - 1].is_mark(".")
            and not tokens[at - 1].is_word("as")
        ):
            start = tokens[at + 1].start
        depth += token.is_mark("(", "[") - token.is_mark(")", "]")
    return None if start is None else text[start:last]
