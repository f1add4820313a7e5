"""How good a model's answers are: metrics by the names that scikit-learn's scorers have. Higher is better in all.

| goal | metrics (the first is the default) |
|---|---|
| labels | `accuracy`, `balanced_accuracy`, `f1_macro`, `f1_micro`, `f1_weighted`, the same of `precision` and `recall`, `neg_log_loss` |
| several labels a row | `f1_micro`, …, `accuracy` (all labels of a row right) |
| numbers | `r2`, `neg_mean_squared_error`, `neg_root_mean_squared_error`, `neg_mean_absolute_error` |
| tags | `accuracy` of the words' tags, and `f1_…`, `precision_…`, `recall_…` of those that are not `O` |
| text | `neg_loss` a token, `neg_perplexity` |
"""  # noqa: E501 - a table's rows are one line each

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.document import Gate, ModelDocument
from registry.errors import Fault, TrainingFailed
from registry.nearest import nearest
from trainers.transformers_tasks import Kind, Task

_AVERAGES = ("macro", "micro", "weighted")
_AVERAGED = tuple(f"{name}_{average}" for name in ("f1", "precision", "recall") for average in _AVERAGES)
_KNOWN: Mapping[Kind, tuple[str, ...]] = {
    Kind.LABEL: ("accuracy", "balanced_accuracy", *_AVERAGED, "neg_log_loss"),
    Kind.LABELS: ("f1_micro", *(name for name in _AVERAGED if name != "f1_micro"), "accuracy"),
    Kind.NUMBER: ("r2", "neg_mean_squared_error", "neg_root_mean_squared_error", "neg_mean_absolute_error"),
    Kind.TAGS: ("accuracy", *_AVERAGED),
    Kind.TEXT: ("neg_loss", "neg_perplexity"),
}
_SAID = {
    Kind.LABEL: "one label a row",
    Kind.LABELS: "several labels a row",
    Kind.NUMBER: "a number",
    Kind.TAGS: "tags",
    Kind.TEXT: "text",
}
#: The tag of a word that is nothing in particular (Ramshaw and Marcus 1995).
OUTSIDE = "O"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the rows say and what the model says, in the same order.

    Labels: 1-D arrays of them; `scores` n×k, probabilities in the order of `labels`. Several labels: 0/1 matrices n×k.
    Numbers: 1-D arrays. Tags: 1-D, over all words. Text: `truth` none, `predicted` the mean loss a token.
    """

    truth: Any
    predicted: Any
    labels: Sequence[Any] = ()
    scores: NDArray[np.float64] | None = None


def default(kind: Kind) -> str:
    """The metric where none is named."""
    return _KNOWN[kind][0]


def faults(document: ModelDocument, task: Task) -> list[Fault]:
    """Names of metrics that can't be computed for a task."""
    if document.validation is None:
        return []
    named = {f"validation.metrics.{at}": name for at, name in enumerate(document.validation.metrics)}
    if isinstance(document.validation.promote, Gate):
        named["validation.promote.metric"] = document.validation.promote.metric
    known = list(dict.fromkeys(name for kind in task.kinds for name in _KNOWN[kind]))
    return [Fault(path, _unknown(name, known, task.name)) for path, name in named.items() if name not in known]


def _unknown(name: str, known: Sequence[str], task: str) -> str:
    near = nearest(name, known)
    return f"`{name}` is no metric of {task}; {f'did you mean `{near}`?' if near else 'known: ' + ', '.join(known)}"


def compute(kind: Kind, answers: Answers, names: Sequence[str]) -> dict[str, float]:
    """Each metric; the kind's default where none is named.

    Raises:
        TrainingFailed: one can't be computed of these answers, or is not a finite number.
    """
    found = {}
    for name in names or [default(kind)]:
        if name not in _KNOWN[kind]:
            raise TrainingFailed(_unknown(name, _KNOWN[kind], f"a model that learned {_SAID[kind]}"))
        try:
            value = float(_COMPUTE[kind](answers, name))
        except ValueError as error:
            raise TrainingFailed(f"the metric `{name}` can't be computed: {error}") from error
        if not math.isfinite(value):
            raise TrainingFailed(f"the metric `{name}` is {value} on the rows held out")
        found[name] = value
    return found


def _of_labels(answers: Answers, name: str) -> float:
    from sklearn import metrics

    if name == "neg_log_loss":
        return -float(metrics.log_loss(answers.truth, answers.scores, labels=list(answers.labels)))
    if name == "balanced_accuracy":
        return float(metrics.balanced_accuracy_score(answers.truth, answers.predicted))
    return _averaged(answers, name, None)


def _of_tags(answers: Answers, name: str) -> float:
    tags = {*answers.truth, *answers.predicted} - {OUTSIDE}
    return _averaged(answers, name, sorted(tags, key=str))


def _averaged(answers: Answers, name: str, labels: Sequence[Any] | None) -> float:
    from sklearn import metrics

    if name == "accuracy":
        return float(metrics.accuracy_score(answers.truth, answers.predicted))
    what, _, average = name.partition("_")
    if labels is not None and not labels:
        return 1.0  # there is no tag to find, and none was found
    function: Callable[..., Any] = getattr(metrics, f"{what}_score")
    return float(function(answers.truth, answers.predicted, labels=labels, average=average, zero_division=0))


def _of_numbers(answers: Answers, name: str) -> float:
    from sklearn import metrics

    if name == "r2":
        return float(metrics.r2_score(answers.truth, answers.predicted))
    function: Callable[..., Any] = getattr(metrics, name.removeprefix("neg_"))
    return -float(function(answers.truth, answers.predicted))


def _of_text(answers: Answers, name: str) -> float:
    loss = float(answers.predicted)
    return -loss if name == "neg_loss" else -math.exp(min(loss, 700.0))


_COMPUTE: Mapping[Kind, Callable[[Answers, str], float]] = {
    Kind.LABEL: _of_labels,
    Kind.LABELS: lambda answers, name: _averaged(answers, name, None),
    Kind.NUMBER: _of_numbers,
    Kind.TAGS: _of_tags,
    Kind.TEXT: _of_text,
}
