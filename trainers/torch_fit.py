"""One fit of a PyTorch module, from the rows to what a version says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from registry.errors import Cancelled, TrainingFailed
from trainers.evaluation import LEARNS
from trainers.sklearn_detail import MANY
from trainers.spool import Rows
from trainers.torch_columns import Survey, survey
from trainers.torch_config import TorchConfig, parse
from trainers.torch_data import Feed, Maker, moved
from trainers.torch_forms import build_function
from trainers.torch_inputs import describe_shape, inputs_of, refuse_gaps
from trainers.torch_judge import Judge, evaluating
from trainers.torch_loop import Loop
from trainers.torch_machine import Machine
from trainers.torch_module import (
    FittedModule,
    Objective,
    Whole,
    build_whole,
    device_of,
    objective_of,
    steps_of,
    told_failures,
)
from trainers.torch_parts import Parts, make_optimizer, make_scheduler, read_parts
from trainers.torch_progress import told_warnings
from trainers.torch_state import seeded, start_from, unpack
from trainers.torch_targets import target_of
from trainers.trainer import Interrupted

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trainers.trainer import Training

_PROBED = 4
#: Rows are judged in larger batches than they are trained in: there are no gradients to keep.
JUDGED = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known before the first step."""

    config: TorchConfig
    whole: Whole
    parts: Parts
    maker: Maker
    objective: Objective


def fit(training: Training) -> FittedModule:
    """Train. See `trainers.trainer.Trainer.fit`."""
    config = parse(training.document.fit_kwargs)
    device = device_of(config)
    with told_warnings(training.report), seeded(config.seed, device), told_failures("training", config):
        _refuse_few(config, training.rows)
        found = _survey(training)
        plan = _plan(training, config, found, device)
        with prepared(plan, device) as machine:
            return _trained(training, plan, machine)


def _survey(training: Training) -> Survey:
    document, schema = training.document, training.rows.schema
    inputs = inputs_of(document, schema, whole=False)
    fields = dict.fromkeys((*inputs.fields, *document.fields_y))
    return survey(training.rows.batches(), list(fields), document.fields_y)


def _plan(training: Training, config: TorchConfig, found: Survey, device: torch.device) -> Plan:
    document, rows, trust, code = training.document, training.rows, training.trust, training.code
    whole = build_whole(document.object, trust, code)
    parts = read_parts(config, trust, code)
    steps = steps_of(config, whole, trust, code)
    by_row = whole.preprocess is not None
    inputs = inputs_of(document, rows.schema, whole=not by_row and _takes_whole(whole.module))
    refuse_gaps(found, inputs, document.fields_y, preprocessed=by_row)
    given = steps.targets is not None
    first = rows.take(np.arange(min(_PROBED, rows.num_rows)))
    early = Maker(inputs, target_of(found, document.fields_y, parts.loss, given, None, None), steps)
    batch, _ = early.whole(first)
    whole.module.to(device)
    outputs = _probed(whole.module, moved(batch, device), inputs.fields)
    target = target_of(found, document.fields_y, parts.loss, given, moved(batch, device), outputs)
    objective = objective_of(target, parts)
    objective.to(device)
    return Plan(config, whole, parts, Maker(inputs, target, steps), objective)


def _takes_whole(module: nn.Module) -> bool:
    """Whether what it does first is to look numbers up."""
    first = next((each for each in module.modules() if not list(each.children())), None)
    return isinstance(first, nn.Embedding | nn.EmbeddingBag)


def _probed(module: nn.Module, inputs: Any, fields: tuple[str, ...]) -> Any:
    """What the module gives for some rows. Lazy layers find their sizes here.

    Raises:
        TrainingFailed: it can't take them; says of what shape they are.
    """
    with evaluating(module):
        try:
            return module(inputs)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
            named = ", ".join(f"`{name}`" for name in fields[:6])
            raise TrainingFailed(
                f"the module can't take a batch of {describe_shape(inputs)} (rows of {named}): "
                f"{type(error).__name__}: {error}"
            ) from error


def _refuse_few(config: TorchConfig, rows: Rows) -> None:
    if rows.num_rows < config.batch_size and config.drop_last:
        raise TrainingFailed(
            f"`drop_last` leaves no batch: there are {rows.num_rows} rows, and `batch_size` is {config.batch_size}"
        )


@contextmanager
def prepared(plan: Plan, device: torch.device) -> Iterator[Machine]:
    """The module, ready to be trained; afterwards it is as a user would have built it, in main memory."""
    accelerator = _accelerator(plan.config, device)
    module = plan.whole.module
    own = vars(module).get("forward")
    try:
        yield _machine(accelerator, plan)
    finally:
        accelerator.unwrap_model(module, keep_fp32_wrapper=False)
        for name in ("_is_accelerate_prepared", "forward"):
            vars(module).pop(name, None)
        if own is not None:
            module.forward = own
        module.to("cpu").eval()
        for each in module.parameters():
            each.grad = None


