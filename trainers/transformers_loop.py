"""One training run of transformers' own `Trainer`, over rows that may lie in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.state import AcceleratorState, GradientState

from registry.errors import Cancelled, RefitdError, TrainingFailed, Untrusted
from trainers import transformers_checkpoints
from trainers.evaluation import LEARNS
from trainers.sklearn_detail import last_lines, told
from trainers.trainer import Interrupted, Training
from trainers.transformers_arguments import make
from trainers.transformers_metrics import Answers, compute, default
from trainers.transformers_model import FittedPipeline, merged
from trainers.transformers_quiet import alone
from trainers.transformers_rows import BlockSampler, TextRows
from trainers.transformers_tasks import Kind
from trainers.transformers_telling import Telling

#: How `train_sampling_strategy` of TrainingArguments goes through the rows, where it needn't know all their lengths.
_BY_BLOCK = {"random": True, "sequential": False}


class RowsTrainer(transformers.Trainer):  # type: ignore[misc, unused-ignore]
    """transformers' Trainer, which goes through the rows by block, and knows the loss of the last steps."""

    train_dataset: TextRows

    def __init__(self, training: Training, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._rows = training.rows
        self._summed: torch.Tensor | None = None
        self._summed_from = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        shuffle = _BY_BLOCK.get(self.args.train_sampling_strategy)
        if shuffle is None:
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return BlockSampler(self._rows, seed, shuffle=shuffle)

    def training_step(self, *args: Any, **keywords: Any) -> torch.Tensor:
        """One forward and backward pass; the loss is added up."""
        loss: torch.Tensor = super().training_step(*args, **keywords)
        self._summed = loss.detach() if self._summed is None else self._summed + loss.detach()
        return loss

    def loss_lately(self) -> float | None:
        """The mean loss of the steps since this was called last."""
        steps = self.state.global_step - self._summed_from
        if self._summed is None or steps <= 0:
            return None
        mean = float(self._summed) / steps
        self._summed, self._summed_from = None, self.state.global_step
        return mean

    def take_best(self) -> None:
        """Go back to the best weights that an evaluation found, if one did and they are there."""
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).is_dir():
            self._load_best_model()


def train(training: Training, fitted: FittedPipeline) -> FittedPipeline:
    """Train the model.

    Raises:
        Interrupted: it was cancelled; with the best model by then, if it had begun.
        TrainingFailed: transformers or the model raised; in their own words.
    """
    with tempfile.TemporaryDirectory(prefix="refitd-fit-") as name:
        folder = Path(name)
        use_cache = getattr(fitted.model.config, "use_cache", None)
        trainer = _told(lambda: _made(training, fitted, folder), training)
        try:
            with alone(trainer.args.dataloader_num_workers):
                _told(lambda: trainer.train(resume_from_checkpoint=_resumed(training, folder)), training)
        except Cancelled as error:
            if trainer.state.global_step == 0:
                raise
            trainer.take_best()
            raise Interrupted(_finished(trainer, fitted, use_cache)) from error
        finally:
            _leave()
        return _finished(trainer, fitted, use_cache)


def _leave() -> None:
    """Forget the device and precision of this run, which Accelerate would hold every later one in this process to."""
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def _made(training: Training, fitted: FittedPipeline, folder: Path) -> RowsTrainer:
    document, encoder = training.document, fitted.encoder
    arguments, patience = make(document.fit_kwargs, str(folder))
    telling = Telling(training, folder)
    callbacks: list[Any] = [telling]
    if patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(patience))
    trainer = RowsTrainer(
        training,
        model=fitted.model,
        args=arguments,
        data_collator=encoder.collate,
        train_dataset=TextRows(training.rows, document, encoder),
        eval_dataset=TextRows(training.held, document, encoder) if training.held is not None else None,
        processing_class=fitted.tokenizer,
        compute_metrics=_judge(training, fitted),
        callbacks=callbacks,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    telling.loss_lately = trainer.loss_lately
    return trainer


def _resumed(training: Training, folder: Path) -> str | None:
    """Where to go on from; None: from the beginning."""
    data = training.checkpoints.last()
    if data is None:
        return None
    try:
        return str(transformers_checkpoints.unpack(data, folder))
    except Untrusted as error:
        training.report.line(f"the last checkpoint can't be used, beginning anew: {error}")
        return None


def _judge(training: Training, fitted: FittedPipeline) -> Callable[[Any], dict[str, float]] | None:
    """transformers' `compute_metrics`: the document's metrics, on the rows held out; none for text, beside the loss."""
    goal, validation = fitted.goal, training.document.validation
    if goal.kind == Kind.TEXT or validation is None:
        return None
    names = list(dict.fromkeys([*validation.metrics, default(goal.kind)]))

    def judge(prediction: Any) -> dict[str, float]:
        outputs, labels = prediction.predictions, prediction.label_ids
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return compute(goal.kind, _answers(goal.kind, outputs, labels), names)

    return judge


def _answers(kind: Kind, outputs: Any, labels: Any) -> Answers:
    """What the Trainer predicted, by the numbers of labels."""
    if kind == Kind.NUMBER:
        return Answers(labels.reshape(-1), outputs.reshape(-1))
    if kind == Kind.LABELS:
        return Answers(labels.astype(int), (outputs > 0).astype(int))
    best = outputs.argmax(-1)
    if kind == Kind.TAGS:
        there = labels >= 0
        return Answers(labels[there].tolist(), best[there].tolist())
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return Answers(labels, best, range(outputs.shape[1]), shifted / shifted.sum(axis=1, keepdims=True))


def _finished(trainer: RowsTrainer, fitted: FittedPipeline, use_cache: bool | None) -> FittedPipeline:
    """The trained model, as anybody would use it: without adapter, without what only training needs."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    vars(model).pop("forward", None)  # Accelerate's, for mixed precision
    model = merged(model).eval()
    if use_cache is not None:
        model.config.use_cache = use_cache
    state, detail = trainer.state, {**fitted.detail, LEARNS: fitted.goal.kind.value}
    detail |= {
        "class": type(model).__name__,
        "parameters": sum(each.numel() for each in model.parameters()),
        "device": str(trainer.args.device),
        "steps": state.global_step,
        "epochs": round(float(state.epoch or 0), 4),
    }
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    detail |= {"loss": round(losses[-1], 6)} if losses else {}
    if state.best_metric is not None:
        detail |= {"best_step": state.best_global_step, "best_metric": state.best_metric}
    return replace(fitted, model=model, detail=detail)


def _told(run: Callable[[], Any], training: Training) -> Any:
    """Whatever transformers raises becomes TrainingFailed, in its own words."""
    try:
        return run()
    except RefitdError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingFailed(
            f"training ran out of memory ({told(error)}); lower `per_device_train_batch_size` (and raise "
            "`gradient_accumulation_steps` instead), lower `object.max_length`, or train an adapter with `lora`"
        ) from error
    except Exception as error:
        said = f"training on {training.rows.num_rows} rows raised {told(error)}"
        raise TrainingFailed("\n".join(part for part in (said, last_lines(error)) if part)) from error
