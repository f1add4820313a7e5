"""Where a model comes from: a directory, or a model of the hub, which is fetched into one. Nothing of it is run.

Fetched are configuration, tokenizer and safetensors at one commit; never Python files nor pickled weights. A directory
is looked through before anything is built of it: what leads out of it, to code or weights elsewhere, is refused.

Source: https://huggingface.co/docs/huggingface_hub/package_reference/file_download
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from registry.errors import TrainingFailed, Untrusted

#: What a model's directory may hold, and is fetched of one on the hub.
SUFFIXES = (".json", ".txt", ".safetensors", ".model", ".jinja")
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
#: Keys of a configuration that may name code on the hub: https://huggingface.co/docs/kernels
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")


@dataclass(frozen=True, slots=True)
class Source:
    """A model on this machine's disk. `detail`: what a version says of where it came from."""

    folder: Path
    detail: Mapping[str, str]


def fetch(name: str, revision: str | None, *, weights: bool = True) -> Source:
    """The directory of a model.

    Args:
        name: a directory, or the model's name on the hub.
        revision: a branch, tag or commit there.
        weights: False: its tokenizer alone is wanted.

    Raises:
        TrainingFailed: it is not there, can't be reached, or has no safetensors.
        Untrusted: see `inspect`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        detail = {"model": name}
        folder = folder.absolute()
    elif _is_path(name):
        raise TrainingFailed(
            f"there is no folder {name} where the fit runs (in {Path.cwd()}); give it as an absolute path"
        )
    else:
        folder = _from_hub(name, revision, weights=weights)
        detail = {"model": name, "revision": folder.name}
    inspect(folder)
    found = sorted(folder.glob("*.safetensors"))
    if weights and not found:
        other = ", ".join(each.name for each in sorted(folder.glob("*.bin"))) or "none at all"
        raise TrainingFailed(
            f"{name} has no weights as safetensors (it has {other}), and others may run code when they are read: load "
            "it where you trust it, save it with save_pretrained, and give that folder"
        )
    if weights and "revision" not in detail:
        detail["weights"] = _digest(found)
    return Source(folder, detail)


def inspect(folder: Path) -> dict[str, Any]:
    """The configuration of a model's directory, if nothing in it leads elsewhere.

    Raises:
        TrainingFailed: it is no model's directory.
        Untrusted: it is an adapter of another model, needs code of its repository, or names kernels to be fetched.
    """
    if (folder / _ADAPTER).exists():
        raise Untrusted(
            f"{folder} holds an adapter, which names the model it belongs to: merge it (PEFT's merge_and_unload), save "
            "that with save_pretrained, and give its folder"
        )
    try:
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
    except FileNotFoundError:
        raise TrainingFailed(
            f"{folder} is not a model's folder: it has no {_CONFIG}; save_pretrained writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise TrainingFailed(f"{folder / _CONFIG} can't be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise TrainingFailed(f"{folder / _CONFIG} doesn't say the model's type (`model_type`)")
    for key, value in _settings(config):
        if key in _KERNELS and isinstance(value, str) and "/" in value:
            raise Untrusted(f"{folder / _CONFIG} has `{key}: {value}`, code to be fetched from the hub: remove it")
    if config.get("quantization_config"):
        raise TrainingFailed(
            f"{folder} holds quantized weights, which can't be trained on: give the model they were made of"
        )
    return config


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value in it, however deep."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key), each
            yield from ((str(key), inner) for inner in each.values()) if isinstance(each, Mapping) else ()
            yield from _settings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _settings(each)


def _is_path(name: str) -> bool:
    """Whether a name can only mean a folder. The hub's are `model` or `owner/model`, of letters, digits and `-_.`."""
    return not re.fullmatch(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?", name, re.ASCII)


def _from_hub(name: str, revision: str | None, *, weights: bool) -> Path:
    """The folder with a model's files of one commit; the folder's name is the commit's."""
    wanted = [f"*{suffix}" for suffix in SUFFIXES if weights or suffix != ".safetensors"]
    at = f"{name}@{revision}" if revision else name
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=["*/*", "adapter_*"])
    except GatedRepoError as error:
        raise TrainingFailed(f"the hub gives {at} only to accounts that were let in: {_brief(error)}") from error
    except RevisionNotFoundError as error:
        raise TrainingFailed(f"the hub's {name} has no revision {revision}: {_brief(error)}") from error
    except RepositoryNotFoundError as error:
        raise TrainingFailed(
            f"there is no model {name} on the hub, nor a folder of that name: {_brief(error)}"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingFailed(
            f"the model {at} is not on disk ({constants.HF_HUB_CACHE}) and the hub can't be reached: {_brief(error)}"
        ) from error
    return Path(found)


def _brief(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first[:300]


def _digest(files: list[Path]) -> str:
    """SHA-256 of the weights; of several files, of their digests."""
    from hashlib import sha256

    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else sha256("\n".join(digests).encode()).hexdigest()
