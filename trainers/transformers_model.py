"""The model that a fit trains: a base with a head for the goal, or the live version's; with an adapter if asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from registry.errors import TrainingFailed
from trainers.trainer import Fitted
from trainers.transformers_encoding import Encoder, longest, prepared
from trainers.transformers_goal import Goal, with_head
from trainers.transformers_object import Lora, PipelineObject
from trainers.transformers_quiet import told_as
from trainers.transformers_source import Source, fetch
from trainers.transformers_tasks import Kind, Task

Line = Callable[[str], None]
#: A tokenizer's folder has one of these.
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "merges.txt")


@dataclass(frozen=True, slots=True)
class FittedPipeline(Fitted):
    """A trained model of transformers; `model` is the `PreTrainedModel`. With what turns rows into its inputs, and its
    outputs into labels."""

    tokenizer: Any = None
    goal: Goal = field(default_factory=lambda: Goal(Kind.TEXT))
    task: str = ""
    max_length: int = 0

    @property
    def encoder(self) -> Encoder:
        """Makes the model's inputs."""
        return Encoder(self.tokenizer, self.goal, self.max_length)

    def with_detail(self, detail: Mapping[str, Any]) -> FittedPipeline:
        """The same, with another `detail`."""
        return replace(self, detail=detail)


def begin(asked: PipelineObject, goal: Goal, start: Fitted | None, line: Line) -> FittedPipeline:
    """An untrained model for this goal, or one that goes on from `start`.

    Args:
        start: the live version, if the document wants to go on from it.

    Raises:
        TrainingFailed: the model or its tokenizer can't be had, or doesn't fit the task.
        Untrusted: see `trainers.transformers_source`.
    """
    going_on = _going_on(start, goal, line) if start is not None else None
    fitted = going_on or _from_base(asked, goal, line)
    length = longest(fitted.model.config, fitted.tokenizer, asked.max_length)
    model = fitted.model
    if asked.adapter is not None:
        model = _adapted(model, asked.adapter, goal)
    return replace(fitted, model=model, max_length=length, task=asked.known_task.name)


def _going_on(start: Fitted, goal: Goal, line: Line) -> FittedPipeline | None:
    if not isinstance(start, FittedPipeline) or start.goal.kind != goal.kind:
        line("the live version learned something else: beginning from the base model")
        return None
    new = [label for label in goal.labels if label not in start.goal.labels]
    if new:
        line(f"the live version doesn't know the labels {new[:10]}: beginning from the base model")
        return None
    line("going on from the live version")
    kept = {name: start.detail[name] for name in ("model", "revision", "weights") if name in start.detail}
    model = copy.deepcopy(start.model).to(dtype=torch.float32)
    return replace(start, model=model, detail=kept | {"started_from": "live"})


