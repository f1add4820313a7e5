"""Which rows a version is judged on, and whether it may become the live one. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from registry.document import Gate
from registry.errors import RowsUnusable
from trainers.row_keys import mix

#: Where a version's detail says what kind of target it was trained on.
LEARNS = "learns"
#: Any fixed number: so that the order has nothing to do with how keys are made.
_SALT = 0x5EED_0F_5917
#: 0.72 - 0.70 is a little more than 0.02 in binary.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a version becomes live, and why: the numbers that decided."""

    promoted: bool
    why: str


def split(keys: NDArray[np.uint64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part the rows into those to train on and those to judge on, by their keys alone.

    A row stays on its side in whatever order it is read, and as far as the exact share allows when other rows
    come and go: held out are the rows with the smallest hashes.

    Args:
        keys: `KEY` of n rows, uint64.
        share: of the rows to hold out, 0 to 1; at least one row falls on each side.

    Returns:
        Row numbers to train on, and held out; each ascending.

    Raises:
        RowsUnusable: there are fewer than two rows.
    """
    count = len(keys)
    if count < 2:
        raise RowsUnusable(f"`validation.split` needs at least 2 rows, and the select finds {count}")
    held = min(max(round(count * share), 1), count - 1)
    order = np.argsort(mix(keys, _SALT), kind="stable")
    return np.sort(order[held:]), np.sort(order[:held])


def gate(
    promote: Literal["always", "never"] | Gate,
    metrics: Mapping[str, float],
    live_metrics: Mapping[str, float] | None,
) -> Decision:
    """Whether a version with these metrics becomes live.

    Args:
        promote: the document's `validation.promote`.
        live_metrics: the live version's; None where there is none, and then only `min` counts.
    """
    if isinstance(promote, str):
        return Decision(promote == "always", f"`promote` is {promote}")
    name, value = promote.metric, metrics.get(promote.metric)
    if value is None:
        computed = ", ".join(sorted(metrics)) or "none"
        return Decision(False, f"{name}, which `promote` asks for, was not computed (computed: {computed})")
    if math.isnan(value):
        return Decision(False, f"{name} is not a number")
    shown = f"{name} {_number(value)}"
    if promote.min is not None and value < promote.min - _ROUNDING:
        return Decision(False, f"{shown} is below min {_number(promote.min)}")
    said = [] if promote.min is None else [f"at least min {_number(promote.min)}"]
    if promote.max_drop is None:
        return Decision(True, f"{shown} is {said[0]}" if said else f"{shown}; `promote` sets no bound")
    live = None if live_metrics is None else live_metrics.get(name)
    if live is None or math.isnan(live):
        said.append(
            "there is no live version to compare with" if live_metrics is None else f"the live one has no {name}"
        )
        return Decision(True, f"{shown}: {'; '.join(said)}")
    drop = live - value
    against = f"{_number(abs(drop))} {'below' if drop > 0 else 'above'} the live version's {_number(live)}"
    if drop > promote.max_drop + _ROUNDING:
        return Decision(False, f"{shown} is {against}: more than max_drop {_number(promote.max_drop)}")
    return Decision(True, f"{shown} is {', '.join([*said, against])} (max_drop {_number(promote.max_drop)})")


def turned(learns: str | None, live: str | None) -> Decision | None:
    """A refusal, where the same document makes a model of another kind than the live one of these rows: a single value
    in the target can turn labels into numbers, and whoever uses the model would get something else than before.

    Args:
        learns, live: `LEARNS` of the version and of the live one of the same document; None: it doesn't say.
    """
    if learns is None or live is None or learns == live:
        return None
    return Decision(
        False,
        f"it learned {learns} where the live version learned {live}, of the same document: did a value of another kind "
        "get into the target? Mend the rows, or edit the document (a loss, for example) if it is meant",
    )


def _number(value: float) -> str:
    return f"{value:.6g}"
