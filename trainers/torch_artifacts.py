"""Fitted modules as files: an uncompressed zip of weights (safetensors) and of what makes the module again (JSON).

    config.json          object's form, X, y with its classes, and the versions that wrote it
    model.safetensors    weights, under the part they are of: `module.0.weight`, `preprocess.weight`

Nothing in it is code: the module is built from its form, under the operator's trust and with signed code alone.
Equal modules have equal bytes.
"""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from registry.code import CodeLoader
from registry.errors import ArtifactCorrupt, DocumentInvalid, TrainingFailed, Untrusted
from registry.trust import Trust
from trainers.torch_inputs import Inputs
from trainers.torch_module import FittedModule, Whole, build_whole
from trainers.torch_targets import Target

_FORMAT: Final = 1
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def dumps(fitted: FittedModule) -> bytes:
    """The artifact.

    Raises:
        TrainingFailed: the module holds something beside tensors that belongs to its state.
    """
    weights, tied = _weights(fitted.whole)
    config = {
        "format": _FORMAT,
        "object": fitted.form,
        "inputs": fitted.inputs.written(),
        "target": fitted.target.written(),
        "detail": dict(fitted.detail),
        "tied": tied,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _put(archive, _CONFIG, json.dumps(config, sort_keys=True, allow_nan=False).encode())
        _put(archive, _WEIGHTS, save_tensors(weights))
    return out.getvalue()


def loads(data: bytes, trust: Trust, code: CodeLoader) -> FittedModule:
    """The module that `dumps` wrote, ready to predict, in main memory.

    Raises:
        Untrusted: its classes lie outside what the operator trusts, or nobody vouches for its code.
        ArtifactCorrupt: it is no artifact of a module, or its weights are another module's.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            config = json.loads(archive.read(_CONFIG))
            weights = load_tensors(archive.read(_WEIGHTS))
        inputs, target = Inputs.read(config["inputs"]), Target.read(config["target"])
        form, detail, tied = config["object"], config["detail"], config["tied"]
        if config["format"] != _FORMAT:
            raise ArtifactCorrupt(f"the artifact has format {config['format']}, this refitd reads {_FORMAT}; retrain")
    except (zipfile.BadZipFile, SafetensorError, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise ArtifactCorrupt(f"the artifact can't be read ({type(error).__name__}: {error}); retrain") from error
    whole = _rebuilt(form, trust, code)
    _fill(whole, weights | {name: weights[first] for name, first in tied.items() if first in weights})
    return FittedModule(whole.module, detail, form, whole, inputs, target, trust, code)


def unpack(data: bytes, folder: Path) -> None:
    """Write both files into a folder: weights as safetensors, and the description. Raises ArtifactCorrupt."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in (_CONFIG, _WEIGHTS):
                (folder / name).write_bytes(archive.read(name))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ArtifactCorrupt(f"the artifact can't be read ({type(error).__name__}: {error}); retrain") from error


def _weights(whole: Whole) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All tensors once, and which names share one: `{second: first}`. safetensors stores no tensor twice."""
    tensors: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[Any, str] = {}
    for part, module in whole.modules().items():
        for name, value in module.state_dict().items():
            full = f"{part}.{name}"
            if not isinstance(value, torch.Tensor):
                raise TrainingFailed(
                    f"the module can't be stored safely: `{name}` in its state is a {type(value).__name__}, not a "
                    "tensor; keep it out of get_extra_state, or make it a buffer"
                )
            where = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype) if value.numel() else full
            if where in seen:
                tied[full] = seen[where]
            else:
                seen[where] = full
                tensors[full] = value.detach().to("cpu", copy=True).contiguous()
    return tensors, tied


def _rebuilt(form: Mapping[str, Any], trust: Trust, code: CodeLoader) -> Whole:
    try:
        with torch.random.fork_rng(devices=[]):
            whole = build_whole(form, trust, code)
    except DocumentInvalid as error:
        raise Untrusted(f"the artifact's module can't be built here: {error}") from error
    except TrainingFailed as error:
        raise ArtifactCorrupt(f"the artifact's module can't be built here: {error}; retrain") from error
    whole.module.eval()
    return whole


def _fill(whole: Whole, weights: Mapping[str, torch.Tensor]) -> None:
    parts = whole.modules()
    foreign = [name for name in weights if name.partition(".")[0] not in parts]
    if foreign:
        raise ArtifactCorrupt(f"the artifact holds weights that no part of the module has ({foreign[0]}); retrain")
    for part, module in parts.items():
        own = {name.partition(".")[2]: each for name, each in weights.items() if name.partition(".")[0] == part}
        try:
            _load(module, own)
        except RuntimeError as error:
            raise ArtifactCorrupt(f"the artifact's weights are not this module's ({error}); retrain") from error


def _load(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    module.load_state_dict(dict(weights), strict=True)


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
