"""What scikit-learn, and our own caution, say about one object's parameters, before anything is fitted.

scikit-learn checks parameters when `fit` is called; here the same rules (`_parameter_constraints`) are asked
beforehand, one parameter at a time, so that every fault of a document is found and not only the first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sklearn.model_selection import ParameterGrid
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.metaestimators import _BaseComposition

from registry.nearest import nearest
from trainers.sklearn_forms import HIST_BOOSTING, PARTS

Say = Callable[[str, str], None]
"""Takes note of a fault: its path and message."""


def known_params(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """The constructor's parameters, and whether it takes any other as well."""
    params = inspect.signature(cls).parameters
    open_ended = any(each.kind is each.VAR_KEYWORD for each in params.values())
    return {n: p for n, p in params.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}, open_ended


def unknown(name: str, known: Mapping[str, Any] | list[str], of: str, noun: str = "parameter") -> str:
    """The message for a name that isn't there."""
    near = nearest(name, known)
    hint = f"did you mean `{near}`?" if near else f"it has: {', '.join(sorted(known)) or 'none'}"
    return f"{of} has no {noun} `{name}`; {hint}"


def unsafe(name: str, value: Any) -> str | None:
    """Why a parameter's value would reach into the machine that fits, if it would.

    `memory` names a folder that joblib unpickles from; `input` makes a vectorizer open each row's text as a
    file.
    """
    if not isinstance(value, str):
        return None
    if name == "memory":
        return "a cache folder is read back with pickle, so it can't come from a document; leave `memory` out"
    if name == "input" and value in ("filename", "file"):
        return f"`{value}` would open files of the machine that fits; store the texts in the rows"
    return None


def refusal(cls: type, name: str, value: Any) -> str | None:
    """scikit-learn's own words against this value of this parameter; None when it has none."""
    constraints = getattr(cls, "_parameter_constraints", None)
    if not isinstance(constraints, Mapping) or name not in constraints:
        return None
    try:
        validate_parameter_constraints(constraints, {name: value}, caller_name=cls.__name__)
    except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
        return str(error)
    return None


def fitting(cls: type, name: str, value: Any) -> tuple[Any, str | None]:
    """The value in the type that the parameter wants, and scikit-learn's refusal if there is none.

    JSON has no tuples, and some shells write every number as a double: [1, 2] becomes (1, 2) and 3.0 becomes
    3 where the value as written is refused and the other is not.
    """
    said = refusal(cls, name, value)
    if said is None:
        return value, None
    if isinstance(value, list) and refusal(cls, name, tuple(value)) is None:
        return tuple(value), None
    if isinstance(value, float) and value.is_integer() and refusal(cls, name, int(value)) is None:
        return int(value), None
    return value, said


def parts(cls: type, name: str, value: Any, path: str, say: Say) -> Any:
    """The named estimators of a Pipeline or the like, as tuples, which is how scikit-learn wants them."""
    if name not in PARTS or not issubclass(cls, _BaseComposition):
        return value
    length = 3 if name == "transformers" else 2
    shape = "[name, transformer, columns]" if length == 3 else "[name, estimator]"
    if not isinstance(value, list | tuple):
        say(path, f"must be a list of {shape}")
        return value
    for at, each in enumerate(value):
        if not isinstance(each, list | tuple) or len(each) != length or not isinstance(each[0], str):
            say(f"{path}.{at}", f"must be {shape}, the name a string")
    return [tuple(each) if isinstance(each, list) else each for each in value]


def built_faults(estimator: Any) -> Iterator[str]:
    """What scikit-learn says against an estimator as a whole: missing or unfit pieces."""
    checks = ["_validate_params"] if hasattr(estimator, "_parameter_constraints") else []
    if isinstance(estimator, _BaseComposition):
        checks += ["_validate_steps", "_validate_transformers", "_validate_estimators"]
    if isinstance(estimator, HIST_BOOSTING) and estimator.early_stopping and estimator.scoring != "loss":
        yield "can't be stored safely when stopped early by a scorer; leave `scoring` out, or `early_stopping: false`"
    for name in checks:
        try:
            getattr(estimator, name, lambda: None)()
        except Exception as error:  # noqa: BLE001 - an operator's class may raise anything
            yield str(error) or type(error).__name__


def grid(values: dict[str, Any], name: str, path: str, say: Say) -> Any:
    """A search's grid, each candidate in the type that its parameter wants.

    Args:
        values: the search's parameters, built; `estimator` is looked at.
        name: one of `GRIDS`.
        path: of the grid.
        say: takes the faults.
    """
    grids = values[name]
    listed = grids if isinstance(grids, list) else [grids]
    try:
        if not all(isinstance(key, str) for each in listed for key in each):
            raise TypeError("its keys must be names of parameters")
        ParameterGrid(listed)
    except (TypeError, ValueError) as error:
        say(path, str(error))
        return grids
    known = values["estimator"].get_params(deep=True) if hasattr(values.get("estimator"), "get_params") else None
    done = [{key: _candidates(values, known, each, key, f"{path}.{key}", say) for key in each} for each in listed]
    return done if isinstance(grids, list) else done[0]


def _candidates(
    values: dict[str, Any],
    known: dict[str, Any] | None,
    one: Mapping[str, Any],
    key: str,
    path: str,
    say: Say,
) -> Any:
    candidates = one[key]
    head, _, leaf = key.rpartition("__")
    for each in candidates:
        if said := unsafe(leaf, each):
            say(path, said)
            return candidates
    # `clf__C` is judged by the candidates for `clf` when the grid swaps `clf` itself.
    swapped = any(key.startswith(f"{other}__") for other in one)
    if known is None or swapped:
        return candidates
    if key not in known:
        say(path, unknown(key, known, type(values["estimator"]).__name__))
        return candidates
    owner = known.get(head) if head else values["estimator"]
    fitted = [fitting(type(owner), leaf, each) for each in candidates]
    for _, said in fitted:
        if said is not None:
            say(path, said)
    return [value for value, _ in fitted] if isinstance(candidates, list | tuple) else candidates
