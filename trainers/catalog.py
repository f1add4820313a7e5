"""Which trainers there are: our own, and plug-ins installed under the entry point group `refitd.trainers`."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from registry.errors import NotFound
from trainers.trainer import Trainer

_OURS = {
    "sklearn": "trainers.sklearn:SklearnTrainer",
    "torch": "trainers.torch:TorchTrainer",
    "transformers": "trainers.transformers:TransformersTrainer",
}
GROUP = "refitd.trainers"


def names() -> list[str]:
    """Every trainer that a document may name here."""
    return sorted({*_OURS, *(point.name for point in entry_points(group=GROUP))})


@lru_cache(maxsize=32)
def trainer(name: str) -> Trainer:
    """The trainer of that name; its framework is imported now.

    Raises:
        NotFound: there is none, or its framework is not installed; says what to do.
    """
    place = _OURS.get(name) or next((point.value for point in entry_points(group=GROUP) if point.name == name), None)
    if place is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(names())}"
        raise NotFound(f"no trainer is called {name!r}; {hint}")
    module, _, attribute = place.partition(":")
    try:
        made: Trainer = getattr(import_module(module), attribute)()
    except ImportError as error:
        raise NotFound(f"the trainer {name!r} can't be used here: {error}; pip install 'refitd[{name}]'") from error
    return made


def trainer_for(model: Any) -> Trainer:
    """The trainer of an unfitted object, told by the package that its class, or a base of it, comes from.

    Raises:
        NotFound: no trainer here fits such objects.
    """
    packages = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    found = next((name for name in names() if name in packages), None)
    if found is None:
        raise NotFound(
            f"{type(model).__module__}.{type(model).__qualname__} is of no framework that refitd fits here "
            f"({', '.join(names())})"
        )
    return trainer(found)
