"""What a benchmark hands back, and the little statistics that it needs. Seconds everywhere."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """One measurement: a floor and ours, from the same run.

    `must` is the target as text, `met` whether it was reached; None for what is shown for comparison alone.
    """

    benchmark: str
    case: str
    floor: float
    ours: float
    must: str = ""
    met: bool | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours ÷ floor: 1.0 costs nothing."""
        return self.ours / self.floor if self.floor else math.nan


def median(values: Sequence[float]) -> float:
    """NaN for none."""
    return statistics.median(values) if values else math.nan


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all is not above: with 100 values, p99 is the second largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """How long it took, and what it gave."""
    began = time.perf_counter()
    given = work()
    return time.perf_counter() - began, given


class Parts:
    """Adds up what the parts of some work took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each part over all repeats."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: median([row[name] for row in rows if name in row]) for name in names}


def alternating(repeats: int, works: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each work so often, taking turns, after one round that doesn't count: the machine's moods hit all alike."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            seconds = work()
            if repeat:
                found[name].append(seconds)
    return found
