"""Must show 4, where MongoDB has ways of its own: tokens, `$out`, a database dropped with all that is in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bson import Timestamp

from tests.acceptance.test_lost_history import down_or_up, while_it_is
from tests.fixtures.datastores import MONGODB
from tests.fixtures.subject import Subject, mongo_of
from tests.fixtures.waiting import there, wait_fresh

pytestmark = pytest.mark.parametrize("kind", MONGODB, indirect=True)

POSITIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "garbage": lambda position: {**position, "token": "82 is no token of any server's"},
    "damaged": lambda position: {**position, "token": position["token"][:18] + "00" * 20},
    "in the future": lambda position: {
        "token": "82f0000000" + position["token"][10:], "time": Timestamp(0xF0000000, position["time"].inc)
    },
}  # fmt: skip


@pytest.mark.parametrize("position", POSITIONS)
def test_a_position_that_is_lost_is_a_resync(fitted: Subject, position: str) -> None:
    fitted.daemon.stop()
    fitted.rows.delete({"id": 0})
    fitted.store.alter("feeds", {}, position=POSITIONS[position](fitted.store.registry.feed()["position"]))
    fitted.daemon.start()
    version = fitted.refitted("resync", resyncs=1)
    assert fitted.resyncs == 1
    assert there(fitted.store.registry.feed()["last_resync"]) in version["reason"]["why"]
    fitted.unmoved()


@while_it_is
def test_the_collection_is_replaced_by_out(fitted: Subject, down: bool) -> None:
    with down_or_up(fitted, down):
        mongo_of(fitted)[fitted.name].aggregate(
            [{"$match": {"_id": {"$lt": 3}}}, {"$set": {"v": 99}}, {"$out": fitted.name}]
        )
    version = wait_fresh(fitted.store, fitted.name, 2)
    assert version["reason"]["other"] >= 1
    fitted.covers()
    fitted.unmoved()


def test_the_database_is_dropped(fitted: Subject) -> None:
    """With it go the documents and the registry: nothing is left to do, and the daemon takes new ones."""
    mongo_of(fitted).client.drop_database(mongo_of(fitted).name)
    fitted.number = 0
    fitted.fill().add()
    fitted.covers()
