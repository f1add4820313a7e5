"""Which classes a model document or an artifact may name.

A document is input from whoever can write to the datastore, and importing a module runs its code. So the
operator lists module prefixes; a name resolves only under them, only to a class of an expected kind, and
only to one that was also defined under them: what a trusted module merely imported (`sklearn.utils.os`) is
not trusted for that. Nothing is ever called here.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Self

from registry.code import Vouching, code_forms
from registry.errors import Untrusted

DEFAULT_MODULES = ("sklearn", "torch.nn", "torch.optim", "transformers", "refitd", "trainers")
"""What is trusted without the operator's doing; each trainer narrows it to the kinds that it expects."""

SETTING = "REFITD_TRUST__MODULES"

_TEST_CODE = frozenset({"tests", "conftest", "_testing"})


@dataclass(frozen=True, slots=True)
class Trust:
    """The operator's list of trusted module prefixes, matched on whole components: `sklearnx` is not
    `sklearn`; and who vouches for code that is in no module.
    """

    modules: tuple[str, ...] = DEFAULT_MODULES
    vouching: Vouching = Vouching()  # noqa: RUF009 (frozen)

    @classmethod
    def adding(cls, modules: Iterable[str], vouching: Vouching = Vouching()) -> Self:
        """The defaults, and `modules` of the operator's own."""
        return cls((*DEFAULT_MODULES, *modules), vouching)

    def travelling(self, document: Mapping[str, Any]) -> Self:
        """What a worker needs for this model document: the signing key stays here."""
        parts = [document.get("object"), document.get("fit_kwargs")]
        return replace(self, vouching=self.vouching.passing_on(code_forms(parts)))

    def covers(self, dotted: str) -> bool:
        """Whether `dotted` is one of the prefixes or lies under one."""
        return any(_under(dotted, prefix) for prefix in self.modules)

    def added(self, dotted: str) -> bool:
        """Whether the operator added a prefix that covers it; false for what only a default covers."""
        return any(_under(dotted, prefix) for prefix in self.modules if prefix not in DEFAULT_MODULES)

    def module(self, name: str) -> ModuleType:
        """The module of that name, imported; private ones too.

        Raises:
            Untrusted: no prefix covers it, it is a package's test code, or it can't be imported here.
        """
        self._refuse_foreign(name)
        try:
            return importlib.import_module(name)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise Untrusted(
                f"`{name}` can't be imported ({said}); install it where the daemon and its workers run"
            ) from error

    def resolve(self, dotted: str, kinds: tuple[type, ...]) -> type:
        """The class that `dotted` names.

        Args:
            dotted: a public name, such as `sklearn.svm.SVC`.
            kinds: it must be one of these or a subclass of one.

        Raises:
            Untrusted: it lies outside the prefixes, is private, is not there, is no class of these kinds, or
                was
                defined outside the prefixes. The message says which, and what to do.
        """
        parts = dotted.split(".")
        if len(dotted) > 300 or not all(part.isidentifier() for part in parts):
            raise Untrusted(f"{_shown(dotted)} is not the dotted name of a class, such as `sklearn.svm.SVC`")
        self._refuse_foreign(dotted)
        private = next((part for part in parts if part.startswith("_")), None)
        if private:
            raise Untrusted(f"`{dotted}` is private (`{private}`); use the class's public name")
        found = self._walk(dotted, kinds)
        if not isinstance(found, type) or not issubclass(found, kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise Untrusted(f"`{dotted}` is not a class of the kind that is expected here: {names}")
        self._refuse_escape(dotted, f"{found.__module__}.{found.__qualname__}")
        return found

    def _walk(self, dotted: str, kinds: tuple[type, ...]) -> Any:
        """From the trusted prefix down, attribute by attribute, refusing each step that leads out of it."""
        parts = dotted.split(".")
        # A prefix may name one class, `mycompany.models.Churn`: begin above it, which Python imports anyway.
        start = max(1, min(prefix.count(".") for prefix in self.modules if _under(dotted, prefix)))
        head = ".".join(parts[:start])
        found: Any = (self if self.covers(head) else Trust((head,))).module(head)
        for at in range(start, len(parts)):
            name, here = parts[at], ".".join(parts[: at + 1])
            found = self._step(found, name, here, kinds)
            if isinstance(found, ModuleType):
                self._refuse_escape(here, found.__name__)
            elif not isinstance(found, type):
                raise Untrusted(f"`{here}` is a {type(found).__name__}, not a class")
        return found

    def _step(self, owner: Any, name: str, here: str, kinds: tuple[type, ...]) -> Any:
        try:
            return getattr(owner, name)
        except AttributeError:
            if isinstance(owner, ModuleType) and _has_submodule(here):
                return self.module(here)
        except Exception as error:
            raise Untrusted(f"`{here}` can't be imported ({type(error).__name__}: {error})") from error
        near = difflib.get_close_matches(name, _public_names(owner, kinds), n=1)
        parent = here.rpartition(".")[0]
        hint = f"; did you mean `{parent}.{near[0]}`?" if near else ""
        raise Untrusted(f"there is no `{name}` in `{parent}`{hint}")

    def _refuse_foreign(self, dotted: str) -> None:
        if not self.covers(dotted):
            raise Untrusted(
                f"{_shown(dotted)} lies outside the modules that the operator trusts "
                f"({', '.join(self.modules)}); an operator who trusts it adds its module to {SETTING}"
            )
        if not self.added(dotted) and not _TEST_CODE.isdisjoint(dotted.split(".")):
            raise Untrusted(f"`{dotted}` is test code, which is never imported for a model")

    def _refuse_escape(self, dotted: str, actual: str) -> None:
        if not self.covers(actual):
            raise Untrusted(
                f"`{dotted}` is only another name for `{actual}`, which lies outside the modules that the "
                f"operator trusts; an operator who trusts it adds its module to {SETTING}"
            )


def _under(dotted: str, prefix: str) -> bool:
    return dotted == prefix or dotted.startswith(f"{prefix}.")


def _has_submodule(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _public_names(owner: Any, kinds: tuple[type, ...]) -> list[str]:
    """What a person may have meant: classes of the right kind, and submodules that the module announces."""
    classes = [
        name
        for name, value in vars(owner).items()
        if not name.startswith("_") and isinstance(value, type) and issubclass(value, kinds)
    ]
    return [*classes, *(str(name) for name in getattr(owner, "__all__", ()))]


def _shown(dotted: str) -> str:
    return f"`{dotted if len(dotted) <= 100 else dotted[:97] + '...'}`"