def _from_base(asked: PipelineObject, goal: Goal, line: Line) -> FittedPipeline:
    task = asked.known_task
    source = fetch(*asked.source)
    tokenizer = _tokenizer(fetch(asked.tokenizer, None, weights=False) if asked.tokenizer else source)
    config = _config(source.folder)
    # A configuration has two labels even where the model has no head yet: its weights tell.
    has_head = task.auto.removeprefix("AutoModel") in str(config.architectures)
    known = with_head(goal, config.id2label, ordered=asked.labels is not None) if has_head else None
    goal = known or goal
    numbers = has_head and goal.kind == Kind.NUMBER and config.num_labels == 1
    new_head = goal.outputs > 0 and known is None and not numbers
    model = _loaded(task, source, _headed(config, goal), line, new_head=new_head)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        raise TrainingFailed(
            f"the tokenizer has {len(tokenizer)} tokens, more than the model's vocabulary: not its own?"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return FittedPipeline(model, dict(source.detail), tokenizer, goal, task.name)


def _headed(config: Any, goal: Goal) -> Any:
    if goal.kind == Kind.TEXT:
        return config
    if goal.kind == Kind.NUMBER:
        config.num_labels = 1
    else:
        config.id2label = goal.names
        config.label2id = {name: at for at, name in goal.names.items()}
    if goal.problem_type:
        config.problem_type = goal.problem_type
    return config


def _config(folder: Path) -> Any:
    with told_as(lambda said: TrainingFailed(f"{folder}'s configuration can't be used: {said}")):
        return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _tokenizer(source: Source) -> Any:
    name = source.detail["model"]
    fix = "save it in the same folder, or name one as `object.tokenizer`"
    if not any(next(source.folder.glob(pattern), None) for pattern in _VOCABULARIES):
        raise TrainingFailed(f"{name} has no tokenizer, neither tokenizer.json nor a vocabulary: {fix}")
    with told_as(lambda said: TrainingFailed(f"{name} has no tokenizer that can be used ({said}); {fix}")):
        return prepared(
            transformers.AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
        )


def _loaded(task: Task, source: Source, config: Any, line: Line, *, new_head: bool) -> Any:
    """The model with its weights; what they lack begins at random."""
    name = source.detail["model"]
    with told_as(lambda said: TrainingFailed(f"{name} can't be loaded for {task.name}: {said}")):
        model, info = read_model(task.auto, source.folder, config)
    fresh = {*info["missing_keys"], *(each[0] for each in info["mismatched_keys"])}
    weights = dict(model.named_parameters())
    prefix = f"{model.base_model_prefix}."
    lost = sorted(key for key in fresh if key in weights and key.startswith(prefix) and "pooler" not in key)
    if lost:
        raise TrainingFailed(
            f"the weights of {name} lack {len(lost)} of the {len(weights)} parameters of {type(model).__name__} "
            f"({lost[0]} …): they are of another architecture than its config.json says"
        )
    if new_head:
        _reset_head(model, fresh)
        line(f"a new head with {config.num_labels} {'output' if config.num_labels == 1 else 'outputs'} on {name}")
    elif unlearned := sorted(fresh & weights.keys()):
        line(f"{name} has no weights for {', '.join(unlearned[:5])}: they begin at random")
    return model


def _reset_head(model: Any, fresh: set[str]) -> None:
    """Forget a head that has learned other labels, and as many."""
    deviation = getattr(model.config, "initializer_range", 0.02)
    for name, module in model.named_modules():
        last = isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels
        if last and not name.startswith(f"{model.base_model_prefix}.") and f"{name}.weight" not in fresh:
            torch.nn.init.normal_(module.weight, std=deviation)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


def read_model(auto: str, folder: Path, config: Any, dtype: Any = torch.float32) -> tuple[Any, Mapping[str, Any]]:
    """A model of a directory that was inspected, by one of transformers' own classes; and what its weights lacked."""
    found = getattr(transformers, auto).from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return found[0], found[1]


def _adapted(model: Any, adapter: Lora, goal: Goal) -> Any:
    """The model with a low-rank adapter: of its own weights only the head is trained."""
    try:
        import peft
    except ImportError as error:
        raise TrainingFailed("`object.lora` needs PEFT where the fit runs: pip install peft") from error
    kinds = {Kind.TEXT: "CAUSAL_LM", Kind.TAGS: "TOKEN_CLS"}
    modules = None if adapter.target_modules is None else list(adapter.target_modules)
    config = peft.LoraConfig(
        task_type=kinds.get(goal.kind, "SEQ_CLS"),
        r=adapter.r,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type, unused-ignore]
        lora_dropout=adapter.dropout,
        target_modules=modules,
    )
    asked = f" (target_modules {', '.join(modules)})" if modules else ""
    with told_as(lambda said: TrainingFailed(f"no adapter can be put on {type(model).__name__}{asked}: {said}")):
        return peft.get_peft_model(model, config)


def merged(model: Any) -> Any:
    """The model without an adapter: its weights changed as the adapter would change their outputs."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
