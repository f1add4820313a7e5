"""What a select calls, seen in its tokens: so that no name escapes by what the parser makes of it.

A parser gives many functions classes and names of its own. Here a name before `(` is a call, unless it provably is
something else: a keyword with a form of its own, a type after `::` or AS, a list of column names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from registry import sql_functions as known
from registry.nearest import nearest
from registry.sql_functions import words
from registry.sql_text import LITERALS, Kind, Token, closings

RESERVED = words("""
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    current_date current_time current_timestamp default deferrable desc distinct do else end except false fetch for
    foreign from grant group having in initially intersect into lateral leading limit localtime localtimestamp not
    null offset on only or order placing primary references returning select some symmetric table then to trailing
    true union unique using variadic when where window with
""")
"""Words that can name nothing, so that a parenthesis after them is the grammar's. `pg_get_keywords()`, class R."""

_OPERATOR_WORDS = words("like ilike is isnull notnull similar overlaps join")
_BEFORE_VALUE = RESERVED | _OPERATOR_WORDS | words("escape zone by rows range groups sets recursive")
_TEMPORAL = words("date time timestamp timetz timestamptz interval abstime tsrange tstzrange daterange")
_MOMENTS = re.compile(r"[\s\d:.+-]*(?:now|today|tomorrow|yesterday)(?:[\s\d:.+-]|allballs|utc|gmt|zulu|am|pm|z)*")
_AFTER: dict[str, tuple[str, ...]] = {
    "by": ("group", "order", "partition"),
    "sets": ("grouping",),
    "zone": ("time",),
    "materialized": ("as", "not"),
    "varying": ("bit", "char", "character"),
    "system": ("tablesample",),
    "bernoulli": ("tablesample",),
    "first": ("fetch",),
    "next": ("fetch",),
}
"""Words that are the grammar's before a parenthesis only where one of these stands before them."""


FIELD_OF_VALUE = "(…).name can't be told from a call of a function; make the field a column of a view"
INTO = "SELECT … INTO writes a table, and a select only reads; leave INTO out"


@dataclass(slots=True)
class Calls:
    """What was found: the `faults`, the functions' `names`, and what is `volatile`, as the user wrote it."""

    faults: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    volatile: list[str] = field(default_factory=list)
    groupings: int = 0  # ROLLUP and CUBE


def calls_of(text: str, tokens: Sequence[Token], lists: Collection[int]) -> Calls:
    """What the tokens call.

    Args:
        lists: where in the text the names stand that the parser took for names before a list of column names:
            `t(a, b)` in FROM, `c(x)` after WITH.
    """
    return _Reader(text, tokens, lists).read()


