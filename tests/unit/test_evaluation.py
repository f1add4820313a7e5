from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.document import Gate
from registry.errors import RowsUnusable
from trainers.evaluation import gate, split, turned

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=200, unique=True).map(
    lambda keys: np.array(keys, np.uint64)
)
SHARES = st.floats(0.001, 0.999)


@given(KEYS, SHARES)
def test_every_row_is_on_one_side_and_the_share_is_exact(keys: np.ndarray[Any, Any], share: float) -> None:
    train, held = split(keys, share)
    assert sorted([*train, *held]) == list(range(len(keys)))
    assert list(train) == sorted(train)
    assert list(held) == sorted(held)
    assert len(held) == min(max(round(len(keys) * share), 1), len(keys) - 1)


@given(KEYS, SHARES, st.randoms())
def test_the_order_of_the_rows_does_not_matter(keys: np.ndarray[Any, Any], share: float, random: Any) -> None:
    mixed = np.array(random.sample(keys.tolist(), len(keys)), np.uint64)
    assert set(keys[split(keys, share)[1]]) == set(mixed[split(mixed, share)[1]])


@given(KEYS, SHARES, st.integers(0, 2**64 - 1))
def test_a_new_row_moves_at_most_one_other(keys: np.ndarray[Any, Any], share: float, new: int) -> None:
    if new in keys:
        return
    before = set(keys[split(keys, share)[1]].tolist())
    more = np.append(keys, np.uint64(new))
    after = set(more[split(more, share)[1]].tolist()) - {new}
    assert len(before ^ after) <= 1


def test_who_is_held_out_has_nothing_to_do_with_the_size_of_the_key() -> None:
    keys = np.arange(10_000, dtype=np.uint64)
    held = split(keys, 0.2)[1]
    assert len(held) == 2000
    assert abs(held.mean() - 5000) < 200
    assert list(held[:4]) != [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows(count: int) -> None:
    with pytest.raises(RowsUnusable, match=f"at least 2 rows, and the select finds {count}"):
        split(np.arange(count, dtype=np.uint64), 0.2)


@pytest.mark.parametrize(("share", "held"), [(0.001, 1), (0.999, 2), (0.5, 2)])
def test_a_row_falls_on_each_side(share: float, held: int) -> None:
    assert len(split(np.arange(3, dtype=np.uint64), share)[1]) == held


def bounds(minimum: float | None = None, max_drop: float | None = None) -> Gate:
    return Gate(metric="accuracy", min=minimum, max_drop=max_drop)


@pytest.mark.parametrize(
    ("promote", "value", "live", "promoted", "why"),
    [
        ("always", 0.0, 1.0, True, "`promote` is always"),
        ("never", 1.0, 0.0, False, "`promote` is never"),
        (bounds(0.8), 0.71, None, False, "accuracy 0.71 is below min 0.8"),
        (bounds(0.8), 0.8, None, True, "accuracy 0.8 is at least min 0.8"),
        (bounds(0.1 + 0.2), 0.3, None, True, "accuracy 0.3 is at least min 0.3"),
        (bounds(), 0.1, 0.9, True, "accuracy 0.1; `promote` sets no bound"),
        (
            bounds(max_drop=0.02),
            0.69,
            0.72,
            False,
            "accuracy 0.69 is 0.03 below the live version's 0.72: more than max_drop 0.02",
        ),
        (bounds(max_drop=0.02), 0.7, 0.72, True, "accuracy 0.7 is 0.02 below the live version's 0.72 (max_drop 0.02)"),
        (bounds(max_drop=0), 0.75, 0.72, True, "accuracy 0.75 is 0.03 above the live version's 0.72 (max_drop 0)"),
        (
            bounds(0.7, 0.02),
            0.71,
            0.72,
            True,
            "accuracy 0.71 is at least min 0.7, 0.01 below the live version's 0.72 (max_drop 0.02)",
        ),
        (bounds(0.8, 0.5), 0.7, 0.72, False, "accuracy 0.7 is below min 0.8"),
        (
            bounds(0.7, 0.0),
            0.71,
            None,
            True,
            "accuracy 0.71: at least min 0.7; there is no live version to compare with",
        ),
        (
            bounds(-5.0, 1.0),
            -4.0,
            -3.5,
            True,
            "accuracy -4 is at least min -5, 0.5 below the live version's -3.5 (max_drop 1)",
        ),
        (bounds(0.1), math.nan, None, False, "accuracy is not a number"),
        (bounds(max_drop=0.1), 0.5, math.nan, True, "accuracy 0.5: the live one has no accuracy"),
    ],
)
def test_gate(
    promote: Literal["always", "never"] | Gate, value: float, live: float | None, promoted: bool, why: str
) -> None:
    decision = gate(promote, {"accuracy": value}, None if live is None else {"accuracy": live})
    assert (decision.promoted, decision.why) == (promoted, why)


def test_a_metric_that_was_not_computed() -> None:
    decision = gate(bounds(0.5), {"f1": 0.9}, {"accuracy": 0.1})
    assert not decision.promoted
    assert decision.why == "accuracy, which `promote` asks for, was not computed (computed: f1)"
    assert gate(bounds(max_drop=0.5), {"accuracy": 0.9}, {"f1": 0.1}).promoted
    assert gate("always", {}, None).promoted


@pytest.mark.parametrize(
    ("learns", "live", "refused"),
    [
        ("labels", "labels", False),
        ("numbers", "labels", True),
        ("labels", None, False),
        (None, "labels", False),
        ("labels", "numbers", True),
    ],
)
def test_a_model_does_not_turn_into_another_kind_unseen(learns: str | None, live: str | None, refused: bool) -> None:
    decision = turned(learns, live)
    assert (decision is not None) == refused
    if decision is not None:
        assert not decision.promoted
        assert f"learned {learns} where the live version learned {live}" in decision.why
