"""What `refitd doctor` looks at: each check says what it saw, and the exact fix where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from refitd.checks.check import Check
from refitd.session import Session


def diagnose(session: Session) -> Iterator[Check]:
    """All checks, one after another; those of the registry's rows only where the datastore answers."""
    from refitd.checks import compute, models, mongo, mongo_collections, mongo_rights

    reached = True
    for check in mongo.server_checks(session.store):
        reached = reached and check.ok
        yield check
    if reached:
        yield from mongo_rights.rights_checks(session.store)
        yield from mongo.work_checks(session.store)
        yield from mongo_collections.collection_checks(session)
        yield from mongo.history_checks(session.store)
    yield from compute.compute_checks(session.settings)
    if reached:
        yield from models.model_checks(session)


__all__ = ["Check", "diagnose"]
