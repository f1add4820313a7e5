"""A fitted model as bytes: a tar of the directory that `save_pretrained` writes, with `refitd.json` beside.

`unpack` gives the directory, which any user of transformers loads with `from_pretrained` or `pipeline`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import transformers

from registry.errors import ArtifactCorrupt, TrainingFailed
from trainers import transformers_archive
from trainers.transformers_encoding import prepared
from trainers.transformers_goal import Goal
from trainers.transformers_model import FittedPipeline, read_model
from trainers.transformers_quiet import told_as
from trainers.transformers_source import SUFFIXES, inspect
from trainers.transformers_tasks import TASKS

#: Our own part: task, kind, labels in their types, longest text, and the version's detail.
OURS = "refitd.json"


def save(fitted: FittedPipeline) -> bytes:
    """The artifact; the same model gives the same bytes.

    Raises:
        TrainingFailed: the model can't be stored as safetensors.
    """
    with tempfile.TemporaryDirectory(prefix="refitd-model-") as name:
        folder = Path(name)
        with told_as(lambda said: TrainingFailed(f"a fitted {type(fitted.model).__name__} can't be stored: {said}")):
            fitted.model.save_pretrained(folder)
            fitted.tokenizer.save_pretrained(folder)
        files: dict[str, Path | bytes] = {path.name: path for path in folder.iterdir() if _allowed(path.name)}
        return transformers_archive.pack(files | {OURS: _ours(fitted)})


def _ours(fitted: FittedPipeline) -> bytes:
    said = {
        "task": fitted.task,
        "max_length": fitted.max_length,
        "detail": dict(fitted.detail),
        **fitted.goal.as_json(),
    }
    return json.dumps(said, sort_keys=True, indent=1, ensure_ascii=False).encode()


def unpack(data: bytes, folder: Path) -> None:
    """Write an artifact's files into a folder, which is made if it isn't there.

    Raises:
        Untrusted: it holds anything but the files of a model: text, JSON and safetensors, all in one folder.
        ArtifactCorrupt: it is no artifact of this trainer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    transformers_archive.unpack(data, folder, _allowed)


def load(data: bytes) -> FittedPipeline:
    """What `save` wrote, in main memory. Built by a class of transformers alone.

    Raises:
        Untrusted: it holds what a stored model has no need of, or leads to code or weights elsewhere.
        ArtifactCorrupt: it is no artifact of this trainer.
    """
    with tempfile.TemporaryDirectory(prefix="refitd-model-") as name:
        folder = Path(name)
        unpack(data, folder)
        try:
            inspect(folder)
        except TrainingFailed as error:
            raise ArtifactCorrupt(f"the artifact can't be read: {error}; retrain") from error
        with told_as(lambda said: ArtifactCorrupt(f"the artifact can't be read ({said}); retrain")):
            return _read(folder, json.loads((folder / OURS).read_text("utf-8")))


def _read(folder: Path, ours: dict[str, Any]) -> FittedPipeline:
    goal, task = Goal.from_json(ours), TASKS[ours["task"]]
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    model, info = read_model(task.auto, folder, config, "auto")
    if info["missing_keys"] or info["mismatched_keys"]:
        raise ArtifactCorrupt(f"the artifact's weights lack {sorted(map(str, info['missing_keys']))[:3]} …; retrain")
    if goal.outputs and model.config.num_labels != goal.outputs:
        raise ArtifactCorrupt(
            f"the artifact's model has {model.config.num_labels} outputs for {goal.outputs} labels; retrain"
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return FittedPipeline(
        model.eval(), dict(ours["detail"]), prepared(tokenizer), goal, task.name, int(ours["max_length"])
    )


def _allowed(name: str) -> bool:
    """Whether a model's folder has use for such a file."""
    return name.endswith(SUFFIXES) and not name.startswith("adapter_")
