"""Durations as people write them in a model document: `1s`, `500ms`, `1h30m`, or a number of seconds."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
#: A time that lies further off can't be added to a date.
_LONGEST = 36500 * 86400.0
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern}\s*)+")


def parse_duration(value: Any) -> float:
    """Seconds, from a number of seconds or a text such as `1h30m`.

    Raises:
        ValueError: it is neither, or negative, not finite, or longer than a hundred years.
    """
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds or a text such as 30s, not true or false")
    if isinstance(value, int | float):
        if not 0 <= value < math.inf:
            raise ValueError(f"a duration is at least 0 seconds and finite, not {value}")
        return _bounded(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return _bounded(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
    raise ValueError(f"not a duration: {value!r}; write 500ms, 30s, 5m, 1h30m, or a number of seconds")


def _bounded(seconds: float) -> float:
    if seconds > _LONGEST:  # a whole number may be beyond any float
        raise ValueError(f"a duration is at most 36500d (a hundred years), not {str(seconds)[:40]} seconds")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The shortest usual spelling: 0.5 → `500ms`, 5400 → `1h30m`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    parts, rest = [], round(seconds)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=str | float),
    Field(description="a duration: `500ms`, `30s`, `1h30m`, or a number of seconds"),
]
