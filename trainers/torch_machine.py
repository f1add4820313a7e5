"""What moves in a fit: a module as Accelerate prepared it, and what changes its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainers.torch_module import Objective
from trainers.torch_parts import Part

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Machine:
    """What moves: the module as Accelerate prepared it, and what changes its weights."""

    accelerator: Accelerator
    module: nn.Module
    optimizer: Any
    scheduler: Any
    scheduler_part: Part | None
    objective: Objective

    def __post_init__(self) -> None:
        self.device: torch.device = self.accelerator.device
        self.accelerator.sync_gradients = True  # another fit of this process may have left it otherwise
        # Accelerate's ways do more in every step than a small module takes; they are needed where gradients are scaled.
        self._plain = self.accelerator.scaler is None and self.accelerator.gradient_accumulation_steps == 1

    def backward(self, loss: torch.Tensor) -> None:
        """Add a loss's gradients."""
        if self._plain:
            torch.autograd.backward(loss)
        else:
            self.accelerator.backward(loss)

    def step(self) -> None:
        """One step of the optimizer, and its gradients are gone."""
        scaled = self.accelerator.scaler is not None  # else: the wrapper looks for a package on disk in every step
        optimizer = self.optimizer if scaled else self.optimizer.optimizer
        optimizer.step()
        optimizer.zero_grad()

    @property
    def bare(self) -> nn.Module:
        """The module without what Accelerate put around it."""
        inner: nn.Module = self.accelerator.unwrap_model(self.module)
        return inner
