"""What documents watch, by way of views."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from listener.catalogue import Catalogue
from listener.feed import Origin, Untold
from registry.errors import Fault
from registry.mongo_selects import MongoSelects
from registry.trust import Trust

GOOD = {
    "_id": "m",
    "trainer": "sklearn",
    "object": {"class": "sklearn.svm.SVC"},
    "training_select": {"collection": "c", "filter": {"a": 1}},
    "train_X": "a",
    "train_y": "b",
    "status": {"state": "waiting"},
}


class Documents:
    """Only what a catalogue reads."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self.rows = list(documents)

    def all(self) -> list[dict[str, Any]]:
        return self.rows

    def get(self, model: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["_id"] == model), None)


class Registry:
    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.selects = MongoSelects()


def catalogue(documents: Documents, **origins: Origin | Untold) -> Catalogue:
    def traced(relations: Collection[str]) -> Mapping[str, Origin | Untold]:
        return {one: origins.get(one, Origin(frozenset({one}), one)) for one in relations}

    store: Any = Registry(documents)
    made = Catalogue(store, Trust(), traced)
    made.reload()
    return made


def test_a_collection_is_watched_exactly() -> None:
    (group,) = catalogue(Documents(GOOD)).table.groups("c")
    assert group.watch.predicate == {"a": 1}


def test_any_change_of_what_a_view_is_made_of_counts() -> None:
    made = catalogue(Documents(GOOD), c=Origin(frozenset({"x", "y"})))
    assert made.table.relations == {"x", "y"}
    assert all(made.table.groups(name)[0].watch.predicate is None for name in "xy")


def test_what_no_changes_are_told_of_needs_a_schedule() -> None:
    (entry,) = catalogue(Documents(GOOD), c=Untold("a time-series collection")).entries.values()
    assert entry.document is None
    assert "time-series" in entry.faults[0].message
    scheduled = {**GOOD, "retrain": {"on_change": False, "schedule": "0 3 * * *"}}
    (entry,) = catalogue(Documents(scheduled), c=Untold("a time-series collection")).entries.values()
    assert entry.document is not None
    assert entry.watches == {}


@pytest.mark.parametrize("identity", [5, 1.5, True, None, {"a": 1}, b"x"])
def test_a_document_whose_id_is_no_name_is_faulty_and_hinders_none(identity: Any) -> None:
    made = catalogue(Documents({**GOOD, "_id": identity}, GOOD))
    assert {entry.raw["_id"] == "m": entry.document is None for entry in made.entries.values()} == {
        False: True,
        True: False,
    }


def test_a_view_made_anew_is_traced_anew_when_all_is_read_again() -> None:
    origins: dict[str, Origin | Untold] = {"c": Origin(frozenset({"x"}))}
    store: Any = Registry(Documents(GOOD))
    made = Catalogue(store, Trust(), lambda relations: origins)
    assert made.reload() == {"m"}
    assert made.reload() == set()
    origins["c"] = Origin(frozenset({"y"}))
    assert made.reload() == {"m"}
    assert made.table.relations == {"y"}


def test_what_begins_to_be_told_is_valid_when_all_is_read_again() -> None:
    origins: dict[str, Origin | Untold] = {"c": Untold("it has no key")}
    store: Any = Registry(Documents(GOOD))
    made = Catalogue(store, Trust(), lambda relations: origins)
    made.reload()
    assert made.entries["m"].faults == (Fault("training_select", "it has no key"),)
    origins["c"] = Origin(frozenset({"public.c"}), "public.c")
    assert made.reload() == {"m"}
    assert made.entries["m"].document is not None
    (group,) = made.table.groups("public.c")
    assert group.watch.predicate == {"a": 1}


def test_only_what_changed_is_told() -> None:
    documents = Documents(GOOD)
    made = catalogue(documents)
    assert made.reload() == set()
    documents.rows = [{**GOOD, "status": {"state": "fresh"}}]
    assert made.reload(["m"]) == set()
    documents.rows = [{key: value for key, value in GOOD.items() if key != "status"}]
    assert made.reload(["m"]) == {"m"}  # written anew: it is to be told its status again
    documents.rows = [{**GOOD, "paused": True}]
    assert made.reload(["m"]) == {"m"}
    documents.rows = []
    assert made.reload(["m"]) == {"m"}
    assert made.table.relations == frozenset()
