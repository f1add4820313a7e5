"""When a model is fitted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.policy import LAST_BACKOFF_S, NEWS_BACKOFF_S, Decision, backoff_s, decide
from registry.document import ModelDocument
from registry.records import Counts, Failure, Pending, Published

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def document(**fields: Any) -> ModelDocument:
    return ModelDocument.parse(
        {
            "_id": "m",
            "trainer": "sklearn",
            "object": {"class": "sklearn.svm.SVC"},
            "training_select": {"collection": "c"},
            "train_X": "a",
            **fields,
        }
    )


def fresh(doc: ModelDocument, **fields: Any) -> Pending:
    published = Published(1, 0, doc.spec_hash(), 1, ago(1000))
    return Pending("m", published=published, finished=ago(1000), **fields)


def stale(doc: ModelDocument, count: int = 1, since: float = 10, last: float = 5, **fields: Any) -> Pending:
    state = fresh(doc, seen=Counts(inserts=count), since=ago(since), last=ago(last), generation=1)
    return replace(state, **fields)


def due_in(decision: Decision) -> float | None:
    return None if decision.due_at is None else (decision.due_at - NOW).total_seconds()


def test_a_new_model_is_due_at_once() -> None:
    decision = decide(document(), Pending("m"), NOW)
    assert (decision.kind, decision.due(NOW)) == ("added", True)


def test_an_edited_model_is_due_at_once() -> None:
    decision = decide(document(object={"class": "other"}), fresh(document()), NOW)
    assert (decision.kind, decision.due(NOW)) == ("edited", True)


@pytest.mark.parametrize(
    "fields", [{"paused": False}, {"timeout": "2h"}, {"live": 3}, {"retrain": {"quiet": "9s"}}, {"resources": {}}]
)
def test_what_does_not_change_the_outcome_is_no_edit(fields: dict[str, Any]) -> None:
    assert decide(document(**fields), fresh(document()), NOW).due_at is None


def test_nothing_pending_means_nothing_to_do() -> None:
    decision = decide(document(), fresh(document()), NOW)
    assert (decision.due_at, decision.kind) == (None, None)


def test_a_fit_under_way_or_a_pause_holds_everything() -> None:
    assert decide(document(), Pending("m", fit="f"), NOW).due_at is None
    assert "paused" in decide(document(paused=True), Pending("m"), NOW).why


@pytest.mark.parametrize(
    ("retrain", "since", "last", "expected"),
    [
        ({"quiet": 3}, 4, 1, 2),  # two more seconds of quiet
        ({"quiet": 3}, 4, 4, -1),  # quiet enough
        ({"quiet": 10, "max_wait": 12}, 11, 0, 1),  # never longer than max_wait after the first
        ({"quiet": 0}, 0, 0, 0),
    ],
)
def test_changes_wait_for_quiet_but_not_for_ever(
    retrain: dict[str, Any], since: float, last: float, expected: float
) -> None:
    doc = document(retrain=retrain)
    decision = decide(doc, stale(doc, since=since, last=last), NOW)
    assert (decision.kind, due_in(decision)) == ("changes", expected)


def test_too_few_changes_wait_and_say_how_many_are_missing() -> None:
    doc = document(retrain={"min_changes": 5, "max_wait": "1s"})
    decision = decide(doc, stale(doc, count=3, since=100, last=100), NOW)
    assert decision.due_at is None
    assert "2 more" in decision.why
    assert decide(doc, stale(doc, count=5, since=100, last=100), NOW).due(NOW)


def test_what_cannot_be_counted_is_enough() -> None:
    doc = document(retrain={"min_changes": 500})
    for counts in (Counts(other=1), Counts(resyncs=1)):
        assert decide(doc, stale(doc, seen=counts), NOW).due(NOW)


def test_covered_changes_are_not_pending() -> None:
    doc = document()
    assert decide(doc, stale(doc, covered=Counts(inserts=1)), NOW).due_at is None


def test_cooldown_holds_changes_back_but_not_a_request() -> None:
    doc = document(retrain={"cooldown": "1h", "quiet": 0}, retrain_now=2)
    state = stale(doc, finished=ago(600), retrain_now=2)
    assert due_in(decide(doc, state, NOW)) == 3000
    assert decide(doc, replace(state, retrain_now=1), NOW).kind == "requested"


def test_on_change_false_leaves_changes_pending() -> None:
    doc = document(retrain={"on_change": False})
    decision = decide(doc, stale(doc), NOW)
    assert decision.due_at is None
    assert "on_change" in decision.why


def test_a_due_schedule_is_due_though_nothing_changed() -> None:
    doc = document(retrain={"schedule": "0 3 * * *"})
    decision = decide(doc, fresh(doc, due_at=ago(1)), NOW)
    assert (decision.kind, decision.due(NOW)) == ("schedule", True)
    assert not decide(doc, fresh(doc, due_at=ago(-60)), NOW).due(NOW)


def test_the_earliest_cause_wins() -> None:
    doc = document(retrain={"quiet": 100, "max_wait": 100, "schedule": "* * * * *"})
    decision = decide(doc, stale(doc, since=1, last=1, due_at=NOW + timedelta(seconds=20)), NOW)
    assert (decision.kind, due_in(decision)) == ("schedule", 20)


class TestBackOff:
    def failing(self, doc: ModelDocument, count: int, at: float, **fields: Any) -> Pending:
        failure = Failure(count, ago(at), "no", doc.spec_hash(), 1)
        return replace(stale(doc, failure=failure), **fields)

    def test_doubles_and_is_bounded(self) -> None:
        waits = [backoff_s(n) for n in range(12)]
        assert waits[:5] == [0, 1, 2, 4, 8]
        assert waits[-1] == LAST_BACKOFF_S
        assert backoff_s(10_000) == LAST_BACKOFF_S

    def test_a_failing_model_waits(self) -> None:
        doc = document()
        decision = decide(doc, self.failing(doc, 6, 10), NOW)
        assert due_in(decision) == 32 - 10
        assert "6 failed in a row" in decision.why

    def test_news_shorten_the_wait(self) -> None:
        doc = document()
        assert due_in(decide(doc, self.failing(doc, 6, 1, generation=2), NOW)) == NEWS_BACKOFF_S - 1

    def test_a_mended_document_does_not_wait(self) -> None:
        state = self.failing(document(), 6, 0)
        assert decide(document(train_X="b"), state, NOW).due(NOW)

    def test_a_new_request_does_not_wait_but_its_retry_does(self) -> None:
        doc = document(retrain_now="x")
        assert decide(doc, self.failing(doc, 6, 0), NOW).due(NOW)
        assert not decide(doc, self.failing(doc, 6, 0, retrain_tried="x"), NOW).due(NOW)


counts = st.builds(Counts, *(st.integers(0, 20) for _ in range(5)))
seconds = st.floats(0, 5000)


@given(seen=counts, since=seconds, quiet=seconds, max_wait=seconds, failures=st.integers(0, 40))
def test_pending_work_of_an_unhindered_model_is_always_due_some_time(
    seen: Counts, since: float, quiet: float, max_wait: float, failures: int
) -> None:
    doc = document(retrain={"quiet": quiet, "max_wait": max_wait})
    failure = Failure(failures, ago(0), "no", doc.spec_hash(), 0) if failures else None
    state = stale(doc, since=since, last=0, seen=seen, failure=failure)
    decision = decide(doc, state, NOW)
    assert (decision.due_at is not None) == bool(seen.total)
    if decision.due_at:
        assert (due_in(decision) or 0) <= max(quiet, max_wait) + LAST_BACKOFF_S
