"""The demo's data: scikit-learn's handwritten digits, arriving in waves; and the model document."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.errors import SettingsInvalid

Row = dict[str, Any]

#: How many labelled digits the model has after each wave. The rest of them are labelled last.
WAVES = (60, 200, 800)
_HELD_OUT = 397

DOCUMENT: Mapping[str, Any] = {
    "_id": "digits",
    "trainer": "sklearn",
    "object": {"class": "sklearn.svm.SVC"},
    "training_select": {"collection": "scans", "filter": {"label": {"$exists": True}}},
    "train_X": "pixels",
    "train_y": "label",
    "validation": {"select": {"collection": "held_out"}, "metrics": ["accuracy"]},
    "retrain": {"quiet": "300ms"},
}


@dataclass(frozen=True, slots=True)
class Digits:
    """Scans of handwritten digits: 8 × 8 grey values each, and the digit."""

    held_out: Sequence[Row]
    waves: Sequence[Sequence[Row]]
    unlabelled: Sequence[Row]
    labels: Mapping[int, int]
    """Of the unlabelled ones, by `_id`."""


def load_digits() -> Digits:
    """The data set, in one fixed random order.

    Raises:
        SettingsInvalid: scikit-learn is not installed.
    """
    try:
        import numpy as np
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise SettingsInvalid(f"the demo needs scikit-learn: pip install 'refitd[sklearn]' ({error})") from error
    data = load()
    order = np.random.default_rng(0).permutation(len(data.target))
    rows = [
        {"_id": number, "pixels": data.data[at].tolist(), "label": int(data.target[at])}
        for number, at in enumerate(order)
    ]
    held_out, training = rows[:_HELD_OUT], rows[_HELD_OUT:]
    ends = (0, *WAVES)
    rest = training[WAVES[-1] :]
    return Digits(
        held_out=held_out,
        waves=[training[begin:end] for begin, end in itertools.pairwise(ends)],
        unlabelled=[{"_id": row["_id"], "pixels": row["pixels"]} for row in rest],
        labels={row["_id"]: row["label"] for row in rest},
    )
