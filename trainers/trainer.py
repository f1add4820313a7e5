"""The contract of a trainer: rows in, a fitted object out. It holds no database handle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from registry.document import ModelDocument
from registry.errors import Fault
from registry.trust import Trust

if TYPE_CHECKING:
    import pyarrow as pa


class Report(Protocol):
    """Where a trainer says how far it is."""

    def progress(self, fraction: float | None, message: str) -> None:
        """`fraction` of this stage, 0 to 1, where it is known. Cheap: call it as often as you like.

        Raises:
            Cancelled, TimeLimit: the fit should stop here.
        """

    def line(self, text: str) -> None:
        """Log a line of the fit."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained object, with what a version should say about it beside its metrics."""

    model: Any
    detail: Mapping[str, Any]


class Trainer(Protocol):
    """One framework.

    A trainer is stateless: every method may be called in another process than the one before.
    """

    name: str
    #: What `save` writes, e.g. `skops`; stored with the version and handed back to `load`.
    format: str

    def check(self, document: ModelDocument, trust: Trust) -> list[Fault]:
        """All that is wrong with `object`, `fit_kwargs` and `validation.metrics` in this framework's eyes: unknown or
        untrusted classes, unknown parameters (naming the nearest), values out of range. Builds, but fits nothing."""

    def describe(self, model: Any) -> dict[str, Any]:
        """The declarative form (`object` of the document) of an unfitted object of this framework.

        Raises:
            Untrusted: some part of it can't be written down; names the part and the fix.
        """

    def fields(self, document: ModelDocument) -> tuple[str, ...] | None:
        """The columns it needs: X, y and those that `fit_kwargs` name (`sample_weight`). None: the whole row."""

    def fit(self, document: ModelDocument, batches: Iterable[pa.RecordBatch], trust: Trust, report: Report) -> Fitted:
        """Train from scratch.

        Raises:
            RowsUnusable: the rows can't be made into X and y; names the field.
            TrainingFailed: the estimator refused, in its own words, with the traceback's last lines.
        """

    def evaluate(
        self, document: ModelDocument, fitted: Fitted, batches: Iterable[pa.RecordBatch], metrics: Sequence[str]
    ) -> dict[str, float]:
        """Each metric on held-out rows.

        Raises:
            TrainingFailed: a metric can't be computed on them.
        """

    def save(self, fitted: Fitted) -> bytes:
        """The artifact. Never a pickle."""

    def load(self, data: bytes, document: ModelDocument, trust: Trust) -> Fitted:
        """What `save` wrote.

        Raises:
            Untrusted: it holds types that the operator did not allow.
        """

    def predict(self, document: ModelDocument, fitted: Fitted, rows: Any) -> Any:
        """Predictions for rows: a table or DataFrame, a list of mappings or of values, or an array, as scikit-learn
        users write them; the X fields are taken from named columns."""
