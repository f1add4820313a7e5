"""Which known name a person probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 60


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one, whatever the case of its letters; None when none does."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1) if len(name) <= _LONGEST else []
    return by_lower[found[0]] if found else None
