"""How good a module is on rows that it was not trained on: scikit-learn's scorers by name, and the loss."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names
from torch import nn

from registry.errors import RowsUnusable, TrainingFailed
from registry.nearest import nearest
from trainers.sklearn_detail import last_lines, told
from trainers.spool import Rows
from trainers.torch_columns import numbers, plain
from trainers.torch_data import Batch, Maker, in_order, moved
from trainers.torch_module import Objective
from trainers.torch_targets import Target

#: The loss itself: smaller is better. `neg_loss` is for gates, where larger is.
LOSS: Final = ("loss", "neg_loss")


def metric_fault(name: str, *, supervised: bool, gate: bool = False) -> str | None:
    """What is wrong with a metric's name; None when it can be computed."""
    known = [*LOSS, *get_scorer_names()]
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean `{near}`?" if near else "sklearn.metrics.get_scorer_names() lists them"
        return f"`{name}` is neither `loss` nor one of scikit-learn's scorers; {hint}"
    if gate and name == "loss":
        return "of `loss` less is better, and a gate wants more: name `neg_loss`"
    if not supervised and name not in LOSS:
        return f"`{name}` compares with a target, and there is no `train_y`; use `neg_loss`"
    return None


def default_metric(target: Target) -> str:
    """The metric of a version when none is named."""
    if target.labelled:
        return "accuracy"
    return "r2" if target.kind == "numbers" else "neg_loss"


class Judge:
    """Judges modules on the same rows, again and again."""

    def __init__(
        self, rows: Rows, maker: Maker, objective: Objective, size: int, compute: Callable[..., Any] | None = None
    ) -> None:
        """`size`: rows in a batch. `compute`: the user's own metrics, of predictions and targets."""
        self._rows, self._maker, self._objective, self._size = rows, maker, objective, size
        self._compute = compute
        self._batches: list[tuple[Any, Batch]] | None = None
        if rows.in_memory and not maker.steps.by_row:
            self._batches = list(in_order(rows, maker, size))  # made once: they are the same each time

    def values(
        self, module: nn.Module, device: torch.device, metrics: Sequence[str], tick: Callable[[], object] = int
    ) -> dict[str, float]:
        """Each metric's value, and `loss`. `tick` is called for each batch.

        Raises:
            TrainingFailed: a metric can't be computed. RowsUnusable: the rows can't be made into X and y.
        """
        target = self._maker.target
        named = [name for name in metrics if name not in LOSS]
        predicted, truth, total, count = [], [], 0.0, 0
        with evaluating(module):
            for rows, (inputs, y) in self._batches or in_order(self._rows, self._maker, self._size):
                tick()
                inputs, y = moved(inputs, device), moved(y, device)
                outputs = module(inputs)
                loss, judged = self._loss(outputs, y, inputs, rows.num_rows)
                total, count = total + loss * judged, count + judged
                if named or self._compute:
                    predicted.append(_kept(target, outputs, probabilities=bool(named)))
                    truth.append(_truth(target, rows, y))
        loss = total / count if count else math.nan
        values = {"loss": loss, "neg_loss": -loss}
        if named:
            values |= _scores(target, np.concatenate(predicted), np.concatenate(truth), named)
        if self._compute:
            values |= self._own(_said(target, np.concatenate(predicted)), np.concatenate(truth))
        return {name: values[name] for name in dict.fromkeys((*metrics, "loss", *values))}

    def _loss(self, outputs: Any, y: Any, inputs: Any, rows: int) -> tuple[float, int]:
        """The mean loss of a batch, and of how many rows: a class that was not trained on has none."""
        if self._maker.target.labelled and self._maker.steps.targets is None:
            known = y >= 0
            if not bool(known.all()):
                outputs, y = outputs[known], y[known]
                rows = len(y)
        if rows == 0:
            return 0.0, 0
        return float(self._objective(outputs, y, inputs)), rows

    def _own(self, predicted: Any, truth: Any) -> dict[str, float]:
        assert self._compute is not None
        try:
            return {str(name): float(value) for name, value in dict(self._compute(predicted, truth)).items()}
        except Exception as error:
            raise TrainingFailed(f"`compute_metrics` raised {told(error)}\n{last_lines(error)}") from error


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module as it predicts: no dropout, no gradients; afterwards as it was."""
    before = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(before)


def tensor_of(outputs: Any) -> torch.Tensor:
    """The tensor in what a module gives: itself, its `logits`, or the first of several.

    Raises:
        TrainingFailed: there is none.
    """
    found = getattr(outputs, "logits", outputs)
    if isinstance(found, Mapping):
        found = found.get("logits", next(iter(found.values()), None))
    if isinstance(found, list | tuple):
        found = found[0] if found else None
    if not isinstance(found, torch.Tensor):
        raise TrainingFailed(
            f"the module gives a {type(outputs).__name__}, in which there is no tensor to judge or predict"
        )
    return found


def _kept(target: Target, outputs: Any, *, probabilities: bool) -> np.ndarray[Any, Any]:
    found = tensor_of(outputs)
    if target.labelled and found.ndim <= 2:
        found = target.probabilities(found) if probabilities else target.places(found)
    elif target.kind == "numbers" and found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    return found.float().cpu().numpy()


def _truth(target: Target, rows: pa.RecordBatch, y: Any) -> Any:
    if target.kind in ("given", "input", "information"):
        return y.cpu().numpy() if isinstance(y, torch.Tensor) else np.zeros(rows.num_rows)
    columns = [plain(rows.column(name)) for name in target.fields]
    if not target.labelled:
        arrays = [numbers(each, name) for name, each in zip(target.fields, columns, strict=True)]
        return arrays[0] if len(arrays) == 1 else np.column_stack(arrays)
    if columns[0].null_count:
        raise RowsUnusable(f"`{target.fields[0]}` is missing in rows that are held out; leave them out in the select")
    return columns[0].to_numpy(zero_copy_only=False)


def _said(target: Target, kept: Any) -> Any:
    if not target.labelled:
        return kept
    return target.labels(kept.argmax(1) if kept.ndim == 2 else kept.astype(np.int64))


class _Classes(ClassifierMixin, BaseEstimator):
    """What scikit-learn's scorers ask of a classifier; X are the probabilities themselves."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.classes_ = target.labels(np.arange(len(target.classes)))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> Any:
        """The likeliest classes."""
        return self.target.labels(X.argmax(1))

    def predict_proba(self, X: Any) -> Any:
        """The probabilities."""
        return X / X.sum(1, keepdims=True)


class _Numbers(RegressorMixin, BaseEstimator):
    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> Any:
        """X are the predictions."""
        return X


def _scores(target: Target, predicted: Any, truth: Any, names: Sequence[str]) -> dict[str, float]:
    stub = _Classes(target) if target.labelled else _Numbers()
    if not target.labelled and target.kind != "numbers":
        raise TrainingFailed(f"{', '.join(names)}: the loss decides what y means here, so only `loss` can be computed")
    values = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for name in names:
            try:
                values[name] = float(get_scorer(name)(stub, predicted, truth))
            except Exception as error:
                raise TrainingFailed(f"the metric `{name}` raised {told(error)}") from error
    for name, value in values.items():
        if not math.isfinite(value):
            why = "; ".join(dict.fromkeys(str(each.message) for each in caught))
            raise TrainingFailed(
                f"the metric `{name}` is {value} on the {len(truth)} rows held out" + (f": {why}" if why else "")
            )
    return values
