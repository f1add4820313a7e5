"""An estimator that does nothing but say when its `fit` was entered. The operator of `reaction` trusts this module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Self

from sklearn.base import BaseEstimator


class Stopwatch(BaseEstimator):
    """Appends the time at which `fit` was entered to a file, by a clock that all processes share."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def fit(self, X: Any, y: Any = None) -> Self:
        entered = now()
        with Path(self.path).open("a") as file:
            file.write(f"{entered!r}\n")
        self.rows_ = len(X)
        return self

    def predict(self, X: Any) -> Any:
        return [self.rows_] * len(X)


def now() -> float:
    """Seconds after the epoch: the datastore's times can be compared with it."""
    return time.time()
