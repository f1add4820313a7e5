"""A select's text, cut into tokens exactly as PostgreSQL's lexer cuts it.

What a checker takes for a comment or a string and the server doesn't is a hole. So the text is cut here by the
server's own rules, what servers or settings disagree about is refused, and `agrees` tells whether the parser
(sqlglot) has seen the same tokens.

Source: PostgreSQL's `src/backend/parser/scan.l`, 15 to 18, with `standard_conforming_strings = on`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

MAX_TEXT = 100_000
"""Bytes of UTF-8."""

MAX_DEPTH = 30
"""Parentheses, brackets, CASEs and signs within one another."""

MAX_NAME = 63
"""Bytes. The server cuts a longer name off, and then means another one."""


class Kind(Enum):
    """What a token is."""

    WORD = auto()  # an unquoted name or a keyword
    QUOTED = auto()  # a quoted name
    STRING = auto()  # '…'
    ESCAPED = auto()  # E'…'
    DOLLAR = auto()  # $$…$$
    NUMBER = auto()
    OPERATOR = auto()
    PUNCTUATION = auto()


LITERALS = frozenset({Kind.STRING, Kind.ESCAPED, Kind.DOLLAR})


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `text[start:end]`. `name`: what it means, names folded, quotes of names and strings taken off."""

    kind: Kind
    start: int
    end: int
    name: str

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these keywords (or unquoted names), given in small letters."""
        return self.kind is Kind.WORD and self.name in words

    def is_name(self) -> bool:
        """Whether this can name something."""
        return self.kind in (Kind.WORD, Kind.QUOTED)

    def is_mark(self, *marks: str) -> bool:
        """Whether this is one of these punctuation marks."""
        return self.kind is Kind.PUNCTUATION and self.name in marks


class TextInvalid(Exception):
    """The text can't be cut into tokens, or not in one way alone. Says why."""


