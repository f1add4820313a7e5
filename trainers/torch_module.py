"""A module with all that stands around it: what was fitted, and what makes it again elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from registry.code import CodeLoader
from registry.document import ModelDocument
from registry.errors import RefitdError, TrainingFailed
from registry.trust import Trust
from trainers.sklearn_detail import last_lines, told
from trainers.torch_config import TorchConfig, parse
from trainers.torch_data import Maker, Steps
from trainers.torch_forms import build, build_function
from trainers.torch_inputs import Inputs
from trainers.torch_object import split
from trainers.torch_parts import Parts, make_loss, read_parts
from trainers.torch_targets import Target, default_loss, matched
from trainers.trainer import Fitted, Interrupted


@dataclass(frozen=True, slots=True)
class Whole:
    """A module, and what is done before and after it."""

    module: nn.Module
    preprocess: Callable[[Any], Any] | None
    postprocess: Callable[[Any], Any] | None

    def modules(self) -> dict[str, nn.Module]:
        """All of it that has weights."""
        steps = {"preprocess": self.preprocess, "postprocess": self.postprocess}
        return {"module": self.module} | {name: each for name, each in steps.items() if isinstance(each, nn.Module)}


@dataclass(frozen=True, slots=True)
class FittedModule(Fitted):
    """A fitted module. `model` is the `nn.Module`."""

    form: Mapping[str, Any]
    whole: Whole
    inputs: Inputs
    target: Target
    trust: Trust
    code: CodeLoader


def build_whole(form: Mapping[str, Any], trust: Trust, code: CodeLoader) -> Whole:
    """The module of a document's object, with what is done before and after it.

    Raises:
        DocumentInvalid, Untrusted, TrainingFailed: see `trainers.torch_forms.build`.
    """
    inner, steps = split(form)
    module = build(inner, trust, code)
    functions = {name: build_function(step, trust, code, f"object.{name}") for name, step in steps.items()}
    for each in functions.values():
        if isinstance(each, nn.Module):
            each.eval()
    before = functions.get("preprocess")
    return Whole(module, _on_tensors(before), functions.get("postprocess"))


def _on_tensors(function: Any) -> Any:
    return _Tensors(function) if isinstance(function, nn.Module) else function


class _Tensors(nn.Module):
    """A module as `preprocess`: it takes tensors, where a function takes plain values."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @torch.no_grad()
    def forward(self, value: Any) -> Any:
        """What the module makes of a row's numbers."""
        plain = isinstance(value, str | Mapping)
        return self.inner(value if plain else torch.as_tensor(value, dtype=torch.float32))


def steps_of(config: TorchConfig, whole: Whole, trust: Trust, code: CodeLoader) -> Steps:
    """The functions of the user's that make batches."""

    def made(form: Any, name: str) -> Any:
        return build_function(form, trust, code, f"fit_kwargs.{name}")

    wanted = config.target_preprocessors
    if wanted is not None and "code" not in wanted:
        targets: Any = {name: made(each, f"target_preprocessors.{name}") for name, each in wanted.items()}
    else:
        targets = made(wanted, "target_preprocessors")
    collate, start = made(config.collate_fn, "collate_fn"), made(config.worker_init_fn, "worker_init_fn")
    return Steps(whole.preprocess, targets, collate, start)


@dataclass(frozen=True, slots=True)
class Objective:
    """What is made small: a loss of the outputs, and of y or the inputs."""

    target: Target
    function: Any
    #: A loss of PyTorch's own, which wants y in the outputs' shape.
    own: bool

    def __call__(self, outputs: Any, y: Any, inputs: Any) -> torch.Tensor:
        """The loss of a batch: one number."""
        kind = self.target.kind
        if kind == "input":
            y = inputs
        elif not self.target.fields:
            return self._number(self.function(outputs))
        if self.own:
            if not isinstance(outputs, torch.Tensor):
                raise TrainingFailed(
                    f"the module gives a {type(outputs).__name__}, not a tensor; give `loss`, a function of yours that "
                    "takes it, or let the module give a tensor"
                )
            if kind in ("numbers", "binary"):
                y = self._shaped(y, outputs)
        return self._number(self.function(outputs, y))

    def _shaped(self, y: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        y = matched(y, outputs)
        if y.shape != outputs.shape and self.target.kind == "numbers" and y.is_floating_point():
            raise TrainingFailed(
                f"the module gives {_each(outputs)} for each row, but y has {_each(y)}; let its last layer give as many"
            )
        return y

    def _number(self, loss: Any) -> torch.Tensor:
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            what = f"{tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
            raise TrainingFailed(f"the loss gives {what}, where training needs one number, a tensor of one element")
        return loss.reshape(())

    def to(self, device: torch.device) -> None:
        """Its weights of classes, to where the outputs are."""
        if isinstance(self.function, nn.Module):
            self.function.to(device)


def _each(values: torch.Tensor) -> str:
    shape = tuple(values.shape[1:])
    return "1 number" if not shape else f"{'×'.join(map(str, shape))} number{'s' * (shape != (1,))}"


def objective_of(target: Target, parts: Parts) -> Objective:
    """The loss that was named, or the target's own."""
    if parts.loss is None:
        return Objective(target, default_loss(target), own=True)
    return Objective(target, make_loss(parts.loss), own=parts.loss.wants is not None)


def maker_of(document: ModelDocument, fitted: FittedModule) -> tuple[TorchConfig, Maker, Objective]:
    """What evaluates a fitted module."""
    config = parse(document.fit_kwargs)
    steps = steps_of(config, fitted.whole, fitted.trust, fitted.code)
    parts = read_parts(config, fitted.trust, fitted.code)
    return config, Maker(fitted.inputs, fitted.target, steps), objective_of(fitted.target, parts)


def device_of(config: TorchConfig, *, strict: bool = True) -> torch.device:
    """The device that `device` names; where it isn't here and need not be, the CPU.

    Raises:
        TrainingFailed: it isn't here.
    """
    if config.device == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    device = torch.device(config.device)
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type != "cpu" and (device.index or 0) >= here[device.type]:
        if not strict:
            return torch.device("cpu")
        raise TrainingFailed(
            f"`device` is {config.device}, and there {'is' if here[device.type] == 1 else 'are'} {here[device.type]} "
            "such here; ask for one with `resources.num_gpus`, or let `device` be auto"
        )
    return device


@contextmanager
def told_failures(what: str, config: TorchConfig) -> Iterator[None]:
    """Whatever the user's module, loss or PyTorch raises becomes TrainingFailed, in its own words.

    Raises:
        TrainingFailed: see above; where memory ran out, with what takes less.
    """
    try:
        yield
    except (RefitdError, Interrupted):
        raise
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise TrainingFailed(
                f"{what} ran out of memory with `batch_size` {config.batch_size} ({told(error)[:300]}); take a smaller "
                "one (`gradient_accumulation` makes up for it), `precision: bf16`, or raise `resources.memory`"
            ) from error
        raise TrainingFailed("\n".join(filter(None, (f"{what} raised {told(error)}", last_lines(error))))) from error
