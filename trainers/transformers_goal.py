"""What a model learns, as the rows say it: labels and their numbers, a number, tags, or text. Pure.

A label may be a text, a whole number or true/false. Numbers of labels follow their order: the document's `labels`, or
sorted. They are stored with the version, so that `predict` gives the labels back as they stand in the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from registry.errors import ArtifactCorrupt, RowsUnusable
from trainers.transformers_tasks import Kind

#: transformers' names for what a head for sequences learns.
_PROBLEMS = {
    Kind.LABEL: "single_label_classification",
    Kind.LABELS: "multi_label_classification",
    Kind.NUMBER: "regression",
}
_TYPES = (str, int, bool, float)
_MOST_TOLD = 10


@dataclass(frozen=True)
class Goal:
    """What is learned. `labels`: in the order of the model's outputs; none for numbers and text."""

    kind: Kind
    labels: tuple[Any, ...] = ()

    @property
    def outputs(self) -> int:
        """How many outputs the model's head has; 0 where it has no head of ours."""
        return 1 if self.kind == Kind.NUMBER else len(self.labels)

    @property
    def problem_type(self) -> str | None:
        """transformers' `config.problem_type`."""
        return _PROBLEMS.get(self.kind)

    @property
    def names(self) -> dict[int, str]:
        """transformers' `config.id2label`."""
        return {at: str(label) for at, label in enumerate(self.labels)}

    @cached_property
    def numbers(self) -> dict[Any, int]:
        """The number of each label."""
        return {label: at for at, label in enumerate(self.labels)}

    def as_json(self) -> dict[str, Any]:
        """For `refitd.json`. JSON keeps the types that labels may have."""
        return {"kind": self.kind.value, "labels": list(self.labels)}

    @classmethod
    def from_json(cls, raw: Any) -> Goal:
        """What `as_json` wrote.

        Raises:
            ArtifactCorrupt: it is something else.
        """
        try:
            goal = cls(Kind(raw["kind"]), tuple(raw["labels"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactCorrupt(f"the artifact's refitd.json can't be read ({error!r}); retrain") from error
        if not all(isinstance(label, _TYPES) for label in goal.labels):
            raise ArtifactCorrupt("the artifact's labels are not texts or numbers; retrain")
        return goal


def goal_of(kind: Kind, found: set[Any], ordered: Sequence[Any] | None, field: str) -> Goal:
    """The goal of rows that have these labels.

    Args:
        ordered: the document's `labels`.

    Raises:
        RowsUnusable: there is nothing to tell apart, or a label that the document's `labels` lack.
    """
    if kind in (Kind.NUMBER, Kind.TEXT):
        return Goal(kind)
    if ordered is not None:
        missing = sorted(found - set(ordered), key=str)
        if missing:
            raise RowsUnusable(
                f"`{field}` has labels that `object.labels` doesn't name: {_listed(missing)}; add them, or leave "
                "`labels` out"
            )
        return Goal(kind, tuple(ordered))
    if kind == Kind.LABEL and len(found) < 2:
        raise RowsUnusable(
            f"`{field}` is {_listed(list(found))} in every row: it takes at least two labels to tell apart; name the "
            "others in `object.labels`, if rows with them will come"
        )
    if not found:
        raise RowsUnusable(f"`{field}` has no label in any row")
    return Goal(kind, tuple(sorted(found)))


def with_head(goal: Goal, names: Mapping[int, str] | None, *, ordered: bool) -> Goal | None:
    """The same goal in the order of a model that has learned these labels already; None: it has learned others.

    Args:
        names: the model's `id2label`.
        ordered: whether the document itself orders the labels: then only that order will do.
    """
    if names is None or len(names) != len(goal.labels) or not goal.labels:
        return None
    theirs = [names.get(at, "").lower() for at in range(len(names))]
    ours = {str(label).lower(): label for label in goal.labels}
    ours |= {f"label_{label}": label for label in goal.labels if type(label) is int}
    if len(ours) < len(goal.labels) or not all(name in ours for name in theirs) or len(set(theirs)) != len(theirs):
        return None
    found = replace(goal, labels=tuple(ours[name] for name in theirs))
    return None if ordered and found != goal else found


def _listed(labels: Sequence[Any]) -> str:
    shown = ", ".join(repr(label) for label in labels[:_MOST_TOLD])
    return shown + (f" and {len(labels) - _MOST_TOLD} more" if len(labels) > _MOST_TOLD else "")
