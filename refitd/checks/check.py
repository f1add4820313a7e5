"""One check's outcome."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is as it should be, what was seen, and what to do.

    A `warning` works as it is, but somebody should know.
    """

    check: str
    ok: bool
    evidence: str
    fix: str | None = None
    warning: bool = False


def good(check: str, evidence: str) -> Check:
    """As it should be."""
    return Check(check, True, evidence)


def bad(check: str, evidence: str, fix: str) -> Check:
    """Wrong: something doesn't work."""
    return Check(check, False, evidence, fix)


def doubtful(check: str, evidence: str, fix: str | None) -> Check:
    """Works, but could be better, or could not be looked at."""
    return Check(check, True, evidence, fix, warning=True)
