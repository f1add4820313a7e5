"""Reads the form of a PyTorch module back: builds it, or says all that is wrong with it.

    {class: torch.nn.Sequential, params: [{class: torch.nn.Linear, params: [64, 32]}, {class: torch.nn.ReLU}]}
    {class: torch.nn.Linear, args: [64], params: {out_features: 32}}
    {code: <digest>, signature: …, name: …, python: …}

Classes resolve under the operator's trusted prefixes only, and only to subclasses of `nn.Module` that compute; nothing
else is called. Code is loaded only where it is vouched for. `trainers.torch_object` writes the form.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from registry.code import CodeLoader, is_code
from registry.errors import DocumentInvalid, Fault, TrainingFailed, Untrusted
from registry.nearest import nearest
from registry.trust import Trust
from trainers.torch_effort import Effort, TooLarge

MAX_DEPTH: Final = 64
_KEYS: Final = ("class", "params", "args")
#: Parts of torch.nn whose modules do more than compute, or hold what only code can make.
_REFUSED: Final = (
    *("torch.nn.parallel", "torch.nn.utils", "torch.nn.intrinsic", "torch.nn.qat", "torch.nn.quantized"),
    *("torch.nn.quantizable", "torch.nn.modules.module"),
)
_NOT_BUILT: Final = ("Module", "Container", "ParameterDict", "ParameterList", "SyncBatchNorm")


class Forms:
    """One walk over a form. Faults add up; a module with a fault in it is not built, its siblings are.

    Without a code loader nothing is loaded and no weights are made: then it only finds what is wrong.
    """

    def __init__(self, trust: Trust, code: CodeLoader | None = None) -> None:
        self.trust, self.code = trust, code
        self.faults: list[Fault] = []

    def say(self, path: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(path, message))

    def module(self, form: Any, path: str, depth: int = 0) -> nn.Module | None:
        """The module of a form; None where it has faults."""
        if depth > MAX_DEPTH:
            self.say(path, f"is nested deeper than {MAX_DEPTH} levels")
            return None
        if is_code(form):
            return self._made(form, path)
        if not isinstance(form, Mapping) or "class" not in form:
            self.say(path, "must say `class`, such as torch.nn.Linear, and may say `params`; or hold signed `code`")
            return None
        before = len(self.faults)
        for key in form:
            if key not in _KEYS:
                self.say(f"{path}.{key}", _unknown(str(key), _KEYS, "a module"))
        cls = self.resolve(form["class"], f"{path}.class")
        args, params = self._given(form, cls, path, depth)
        if cls is None or len(self.faults) > before:
            return None
        return self._built(cls, args, params, path)

    def function(self, form: Any, path: str) -> Any:
        """What a form of code loads to, or the module of a module's form; None where it has faults."""
        if isinstance(form, Mapping) and "class" in form:
            return self.module(form, path)
        if not is_code(form):
            self.say(path, "must be a function of yours, which Python adds as signed code, or `class` and `params`")
            return None
        found = self.load(form, path)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return self.module(form, path)
        if found is not None and not callable(found):
            self.say(path, f"is a {type(found).__name__}, which can't be called")
        return found

    def load(self, form: Mapping[str, Any], path: str) -> Any:
        """What a form of code loads to; while only faults are looked for, something that stands for it."""
        try:
            if self.code is not None:
                return self.code.load(form)
            self.trust.vouching.check(form)
        except Untrusted as error:
            self.say(path, str(error))
            return None
        return nn.Identity()

    def resolve(self, name: Any, path: str) -> type[nn.Module] | None:
        """The class of a name, when a document may name it."""
        try:
            cls = self.trust.resolve(str(name), (nn.Module,))
        except Untrusted as error:
            self.say(path, str(error))
            return None
        full = f"{cls.__module__}.{cls.__qualname__}"
        refused = any(f"{each}.".startswith(f"{bad}.") for bad in _REFUSED for each in (name, full))
        if (refused or (full.startswith("torch.") and cls.__name__ in _NOT_BUILT)) and not self.trust.added(str(name)):
            self.say(path, f"`{name}` is no module that a document can build; give a module of your own from Python")
            return None
        if not (_torch_s(cls) or self.trust.added(str(name))):
            self.say(path, f"`{name}` is no module of torch.nn; use the trainer of its own framework")
            return None
        return cls

    def _made(self, form: Mapping[str, Any], path: str) -> nn.Module | None:
        before = len(self.faults)
        found = self.load(form, path)
        if len(self.faults) > before:
            return None
        if not isinstance(found, nn.Module) and callable(found):
            what = getattr(found, "__qualname__", type(found).__name__)
            try:
                found = found()
            except Exception as error:
                raise TrainingFailed(
                    f"{path}: {what}() raised {type(error).__name__}: {error}; it is called without arguments, and "
                    "must give the module"
                ) from error
        if not isinstance(found, nn.Module):
            raise TrainingFailed(
                f"{path}: the code `{form.get('name')}` gives a {type(found).__name__}; it must be an "
                "nn.Module, or give one"
            )
        return found

    def _given(
        self, form: Mapping[str, Any], cls: type | None, path: str, depth: int
    ) -> tuple[list[Any], dict[str, Any]]:
        """Its positional arguments and its keywords."""
        params, args = form.get("params"), form.get("args")
        where, at = f"{path}.params", f"{path}.args"
        if isinstance(params, list | tuple) and args is None:
            params, args, at = None, params, where
        if not isinstance(params, Mapping | None):
            self.say(where, "must be a mapping from parameter to value, or a list of values")
            params = None
        keywords = dict(params or {})
        variable = _variable(cls)
        if variable in keywords and args is None:
            args, at = keywords.pop(variable), f"{where}.{variable}"
        if not isinstance(args, list | tuple | None):
            self.say(at, "must be a list of values")
            args = None
        plain = tuple if cls is not None and _torch_s(cls) else list
        values = [self._value(each, f"{at}.{place}", depth, plain) for place, each in enumerate(args or ())]
        named = {name: self._value(each, f"{where}.{name}", depth, plain) for name, each in keywords.items()}
        return values, named

    def _value(self, value: Any, path: str, depth: int, plain: type) -> Any:
        if depth > MAX_DEPTH:
            self.say(path, f"is nested deeper than {MAX_DEPTH} levels")
            return None
        if isinstance(value, Mapping):
            if is_code(value) or "class" in value:
                return self.module(value, path, depth + 1)
            return {name: self._value(each, f"{path}.{name}", depth + 1, plain) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return plain(self._value(each, f"{path}.{at}", depth + 1, plain) for at, each in enumerate(value))
        if value is None or isinstance(value, bool | int | float | str):
            return value
        self.say(path, f"a {type(value).__name__} can't be a parameter; use numbers, strings, lists and mappings")
        return None

    def _built(self, cls: type[nn.Module], args: list[Any], params: dict[str, Any], path: str) -> nn.Module | None:
        said = _misfit(cls, args, params)
        if said is not None:
            self.say(f"{path}.params{said[0]}", said[1])
            return None
        if self.code is None and not _torch_s(cls):
            return nn.Identity()  # an operator's class is built when there is something to fit
        try:
            if self.code is not None:
                return cls(*args, **params)
            with torch.device("meta"), Effort():
                return cls(*args, **params)
        except TooLarge:
            return nn.Identity()  # too much to build for a look: what is wrong with it, the fit will say
        except Exception as error:  # noqa: BLE001 - a class may raise anything
            self.say(f"{path}.params", f"{cls.__name__} refuses them: {type(error).__name__}: {error}")
            return None


def build(form: Any, trust: Trust, code: CodeLoader, path: str = "object") -> nn.Module:
    """The module that a form describes, with the weights that it begins with, in main memory.

    Raises:
        DocumentInvalid: the form has faults; all of them are named.
        TrainingFailed: code of the user's raised, or gives no module.
    """
    forms = Forms(trust, code)
    module = forms.module(form, path)
    if module is None or forms.faults:
        raise DocumentInvalid(forms.faults)
    return module


def build_function(form: Any, trust: Trust, code: CodeLoader, path: str) -> Any:
    """The function, or module, of a form; None of None. Raises as `build` does."""
    if form is None:
        return None
    forms = Forms(trust, code)
    found = forms.function(form, path)
    if forms.faults:
        raise DocumentInvalid(forms.faults)
    return found


def _torch_s(cls: type) -> bool:
    return cls.__module__.startswith("torch.nn.")


def _variable(cls: type | None) -> str | None:
    """The name of its parameter for any number of positional values."""
    kinds = inspect.signature(cls).parameters.values() if cls else ()
    return next((each.name for each in kinds if each.kind is each.VAR_POSITIONAL), None)


def _misfit(cls: type, args: list[Any], params: dict[str, Any]) -> tuple[str, str] | None:
    """The parameter that doesn't fit the constructor, and why."""
    signature = inspect.signature(cls)
    known = [each.name for each in signature.parameters.values() if each.kind is not each.VAR_POSITIONAL]
    open_ended = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    for name in params:
        if name not in known and not open_ended:
            return f".{name}", _unknown(name, known, cls.__name__)
    try:
        signature.bind(*args, **params)
    except TypeError as error:
        return "", f"{cls.__name__}: {error}"
    return None


def _unknown(name: str, known: Any, owner: str) -> str:
    near = nearest(name, known)
    hint = f"did you mean `{near}`?" if near else f"it has: {', '.join(known) or 'none'}"
    return f"{owner} has no parameter `{name}`; {hint}"
