"""Fitted scikit-learn estimators as skops files: a zip of arrays and a schema, never a pickle.

skops imports and fills only types that are named as trusted; this page decides which. What skops trusts by
itself (scikit-learn's estimators, NumPy's arrays, plain types) is not asked again. Source:
skops/io/_audit.py.

What this does not promise: skops judges types, not values. Someone who can replace an artifact *and* its
digest in the registry can still crash the process that predicts, with a tree whose node indices point
nowhere.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import numpy as np
import skops.io
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from skops.io.exceptions import UnsupportedTypeException

from registry.errors import ArtifactCorrupt, TrainingFailed, Untrusted
from registry.trust import Trust
from trainers.sklearn_forms import FUNCTIONS, KINDS, scorer_functions


def _is_scalar_type(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, np.generic)


TYPES: Final = frozenset(
    {
        "builtins.frozenset",
        "builtins.object",
        "functools.partial",  # skops makes one of the functions below, or of none
        "numpy.dtype",
        *(f"numpy.{name}" for name, value in vars(np).items() if _is_scalar_type(value)),
        "scipy.interpolate._bsplines.BSpline",
        *(f"scipy.sparse._{kind}.{kind}_{form}" for kind in ("csr", "csc", "coo") for form in ("matrix", "array")),
    }
)
"""Types of no module that the operator lists, which fitted estimators of scikit-learn hold."""

_INNER_FUNCTIONS: Final = (
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.cluster._kmeans._kmeans_single_elkan",
    "sklearn.utils.validation.check_array",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
)

_CLOSED: Final = (
    "sklearn.datasets",
    "sklearn.externals",
    "sklearn.utils._mocking",
    "sklearn.utils.estimator_checks",
)
"""Parts of scikit-learn that no fitted estimator holds: they fetch, read files, or are for tests."""


def dumps(model: Any, trust: Trust) -> bytes:
    """The artifact of a fitted estimator, which `loads` is sure to accept under the same trust.

    Raises:
        TrainingFailed: it holds something that can't be stored safely.
    """
    name = type(model).__name__
    try:
        data = skops.io.dumps(model)
    except RecursionError as error:
        raise TrainingFailed(f"a fitted {name} can't be stored safely: it refers to itself") from error
    except (UnsupportedTypeException, TypeError, ValueError) as error:
        raise TrainingFailed(f"a fitted {name} can't be stored safely ({error}); use another estimator") from error
    refused = [each for each in skops.io.get_untrusted_types(data=data) if not _allowed(each, trust)]
    if refused:
        raise TrainingFailed(
            f"a fitted {name} can't be stored safely: it holds {', '.join(refused)}; use another estimator, "
            "or let the operator add its module to REFITD_TRUST__MODULES"
        )
    return bytes(data)


def loads(data: bytes, trust: Trust) -> Any:
    """The estimator that `dumps` wrote. Nothing of it is imported or called before every type in it was
    judged.

    Raises:
        Untrusted: it holds types that neither scikit-learn's estimators need nor the operator allowed; names
        them. ArtifactCorrupt: it is not an artifact of an estimator.
    """
    try:
        named = skops.io.get_untrusted_types(data=data)
        refused = [each for each in named if not _allowed(each, trust)]
        refused += [each for each in _called(data) if each not in refused]
        if refused:
            raise Untrusted(
                f"the artifact holds {', '.join(refused)}, which a stored model has no need of; it was "
                "not loaded. If the operator trusts that module, add it to REFITD_TRUST__MODULES"
            )
        model = skops.io.loads(data, trusted=named)
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        ImportError,
        RecursionError,
    ) as error:
        raise ArtifactCorrupt(f"the artifact can't be read ({type(error).__name__}: {error}); retrain") from error
    if not isinstance(model, BaseEstimator):
        raise ArtifactCorrupt(f"the artifact holds a {type(model).__name__}, not an estimator; retrain")
    if _reads_files(model):
        raise Untrusted("the artifact holds a vectorizer that opens files named by the rows; retrain it on texts")
    return model


@lru_cache(maxsize=1)
def _functions() -> frozenset[str]:
    """Functions that a fitted estimator may refer to: they compute, and touch nothing else."""
    named = {f"{each.__module__}.{each.__name__}" for each in FUNCTIONS.values()}
    return frozenset({*named, *scorer_functions(), *_INNER_FUNCTIONS})


def _allowed(name: str, trust: Trust) -> bool:
    """Whether skops may import this name, and fill or call it."""
    if name in TYPES or name in _functions():
        return True
    home, _, leaf = name.rpartition(".")
    if not trust.covers(home) or any(f"{home}.".startswith(f"{closed}.") for closed in _CLOSED):
        return False
    try:
        found = vars(trust.module(home)).get(leaf)
    except Untrusted:
        return False
    if not isinstance(found, type) or found.__module__ != home:
        return False  # a function, or what the module merely imported
    return home.startswith("sklearn.") or trust.added(home) or issubclass(found, KINDS)


def _called(data: bytes) -> Iterator[str]:
    """Functions that the schema, crafted by hand, would have called at load; they are only referred to."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        rest: list[Any] = [json.loads(archive.read("schema.json"))]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            name = f"{node.get('__module__')}.{node.get('__class__')}"
            if name in _functions() and node.get("__loader__") != "FunctionNode":
                yield f"a call of {name}"
            rest += node.values()
        elif isinstance(node, list):
            rest += node


def _reads_files(model: Any) -> bool:
    """Whether a vectorizer in it would open files that the rows to predict name: `check` refuses that in
    documents.
    """
    rest, seen = [model], set()
    while rest:
        each = rest.pop()
        if id(each) in seen or not isinstance(each, BaseEstimator | list | tuple | dict):
            continue
        seen.add(id(each))
        if isinstance(each, CountVectorizer | HashingVectorizer) and each.input != "content":
            return True
        inner = vars(each) if isinstance(each, BaseEstimator) else each
        rest += inner.values() if isinstance(inner, dict) else inner
    return False
