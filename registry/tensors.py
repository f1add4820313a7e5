"""Tensors as plain bytes: PyTorch's own pickles lead through `torch.load`, which would unpickle whatever is in them."""

from __future__ import annotations

from typing import Any


def is_tensor(value: Any, torch: Any) -> bool:
    """Whether a value is a tensor or parameter that `reduced` can write: a plain one, no subclass."""
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided


def reduced(value: Any, torch: Any) -> tuple[Any, ...]:
    """A tensor for pickle: how to make it, and of what."""
    plain = value.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    dtype = str(plain.dtype).removeprefix("torch.")
    return tensor_of, (data, dtype, tuple(plain.shape), value.requires_grad, type(value) is torch.nn.Parameter)


def tensor_of(data: bytes, dtype: str, shape: tuple[int, ...], requires_grad: bool, parameter: bool) -> Any:
    """What `reduced` wrote, in main memory."""
    import torch

    kind = getattr(torch, dtype)
    flat = torch.frombuffer(bytearray(data), dtype=kind) if data else torch.empty(0, dtype=kind)
    tensor = flat.reshape(shape)
    if parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_() if requires_grad else tensor
