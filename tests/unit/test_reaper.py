"""Which fits are ended, and how."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from listener.reaper import SILENT_S, judge
from registry.records import Counts, Fit, FitState

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DOCUMENT = {
    "_id": "m",
    "trainer": "sklearn",
    "object": {},
    "training_select": {"collection": "c"},
    "train_X": "a",
    "timeout": "1m",
}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


FIT = Fit(
    "f", "m", FitState.RUNNING, 1, "t", DOCUMENT, "s", {}, 0, Counts(), None, "o", True, ago(30), ago(30), ago(1)
)  # fmt: skip


def verdict(fit: Fit, *, ours: bool = False, owner_dead: bool = False) -> FitState | None:
    found = judge(fit, ours=ours, owner_dead=owner_dead, now=NOW)
    return found.state if found else None


def test_a_fit_that_lives_is_left_alone() -> None:
    assert verdict(FIT) is None
    assert verdict(FIT, ours=True) is None


def test_a_silent_fit_is_lost() -> None:
    silent = replace(FIT, heartbeat=ago(SILENT_S + 1))
    assert verdict(silent) is FitState.LOST
    assert verdict(silent, ours=True) is None  # its executor tells


def test_a_fit_bound_to_a_dead_daemon_is_lost_at_once_and_counts_as_nothing() -> None:
    found = judge(FIT, ours=False, owner_dead=True, now=NOW)
    assert found is not None
    assert (found.state, found.error) == (FitState.LOST, None)
    assert verdict(replace(FIT, bound=False), owner_dead=True) is None


def test_a_queued_fit_waits_for_its_turn_while_its_owner_lives() -> None:
    queued = replace(FIT, state=FitState.QUEUED, started=None, heartbeat=None, created=ago(500), bound=False)
    assert verdict(queued) is None
    assert verdict(queued, owner_dead=True) is FitState.LOST


def test_time_is_up() -> None:
    long = replace(FIT, started=ago(70))
    found = judge(long, ours=True, owner_dead=False, now=NOW)
    assert found is not None
    assert found.state is FitState.FAILED
    assert "60 s" in str(found.error)


def test_a_cancelled_fit_is_ended() -> None:
    assert verdict(replace(FIT, cancel="enough"), ours=True) is FitState.CANCELLED
