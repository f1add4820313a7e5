"""How much may be built of a module only to look whether it can be built: a document must not hold its reader up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

#: Calls into PyTorch: some hundred layers take so many, and well under a second.
_CALLS = 10_000


class TooLarge(BaseException):
    """It would take too long. No `Exception`, which a module's own code might catch."""


class Effort(TorchFunctionMode):
    """Within it, PyTorch takes so many calls and then raises TooLarge."""

    def __init__(self, calls: int = _CALLS) -> None:
        super().__init__()
        self._left = calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._left -= 1
        if self._left < 0:
            raise TooLarge
        return func(*args, **(kwargs or {}))
