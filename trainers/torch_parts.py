"""The loss, optimizer and scheduler that `fit_kwargs` name.

Names are PyTorch's own (`Adam`, `torch.optim.Adam`), or dotted ones of classes that the operator trusts; beside them
there is code of the user's. What a loss wants of y is said by `LOSSES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from registry.code import CodeLoader, is_code
from registry.errors import DocumentInvalid, Fault, Untrusted
from registry.nearest import nearest
from registry.trust import Trust
from trainers.torch_config import TorchConfig
from trainers.torch_forms import Forms

#: What a loss wants of y: the numbers of classes, one probability, numbers as they are.
Wants = Literal["indices", "binary", "numbers"]
LOSSES: Final[dict[str, Wants]] = {
    "CrossEntropyLoss": "indices",
    "NLLLoss": "indices",
    "MultiMarginLoss": "indices",
    "BCELoss": "binary",
    "BCEWithLogitsLoss": "binary",
    "MSELoss": "numbers",
    "L1Loss": "numbers",
    "SmoothL1Loss": "numbers",
    "HuberLoss": "numbers",
    "PoissonNLLLoss": "numbers",
    "KLDivLoss": "numbers",
    "HingeEmbeddingLoss": "numbers",
    "SoftMarginLoss": "numbers",
    "MultiLabelSoftMarginLoss": "numbers",
    "MultiLabelMarginLoss": "numbers",
}
_FUNCTIONS: Final = {
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "multi_margin_loss": "MultiMarginLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
    "kl_div": "KLDivLoss",
    "hinge_embedding_loss": "HingeEmbeddingLoss",
    "soft_margin_loss": "SoftMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "multilabel_margin_loss": "MultiLabelMarginLoss",
}
_NOT_HERE: Final = {
    "LBFGS": "needs the loss again within a step; use Adam or SGD",
    "SequentialLR": "is made of other schedulers; give a function of yours that makes it of the optimizer",
    "ChainedScheduler": "is made of other schedulers; give a function of yours that makes it of the optimizer",
    "LambdaLR": "needs a function; give one of yours that makes it of the optimizer",
    "MultiplicativeLR": "needs a function; give one of yours that makes it of the optimizer",
}
_EVERY_STEP: Final = ("OneCycleLR", "CyclicLR")


@dataclass(frozen=True, slots=True)
class Part:
    """What makes a loss, optimizer or scheduler: a class or function, and its keywords."""

    make: Any
    keywords: dict[str, Any]
    #: A class of PyTorch's own, not code of the user's.
    name: str | None

    @property
    def wants(self) -> Wants | None:
        """What this loss wants of y; None: nobody knows."""
        return LOSSES.get(self.name or "")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a fit trains with."""

    loss: Part | None
    optimizer: Part
    scheduler: Part | None


class PartReader:
    """Reads them, and says what is wrong with them. Without a code loader it only says that."""

    def __init__(self, trust: Trust, code: CodeLoader | None = None) -> None:
        self.forms = Forms(trust, code)

    def read(self, config: TorchConfig) -> Parts:
        """All three; what has a fault is not usable."""
        loss = self.part(config.loss, "loss", {}, (nn.Module,), "torch.nn")
        optimizer = self.part(config.optimizer, "optimizer", config.optimizer_kwargs, (Optimizer,), "torch.optim")
        kinds = (lr_scheduler.LRScheduler,)
        home = "torch.optim.lr_scheduler"
        scheduler = self.part(config.scheduler, "scheduler", config.scheduler_kwargs, kinds, home)
        return Parts(loss, optimizer or Part(None, {}, None), scheduler)

    def part(
        self, form: Any, keyword: str, keywords: Mapping[str, Any], kinds: tuple[type, ...], home: str
    ) -> Part | None:
        """One of them; None where there is none, or it has faults."""
        path = f"fit_kwargs.{keyword}"
        if form is None:
            return None
        if is_code(form):
            found = self.forms.load(form, path)
            return None if found is None else Part(found, dict(keywords), None)
        named = form if isinstance(form, Mapping) else {"class": form}
        if "class" not in named or not isinstance(named.get("params", {}), Mapping) or not set(named) <= _SAYS:
            self.forms.say(path, "must be a name, `class` and `params`, or a function of yours")
            return None
        cls = self._class(str(named["class"]), keyword, kinds, home, path)
        given = {**named.get("params", {}), **keywords}
        if cls is None or not self._fits(cls, given, path, keyword):
            return None
        own = cls.__name__ if cls.__module__.startswith("torch.") else None
        return Part(cls, _tensors(given) if keyword == "loss" else _tuples(given), own)

    def _class(self, name: str, keyword: str, kinds: tuple[type, ...], home: str, path: str) -> type | None:
        short = name.removeprefix("torch.nn.functional.").removeprefix("F.")
        if keyword == "loss" and short in _FUNCTIONS:
            name = _FUNCTIONS[short]
        dotted = name if "." in name else f"{home}.{name}"
        near = nearest(dotted.rpartition(".")[2], _names(keyword, kinds))
        hint = f"; did you mean `{near}`?" if near else ""
        try:
            cls = self.forms.trust.resolve(dotted, kinds)
        except Untrusted as error:
            said = f"there is no {keyword} `{name}` in {home}{hint}" if "." not in name else str(error)
            self.forms.say(path, said)
            return None
        if cls.__name__ in _NOT_HERE and cls.__module__.startswith("torch."):
            self.forms.say(path, f"{cls.__name__} {_NOT_HERE[cls.__name__]}")
            return None
        if keyword == "loss" and cls.__module__.startswith("torch.") and cls.__name__ not in LOSSES:
            self.forms.say(
                path, f"{cls.__name__} is no loss of outputs and y alone{hint or '; give a function of yours'}"
            )
            return None
        if keyword == "loss" and not (cls.__module__.startswith("torch.") or self.forms.trust.added(dotted)):
            self.forms.say(path, f"`{name}` is no loss of torch.nn; give a function of yours")
            return None
        return cls

    def _fits(self, cls: type, given: Mapping[str, Any], path: str, keyword: str) -> bool:
        known = list(inspect.signature(cls).parameters)[0 if keyword == "loss" else 1 :]
        where = path if keyword == "loss" else f"{path}_kwargs"
        before = len(self.forms.faults)
        for name in given:
            if name not in known and "kwargs" not in known:
                near = nearest(name, known)
                hint = f"did you mean `{near}`?" if near else f"it has: {', '.join(known)}"
                self.forms.say(f"{where}.{name}", f"{cls.__name__} has no parameter `{name}`; {hint}")
        return len(self.forms.faults) == before


