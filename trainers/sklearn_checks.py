"""What scikit-learn says of a whole model document: its object, the keywords of `fit`, and the metrics."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import get_scorer_names
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from registry.document import Gate, ModelDocument
from registry.errors import Fault
from registry.trust import Trust
from trainers.sklearn_objects import construct
from trainers.sklearn_params import unknown

SCORE = "score"
"""The estimator's own `score`, beside scikit-learn's named scorers: the one metric that needs no target."""

PER_ROW = frozenset({"sample_weight", "groups"})
"""Keywords of `fit` that hold one value a row: a document names the field."""


def check(document: ModelDocument, trust: Trust) -> list[Fault]:
    """All that is wrong with the document in scikit-learn's eyes. Builds the estimator, fits nothing."""
    estimator, faults = construct(document.object, trust)
    if estimator is not None:
        faults += _target_faults(document, estimator)
        faults += _fit_faults(document.fit_kwargs, estimator)
    return [*faults, *_metric_faults(document, estimator), *_resource_faults(document), *_start_faults(document)]


def _start_faults(document: ModelDocument) -> Iterator[Fault]:
    if document.retrain.start_from == "live":
        yield Fault(
            "retrain.start_from", "scikit-learn fits from scratch; only torch and transformers go on from `live`"
        )


def _resource_faults(document: ModelDocument) -> Iterator[Fault]:
    if document.resources.num_workers > 1:
        yield Fault(
            "resources.num_workers",
            "scikit-learn trains in one process; ask for cores with resources.num_cpus, and use them with n_jobs",
        )


def per_row_fields(fit_kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The keywords that name a field, and the field: `{"svc__sample_weight": "weight"}`."""
    return {key: value for key, value in fit_kwargs.items() if _is_per_row(key) and isinstance(value, str)}


def _is_per_row(key: str) -> bool:
    return key.rpartition("__")[2] in PER_ROW


def _target_faults(document: ModelDocument, estimator: Any) -> Iterator[Fault]:
    if document.train_y is None and _needs_target(estimator):
        yield Fault("train_y", f"is missing: {type(estimator).__name__} learns from a target; name its field")


def _needs_target(estimator: Any) -> bool:
    try:
        return is_classifier(estimator) or is_regressor(estimator) or bool(get_tags(estimator).target_tags.required)
    except AttributeError:  # an estimator without tags, or one that asks a part which is not there yet
        return False


def _fit_faults(fit_kwargs: Mapping[str, Any], estimator: Any) -> Iterator[Fault]:
    for key, value in fit_kwargs.items():
        if said := _keyword_fault(key, estimator):
            yield Fault(f"fit_kwargs.{key}", said)
        elif _is_per_row(key) and not isinstance(value, str | None):
            yield Fault(f"fit_kwargs.{key}", "names the field that holds it: the rows differ from fit to fit")


def _keyword_fault(key: str, estimator: Any) -> str | None:
    of = f"{type(estimator).__name__}.fit"
    keywords = inspect.signature(estimator.fit).parameters
    if key in list(keywords)[:2]:
        return "comes from the rows: `train_X` and `train_y` name its fields"
    if isinstance(estimator, Pipeline):
        return _step_fault(key, estimator)
    if key in keywords or any(each.kind is each.VAR_KEYWORD for each in keywords.values()):
        return None
    return unknown(key, list(keywords)[2:], of, "keyword")


def _step_fault(key: str, pipeline: Pipeline) -> str | None:
    step, _, keyword = key.partition("__")
    steps = dict(pipeline.steps)
    if not keyword:
        return f"a Pipeline takes `<step>__{key}`; its steps are: {', '.join(steps)}"
    if step not in steps:
        return unknown(step, steps, "the Pipeline", "step")
    return _keyword_fault(keyword, steps[step]) if hasattr(steps[step], "fit") else f"the step `{step}` has no fit"


def _metric_faults(document: ModelDocument, estimator: Any) -> Iterator[Fault]:
    if document.validation is None:
        return
    named = {f"validation.metrics.{at}": name for at, name in enumerate(document.validation.metrics)}
    if isinstance(document.validation.promote, Gate):
        named["validation.promote.metric"] = document.validation.promote.metric
    for path, name in (named or {"validation.metrics": SCORE}).items():
        if said := _metric_fault(name, document, estimator):
            yield Fault(path, said)


def _metric_fault(name: str, document: ModelDocument, estimator: Any) -> str | None:
    known = [SCORE, *get_scorer_names()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "sklearn.metrics.get_scorer_names() lists them"
        return f"`{name}` is not one of scikit-learn's scorers; {hint}"
    if name != SCORE and document.train_y is None:
        return f"`{name}` compares with a target, and there is no `train_y`; use `{SCORE}`, the estimator's own"
    if name == SCORE and estimator is not None and not hasattr(estimator, "score"):
        return (
            f"{type(estimator).__name__} has no score of its own; name one of scikit-learn's scorers, or "
            "leave `validation` out"
        )
    return None
