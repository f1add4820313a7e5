"""Durations, schedules, fingerprints, owners: small things that everything leans on."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.canonical import fingerprint
from registry.durations import format_duration, parse_duration
from registry.owner import is_dead, short, this_process
from registry.records import LEGAL_MOVES, Counts, FitState, sources
from registry.schedule import check_schedule, next_due

MONDAY = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1h30m", 5400), ("1.5h", 5400), (2, 2), (0, 0), ("2d", 172800), ("1m 5s", 65)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("wrong", ["", "1", "s", "-1s", -1, float("nan"), float("inf"), None, True, [], "1 parsec"])
def test_what_is_no_duration(wrong: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(wrong)


@given(st.integers(0, 10**7))
def test_a_formatted_duration_is_nearly_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("* * * * *", "2026-01-05T12:01"),
        ("0 3 * * *", "2026-01-06T03:00"),
        ("0 0 * * 0", "2026-01-11T00:00"),  # cron's Sunday
        ("0 0 * * 7", "2026-01-11T00:00"),
        ("0 0 * * 1-5", "2026-01-06T00:00"),
        ("0 0 * * 2/2", "2026-01-06T00:00"),
        ("0 0 * * sat", "2026-01-10T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
def test_schedules_are_crons_in_utc(cron: str, due: str) -> None:
    assert next_due(cron, MONDAY) == datetime.fromisoformat(f"{due}:00+00:00")


def test_the_next_due_time_is_later_than_now() -> None:
    due = next_due("0 12 * * *", MONDAY)
    assert due is not None
    assert due > MONDAY


@pytest.mark.parametrize("wrong", ["", "* * * *", "61 * * * *", "* * * * 8", "* * * * 5-1", "@daily"])
def test_what_is_no_schedule(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_schedule(wrong)


def test_a_fingerprint_does_not_depend_on_order_or_on_how_a_number_is_kept() -> None:
    assert fingerprint({"a": 1, "b": [2.0]}) == fingerprint({"b": [2], "a": 1.0})
    assert fingerprint({"a": "1"}) != fingerprint({"a": 1})
    assert fingerprint({"a": True}) != fingerprint({"a": 1})


def test_this_process_lives_and_an_ended_one_is_dead() -> None:
    code = "from registry.owner import this_process; print(this_process())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_dead(child)
    assert not is_dead(this_process())
    assert short(this_process()) == f"{this_process().split('/')[0]}:{os.getpid()}"


@pytest.mark.parametrize("owner", ["", "elsewhere/b/n/1/1", "nonsense", "a/b/c/d/e"])
def test_whoever_cannot_be_checked_is_not_called_dead(owner: str) -> None:
    assert not is_dead(owner)


def test_a_recycled_process_id_is_another_process() -> None:
    assert is_dead(this_process().rpartition("/")[0] + "/1")


def test_legal_moves() -> None:
    assert sources(FitState.PUBLISHED) == ["running"]
    assert sources(FitState.LOST) == ["queued", "running"]
    assert [state for state in FitState if state.ended] == ["published", "failed", "cancelled", "lost"]
    assert set(LEGAL_MOVES) == set(FitState)


def test_counts_never_fall_below_zero() -> None:
    assert Counts(1, 2, 3) + Counts(1) == Counts(2, 2, 3)
    assert Counts(1, 2) - Counts(5) == Counts(0, 2)
    assert (Counts(1, 2, 3, 4, 5).changes, Counts(1, 2, 3, 4, 5).total) == (6, 15)
