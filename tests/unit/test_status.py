"""What a model's `status` says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from listener.policy import Decision, decide
from listener.status import FAULTS_TOLD, STATES, differs, invalid_status, is_fresh, model_status, only_counts_differ
from registry.document import ModelDocument
from registry.errors import Fault
from registry.records import Counts, Failure, FitState, Pending, Published

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DOCUMENT = ModelDocument.parse(
    {"_id": "m", "trainer": "sklearn", "object": {}, "training_select": {"collection": "c"}, "train_X": "a"}
)
FRESH = Pending("m", published=Published(1, 0, DOCUMENT.spec_hash(), 1, NOW))
NEVER = Decision(None, None, "nothing")


@pytest.mark.parametrize(
    ("state", "fit_state", "paused", "expected"),
    [
        (Pending("m"), None, False, "waiting"),
        (FRESH, None, False, "fresh"),
        (replace(FRESH, seen=Counts(1)), None, False, "waiting"),
        (replace(FRESH, fit="f"), FitState.QUEUED, False, "queued"),
        (replace(FRESH, fit="f"), FitState.RUNNING, True, "fitting"),
        (FRESH, None, True, "paused"),
        (replace(FRESH, failure=Failure(1, NOW, "no", DOCUMENT.spec_hash(), 0)), None, False, "failing"),
        (replace(FRESH, failure=Failure(1, NOW, "no", "of another document", 0)), None, False, "fresh"),
    ],
)
def test_states(state: Pending, fit_state: FitState | None, paused: bool, expected: str) -> None:
    document = DOCUMENT.model_copy(update={"paused": paused})
    status = model_status(document, state, decide(document, state, NOW), fit_state, 1)
    assert status["state"] == expected
    assert expected in STATES


def test_an_edited_model_is_not_fresh() -> None:
    assert is_fresh(DOCUMENT, FRESH)
    assert not is_fresh(DOCUMENT.model_copy(update={"train_X": "b"}), FRESH)


def test_faults_are_listed_and_bounded() -> None:
    status = invalid_status([Fault(f"f{n}", "wrong " * 1000) for n in range(FAULTS_TOLD + 5)], None)
    assert (status["state"], len(status["faults"])) == ("invalid", FAULTS_TOLD)
    assert "and 5 more" in status["error"]
    assert len(status["error"]) < 200_000


def test_a_status_is_written_when_it_says_something_new() -> None:
    one = model_status(DOCUMENT, FRESH, NEVER, None, 1)
    assert differs(None, one)
    assert not differs({**one, "at": NOW}, one)
    assert differs({**one, "live": 2}, one)
    more = {**one, "pending": 7, "reason": "7 inserts pending"}
    assert only_counts_differ(one, more)
    assert not only_counts_differ(one, {**more, "state": "waiting"})
    assert not only_counts_differ(one, one)
