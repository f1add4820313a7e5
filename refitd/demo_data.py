"""The demo's data: scikit-learn's handwritten digits, arriving in waves; and the model document."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.errors import SettingsInvalid

MODEL = "digits"

#: How many labelled digits the model has after each wave. The rest of them are labelled last.
WAVES = (60, 200, 800)
_HELD_OUT = 397


@dataclass(frozen=True, slots=True)
class Scan:
    """One handwritten digit: its number, 8 × 8 grey values, and what it shows, if somebody has said so."""

    number: int
    pixels: Sequence[float]
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Digits:
    """What is judged on, and what arrives to be trained on."""

    held_out: Sequence[Scan]
    waves: Sequence[Sequence[Scan]]
    unlabelled: Sequence[Scan]
    labels: Mapping[int, int]
    """Of the unlabelled ones, by number."""


def specification(training_select: Any, held_out: Any) -> dict[str, Any]:
    """The model document without its name; the selects are in the datastore's own terms."""
    return {
        "trainer": "sklearn",
        "object": {"class": "sklearn.svm.SVC"},
        "training_select": training_select,
        "train_X": "pixels",
        "train_y": "label",
        "validation": {"select": held_out, "metrics": ["accuracy"]},
        "retrain": {"quiet": "300ms"},
    }


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
    scans = [Scan(number, data.data[at].tolist(), int(data.target[at])) for number, at in enumerate(order)]
    held_out, training = scans[:_HELD_OUT], scans[_HELD_OUT:]
    ends = (0, *WAVES)
    rest = training[WAVES[-1] :]
    return Digits(
        held_out=held_out,
        waves=[training[begin:end] for begin, end in itertools.pairwise(ends)],
        unlabelled=[Scan(one.number, one.pixels) for one in rest],
        labels={one.number: one.label for one in rest if one.label is not None},
    )
