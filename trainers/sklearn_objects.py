"""Reads a declarative scikit-learn object back: builds the estimator, or says all that is wrong with it.

Classes resolve under the operator's trusted prefixes only, to estimators, kernels and splitters only;
nothing else is called. `trainers.sklearn_describe` writes the form, `trainers.sklearn_forms` explains it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from registry.errors import DocumentInvalid, Fault, Untrusted
from registry.trust import Trust
from trainers.sklearn_describe import MAX_DEPTH, describe
from trainers.sklearn_forms import (
    ESTIMATOR,
    EXPERIMENTAL,
    GRIDS,
    KINDS,
    UNSTORABLE,
    function_named,
    marker,
    type_named,
)
from trainers.sklearn_params import (
    built_faults,
    fitting,
    grid,
    known_params,
    parts,
    unknown,
    unsafe,
)

__all__ = ["build", "construct", "describe"]


def build(form: Mapping[str, Any], trust: Trust) -> Any:
    """The unfitted estimator that the form describes.

    Raises:
        DocumentInvalid: the form has faults; all of them are named, with their paths.
    """
    estimator, faults = construct(form, trust)
    if faults:
        raise DocumentInvalid(faults)
    return estimator


def construct(form: Any, trust: Trust) -> tuple[Any, list[Fault]]:
    """The estimator and no faults, or None and all of them, with paths from `object` on."""
    builder = _Builder(trust)
    if not isinstance(form, Mapping) or marker(form) != "class":
        message = "must say `class`, such as sklearn.svm.SVC, and may say `params`"
        return None, [Fault("object", message)]
    estimator = builder.object(form, "object", 0, ESTIMATOR)
    if not builder.faults and not hasattr(estimator, "fit"):
        builder.say("object.class", f"{type(estimator).__name__} has no fit")
    return (None if builder.faults else estimator), builder.faults


class _Builder:
    """One walk over a form. Faults add up; an object with a fault in it is not built, its siblings are."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self.faults: list[Fault] = []

    def say(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message))

    def object(self, form: Mapping[str, Any], path: str, depth: int, kinds: tuple[type, ...] = KINDS) -> Any:
        before = len(self.faults)
        for key in form:
            if key not in ("class", "params"):
                self.say(f"{path}.{key}", unknown(str(key), ["class", "params"], "an object", "field"))
        params = form.get("params")
        if not isinstance(params, Mapping | None):
            self.say(f"{path}.params", "must be a mapping from parameter to value")
            params = None
        cls = self._class(form["class"], f"{path}.class", kinds)
        values = self._params(cls, params or {}, f"{path}.params", depth)
        if cls is None or len(self.faults) > before:
            return None
        return self._instance(cls, values, path)

    def _class(self, name: str, path: str, kinds: tuple[type, ...]) -> type | None:
        try:
            if name in EXPERIMENTAL and self.trust.covers(name):
                importlib.import_module(EXPERIMENTAL[name])
            cls = self.trust.resolve(name, kinds)
        except Untrusted as error:
            self.say(path, str(error))
            return None
        if inspect.isabstract(cls):
            self.say(path, f"`{name}` is an abstract class; name one of its subclasses")
            return None
        if name in UNSTORABLE:
            self.say(path, f"a fitted {cls.__name__} can't be stored safely; {UNSTORABLE[name]}")
            return None
        return cls

    def _params(self, cls: type | None, params: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        known, open_ended = known_params(cls) if cls else ({}, True)
        values: dict[str, Any] = {}
        for name, each in params.items():
            here, before = f"{path}.{name}", len(self.faults)
            if name not in known and not open_ended:
                self.say(here, unknown(str(name), known, cls.__name__ if cls else "it"))
            value = self.value(each, here, depth + 1)
            if cls and len(self.faults) == before:
                values[name] = self._judged(cls, name, value, here)
        for name, each in known.items():
            if each.default is each.empty and name not in params:
                self.say(f"{path}.{name}", f"is missing: {cls.__name__ if cls else 'it'} needs it")
        for name in GRIDS:
            if cls and name in values:
                values[name] = grid(values, name, f"{path}.{name}", self.say)
        return values

    def _judged(self, cls: type, name: str, value: Any, path: str) -> Any:
        if said := unsafe(name, value):
            self.say(path, said)
            return value
        before = len(self.faults)
        value = parts(cls, name, value, path, self.say)
        if len(self.faults) > before:
            return value
        value, said = fitting(cls, name, value)
        if said:
            self.say(path, said)
        return value

    def _instance(self, cls: type, values: dict[str, Any], path: str) -> Any:
        try:
            instance = cls(**values)
        except Exception as error:  # noqa: BLE001 - an operator's class may raise anything
            self.say(f"{path}.params", f"{cls.__name__} refuses them: {error}")
            return None
        for message in built_faults(instance):
            self.say(f"{path}.params", message)
        return instance

    def value(self, value: Any, path: str, depth: int) -> Any:
        """Any parameter's value: markers become what they stand for."""
        if depth > MAX_DEPTH:
            self.say(path, f"is nested deeper than {MAX_DEPTH} levels")
            return None
        if isinstance(value, list | tuple):
            items = [self.value(each, f"{path}.{at}", depth + 1) for at, each in enumerate(value)]
            return items if isinstance(value, list) else tuple(items)
        if not isinstance(value, Mapping):
            return self._leaf(value, path)
        kind = marker(value)
        if kind == "class":
            return self.object(value, path, depth)
        if kind is None:
            return {key: self.value(each, f"{path}.{key}", depth + 1) for key, each in value.items()}
        return self._marked(kind, value, path, depth)

    def _leaf(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        self.say(path, f"a {type(value).__name__} can't be a parameter; use numbers, strings, lists and mappings")
        return None

    def _marked(self, kind: str, form: Mapping[str, Any], path: str, depth: int) -> Any:
        before = len(self.faults)
        payload = self.value(form[kind], f"{path}.{kind}", depth + 1)
        if len(self.faults) > before:
            return None
        try:
            if kind == "array":
                return np.asarray(payload, dtype=type_named(str(form["dtype"])))
            return _MARKERS[kind](payload)
        except (ValueError, TypeError, OverflowError) as error:
            self.say(path, str(error))
            return None


def _float(name: str) -> float:
    if name not in ("nan", "inf", "-inf"):
        raise ValueError(f"`{name}` is none of nan, inf, -inf")
    return float(name)


_MARKERS: Mapping[str, Any] = {
    "tuple": tuple,
    "float": _float,
    "dict": dict,
    "slice": lambda three: slice(*three),
    "dtype": type_named,
    "function": function_named,
}
