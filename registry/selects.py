"""The contract of selects: how one kind of datastore is asked for rows, judged without asking it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from registry.errors import Fault
from registry.watch import Watch


class Selects(Protocol):
    """How a model document's selects are written for one kind of datastore. Pure: no server is asked."""

    def faults(self, select: Any, *, scheduled: bool) -> list[Fault]:
        """All that is wrong with a select, each with its path within it.

        Args:
            scheduled: whether the model has a schedule. Without one, a select that depends on the time or on chance is
                a fault: no change would tell when its rows change.
        """

    def field_fault(self, name: str) -> str | None:
        """Why no select can give a field of this name; None when one can."""

    def watches(self, select: Any, fields: Iterable[str] | None) -> Mapping[str, Watch]:
        """What a faultless select depends on, for each relation that it reads.

        Args:
            fields: those that the model is trained on; None: the whole row.
        """

    def relation(self, select: Any) -> str:
        """The first relation that a faultless select reads, for people."""
