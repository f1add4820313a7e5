"""The training loop: epochs of batches, validations, checkpoints. Accelerate does devices, precision and gradients.

Everything it knows of where it stands is in `Place`, and in what a checkpoint holds beside it, so that an attempt that
goes on where another was lost does the same as if it had not been.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from registry.errors import TrainingFailed
from trainers.torch_config import TorchConfig
from trainers.torch_data import Feed, moved
from trainers.torch_judge import Judge
from trainers.torch_machine import Machine
from trainers.torch_parts import each_step
from trainers.torch_progress import Pace
from trainers.torch_state import pack, random_state, restore_random, sow, weights_of

if TYPE_CHECKING:
    from trainers.trainer import Checkpoints, Report

#: Losses that may wait to be looked at: looking makes a GPU wait.
_WAITING: Final = 512


@dataclass(slots=True)
class Place:
    """Where training stands."""

    epoch: int = 0
    #: Batches of this epoch that are done.
    batch: int = 0
    #: Batches that are done in all: iterations.
    step: int = 0
    #: The losses of this epoch, and of those since the last validation, summed up.
    epoch_loss: float = 0.0
    epoch_losses: int = 0
    since_loss: float = 0.0
    since_losses: int = 0
    last_loss: float | None = None
    best: float | None = None
    best_step: int = 0
    misses: int = 0
    values: dict[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float | None:
        """The mean training loss of this epoch so far; before its first, of the one before."""
        return self.epoch_loss / self.epoch_losses if self.epoch_losses else self.last_loss


class Loop:
    """Trains one module on one set of rows."""

    def __init__(
        self,
        config: TorchConfig,
        machine: Machine,
        feed: Feed,
        judge: Judge | None,
        report: Report,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.machine, self.judge = config, machine, judge
        self.place, self.stopped = Place(), ""
        self._feed, self._report, self._checkpoints = feed, report, checkpoints
        self._best: dict[str, Any] | None = None
        self._losses: list[torch.Tensor] = []
        self._random: dict[str, Any] | None = None
        limits = [config.max_iterations, config.epochs and config.epochs * feed.batches]
        self.steps = min(limit for limit in limits if limit)
        self.epochs = -(-self.steps // feed.batches)
        self._pace = Pace(report, self.steps, self.epochs)

    def run(self) -> None:
        """Train to the end, or until nothing improves; then the module has the weights to keep.

        Raises:
            Cancelled, TimeLimit: from the report; `settle` gives the best weights so far.
            TrainingFailed: a loss is no number.
        """
        self.machine.module.train()
        while self.place.step < self.steps and not self.stopped:
            self._epoch()
        self._look()
        if self.config.no_improve_then_stop is not None:
            self.settle()
        self._pace.tell(self.place, force=True)

    def settle(self) -> None:
        """Take the best weights where the best were looked for."""
        if self._best is not None:
            self.machine.bare.load_state_dict(self._best)

    def _epoch(self) -> None:
        place = self.place
        if place.batch == 0:
            sow((self.config.seed * 1_000_003 + place.epoch + 1) % 2**63)
        batches = self._feed.epoch(place.epoch, place.batch)
        if self._random is not None:
            restore_random(self._random, self.machine.device)
            self._random = None
        for inputs, y in batches:
            last = place.batch + 1 == self._feed.batches or place.step + 1 == self.steps
            self._train(inputs, y, last)
            self._after_step(last)
            if self.stopped:
                return
            if place.step == self.steps:
                break
        self._after_epoch()

    def _train(self, inputs: Any, y: Any, last: bool) -> None:
        """One batch."""
        machine = self.machine
        inputs, y = moved(inputs, machine.device), moved(y, machine.device)
        whole = last or (self.place.batch + 1) % self.config.gradient_accumulation == 0
        if whole:
            loss = machine.objective(machine.module(inputs), y, inputs)
            machine.backward(loss)
        else:
            with machine.accelerator.no_sync(machine.module):
                loss = machine.objective(machine.module(inputs), y, inputs)
                machine.backward(loss)
        if whole:
            self._update()
        self._losses.append(loss.detach())
        self.place.batch += 1
        self.place.step += 1
        self._pace.rows += self._feed.batch_rows

    def _update(self) -> None:
        machine, config = self.machine, self.config
        if config.gradient_clip_norm is not None:
            machine.accelerator.clip_grad_norm_(machine.module.parameters(), config.gradient_clip_norm)
        if config.gradient_clip_value is not None:
            machine.accelerator.clip_grad_value_(machine.module.parameters(), config.gradient_clip_value)
        machine.step()
        if machine.scheduler is not None and self._steps_now() and not machine.optimizer.step_was_skipped:
            machine.scheduler.step()

    def _after_step(self, last: bool) -> None:
        every = self.config.validation_interval
        if every and self.place.step % every == 0:
            self._validate()
        if len(self._losses) >= _WAITING or self._pace.due():
            self._look()
            self._pace.tell(self.place)
        whole = self.place.batch % self.config.gradient_accumulation == 0
        if not last and whole and not self.stopped:
            self._keep()

    def _after_epoch(self) -> None:
        self._look()
        if self.config.validation_interval is None:
            self._validate()
        machine, place = self.machine, self.place
        if machine.scheduler is not None and not self._plateau() and not self._steps_now():
            machine.scheduler.step()
        self._pace.tell(place)
        place.epoch, place.batch, place.last_loss = place.epoch + 1, 0, place.loss
        place.epoch_loss, place.epoch_losses = 0.0, 0
        if place.step < self.steps and not self.stopped:
            self._keep()

    def _steps_now(self) -> bool:
        part = self.machine.scheduler_part
        return part is not None and not self._plateau() and each_step(part, self.config)

    def _plateau(self) -> bool:
        return isinstance(self.machine.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def _look(self) -> None:
        """Look at the losses since the last look.

        Raises:
            TrainingFailed: one is no number; says of which step.
        """
        if not self._losses:
            return
        values = torch.stack(self._losses).float().cpu()
        finite = values.isfinite()
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            step = self.place.step - len(self._losses) + first + 1
            raise TrainingFailed(
                f"the loss is {float(values[first])} at step {step} of epoch {self.place.epoch + 1}: try a smaller "
                "`lr` in `optimizer_kwargs`, `gradient_clip_norm: 1`, `precision: no`, or X and y that are scaled"
            )
        total = float(values.double().sum())
        place, count = self.place, len(self._losses)
        place.epoch_loss, place.epoch_losses = place.epoch_loss + total, place.epoch_losses + count
        place.since_loss, place.since_losses = place.since_loss + total, place.since_losses + count
        self._losses = []

    def _validate(self) -> None:
        self._look()
        place, machine = self.place, self.machine
        if self.judge is not None:
            values = self.judge.values(machine.module, machine.device, self.config.metrics, self._tick)
            place.values = {name: value for name, value in values.items() if name != "neg_loss"}
        else:
            values = {"loss": place.since_loss / max(1, place.since_losses)}
        place.since_loss, place.since_losses = 0.0, 0
        if self._plateau():
            machine.scheduler.step(values["loss"])
        self._improve(values)

    def _tick(self) -> None:
        if self._pace.due():
            self._pace.tell(self.place)

    def _improve(self, values: dict[str, float]) -> None:
        """Remember the best weights, and stop when they have been the best for long."""
        patience, watched, place = self.config.no_improve_then_stop, self.config.watched, self.place
        if patience is None and (self.judge is None or watched not in values):
            return  # the best is wanted only where somebody cancels, and told only where rows are held out
        if watched not in values:
            raise TrainingFailed(f"`watch` is {watched}, which no validation computes: {', '.join(values)}")
        score = -values["loss"] if watched == "loss" else values[watched]
        if place.best is None or score > place.best:
            place.best, place.best_step, place.misses = score, place.step, 0
            self._best = weights_of(self.machine.bare)
            return
        place.misses += 1
        if patience is not None and place.misses >= patience:
            self.stopped = f"no better {watched} in {patience} validations"

    def _keep(self) -> None:
        """Leave a checkpoint behind, when it is time."""
        if not self._checkpoints.due() or not self.machine.accelerator.is_main_process:
            return
        self._look()
        self._checkpoints.keep(pack(self._state()))

    def _state(self) -> dict[str, Any]:
        machine = self.machine
        return {
            "place": asdict(self.place),
            "module": machine.bare.state_dict(),
            "optimizer": machine.optimizer.state_dict(),
            "scheduler": machine.scheduler.state_dict() if machine.scheduler is not None else None,
            "scaler": machine.accelerator.scaler.state_dict() if machine.accelerator.scaler is not None else None,
            "best": self._best,
            "random": random_state(machine.device),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was kept."""
        machine = self.machine
        machine.bare.load_state_dict(state["module"])
        machine.optimizer.load_state_dict(state["optimizer"])
        if machine.scheduler is not None and state["scheduler"] is not None:
            machine.scheduler.load_state_dict(state["scheduler"])
        if machine.accelerator.scaler is not None and state["scaler"] is not None:
            machine.accelerator.scaler.load_state_dict(state["scaler"])
        self.place, self._best = Place(**state["place"]), state["best"]
        self._random = state["random"] if self.place.batch else None
        self._pace.began_at = self.place.step
