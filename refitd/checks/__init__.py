"""What `refitd doctor` looks at: each check says what it saw, and the exact fix where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refitd.checks.check import Check, bad
from refitd.session import Session
from registry.errors import RefitdError

Checks = Callable[[], Iterator[Check]]


def diagnose(session: Session) -> Iterator[Check]:
    """All checks, one after another; those of the registry's rows only where the datastore answers."""
    from refitd.checks import compute, models

    server, others = _of_datastore(session)
    made = True
    reached = True
    for check in server():
        reached = reached and check.ok
        yield check
    if reached:
        for name, checks in others:
            yield from _guarded(name, checks)
        made = _has_registry(session)
    yield from compute.compute_checks(session.settings)
    if reached and made:
        yield from _guarded("models", lambda: models.model_checks(session))


def _of_datastore(session: Session) -> tuple[Checks, list[tuple[str, Checks]]]:
    """Whether there is a server at all, and what to look at then. Only this store's driver is imported."""
    store = session.store
    if store.kind == "postgresql":
        from refitd.checks import (
            postgres_publication,
            postgres_relations,
            postgres_rights,
            postgres_server,
            postgres_slot,
            postgres_work,
        )

        return lambda: postgres_server.server_checks(store), [
            ("log", lambda: postgres_server.log_checks(store)),
            ("login", lambda: postgres_rights.rights_checks(store)),
            ("work", lambda: postgres_work.work_checks(store)),
            ("publication", lambda: postgres_publication.publication_checks(store)),
            ("relations", lambda: postgres_relations.relation_checks(session)),
            ("slot", lambda: postgres_slot.slot_checks(store)),
        ]
    from refitd.checks import mongo, mongo_collections, mongo_rights

    return lambda: mongo.server_checks(store), [
        ("login", lambda: mongo_rights.rights_checks(store)),
        ("work", lambda: mongo.work_checks(store)),
        ("collections", lambda: mongo_collections.collection_checks(session)),
        ("history", lambda: mongo.history_checks(store)),
    ]


def _has_registry(session: Session) -> bool:
    """In PostgreSQL there is nothing to read before it is made; what can't be asked is for `models` to say."""
    if session.store.kind != "postgresql":
        return True
    from refitd.asking import connection_of, is_made

    try:
        return is_made(connection_of(session.store))
    except RefitdError:
        return True


def _guarded(name: str, checks: Checks) -> Iterator[Check]:
    """A check that can't be made has failed; the others are made all the same."""
    try:
        yield from checks()
    except RefitdError as error:
        yield bad(name, str(error), "mend what is said above, then run doctor again")


__all__ = ["Check", "diagnose"]