_SAYS: Final = frozenset({"class", "params"})


def _names(keyword: str, kinds: tuple[type, ...]) -> list[str]:
    """What PyTorch has of this kind."""
    if keyword == "loss":
        return list(LOSSES)
    found = vars(torch.optim if keyword == "optimizer" else lr_scheduler).items()
    return [name for name, cls in found if isinstance(cls, type) and issubclass(cls, kinds)]


def read_parts(config: TorchConfig, trust: Trust, code: CodeLoader) -> Parts:
    """The loss, optimizer and scheduler of a fit.

    Raises:
        DocumentInvalid: they have faults; all of them are named.
    """
    reader = PartReader(trust, code)
    parts = reader.read(config)
    if reader.forms.faults:
        raise DocumentInvalid(reader.forms.faults)
    return parts


def faults_of(config: TorchConfig, trust: Trust) -> list[Fault]:
    """What is wrong with the parts that `fit_kwargs` name. Tries the optimizer and scheduler on one number."""
    reader = PartReader(trust)
    parts = reader.read(config)
    faults = reader.forms.faults
    if not faults and parts.optimizer.name:
        try:
            optimizer = make_optimizer(parts.optimizer, [nn.Parameter(torch.zeros(1, 1))])
        except Exception as error:  # noqa: BLE001 - whatever a wrong value makes PyTorch raise
            return [Fault("fit_kwargs.optimizer_kwargs", f"{parts.optimizer.name} refuses them: {error}")]
        if parts.scheduler and parts.scheduler.name:
            try:
                make_scheduler(parts.scheduler, optimizer, config, 100, 10)
            except Exception as error:  # noqa: BLE001 - likewise
                return [Fault("fit_kwargs.scheduler_kwargs", f"{parts.scheduler.name} refuses them: {error}")]
    return faults


def make_loss(part: Part) -> Any:
    """The loss: a function, or a module that is one."""
    if isinstance(part.make, type) and issubclass(part.make, nn.Module):
        return part.make(**part.keywords)
    return part.make


def make_optimizer(part: Part, parameters: Any) -> Optimizer:
    """The optimizer of these parameters."""
    made: Optimizer = part.make(parameters, **part.keywords)
    return made


def make_scheduler(part: Part, optimizer: Optimizer, config: TorchConfig, steps: int, epochs: int) -> Any:
    """The scheduler; what it must know of the fit's length is filled in.

    Args:
        steps: of the optimizer, in the whole fit.
        epochs: in the whole fit.
    """
    keywords = dict(part.keywords)
    if part.name == "OneCycleLR" and not {"total_steps", "epochs"} & set(keywords):
        keywords["total_steps"] = steps
    if part.name == "CosineAnnealingLR" and "T_max" not in keywords:
        keywords["T_max"] = steps if each_step(part, config) else epochs
    return part.make(optimizer, **keywords)


def each_step(part: Part, config: TorchConfig) -> bool:
    """Whether the scheduler moves every step, not every epoch."""
    return (config.scheduler_interval or ("step" if part.name in _EVERY_STEP else "epoch")) == "step"


def _tensors(params: Mapping[str, Any]) -> dict[str, Any]:
    """Lists are tensors: the weights of classes."""
    return {name: torch.tensor(each) if isinstance(each, list) else each for name, each in params.items()}


def _tuples(params: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of numbers are tuples, as optimizers want their betas."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in params.items()}
