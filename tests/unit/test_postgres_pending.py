"""How a pending row changes, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from registry.postgres.pending import after_failure, claimed, covered_by, invisible, is_older, with_delta
from registry.postgres.stamps import NAMED, PgStamp, Snapshot
from registry.records import Counts, Delta, Fit, FitState, Pending, Published, Version, VersionDraft

HISTORY = "1/00000001"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
ONE = Counts(inserts=1)


def xids(*ids: int, history: str = HISTORY) -> PgStamp:
    return PgStamp(history, xids=frozenset(ids))


def before(xmax: int, history: str = HISTORY) -> PgStamp:
    return PgStamp(history, Snapshot(xmax))


def published(cut: PgStamp) -> Published:
    return Published(1, 0, "h", cut, NOW)


def fit(**fields: object) -> Fit:
    begun = Fit(
        "f", "m", FitState.RUNNING, 1, "t", {"retrain_now": 7}, "h", {}, 1, Counts(inserts=1), None, "o", True, NOW
    )
    return replace(begun, **fields)  # type: ignore[arg-type]


def version(cut: PgStamp) -> Version:
    draft = VersionDraft("d", "skops", 1, "r", {}, cut, "s", True, "always", {})
    return Version("m", 2, "f", NOW, 1, "h", {}, {}, draft)


def test_a_delta_adds_up_and_is_timed() -> None:
    once = with_delta(Pending("m"), Delta(ONE, xids(5)), NOW, before(9))
    twice = with_delta(once, Delta(ONE, xids(6), "why"), LATER, before(9))
    assert (twice.seen.inserts, twice.need, twice.generation, twice.resync) == (2, xids(5, 6), 2, "why")
    assert (twice.since, twice.since_claim, twice.last, twice.blind) == (NOW, NOW, LATER, False)


def test_a_delta_that_the_newest_cut_covers_changes_nothing() -> None:
    row = Pending("m", published=published(before(9)))
    assert with_delta(row, Delta(ONE, xids(8)), NOW, before(9)) is row
    assert with_delta(row, Delta(ONE, xids(9)), NOW, before(9)).seen == ONE
    assert with_delta(row, Delta(ONE, xids(8, history="1/00000002")), NOW, before(9)).seen == ONE


def test_a_delta_without_a_stamp_is_covered_by_no_cut_so_far() -> None:
    row = with_delta(Pending("m", published=published(before(9))), Delta(ONE, None, "gap"), NOW, before(9))
    assert (row.blind, row.need, row.seen) == (True, None, ONE)
    assert covered_by(row, fit(seen=Counts()), version(before(99)), NOW).outstanding == ONE


def test_another_historys_need_replaces_the_rows() -> None:
    row = with_delta(Pending("m", need=xids(900)), Delta(ONE, xids(5, history="1/00000002")), NOW, before(9))
    assert row.need == xids(5, history="1/00000002")


def test_many_needs_are_summed_up() -> None:
    row = Pending("m")
    for xid in range(100, 100 + 2 * NAMED):
        row = with_delta(row, Delta(ONE, xids(xid)), NOW, before(xid))  # each is visible when the next one comes
    assert row.need is not None
    assert len(row.need.xids) <= NAMED
    assert row.seen.inserts == 2 * NAMED
    assert before(100 + 2 * NAMED).covers(row.need)
    assert not before(99 + 2 * NAMED).covers(row.need)


def test_a_claim_takes_the_row() -> None:
    row = claimed(Pending("m", since=NOW, since_claim=NOW, blind=True), fit())
    assert (row.fit, row.since, row.since_claim, row.blind, row.retrain_tried) == ("f", NOW, None, False, 7)


@pytest.mark.parametrize(
    ("need", "expected"),
    [(None, False), (xids(8), False), (xids(9), True), (before(10), True), (xids(9, history="1/00000002"), False)],
)
def test_what_is_not_visible_yet_is_told(need: PgStamp | None, expected: bool) -> None:
    assert invisible(Pending("m", need=need), before(9)) is expected


def test_cuts_are_compared_within_a_history() -> None:
    assert is_older(before(8), published(before(9)))
    assert not is_older(before(9), published(before(9)))
    assert not is_older(before(3, "1/00000002"), published(before(9)))
    assert not is_older(before(3), None)


def test_a_version_that_covers_all_leaves_nothing() -> None:
    row = Pending(
        "m", seen=Counts(inserts=3), need=xids(5, 6), since=NOW, since_claim=NOW, resync="x", fit="f", due_at=NOW
    )
    after = covered_by(row, fit(), version(before(7)), LATER)
    assert (after.outstanding.total, after.need, after.since, after.since_claim) == (0, None, None, None)
    assert (after.resync, after.fit, after.finished, after.retrain_now, after.due_at) == (None, None, LATER, 7, NOW)
    assert after.published == Published(2, 1, "h", before(7), LATER)


def test_a_version_that_covers_a_part_leaves_what_came_since_the_claim() -> None:
    row = Pending("m", seen=Counts(inserts=3), need=xids(5, 9), since=NOW, since_claim=LATER, resync="x", fit="f")
    after = covered_by(row, fit(seen=Counts(inserts=1), next_due=LATER), version(before(7)), LATER)
    assert (after.outstanding, after.need, after.since) == (Counts(inserts=2), xids(9), LATER)
    assert (after.since_claim, after.resync, after.due_at) == (LATER, "x", LATER)


def test_a_need_of_another_history_is_not_covered() -> None:
    row = Pending("m", seen=Counts(inserts=3), need=xids(5), fit="f")
    after = covered_by(row, fit(seen=Counts(inserts=1)), version(before(7, "1/00000002")), LATER)
    assert (after.outstanding, after.need) == (Counts(inserts=2), xids(5))


def test_failures_are_counted_and_a_fit_given_up_is_none() -> None:
    row = Pending("m", fit="f", retrain_now=1, retrain_tried=7)
    once = after_failure(row, fit(), "no", NOW)
    twice = after_failure(replace(once, fit="f"), fit(), "no", LATER)
    assert twice.failure is not None
    assert (twice.failure.count, twice.failure.at, twice.fit, twice.retrain_tried) == (2, LATER, None, 7)
    given_up = after_failure(row, fit(), None, NOW)
    assert (given_up.failure, given_up.fit, given_up.retrain_tried, given_up.finished) == (None, None, 1, NOW)
