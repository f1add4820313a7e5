"""What Python hands over as a PyTorch model, and how it is written into a document. Imports no PyTorch.

    {module: {class: torch.nn.Linear, params: {in_features: 64, out_features: 512}}, preprocess: …, postprocess: …}

What a document can say is written down; whatever else there is (a module with weights of its own, a lambda) becomes
`registry.code.Custom`, which is stored and signed. `trainers.torch_forms` reads the form back.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from registry.code import Custom
from registry.errors import Untrusted

#: What may stand beside a module's own form.
STEPS: Final = ("preprocess", "postprocess")
_HOMES: Final = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler", "torch.nn.functional")


@dataclass(frozen=True, slots=True)
class TorchObject:
    """A module with what is done before and after it.

    `object`: an `nn.Module`, a class of them, a function that makes one, or the form of one.
    `preprocess`: takes one row's X, gives what the module takes of one row. `postprocess`: takes one row's output.
    """

    object: Any
    preprocess: Any = None
    postprocess: Any = None


def describe(model: Any) -> dict[str, Any]:
    """The form of a `TorchObject` or a bare module.

    Raises:
        Untrusted: a part of it is nothing that can be called.
    """
    whole = model if isinstance(model, TorchObject) else TorchObject(model)
    form = {"module": _part(whole.object, "object")}
    for name in STEPS:
        value = getattr(whole, name)
        if value is not None:
            form[name] = _part(value, name)
    return form


def describe_keywords(fit_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`fit_kwargs` as a document has them: PyTorch's own by name, code of the user's as `Custom`."""
    return {name: _keyword(value) for name, value in fit_kwargs.items()}


def split(form: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The module's own form, and those of the steps that stand beside it."""
    steps = {name: form[name] for name in STEPS if form.get(name) is not None}
    rest = {name: value for name, value in form.items() if name not in STEPS}
    return (rest["module"] if set(rest) == {"module"} else rest), steps


def _part(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if not callable(value):
        raise Untrusted(f"{name}: a {type(value).__name__} is no module, class or function; give one of these")
    return Custom(value)


def _keyword(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): _keyword(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [_keyword(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # max_iterations=float("inf"): no limit
    if value is None or isinstance(value, bool | int | str | Custom):
        return value
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.device):
        return str(value)
    return _public_name(value) or Custom(value)


def _public_name(value: Any) -> str | None:
    """The name of one of PyTorch's own classes or functions; None for anything else."""
    name = getattr(value, "__name__", None)
    if name is None or not str(getattr(value, "__module__", "")).startswith("torch."):
        return None
    return next((f"{home}.{name}" for home in _HOMES if getattr(sys.modules.get(home), name, None) is value), None)
