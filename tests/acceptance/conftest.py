"""Fixtures of the acceptance tests: the real daemon in a process of its own."""

from __future__ import annotations

from tests.fixtures.daemon import daemon, daemons
from tests.fixtures.subject import fitted, place, subject

__all__ = ["daemon", "daemons", "fitted", "place", "subject"]