class _Reader:
    def __init__(self, text: str, tokens: Sequence[Token], lists: Collection[int]) -> None:
        self.text = text
        self.tokens = tokens
        self.lists = lists
        self.closings = closings(tokens)
        self.found = Calls()

    def read(self) -> Calls:
        for at, token in enumerate(self.tokens):
            before = self.tokens[at - 1] if at else None
            if token.kind in LITERALS:
                self._literal(at)
            elif token.is_mark(".") and before is not None and before.is_mark(")", "]"):
                self._fault(FIELD_OF_VALUE)
            elif token.is_name():
                self._name(at)
        return self.found

    def _name(self, at: int) -> None:
        token = self.tokens[at]
        if token.name.removeprefix("_") in known.LOOKUP_TYPES:
            self._fault(f"{token.name} looks names up in the server's catalog; leave it out")
        if token.kind is Kind.WORD and not self._is_label(at):
            self._word(at)
        if self._at(at + 1).is_mark("("):
            self._before_parenthesis(at)

    def _is_label(self, at: int) -> bool:
        """Whether a word here is a name whatever it is: after a point, or after AS."""
        return self._at(at - 1).is_mark(".") or self._at(at - 1).is_word("as")

    def _word(self, at: int) -> None:
        token = self.tokens[at]
        if token.name in known.VOLATILE_WORDS:
            self._volatile(self._said(at))
        elif token.name in known.SESSION_WORDS:
            self._fault(f"{self._said(at)} depends on who asks; write the value")
        elif token.name == "into":
            self._fault(INTO)
        elif token.name == "table":
            self._fault("TABLE … can't be read here; write SELECT * FROM …")
        elif token.name == "for" and self._at(at + 1).is_word("update", "share", "no", "key"):
            self._fault("FOR UPDATE and FOR SHARE lock rows, and a select only reads; leave it out")
        elif token.name == "tablesample":
            self._volatile(self._said(at))
        elif token.name in ("rollup", "cube") and self._at(at + 1).is_mark("("):
            self.found.groupings += 1

    def _before_parenthesis(self, at: int) -> None:
        token, before = self.tokens[at], self._at(at - 1)
        chain = self._chain(at)
        head = self._at(at - 2 * (len(chain) - 1) - 1)
        if len(chain) == 1 and token.kind is Kind.WORD and self._is_grammar(at, before):
            return
        if head.is_mark("::") or self._is_list(at, head):
            return
        if head.is_word("as"):
            return  # CAST(… AS type(…)), or an alias; what follows AS is never a call
        if len(chain) > 1 and chain[:-1] != ("pg_catalog",):
            self._fault(f"{'.'.join(chain)}() is not one of PostgreSQL's own functions; put it behind a view")
            return
        self._call(at, chain[-1])

    def _is_grammar(self, at: int, before: Token) -> bool:
        """Whether an unquoted word before a parenthesis is the grammar's, and calls nothing by its name."""
        name = self.tokens[at].name
        if name in RESERVED or name in _OPERATOR_WORDS or name in known.SPECIAL_FORMS:
            return True
        if name in _AFTER:
            return before.is_word(*_AFTER[name])
        if name in ("over", "filter"):
            return before.is_mark(")")
        if name == "operator":
            return self._check_operator(at)
        if name in ("repeatable", "escape"):
            return before.is_mark(")") or before.kind in LITERALS
        return name in ("rollup", "cube")  # as many as the parser found in GROUP BY: see sql_tree

    def _check_operator(self, at: int) -> bool:
        inner = self.tokens[at + 2 : self.closings[at + 1]]
        if len(inner) == 1 or [each.name for each in inner[:-1]] != ["pg_catalog", "."]:
            self._fault("OPERATOR(…) with a schema other than pg_catalog is refused; write the operator alone")
        return True

    def _is_list(self, at: int, head: Token) -> bool:
        """Whether a list of column names follows: the parser says so, and no value can stand here."""
        if self.tokens[at].start not in self.lists:
            return False
        if head.is_word("with", "recursive") or head.is_mark(","):
            rest = [self._at(self.closings[at + 1] + step) for step in range(1, 6)]
            words = [each.name for each in rest if not each.is_word("not", "materialized")]
            return words[0] == "as" and words[1] == "(" and words[2] in ("select", "with", "values", "(")
        if head.is_word("as"):
            return True
        return head.is_mark(")") or head.kind is Kind.QUOTED or (head.is_name() and head.name not in _BEFORE_VALUE)

    def _call(self, at: int, name: str) -> None:
        said = self._said(at)
        if name not in known.FUNCTIONS:
            near = nearest(name, known.FUNCTIONS)
            why = known.refusal(name)
            hint = f"; did you mean {near}?" if near and "may call" in why else ""
            self._fault(f"{said}() {why}{hint}")
            return
        self.found.names.add(name)
        if name in known.VOLATILE_FUNCTIONS or (name == "age" and self._arguments(at) == 1):
            self._volatile(f"{said}()")

    def _arguments(self, at: int) -> int:
        count, depth = 1, 0
        for token in self.tokens[at + 2 : self.closings[at + 1]]:
            depth += token.is_mark("(", "[") - token.is_mark(")", "]")
            count += depth == 0 and token.is_mark(",")
        return count

    def _literal(self, at: int) -> None:
        """`'now'` and its like are read once for each query, wherever a date or a time is wanted."""
        token = self.tokens[at]
        said = " ".join(token.name.lower().split())
        cast = self._cast_of(at)
        if cast is not None and cast not in _TEMPORAL and not cast.startswith("_"):
            return
        hidden = token.kind is Kind.ESCAPED and "\\" in token.name and cast is not None
        if hidden or said in ("now", "today", "tomorrow", "yesterday") or (cast and _MOMENTS.fullmatch(said)):
            self._volatile(self._said(at))

    def _cast_of(self, at: int) -> str | None:
        """The type that a literal is given on the spot: `'…'::type`, `CAST('…' AS type)`, `type '…'`."""
        after, before = self._at(at + 1), self._at(at - 1)
        if after.is_mark("::") or (after.is_word("as") and before.is_mark("(") and self._at(at - 2).is_word("cast")):
            named = at + 2
            while self._at(named + 1).is_mark("."):
                named += 2
            return self._at(named).name
        if before.is_word("zone"):
            return "time"
        if before.is_name() and before.name in _TEMPORAL:
            return before.name
        return None

    def _chain(self, at: int) -> tuple[str, ...]:
        names = [self.tokens[at].name]
        while self._at(at - 1).is_mark(".") and self._at(at - 2).is_name():
            at -= 2
            names.insert(0, self.tokens[at].name)
        return tuple(names)

    def _at(self, at: int) -> Token:
        return self.tokens[at] if 0 <= at < len(self.tokens) else _NONE

    def _said(self, at: int) -> str:
        said = self.text[self.tokens[at].start : self.tokens[at].end]
        return said if len(said) <= 60 else f"{said[:57]}..."

    def _fault(self, message: str) -> None:
        if message not in self.found.faults:
            self.found.faults.append(message)

    def _volatile(self, said: str) -> None:
        if said not in self.found.volatile:
            self.found.volatile.append(said)


_NONE = Token(Kind.PUNCTUATION, -1, -1, "")


def queries(tokens: Sequence[Token]) -> tuple[int, int]:
    """How many SELECTs there are, and how many FROMs that name relations."""
    words = [(at, token) for at, token in enumerate(tokens) if token.is_word("select", "from")]
    real = [
        (at, token) for at, token in words if not (at and (tokens[at - 1].is_mark(".") or tokens[at - 1].is_word("as")))
    ]
    inner = set(_argument_froms(tokens))
    selects = sum(token.name == "select" for _, token in real)
    froms = sum(token.name == "from" and at not in inner for at, token in real)
    return selects, froms


def _argument_froms(tokens: Sequence[Token]) -> Iterator[int]:
    """FROMs that belong to a function's form or to IS DISTINCT FROM."""
    open_: list[bool] = []
    for at, token in enumerate(tokens):
        if token.is_mark("(", "["):
            open_.append(at > 0 and tokens[at - 1].is_word("extract", "trim", "substring", "overlay"))
        elif token.is_mark(")", "]"):
            open_.pop()
        elif token.is_word("from") and ((open_ and open_[-1]) or (at and tokens[at - 1].is_word("distinct"))):
            yield at
