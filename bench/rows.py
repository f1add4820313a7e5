"""The rows that `reading` and `whole_fit` read: twenty numbers and a target."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymongo.database import Database

FIELDS = tuple(f"f{place:02}" for place in range(20))
TARGET = "y"


def fill(bench: Database[Any], count: int, collection: str) -> None:
    """Doubles, a few whole numbers, and a target that depends on two of them."""
    dice = np.random.default_rng(5)
    for first in range(0, count, 10_000):
        some = min(10_000, count - first)
        values = dice.normal(size=(some, len(FIELDS)))
        whole = dice.integers(0, 1000, size=(some, 4))
        target = (values[:, 0] + values[:, 1] > 0).astype(int)
        bench[collection].insert_many(
            [
                {
                    "_id": first + at,
                    **dict(zip(FIELDS[:16], values[at, :16].tolist(), strict=True)),
                    **dict(zip(FIELDS[16:], whole[at].tolist(), strict=True)),
                    TARGET: int(target[at]),
                }
                for at in range(some)
            ]
        )
