"""How a fit tells where it is: a few times a second, whatever a step takes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trainers.trainer import Report

_EVERY_S: Final = 0.1
#: A line of the log this often: a long fit would else fill it.
_LINE_EVERY_S: Final = 5.0
_WARNINGS_TOLD: Final = 20


class Pace:
    """Tells a report of epochs, steps, loss and speed."""

    def __init__(self, report: Report, steps: int, epochs: int) -> None:
        self.rows = 0.0
        #: The step that this attempt began at: what was done before says nothing of its speed.
        self.began_at = 0
        self._report, self._steps, self._epochs = report, steps, epochs
        self._begin = self._told = self._logged = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time to tell again."""
        return time.perf_counter() - self._told >= _EVERY_S

    def tell(self, place: Any, *, force: bool = False) -> None:
        """Say where it is. `place`: see `trainers.torch_loop.Place`.

        Raises:
            Cancelled, TimeLimit: the fit should stop here.
        """
        now = time.perf_counter()
        if not force and now - self._told < _EVERY_S / 2 and place.step < self._steps:
            return
        self._told = now
        elapsed = max(now - self._begin, 1e-9)
        done = place.step - self.began_at
        rest = (self._steps - place.step) * elapsed / done if done else None
        epoch = min(place.epoch + (1 if place.batch else 0), self._epochs)
        shown = "" if place.loss is None else f", loss {place.loss:.4g}"
        figures: dict[str, float | None] = {
            "epoch": epoch,
            "epochs": self._epochs,
            "step": place.step,
            "steps": self._steps,
            "loss": place.loss,
            "samples_per_s": self.rows / elapsed,
            "eta_s": rest,
        }
        figures |= {f"val_{name}": value for name, value in place.values.items()}
        message = f"epoch {max(1, epoch)}/{self._epochs}{shown}"
        ended = place.step >= self._steps and self._logged < float("inf")
        if now - self._logged >= _LINE_EVERY_S or ended:
            self._logged = float("inf") if ended else now
            judged = "".join(f", val_{name} {value:.4g}" for name, value in place.values.items())
            self._report.line(f"{message}{judged}, {self.rows / elapsed:,.0f} samples/s")
        self._report.progress(place.step / self._steps, message, **figures)


@contextmanager
def told_warnings(report: Report) -> Iterator[None]:
    """PyTorch's warnings, and those of the user's module, as lines of the fit's log, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            texts = dict.fromkeys(f"{each.category.__name__}: {each.message}" for each in caught)
            for text in list(texts)[:_WARNINGS_TOLD]:
                report.line(text)
