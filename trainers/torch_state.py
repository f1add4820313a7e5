"""Random numbers and checkpoints: what makes a fit repeat itself, and go on where another attempt was lost."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import nn

#: Written into each checkpoint; another one is not read.
_FORMAT: Final = "refitd torch checkpoint 1"


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Everything random follows from the seed; afterwards the process's own random numbers go on as if nothing was.

    On CUDA the algorithms are those that give the same again, where there are such.
    """
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        if devices:
            stack.enter_context(_repeatable())
        try:
            sow(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def sow(seed: int) -> None:
    """Begin all random numbers anew."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def _repeatable() -> Iterator[None]:
    # Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)


def random_state(device: torch.device) -> dict[str, Any]:
    """Where all random numbers stand."""
    kind, keys, place, has_gauss, gauss = np.random.get_state()
    state = {"torch": torch.get_rng_state(), "python": random.getstate()}
    state["numpy"] = [kind, torch.from_numpy(np.array(keys, np.int64)), place, has_gauss, gauss]
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_random(state: Mapping[str, Any], device: torch.device) -> None:
    """Go on from there."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def weights_of(module: nn.Module) -> dict[str, Any]:
    """A copy of a module's weights, in main memory."""
    return {
        name: each.detach().to("cpu", copy=True) if isinstance(each, torch.Tensor) else each
        for name, each in module.state_dict().items()
    }


def pack(state: Mapping[str, Any]) -> bytes:
    """A checkpoint's bytes."""
    out = io.BytesIO()
    torch.save({"format": _FORMAT, **state}, out)
    return out.getvalue()


def unpack(data: bytes) -> dict[str, Any] | None:
    """What `pack` took; None when it is something else, or was cut short. Runs nothing that stands in it."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile, ValueError, KeyError):
        return None
    return state if isinstance(state, dict) and state.get("format") == _FORMAT else None


def start_from(module: nn.Module, weights: Mapping[str, Any]) -> str | None:
    """Give a module these weights to begin with; when they don't fit it, say why and leave it as it is."""
    own = module.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or extra:
        return f"its weights are named otherwise ({', '.join((missing + extra)[:3])})"
    for name, each in own.items():
        other = weights[name]
        if isinstance(each, torch.Tensor) and isinstance(other, torch.Tensor) and each.shape != other.shape:
            return f"`{name}` was {tuple(other.shape)} and is {tuple(each.shape)}"
    module.load_state_dict(dict(weights))
    return None
