"""Writes a scikit-learn object down: `SVC(C=0.05)` becomes `{class: sklearn.svm.SVC, params: {C: 0.05}}`.

Only parameters are written, by `get_params`, and only those that differ from their defaults. Nothing is
pickled: what the form can't say is refused, with the parameter's path. `trainers.sklearn_objects` reads the
form back.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process.kernels import Kernel
from sklearn.utils.metaestimators import _BaseComposition

from registry.errors import Untrusted
from trainers.sklearn_forms import KINDS, PARTS, function_name, marker, type_name

MAX_DEPTH = 64
"""Levels of nesting, counted in values: a person's document has about ten."""

MAX_ARRAY = 10_000
"""Elements of an array that may be written into a document."""


def describe(model: Any) -> dict[str, Any]:
    """The declarative form of an unfitted estimator; what it learned, if anything, is not part of it.

    Raises:
        Untrusted: some part of it can't be written down; names the part and the fix.
    """
    if isinstance(model, type):
        raise Untrusted(f"object: {model.__name__} is a class; give an instance of it, {model.__name__}()")
    if not isinstance(model, BaseEstimator):
        raise Untrusted(f"object: a {type(model).__name__} is not a scikit-learn estimator")
    return _object(model, "object", 0)


def _object(value: Any, path: str, depth: int) -> dict[str, Any]:
    if isinstance(value, FrozenEstimator):
        raise Untrusted(f"{path}: FrozenEstimator holds a fitted estimator, which a document can't; train it as a step")
    params = {
        name: _value(_listed(value, name, each), f"{path}.params.{name}", depth + 1)
        for name, each in own_params(value).items()
        if not _is_default(type(value), name, each)
    }
    form: dict[str, Any] = {"class": _public_name(type(value), path)}
    return form | {"params": params} if params else form


def _listed(owner: Any, name: str, value: Any) -> Any:
    """The named estimators of a Pipeline or the like as lists: what a person would write, and `build` turns
    back.
    """
    if name in PARTS and isinstance(owner, _BaseComposition) and isinstance(value, list | tuple):
        return [list(each) if isinstance(each, tuple) else each for each in value]
    return value


def own_params(value: Any) -> dict[str, Any]:
    """The constructor's parameters and what they hold now, not those of objects inside."""
    if isinstance(value, BaseEstimator | Kernel):
        return dict(value.get_params(deep=False))
    # Splitters and selectors have no `get_params`; scikit-learn's own repr reads them the same way.
    held = {**getattr(value, "cvargs", {}), **vars(value)}
    names = inspect.signature(type(value)).parameters
    return {name: held[name] for name in names if name in held}


def _value(value: Any, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise Untrusted(f"{path}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, KINDS):
        return _object(value, path, depth)
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            return write(value, path, depth)
    if (name := type_name(value)) is not None:
        return {"dtype": name}
    if (name := function_name(value)) is not None:
        return {"function": name}
    raise Untrusted(f"{path}: {_why_not(value)}")


def _list(value: Any, path: str, depth: int) -> list[Any]:
    return [_value(each, f"{path}.{at}", depth + 1) for at, each in enumerate(value)]


def _tuple(value: Any, path: str, depth: int) -> Any:
    return {"tuple": _list(value, path, depth)}


def _slice(value: Any, path: str, depth: int) -> Any:
    return {"slice": _list((value.start, value.stop, value.step), path, depth)}


def _mapping(value: Any, path: str, depth: int) -> Any:
    form = {key: _value(each, f"{path}.{key}", depth + 1) for key, each in value.items()}
    if all(isinstance(key, str) for key in form) and marker(form) is None:
        return form
    return {"dict": [[_value(key, path, depth + 1), each] for key, each in form.items()]}


def _array(value: Any, path: str, depth: int) -> Any:
    if value.size > MAX_ARRAY:
        raise Untrusted(f"{path}: an array of {value.size} elements; a document may hold {MAX_ARRAY} at most")
    name = "str" if value.dtype.kind == "U" else value.dtype.name
    if value.dtype.kind not in "biufUO":
        raise Untrusted(f"{path}: an array of type {value.dtype}, which a document can't hold")
    return {"array": _list(value.tolist(), path, depth), "dtype": name}


_WRITERS: tuple[tuple[Any, Callable[[Any, str, int], Any]], ...] = (
    (tuple, _tuple),
    (list | range, _list),
    (slice, _slice),
    (Mapping, _mapping),
    (np.ndarray, _array),
)


def _why_not(value: Any) -> str:
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return "a random generator can't be written into a document; give its seed, an integer"
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__name__)
        return (
            f"the function {name} can't be written into a document, since code is never taken from one; use "
            "a named option of the estimator, a NumPy ufunc, or put the function into an estimator class of "
            "your own, in a module that the operator lists in REFITD_TRUST__MODULES"
        )
    return (
        f"a {type(value).__module__}.{type(value).__qualname__} can't be written into a document; use "
        "numbers, strings, lists, mappings, arrays and scikit-learn objects"
    )


def _is_default(cls: type, name: str, value: Any) -> bool:
    known = inspect.signature(cls).parameters.get(name)
    if known is None or known.default is inspect.Parameter.empty:
        return False
    return _same(value, known.default)


def _same(left: Any, right: Any) -> bool:
    """Equal and of one type, all the way down: 1 is not True, and nan is nan."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (left != left and right != right)
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(_same, left, right))
    return isinstance(left, int | str) and left == right


def _public_name(cls: type, path: str) -> str:
    """`sklearn.svm.SVC` for `sklearn.svm._classes.SVC`: the first public module above it that offers it."""
    parts = cls.__module__.split(".")
    private = next((at for at, part in enumerate(parts) if part.startswith("_")), len(parts))
    home = ".".join(parts[:private])
    offered = getattr(sys.modules.get(home), cls.__qualname__, None)
    if offered is not cls:
        raise Untrusted(
            f"{path}: {cls.__module__}.{cls.__qualname__} can't be imported under a public name by the "
            "daemon; put the class at the top level of a module that is installed there and listed in "
            "REFITD_TRUST__MODULES"
        )
    return f"{home}.{cls.__qualname__}"