_SPACE = re.compile(r"[ \t\n\r]+|--[^\n\r]*+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_REFUSED = (
    (re.compile(r"[uU]&['\"]"), "holds a U& string; write the characters themselves"),
    (re.compile(r"[bBxXnN]'"), "holds a bit, hexadecimal or national string; cast a plain one"),
    (re.compile(r"\$\d"), "holds a parameter; write the value itself"),
    (re.compile(r"%[A-Za-z_(]"), "holds a parameter, or a % that reads like one; write the value, or a space after %"),
    (re.compile(r":="), "holds :=; write => to name an argument"),
    (re.compile(r":[A-Za-z_]"), "holds a parameter, or a : that reads like one; write the value, or a space after :"),
    (re.compile(r"@[A-Za-z_]"), "holds @ before a name, which many read as a parameter; write abs(…), or a space"),
)
_TOKENS = (
    (Kind.ESCAPED, re.compile(r"[eE]'(?:[^'\\]|''|\\.)*+'", re.DOTALL)),
    (Kind.STRING, re.compile(r"'(?:[^']|'')*+'")),
    (Kind.DOLLAR, re.compile(r"(\$(?:[A-Za-z_]\w*)?\$).*?\1", re.DOTALL | re.ASCII)),
    (Kind.QUOTED, re.compile(r'"(?:[^"]|"")*+"')),
    (Kind.NUMBER, re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")),
    (Kind.WORD, re.compile(r"(?![eE]')[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*")),
    (Kind.PUNCTUATION, re.compile(r"::|[,()\[\].;:]")),
    (Kind.OPERATOR, re.compile(r"(?:(?!--|/\*)[-+*/<>=~!@#%^&|?])+")),
)


def tokens_of(text: str) -> list[Token]:
    """The text's tokens, comments left out. Raises `TextInvalid` where it can't be cut, or not everywhere alike."""
    _check_characters(text)
    found: list[Token] = []
    at = _skip(text, 0)
    while at < len(text):
        token = _token(text, at)
        _check_beside(found[-1] if found else None, token, text)
        found.append(token)
        at = _skip(text, token.end)
    _check_nesting(found)
    return found


def fold(word: str) -> str:
    """An unquoted name as the server stores it: A-Z as small letters, nothing else changed."""
    return "".join(letter.lower() if "A" <= letter <= "Z" else letter for letter in word)


def agrees(tokens: Sequence[Token], others: Iterable[tuple[int, int]]) -> bool:
    """Whether another lexer's tokens, each given by its start and end, are these.

    It may take several words for one keyword (`GROUP BY`), and one run of signs for several operators.
    """
    starts, ends = {each.start for each in tokens}, {each.end for each in tokens}
    signs = {at for each in tokens if each.kind is Kind.OPERATOR for at in range(each.start, each.end + 1)}
    spans = list(others)
    starts |= signs
    ends |= signs
    if any(start not in starts or end not in ends for start, end in spans):
        return False
    whole = set(spans)
    covered = {at for start, end in spans for at in range(start, end)}
    exact = (*LITERALS, Kind.QUOTED, Kind.NUMBER)
    return all(
        (each.start, each.end) in whole if each.kind in exact else covered.issuperset(range(each.start, each.end))
        for each in tokens
    )


def _check_characters(text: str) -> None:
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT:
        raise TextInvalid(f"is longer than {MAX_TEXT:,} bytes; make it a view, and select from that")
    for letter in set(text):
        if letter == "\0" or unicodedata.category(letter) == "Cs":
            raise TextInvalid(f"holds the character U+{ord(letter):04X}, which is no text; take it out")


def _skip(text: str, at: int) -> int:
    """Past blanks and comments, which nest."""
    while True:
        if space := _SPACE.match(text, at):
            at = space.end()
        elif text.startswith("/*+", at):
            raise TextInvalid("holds a planner hint, /*+ … */; take it out")
        elif text.startswith("/*", at):
            at = _skip_comment(text, at)
        else:
            return at


def _skip_comment(text: str, at: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge.group() == "/*" else -1
        if not depth:
            return edge.end()
    raise TextInvalid(f"has a comment that is not closed, {_place(at)}")


def _token(text: str, at: int) -> Token:
    for pattern, why in _REFUSED:
        if pattern.match(text, at):
            raise TextInvalid(f"{why} ({_place(at)})")
    for kind, pattern in _TOKENS:
        if found := pattern.match(text, at):
            return Token(kind, at, found.end(), _meaning(kind, found.group()))
    if text[at] in "'\"$" or text[at : at + 2] in ("E'", "e'"):
        raise TextInvalid(f"has a quote that is not closed, {_place(at)}")
    raise TextInvalid(f"holds {text[at]!r}, which SQL has no use for, {_place(at)}")


def _meaning(kind: Kind, said: str) -> str:
    if kind is Kind.STRING:
        if "\\'" in said:
            raise TextInvalid("has a string with \\ before a quote, which servers read differently; write E'…'")
        return said[1:-1].replace("''", "'")
    if kind is Kind.QUOTED:
        return _name(said[1:-1].replace('""', '"'))
    if kind is Kind.WORD:
        for letter in said:
            plain = letter == "_" or letter.isalnum() or unicodedata.category(letter).startswith("M")
            if not plain or (letter > "\x7f" and letter != letter.lower()):
                raise TextInvalid(f"has {letter!r} in a name, which servers read differently; quote the name")
        return _name(fold(said))
    if kind is Kind.DOLLAR:
        edge = said.index("$", 1) + 1
        return said[edge:-edge]
    return said[2:-1] if kind is Kind.ESCAPED else said


def _name(name: str) -> str:
    if not name:
        raise TextInvalid('has an empty name, ""; give it one')
    if len(name.encode(errors="replace")) > MAX_NAME:
        raise TextInvalid(f"has a name of over {MAX_NAME} bytes ({name[:20]}…), which the server cuts off; shorten it")
    return name


def _check_beside(before: Token | None, token: Token, text: str) -> None:
    """Neighbours that some servers read as one token, or as two, or as a third thing."""
    if before is None:
        return
    touching = before.end == token.start
    if before.kind is Kind.NUMBER and touching and (token.is_name() or token.kind is Kind.NUMBER):
        raise TextInvalid(f"has a number that runs into a name, {_place(token.start)}; put a space between")
    if touching and before.kind in (Kind.WORD, Kind.QUOTED, *LITERALS) and token.kind in (*LITERALS, Kind.QUOTED):
        raise TextInvalid(
            f"has a quote that runs into what stands before it, {_place(token.start)}; put a space between"
        )
    if before.kind in LITERALS and token.kind in LITERALS:
        raise TextInvalid(f"has two strings in a row, {_place(token.start)}; join them with ||")


def _check_nesting(tokens: Sequence[Token]) -> None:
    """Every bracket closed by its like, and not too many at once: what comes after walks them recursively."""
    open_: list[str] = []
    prefixes = 0
    for token in tokens:
        if token.is_mark("(", "["):
            open_.append(")" if token.name == "(" else "]")
        elif token.is_word("case"):
            open_.append("end")
        elif token.is_mark(")", "]"):
            while open_ and open_[-1] == "end":
                open_.pop()
            if not open_ or open_.pop() != token.name:
                raise TextInvalid(f"has a {token.name} that nothing opened, {_place(token.start)}")
        elif token.is_word("end") and open_ and open_[-1] == "end":
            open_.pop()
        prefixes = prefixes + 1 if token.is_word("not") or token.kind is Kind.OPERATOR else 0
        if len(open_) > MAX_DEPTH or prefixes > MAX_DEPTH:
            raise TextInvalid(f"is nested deeper than {MAX_DEPTH} levels, {_place(token.start)}; make it a view")
    if any(each != "end" for each in open_):
        raise TextInvalid("has a ( or [ that is not closed")


def _place(at: int) -> str:
    return f"at character {at + 1}"


def closings(tokens: Sequence[Token]) -> dict[int, int]:
    """Where each bracket is closed: index of the opening token → index of the closing one."""
    return dict(_pairs(tokens))


def _pairs(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    open_: list[int] = []
    for at, token in enumerate(tokens):
        if token.is_mark("(", "["):
            open_.append(at)
        elif token.is_mark(")", "]"):
            yield open_.pop(), at
