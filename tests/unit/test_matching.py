"""Which changes concern which models, three-valued."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from listener.feed import Change, Kind
from listener.matching import WatchTable, match
from registry.records import Counts
from registry.watch import Watch

DE, FR = b"DE", b"FR"
IN_DE = Watch({"country": "DE"}, frozenset({"country"}), frozenset({"country", "age"}))
ANY_ROW = Watch({}, frozenset(), frozenset({"age"}))
UNKNOWABLE = Watch(None, None, None)


class Equality:
    """Judges rows that are just a country's name."""

    def __init__(self) -> None:
        self.asked = 0
        self.forgotten: list[Collection[str]] = []

    def forget(self, relations: Collection[str]) -> None:
        self.forgotten.append(set(relations))

    def close(self) -> None:
        return

    def evaluate(
        self, relation: str, predicates: Sequence[Mapping[str, Any]], rows: Sequence[bytes]
    ) -> list[Collection[int]]:
        self.asked += 1
        return [[n for n, row in enumerate(rows) if row == one["country"].encode()] for one in predicates]


def change(
    kind: Kind, before: bytes | None, after: bytes | None, touched: tuple[str, ...] | None = None, stamp: int = 1
) -> Change:
    return Change("c", kind, stamp, None, before, after, touched)


def matches(watch: Watch, one: Change) -> bool:
    return "m" in match(WatchTable({"m": {"c": watch}}), [one], Equality(), max)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (change(Kind.INSERT, None, DE), True),
        (change(Kind.INSERT, None, FR), False),
        (change(Kind.DELETE, DE, None), True),
        (change(Kind.DELETE, FR, None), False),
        (change(Kind.DELETE, None, None), True),  # unknown before
        (change(Kind.UPDATE, DE, FR, ("country",)), True),  # out of the select
        (change(Kind.UPDATE, FR, DE, ("country",)), True),  # into it
        (change(Kind.UPDATE, FR, FR, ("age",)), False),
        (change(Kind.UPDATE, DE, DE, ("age",)), True),
        (change(Kind.UPDATE, DE, DE, ("note",)), False),  # nobody uses it
        (change(Kind.UPDATE, None, None, ("note",)), False),
        (change(Kind.UPDATE, None, None, ("age",)), True),  # unknown on both sides
        (change(Kind.UPDATE, None, FR, ("age",)), False),  # the same country before
        (change(Kind.UPDATE, None, FR, ("country",)), True),  # perhaps DE before
        (change(Kind.UPDATE, None, FR, None), True),  # a replaced row
        (change(Kind.UPDATE, FR, None, ("country",)), True),
        (change(Kind.OTHER, None, None), True),
    ],
)
def test_a_change_counts_unless_it_surely_does_not(one: Change, expected: bool) -> None:
    assert matches(IN_DE, one) is expected


def test_an_empty_predicate_needs_no_question() -> None:
    evaluator = Equality()
    found = match(WatchTable({"m": {"c": ANY_ROW}}), [change(Kind.INSERT, None, FR)], evaluator, max)
    assert (found["m"].counts, evaluator.asked) == (Counts(inserts=1), 0)


def test_a_predicate_that_one_row_cannot_tell_matches_everything() -> None:
    assert matches(UNKNOWABLE, change(Kind.UPDATE, FR, FR, ("note",)))


def test_equal_watches_are_judged_once_and_reach_every_model() -> None:
    evaluator = Equality()
    table = WatchTable({f"m{n}": {"c": IN_DE} for n in range(50)})
    found = match(table, [change(Kind.INSERT, None, DE)], evaluator, max)
    assert len(found) == 50
    assert evaluator.asked == 1
    assert len(table.groups("c")) == 1


def test_counts_and_the_newest_stamp_are_summed() -> None:
    changes = [
        change(Kind.INSERT, None, DE, stamp=3),
        change(Kind.INSERT, None, FR, stamp=9),
        change(Kind.DELETE, DE, None, stamp=5),
        change(Kind.UPDATE, DE, FR, ("country",), stamp=4),
    ]
    delta = match(WatchTable({"m": {"c": IN_DE}}), changes, Equality(), max)["m"]
    assert (delta.counts, delta.need) == (Counts(1, 1, 1), 5)


def test_a_dropped_relation_is_named() -> None:
    evaluator = Equality()
    delta = match(WatchTable({"m": {"c": IN_DE}}), [change(Kind.OTHER, None, None)], evaluator, max)["m"]
    assert evaluator.forgotten == [{"c"}]
    assert delta.counts == Counts(other=1)
    assert "c was dropped" in str(delta.reason)


def test_other_relations_concern_nobody() -> None:
    elsewhere = Change("d", Kind.INSERT, 1, None, None, DE)
    assert match(WatchTable({"m": {"c": IN_DE}}), [elsewhere], Equality(), max) == {}
