"""Fixtures of the acceptance tests: the real daemon in a process of its own, on each kind of datastore."""

from __future__ import annotations

from tests.fixtures.datastores import KINDS, POSTGRESQL
from tests.fixtures.places import daemons, datastore, kind, nowhere, own_server, place
from tests.fixtures.subject import fitted, subject

__all__ = ["daemons", "datastore", "fitted", "kind", "nowhere", "own_server", "place", "subject"]

# Nothing is skipped: a kind that is not tested yet has no tests.
collect_ignore_glob = [] if set(POSTGRESQL) & set(KINDS) else ["test_postgres_*.py"]
