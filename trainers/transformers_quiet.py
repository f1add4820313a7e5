"""transformers and PyTorch as guests in a process that others use too: little noise, and its random numbers back."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import transformers
from transformers.utils import logging as noise

from registry.errors import RefitdError
from trainers.sklearn_detail import told

#: What every fit would say, and nobody can act on.
_KNOWN = (
    "were not initialized from the model checkpoint",
    "newly initialized",
    "LOAD REPORT",
    "EarlyStoppingCallback without load_best_model_at_end",
    "has no CUDA-capable",
    "pin_memory",
    "has new PAD/BOS/EOS tokens",
    "use_cache=True",
    "is deprecated",
    "seems not to be a single sample",
)
_TOLD = 20
_THREADS = "TOKENIZERS_PARALLELISM"


@contextmanager
def quiet(line: Callable[[str], None] | None = None) -> Iterator[None]:
    """Within it transformers shows no progress bars and logs nothing itself; what it warns of goes to `line`, once."""
    bars, level = noise.is_progress_bar_enabled(), noise.get_verbosity()
    lines = _Lines(line)
    logger = logging.getLogger("transformers")
    handlers, passed_on = list(logger.handlers), logger.propagate
    noise.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    noise.set_verbosity(logging.WARNING)
    logger.handlers, logger.propagate = [lines], False
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lines.warned  # type: ignore[assignment]
            yield
    finally:
        logger.handlers, logger.propagate = handlers, passed_on
        noise.set_verbosity(level)
        if bars:
            noise.enable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]


class _Lines(logging.Handler):
    """Hands on warnings, each once."""

    def __init__(self, line: Callable[[str], None] | None) -> None:
        super().__init__(logging.WARNING)
        self._line, self._told = line, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage())

    def warned(self, message: Warning | str, category: type[Warning], *_: object) -> None:
        """In the place of `warnings.showwarning`."""
        self.tell(f"{category.__name__}: {message}")

    def tell(self, text: str) -> None:
        """One warning."""
        known = text in self._told or len(self._told) >= _TOLD or any(part in text for part in _KNOWN)
        if self._line is not None and not known:
            self._told.add(text)
            self._line(text[:1000])


@contextmanager
def alone(processes: int) -> Iterator[None]:
    """Within it a process that others are forked from leaves threads for tokenizing to them, where there are any.

    Source: https://huggingface.co/docs/tokenizers/api/tokenizer, TOKENIZERS_PARALLELISM
    """
    before = os.environ.get(_THREADS)
    if processes and before is None:
        os.environ[_THREADS] = "false"
    try:
        yield
    finally:
        if processes and before is None:
            os.environ.pop(_THREADS, None)


@contextmanager
def told_as(error: Callable[[str], RefitdError]) -> Iterator[None]:
    """Whatever the libraries raise inside becomes an error of ours, in their words.

    Files that others wrote make them raise anything: `tokenizers` and `safetensors` have errors of no common kind.
    """
    try:
        yield
    except RefitdError:
        raise
    except Exception as raised:
        raise error(told(raised)) from raised


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it every generator of random numbers begins at `seed`; after it each goes on where it was."""
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        stack.enter_context(torch.random.fork_rng(devices))
        transformers.set_seed(seed)
        yield
