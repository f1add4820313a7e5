"""Rows from text: JSON lines, a JSON array, or CSV with a header."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from registry.errors import RowsUnusable


def read_rows(text: str, name: str) -> list[Any]:
    """The rows of a text; which form it has is told by its first character.

    Values of a CSV file that read as numbers, `true` or `false` are these, and an empty one is null: the file has
    no types to say otherwise. A text such as `007` stays a text.

    Raises:
        RowsUnusable: it holds no rows, or a line can't be read; says which.
    """
    first = text.lstrip()[:1]
    if not first:
        raise RowsUnusable(f"{_shown(name)} is empty: give rows as JSON lines, a JSON array, or CSV with a header line")
    whole = _array(text) if first == "[" else None
    if whole is not None:
        rows = whole
    elif first in '{["-' or (first.isdigit() and "," not in text):
        rows = _lines(text, name)
    else:
        rows = _csv(text)
    if not rows:
        raise RowsUnusable(f"{_shown(name)} holds no rows")
    return rows


def _array(text: str) -> list[Any] | None:
    """One array of rows; None when every line is an array of its own."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, list) else None


def _lines(text: str, name: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RowsUnusable(f"{_shown(name)}, line {number} is not JSON ({error.msg}): {line[:60]!r}") from None
    return rows


def _csv(text: str) -> list[Any]:
    return [
        {key: _value(value) for key, value in row.items() if key is not None}
        for row in csv.DictReader(io.StringIO(text.lstrip("\ufeff\n\r")))
    ]


def _value(text: str | None) -> Any:
    if text is None or not text.strip():
        return None
    plain = text.strip()
    if plain in ("true", "false"):
        return plain == "true"
    for kind in (int, float):
        try:
            number = kind(plain)
        except ValueError:
            continue
        leading_zero = kind is int and plain.lstrip("+-").startswith("0") and plain.lstrip("+-") != "0"
        return text if leading_zero or number != number or number in (float("inf"), float("-inf")) else number
    return text


def _shown(name: str) -> str:
    return "stdin" if name == "-" else name
