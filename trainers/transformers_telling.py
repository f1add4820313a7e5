"""What a training run tells while it goes on: progress, lines, checkpoints; and how it hears that it should stop."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import transformers

from registry.errors import TrainingFailed
from trainers import transformers_checkpoints
from trainers.trainer import Training

#: Seconds between two looks at the loss: each look waits for the accelerator.
_LOOK_S = 0.5
#: Of what is logged, what nobody needs in a line.
_UNTOLD = (
    "total_flos",
    "train_loss",
    "train_runtime",
    "train_steps_per_second",
    "epoch",
    "step",
    "_runtime",
    "_per_second",
)


class Telling(transformers.TrainerCallback):  # type: ignore[misc, unused-ignore]
    """A callback of transformers' Trainer. Whatever `report.progress` raises leaves `Trainer.train`."""

    def __init__(self, training: Training, folder: Path) -> None:
        """`folder`: where the Trainer writes its checkpoints."""
        self._report, self._checkpoints, self._folder = training.report, training.checkpoints, folder
        #: The mean loss since it was asked for last, whenever that is. Set by the trainer.
        self.loss_lately: Any = None
        self._loss: float | None = None
        self._looked = 0.0
        self._began, self._first_step = 0.0, 0
        self._judged: dict[str, float] = {}
        self._asked = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began, self._first_step = time.monotonic(), state.global_step
        self._looked = self._began
        if state.global_step:
            self._report.line(f"going on from the checkpoint of step {state.global_step} of {state.max_steps}")
        self._tell(args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        ends = state.global_step >= state.max_steps
        if time.monotonic() - self._looked >= _LOOK_S or ends or self._loss is None:
            self._look(state.global_step)
        self._tell(args, state)
        if not ends and self._checkpoints.due():
            control.should_save = self._asked = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.max_steps:
            self._tell(args, state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        plain = {
            name.removeprefix("eval_"): value for name, value in given["metrics"].items() if not name.endswith(_UNTOLD)
        }
        self._judged = {f"val_{name}": float(value) for name, value in plain.items()}

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        said = [
            f"{name} {value:.4g}"
            for name, value in given["logs"].items()
            if not name.endswith(_UNTOLD) and _is_number(value)
        ]
        if said:
            self._report.line(f"epoch {state.epoch or 0:.2f}, step {state.global_step}: {', '.join(said)}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._asked:
            self._asked = False
            best = state.best_model_checkpoint
            last = self._folder / f"checkpoint-{state.global_step}"
            self._checkpoints.keep(transformers_checkpoints.pack(last, Path(best) if best else None))

    def _look(self, step: int) -> None:
        self._looked, self._loss = time.monotonic(), self.loss_lately()
        if self._loss is not None and not math.isfinite(self._loss):
            raise TrainingFailed(
                f"the loss is {self._loss} at step {step}: try a lower `learning_rate`, or training without fp16"
            )

    def _tell(self, args: Any, state: Any) -> None:
        step, steps = state.global_step, state.max_steps
        epoch = state.epoch or 0.0
        loss = "" if self._loss is None else f", loss {self._loss:.4g}"
        done, took = step - self._first_step, time.monotonic() - self._began
        rate = done / took if took > 0 and done else None
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._report.progress(
            step / steps if steps else None,
            f"epoch {epoch:.1f}/{state.num_train_epochs}{loss}",
            epoch=round(epoch, 4),
            epochs=float(state.num_train_epochs),
            step=float(step),
            steps=float(steps),
            loss=self._loss,
            samples_per_s=rate * rows if rate else None,
            eta_s=(steps - step) / rate if rate else None,
            **self._judged,
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
