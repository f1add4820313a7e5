"""The contract of a trainer: rows in, a fitted object out. It holds no database handle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from registry.code import CodeLoader
from registry.document import ModelDocument
from registry.errors import Fault
from registry.trust import Trust

if TYPE_CHECKING:
    from trainers.spool import Rows


class Report(Protocol):
    """Where a trainer says how far it is."""

    def progress(self, fraction: float | None, message: str, **figures: float | None) -> None:
        """`fraction` of this stage, 0 to 1, where it is known. Cheap: call it as often as you like.

        Args:
            figures: numbers that `refitd fits --json` shows beside them: `epoch`, `epochs`, `step`, `steps`, `loss`,
                `samples_per_s`, `eta_s`, and metrics on the held-out rows with `val_` before their names.

        Raises:
            Cancelled, TimeLimit: the fit should stop here.
        """

    def line(self, text: str) -> None:
        """Log a line of the fit."""


class Checkpoints(Protocol):
    """What a long fit leaves behind, so that another attempt goes on from there when its worker is lost."""

    def last(self) -> bytes | None:
        """What an earlier attempt kept last, if it was of the same document and exactly the same rows."""

    def due(self) -> bool:
        """Whether it is time to keep one: some seconds after the beginning, then so that keeping takes under a tenth of
        the time. Cheap: call it as often as you like."""

    def keep(self, data: bytes) -> None:
        """Store it durably, in place of the one before."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained object, with what a version should say about it beside its metrics."""

    model: Any
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Training:
    """All that a fit gives its trainer.

    `held` are rows to judge on, where the document has a `validation`; a trainer may stop early by them. `code` makes
    objects of the document's code forms. `start` is the live version, where the document says to go on from it and
    its `object` is the same.
    """

    document: ModelDocument
    rows: Rows
    held: Rows | None
    trust: Trust
    code: CodeLoader
    report: Report
    checkpoints: Checkpoints
    start: Fitted | None = None


class Interrupted(Exception):
    """A fit was cancelled, and has something to show: `fitted` is the best it had by then. Raised from `Cancelled`."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__("cancelled")
        self.fitted = fitted


class Trainer(Protocol):
    """One framework.

    A trainer is stateless: every method may be called in another process than the one before.
    """

    name: str
    #: What `save` writes, e.g. `skops`; stored with the version and handed back to `load`.
    format: str

    def check(self, document: ModelDocument, trust: Trust) -> list[Fault]:
        """All that is wrong with `object`, `fit_kwargs` and `validation.metrics` in this framework's eyes: unknown or
        untrusted classes, code that nobody vouches for, unknown parameters (naming the nearest), values out of range.
        Loads no code and no weights, and fits nothing."""

    def describe(self, model: Any) -> dict[str, Any]:
        """The declarative form (`object` of the document) of an unfitted object of this framework. What no document
        can say is a `registry.code.Custom` in it, where this framework's models may hold code.

        Raises:
            Untrusted: some part of it can't be written down; names the part and the fix.
        """

    def describe_keywords(self, fit_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Likewise for the keywords of `fit`."""

    def fields(self, document: ModelDocument) -> tuple[str, ...] | None:
        """The columns it needs: X, y and those that `fit_kwargs` name (`sample_weight`). None: the whole row."""

    def fit(self, training: Training) -> Fitted:
        """Train.

        Raises:
            RowsUnusable: the rows can't be made into X and y; names the field.
            TrainingFailed: the estimator refused, in its own words, with the traceback's last lines.
            Interrupted: it was cancelled on the way.
        """

    def evaluate(self, document: ModelDocument, fitted: Fitted, rows: Rows, metrics: Sequence[str]) -> dict[str, float]:
        """Each metric on held-out rows.

        Raises:
            TrainingFailed: a metric can't be computed on them.
        """

    def save(self, fitted: Fitted) -> bytes:
        """The artifact. Never a pickle."""

    def load(self, data: bytes, document: ModelDocument, trust: Trust, code: CodeLoader) -> Fitted:
        """What `save` wrote.

        Raises:
            Untrusted: it holds types that the operator did not allow, or code that nobody vouches for.
        """

    def unpack(self, data: bytes, folder: Path) -> None:
        """Write what `save` wrote as files into an empty folder, for who uses the framework without refitd.

        Raises:
            Untrusted: it holds files that it should not.
        """

    def predict(self, document: ModelDocument, fitted: Fitted, rows: Any) -> Any:
        """Predictions for rows: a table or DataFrame, a list of mappings or of values, or an array, as scikit-learn
        users write them; the X fields are taken from named columns."""