def _machine(accelerator: Accelerator, plan: Plan) -> Machine:
    parameters = [each for each in plan.whole.module.parameters() if each.requires_grad]
    if not parameters:
        raise TrainingFailed("the module has no weights to train: give one with parameters that require gradients")
    optimizer = make_optimizer(plan.parts.optimizer, parameters)
    module, prepared_optimizer = accelerator.prepare(plan.whole.module, optimizer)
    return Machine(accelerator, module, prepared_optimizer, None, plan.parts.scheduler, plan.objective)


def _accelerator(config: TorchConfig, device: torch.device) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # another fit's in this process, on another device
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if config.precision == "fp16" and device.type == "cpu":
        raise TrainingFailed("`precision: fp16` needs a GPU, and there is none here; use bf16 or no")
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.gradient_accumulation,
    )


def _trained(training: Training, plan: Plan, machine: Machine) -> FittedModule:
    config, accelerator = plan.config, machine.accelerator
    feed = Feed(training.rows, plan.maker, config, (accelerator.process_index, accelerator.num_processes))
    judge = _judge(training, plan)
    loop = Loop(config, machine, feed, judge, training.report, training.checkpoints)
    if plan.parts.scheduler is not None:
        updates = _updates(loop.steps, feed.batches, config.gradient_accumulation)
        bare = machine.optimizer.optimizer
        machine.scheduler = make_scheduler(plan.parts.scheduler, bare, config, updates, loop.epochs)
    _begin(training, plan, loop)
    try:
        loop.run()
    except Cancelled as stop:
        if loop.place.step == 0:
            raise
        loop.settle()
        raise Interrupted(_fitted(training, plan, loop)) from stop
    return _fitted(training, plan, loop)


def _updates(steps: int, batches: int, accumulated: int) -> int:
    """Steps of the optimizer in so many batches, of which an epoch has `batches`."""
    whole, rest = divmod(steps, batches)
    return whole * -(-batches // accumulated) + -(-rest // accumulated)


def _judge(training: Training, plan: Plan) -> Judge | None:
    config = plan.config
    compute = build_function(config.compute_metrics, training.trust, training.code, "fit_kwargs.compute_metrics")
    if training.held is None or not training.held.num_rows:
        if config.no_improve_then_stop is not None:
            training.report.line("no rows are held out: the training loss decides when nothing improves any more")
        return None
    return Judge(training.held, plan.maker, plan.objective, config.batch_size * JUDGED, compute)


def _begin(training: Training, plan: Plan, loop: Loop) -> None:
    """From the live version's weights, or from where an earlier attempt was lost."""
    start = training.start
    if isinstance(start, FittedModule):
        said = start_from(plan.whole.module, start.whole.module.state_dict())
        training.report.line(
            "begins with the weights of the live version"
            if said is None
            else f"begins from scratch: the live version's weights don't fit, {said}"
        )
        if said is None and start.target.classes != plan.maker.target.classes:
            training.report.line(f"the classes are others than the live version's: {plan.maker.target.shown()}")
    data = training.checkpoints.last()
    state = unpack(data) if data is not None else None
    if state is not None:
        loop.resume(state)
        training.report.line(f"goes on at step {loop.place.step}, where an earlier attempt kept a checkpoint")
    elif data is not None:
        training.report.line("the earlier attempt's checkpoint can't be read; begins at the beginning")


def _fitted(training: Training, plan: Plan, loop: Loop) -> FittedModule:
    place, target = loop.place, plan.maker.target
    module = plan.whole.module
    detail: dict[str, Any] = {
        "module": type(module).__name__,
        LEARNS: "labels" if target.labelled else target.kind,
        "parameters": sum(each.numel() for each in module.parameters()),
        "epochs": place.epoch + (1 if place.batch else 0),
        "steps": place.step,
        "loss": place.loss,
        "device": str(loop.machine.device),
        "precision": plan.config.precision,
    }
    if target.classes and len(target.classes) <= MANY:
        detail["classes"] = list(target.classes)
    if place.best is not None and plan.config.no_improve_then_stop is not None:
        detail["best_step"] = place.best_step
    if loop.stopped:
        detail["stopped"] = loop.stopped
    return FittedModule(
        *(
            module,
            detail,
            training.document.object,
            plan.whole,
            plan.maker.inputs,
            target,
            training.trust,
            training.code,
        )
    )
