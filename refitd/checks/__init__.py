"""What `refitd doctor` looks at: each check says what it saw, and the exact fix where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refitd.checks.check import Check, bad
from refitd.session import Session
from registry.errors import RefitdError


def diagnose(session: Session) -> Iterator[Check]:
    """All checks, one after another; those of the registry's rows only where the datastore answers."""
    from refitd.checks import compute, models, mongo, mongo_collections, mongo_rights

    reached = True
    for check in mongo.server_checks(session.store):
        reached = reached and check.ok
        yield check
    if reached:
        yield from _guarded("login", lambda: mongo_rights.rights_checks(session.store))
        yield from _guarded("work", lambda: mongo.work_checks(session.store))
        yield from _guarded("collections", lambda: mongo_collections.collection_checks(session))
        yield from _guarded("history", lambda: mongo.history_checks(session.store))
    yield from compute.compute_checks(session.settings)
    if reached:
        yield from _guarded("models", lambda: models.model_checks(session))


def _guarded(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A check that can't be made has failed; the others are made all the same."""
    try:
        yield from checks()
    except RefitdError as error:
        yield bad(name, str(error), "mend what is said above, then run doctor again")


__all__ = ["Check", "diagnose"]
