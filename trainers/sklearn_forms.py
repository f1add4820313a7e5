"""What a declarative scikit-learn object may hold beside JSON: the kinds of class, and the few named
functions, types and markers.

A marker is a mapping that stands for a value which JSON and BSON lack:

    {class: sklearn.svm.SVC, params: {C: 2}}   an object; `params` may be left out
    {tuple: [1, 2]}                            a tuple
    {float: nan}                               nan, inf or -inf
    {dict: [[0, 1.0], [1, 5.0]]}               a mapping whose keys are not strings
    {slice: [0, 3, null]}                      a slice
    {array: [[1, 2]], dtype: int64}            a NumPy array
    {dtype: float32}                           a NumPy scalar type, or float, int, bool, str, object
    {function: sklearn.feature_selection.chi2} one of `FUNCTIONS`, or a ufunc of NumPy or scipy.special
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import scipy.special  # type: ignore[import-untyped]
from sklearn import feature_selection, metrics
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.gaussian_process.kernels import Kernel
from sklearn.model_selection import (
    BaseCrossValidator,
    BaseShuffleSplit,
    RepeatedKFold,
    RepeatedStratifiedKFold,
)

ESTIMATOR: Final[tuple[type, ...]] = (BaseEstimator,)
"""What `object` itself must be."""

KINDS: Final[tuple[type, ...]] = (
    BaseEstimator,
    Kernel,
    BaseCrossValidator,
    BaseShuffleSplit,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    make_column_selector,
)
"""What an object inside another one's parameters may be."""

SCORE_FUNCTIONS: Final = (
    "chi2",
    "f_classif",
    "f_regression",
    "mutual_info_classif",
    "mutual_info_regression",
    "r_regression",
)

FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    **{f"sklearn.feature_selection.{name}": getattr(feature_selection, name) for name in SCORE_FUNCTIONS},
    **{f"numpy.{name}": getattr(np, name) for name in ("mean", "median", "max", "min")},
}
"""The functions that a document may name, each harmless whatever it is called with. Ufuncs come on top."""

EXPERIMENTAL: Final[Mapping[str, str]] = {
    "sklearn.impute.IterativeImputer": "sklearn.experimental.enable_iterative_imputer",
    "sklearn.model_selection.HalvingGridSearchCV": "sklearn.experimental.enable_halving_search_cv",
    "sklearn.model_selection.HalvingRandomSearchCV": "sklearn.experimental.enable_halving_search_cv",
}
"""Classes that scikit-learn hides until another module of its own is imported; naming one is asking for it.
"""

UNSTORABLE: Final[Mapping[str, str]] = {
    "sklearn.cluster.Birch": "use sklearn.cluster.MiniBatchKMeans or BisectingKMeans",
}
"""Estimators whose fitted form skops does not write, with what to use instead."""

GRIDS: Final = ("param_grid", "param_distributions")
"""Parameters that hold parameters: name of one of the estimator's → the values to try."""

PARTS: Final = ("steps", "transformers", "transformer_list", "estimators")
"""Parameters that hold named estimators: [[name, estimator], …], columns third in a ColumnTransformer."""

HIST_BOOSTING: Final = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
"""With a scorer for early stopping, the fitted form refers to itself, which skops does not write."""

_UFUNC_HOMES: Final = {"numpy": np, "scipy.special": scipy.special}

_PLAIN_TYPES: Final[tuple[type, ...]] = (float, int, bool, str, object)

_PAYLOADS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "tuple": (list, tuple),
    "float": str,
    "dict": (list, tuple),
    "slice": (list, tuple),
    "dtype": str,
    "function": str,
}


def marker(value: Mapping[Any, Any]) -> str | None:
    """Which marker the mapping is, by its keys and payload; None for a plain mapping."""
    if isinstance(value.get("class"), str):
        return "class"
    if set(value) == {"array", "dtype"}:
        return "array"
    if len(value) != 1:
        return None
    key = str(next(iter(value)))
    return key if key in _PAYLOADS and isinstance(value.get(key), _PAYLOADS[key]) else None


def function_name(value: Any) -> str | None:
    """The name under which a document may name this function; None where it may not."""
    for name, known in FUNCTIONS.items():
        if value is known:
            return name
    if isinstance(value, np.ufunc):
        for home, module in _UFUNC_HOMES.items():
            name = str(value.__name__)
            if getattr(module, name, None) is value:
                return f"{home}.{name}"
    return None


def function_named(name: str) -> Any:
    """The function that a document names.

    Raises:
        ValueError: a document may not name it.
    """
    home, _, leaf = name.rpartition(".")
    found = FUNCTIONS.get(name) or getattr(_UFUNC_HOMES.get(home), leaf, None)
    if name not in FUNCTIONS and not isinstance(found, np.ufunc):
        raise ValueError(
            f"`{name}` is not a function that a document may name; these are: {', '.join(FUNCTIONS)}, "
            "and the ufuncs of numpy and scipy.special"
        )
    return found


def type_name(value: Any) -> str | None:
    """The name of a dtype, a NumPy scalar type or a plain type; None for anything else."""
    if isinstance(value, np.dtype):
        return value.name if value.name in np.sctypeDict else None
    if not isinstance(value, type):
        return None
    return value.__name__ if value in _PLAIN_TYPES or issubclass(value, np.generic) else None


def type_named(name: str) -> type:
    """The type that a document names: `float32`, `int64`, `object` …

    Raises:
        ValueError: there is none of that name.
    """
    plain: Any = getattr(builtins, name, None)
    if isinstance(plain, type) and plain in _PLAIN_TYPES:
        return plain
    scalar: Any = getattr(np, name, None)
    if isinstance(scalar, type) and issubclass(scalar, np.generic):
        return scalar
    raise ValueError(f"`{name}` is not a NumPy type, such as float32 or int64")


def scorer_functions() -> dict[str, Callable[..., Any]]:
    """The functions behind scikit-learn's named scorers, by the name that an artifact calls them."""
    scorers = (metrics.get_scorer(name) for name in metrics.get_scorer_names())
    functions = (scorer._score_func for scorer in scorers)
    return {f"{each.__module__}.{each.__qualname__}": each for each in functions}
