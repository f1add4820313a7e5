"""Checkpoints of transformers' Trainer as bytes, so that another worker can go on from one.

A checkpoint is the folder `checkpoint-<step>` that the Trainer writes, without what going on doesn't need. The best
one so far goes with it, where there is one: its weights alone. The Trainer reads the state of the optimizer and of the
random numbers with `torch.load(weights_only=True)`, which runs no code; its pickle, `training_args.bin`, is left out.

Source: transformers/trainer.py, `_save_checkpoint` and `_load_from_checkpoint`.
"""

from __future__ import annotations

import json
from pathlib import Path

from registry.errors import ArtifactCorrupt
from trainers import transformers_archive

_STATE = "trainer_state.json"
_LAST = "last.json"
_WEIGHTS = (".json", ".safetensors")
_NEEDED = (*_WEIGHTS, ".pt", ".pth")
_TOKENIZER = ("tokenizer", "vocab", "special_tokens", "added_tokens")


def pack(last: Path, best: Path | None) -> bytes:
    """The checkpoint in a folder, and the best one's weights."""
    files: dict[str, Path | bytes] = {f"{last.name}/{path.name}": path for path in _files(last, _NEEDED)}
    if best is not None and best.name != last.name:
        files |= {f"{best.name}/{path.name}": path for path in _files(best, _WEIGHTS)}
    said = {"last": last.name, "best": best.name if best else None}
    return transformers_archive.pack(files | {_LAST: json.dumps(said).encode()})


def unpack(data: bytes, folder: Path) -> Path:
    """The checkpoint to go on from, in the folder that training will write to.

    Raises:
        Untrusted, ArtifactCorrupt: these aren't bytes of `pack`.
    """
    transformers_archive.unpack(data, folder, lambda name: name.endswith(_NEEDED), depth=2)
    try:
        said = json.loads((folder / _LAST).read_text())
        last = folder / Path(str(said["last"])).name
        state = json.loads((last / _STATE).read_text())
        state["best_model_checkpoint"] = str(folder / Path(str(said["best"])).name) if said["best"] else None
        (last / _STATE).write_text(json.dumps(state))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"the checkpoint can't be read ({type(error).__name__}: {error})") from error
    return last


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.endswith(suffixes) and not path.name.startswith(_TOKENIZER)
    ]
