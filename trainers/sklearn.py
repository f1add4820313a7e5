"""The scikit-learn trainer: any estimator of scikit-learn, or of a module that the operator trusts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from sklearn.metrics import check_scoring

from registry.code import CodeLoader
from registry.document import ModelDocument
from registry.errors import Fault, RefitdError, TrainingFailed
from registry.trust import Trust
from trainers import sklearn_artifacts, sklearn_checks
from trainers.arrays import BASE, column, explain_missing, make_X, make_y
from trainers.predict_rows import rows_to_X
from trainers.sklearn_checks import SCORE, per_row_fields
from trainers.sklearn_detail import detail_of, last_lines, told
from trainers.sklearn_objects import build, describe
from trainers.spool import Rows
from trainers.trainer import Fitted, Report, Training

_WARNINGS_TOLD = 20


@dataclass(frozen=True, slots=True)
class FittedEstimator(Fitted):
    """A fitted estimator, with the trust it was built under: `save` refuses what `load` would refuse."""

    trust: Trust = field(default_factory=Trust)


class SklearnTrainer:
    """Implements `trainers.trainer.Trainer`."""

    name = "sklearn"
    format = "skops"

    def check(self, document: ModelDocument, trust: Trust) -> list[Fault]:
        """See `Trainer.check`."""
        return sklearn_checks.check(document, trust)

    def describe(self, model: Any) -> dict[str, Any]:
        """See `Trainer.describe`."""
        return describe(model)

    def describe_keywords(self, fit_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Trainer.describe_keywords`."""
        return dict(fit_kwargs)

    def fields(self, document: ModelDocument) -> tuple[str, ...] | None:
        """See `Trainer.fields`."""
        if BASE in document.fields_X:
            return None
        named = (*document.fields_X, *document.fields_y, *per_row_fields(document.fit_kwargs).values())
        return tuple(dict.fromkeys(named))

    def fit(self, training: Training) -> Fitted:
        """See `Trainer.fit`."""
        document, report = training.document, training.report
        model = build(document.object, training.trust)
        table = training.rows.table()
        X, y = _inputs(document, table)
        keywords = dict(document.fit_kwargs)
        for key, named in per_row_fields(keywords).items():
            keywords[key] = column(table, named)
        report.progress(None, f"fitting {type(model).__name__} on {table.num_rows} rows")
        with _told_failures(f"{type(model).__name__}.fit", document, table), _told_warnings(report):
            model.fit(X, **keywords) if y is None else model.fit(X, y, **keywords)
        return FittedEstimator(model, detail_of(model), training.trust)

    def evaluate(self, document: ModelDocument, fitted: Fitted, rows: Rows, metrics: Sequence[str]) -> dict[str, float]:
        """See `Trainer.evaluate`. Without metrics: the estimator's own `score`, under that name."""
        table = rows.table()
        X, y = _inputs(document, table)
        names = list(metrics) or [SCORE]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                values = _scores(fitted.model, X, y, names)
            except Exception:  # noqa: BLE001 - told below: one by one, to say which metric it was
                values = {}
                for name in names:
                    with _told_failures(f"the metric `{name}`", document, table):
                        values |= _scores(fitted.model, X, y, [name])
        return {name: _finite(name, values[name], table.num_rows, caught) for name in names}

    def save(self, fitted: Fitted) -> bytes:
        """See `Trainer.save`.

        Raises:
            TrainingFailed: the estimator holds something that can't be stored safely.
        """
        trust = fitted.trust if isinstance(fitted, FittedEstimator) else Trust()
        return sklearn_artifacts.dumps(fitted.model, trust)

    def load(self, data: bytes, document: ModelDocument, trust: Trust, code: CodeLoader) -> Fitted:
        """See `Trainer.load`."""
        model = sklearn_artifacts.loads(data, trust)
        return FittedEstimator(model, detail_of(model), trust)

    def unpack(self, data: bytes, folder: Path) -> None:
        """See `Trainer.unpack`: one file for `skops.io.load`."""
        (folder / "model.skops").write_bytes(data)

    def predict(self, document: ModelDocument, fitted: Fitted, rows: Any) -> Any:
        """See `Trainer.predict`. An estimator that doesn't predict transforms.

        Raises:
            TrainingFailed: it does neither.
        """
        model = fitted.model
        method = getattr(model, "predict", None) or getattr(model, "transform", None)
        if method is None:
            raise TrainingFailed(
                f"{type(model).__name__} says nothing about new rows, only about those it was trained on "
                "(`labels_` or `embedding_` of the loaded model); use an estimator with predict or transform"
            )
        return method(_X_to_predict(document, model, rows))


def _inputs(document: ModelDocument, table: pa.Table) -> tuple[Any, Any]:
    """X, and y or None."""
    y = make_y(table, document.fields_y) if document.fields_y else None
    return make_X(table, document.fields_X, _beside_X(document)), y


def _beside_X(document: ModelDocument) -> tuple[str, ...]:  # noqa: N802
    """The fields that are not part of X where X is the whole row."""
    return (*document.fields_y, *per_row_fields(document.fit_kwargs).values())


def _X_to_predict(document: ModelDocument, model: Any, rows: Any) -> Any:  # noqa: N802
    """X of rows to predict. Of whole rows, which may still have the target, what the model was trained on."""
    trained = getattr(model, "feature_names_in_", None)
    if BASE not in document.fields_X or trained is None:
        return rows_to_X(rows, document.fields_X, _beside_X(document))
    # A vector field became columns `name.0`, `name.1` …: then the rows say what the fields are.
    base = None if any("." in name for name in trained) else tuple(trained)
    X = rows_to_X(rows, document.fields_X, _beside_X(document), base)
    return X[list(trained)] if set(trained) <= set(getattr(X, "columns", ())) else X


def _scores(model: Any, X: Any, y: Any, names: Sequence[str]) -> dict[str, Any]:
    """Each metric's value. Predicts once for all the scorers."""
    values: dict[str, Any] = {}
    if SCORE in names:
        values[SCORE] = model.score(X) if y is None else model.score(X, y)
    named = [name for name in names if name != SCORE]
    return values | (check_scoring(model, scoring=named)(model, X, y) if named else {})


def _finite(name: str, value: Any, rows: int, caught: Sequence[warnings.WarningMessage]) -> float:
    if not math.isfinite(value):
        why = "; ".join(dict.fromkeys(str(each.message) for each in caught))
        raise TrainingFailed(
            f"the metric `{name}` is {value} on the {rows} rows held out" + (f": {why}" if why else "")
        )
    return float(value)


@contextmanager
def _told_failures(what: str, document: ModelDocument, table: pa.Table) -> Iterator[None]:
    """Whatever the estimator raises becomes TrainingFailed, in its own words, with what may explain it."""
    try:
        yield
    except RefitdError:
        raise
    except MemoryError as error:
        raise TrainingFailed(
            f"{what} ran out of memory on {table.num_rows} rows of {table.num_columns} fields ({error}); "
            "raise `resources.memory`, select fewer rows, or take an estimator that needs less"
        ) from error
    except Exception as error:
        missing = explain_missing(table, (*document.fields_X, *document.fields_y), _beside_X(document))
        parts = [f"{what} raised {told(error)}", missing, last_lines(error)]
        raise TrainingFailed("\n".join(part for part in parts if part)) from error


@contextmanager
def _told_warnings(report: Report) -> Iterator[None]:
    """The estimator's warnings as lines of the fit's log, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for text in list(dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in caught))[:_WARNINGS_TOLD]:
        report.line(text)
