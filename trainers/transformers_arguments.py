"""`fit_kwargs` of the transformers trainer: `transformers.TrainingArguments` verbatim, and `no_improve_then_stop`.

What is not said has transformers' own default, but for these:

| keyword | default | why |
|---|---|---|
| `seed` | 0 | the same seed, rows and device give the same metrics; refitd's trainers begin at 0 |
| `save_strategy` | `best` with `load_best_model_at_end`, else `no` | refitd keeps checkpoints of its own, to go on when a worker is lost |
| `save_total_limit` | 1 | beside the best; the folder is temporary |
| `logging_strategy` | `epoch` | unless `logging_steps` is said; progress is shown all the time |
| `dataloader_pin_memory` | only where there is an accelerator | it does nothing elsewhere |
| `dataloader_multiprocessing_context` | `fork` on Linux | the rows may lie in a file that processes share |
| `remove_unused_columns` | false | the rows have only what the model takes |
| `eval_strategy` | `epoch` with `no_improve_then_stop` | early stopping needs it |
| `load_best_model_at_end` | true with `no_improve_then_stop` | the version is the best that was seen |

`no_improve_then_stop: N` ends training after N evaluations without improvement of `metric_for_best_model` (the loss,
if none is named). Evaluations see the rows that `validation` holds out.

Source: https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments
"""  # noqa: E501 - a table's rows are one line each

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_args

import torch
import transformers
from pydantic import TypeAdapter, ValidationError

from registry.errors import Fault, TrainingFailed
from registry.nearest import nearest
from trainers.sklearn_detail import told

PATIENCE = "no_improve_then_stop"

_DECLARED = {field.name: field for field in dataclasses.fields(transformers.TrainingArguments)}
_FIELDS = {name: field.type for name, field in _DECLARED.items()}

_FOLDER = "refitd keeps what training writes in a folder of its own, and publishes the model as a version"
_HUB = "refitd publishes versions itself; `refitd` users load them from there"
_TRACKER = "refitd shows progress and keeps the log itself (`refitd fits`, `refitd logs`)"
_MANY = "a fit is one process, which refitd starts; leave it out"
_REFUSED = {
    "output_dir": _FOLDER,
    "resume_from_checkpoint": "refitd goes on from its own last checkpoint where a worker was lost",
    "enable_jit_checkpoint": "refitd goes on from its own last checkpoint where a worker was lost",
    "push_to_hub": _HUB,
    "report_to": _TRACKER,
    "run_name": _TRACKER,
    "project": _TRACKER,
    "logging_dir": _TRACKER,
    "disable_tqdm": _TRACKER,
    "log_level": _TRACKER,
    "log_level_replica": _TRACKER,
    "do_train": "a fit trains, and judges on the rows that `validation` holds out",
    "do_eval": "a fit trains, and judges on the rows that `validation` holds out",
    "do_predict": "a fit trains, and judges on the rows that `validation` holds out",
    "fsdp": _MANY,
    "fsdp_config": _MANY,
    "deepspeed": _MANY,
    "parallelism_config": _MANY,
    "local_rank": _MANY,
    "trust_remote_code": "code of a model's repository is never run here",
    "label_names": "refitd makes the batches, and knows which part is the label",
    "include_for_metrics": "metrics are named in validation.metrics",
    "batch_eval_metrics": "metrics are named in validation.metrics",
    "prediction_loss_only": "metrics are named in validation.metrics",
    "length_column_name": "the rows are tokenized while training; there is no such column",
}
_REFUSED_PREFIXES = {"hub_": _HUB, "trackio_": _TRACKER, "do_": _REFUSED["do_train"]}

#: Lowest values that mean anything; transformers takes others, and fails much later or does nothing.
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "seed": 0,
    PATIENCE: 1,
}
#: What only the machine that trains can judge.
_OF_THE_DEVICE = ("tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode")


class _Unplaced(transformers.TrainingArguments):  # type: ignore[misc, unused-ignore]
    """Judges its values, but looks for no device: starting CUDA takes memory, and another machine will train."""

    _setup_devices = torch.device("cpu")


def faults(fit_kwargs: Mapping[str, Any], *, held_out: bool) -> list[Fault]:
    """All that is wrong with `fit_kwargs`, each with its path in the document.

    Args:
        held_out: whether the document holds rows out, to evaluate on.
    """
    values, found = _typed(fit_kwargs)
    if not found:
        filled = _with_defaults(values)
        found += _combined(filled, fit_kwargs, held_out)
        filled.pop(PATIENCE, None)
        if not found:
            kept = {name: value for name, value in filled.items() if name not in _OF_THE_DEVICE}
            found += _constructed(kept)
    return [fault.under("fit_kwargs") for fault in found]


def make(fit_kwargs: Mapping[str, Any], folder: str) -> tuple[transformers.TrainingArguments, int | None]:
    """The arguments of a checked document, and after how many evaluations without improvement to stop.

    Args:
        folder: an empty one, where transformers may write while it trains.

    Raises:
        TrainingFailed: this machine can't train so; in transformers' words.
    """
    filled = _with_defaults(_typed(fit_kwargs)[0])
    patience = filled.pop(PATIENCE, None)
    filled.setdefault("dataloader_pin_memory", torch.accelerator.is_available() and not filled.get("use_cpu", False))
    try:
        arguments = transformers.TrainingArguments(output_dir=folder, report_to="none", disable_tqdm=True, **filled)
    except (ValueError, TypeError, RuntimeError, ImportError, NotImplementedError) as error:
        raise TrainingFailed(f"transformers refuses `fit_kwargs` on this machine: {told(error)}") from error
    return arguments, patience


def said(fit_kwargs: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of one keyword of a checked document, in its declared type."""
    return _adapter(name).validate_python(fit_kwargs[name]) if name in fit_kwargs else default


def plain(fit_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords from Python as a document can hold them: transformers' enumerations become their values."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in fit_kwargs.items()}


def _typed(fit_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The values in the types that TrainingArguments declares (YAML reads `1e-4` as text), and what can't be one."""
    values: dict[str, Any] = {}
    found: list[Fault] = []
    for name, value in fit_kwargs.items():
        said = _refused(name, value) or _unknown(name)
        if said is None and name not in _REFUSED:
            try:
                values[name] = _adapter(name).validate_python(value)
            except ValidationError as error:
                said = f"{_first(error)}; given: {value!r:.80}"
            else:
                said = _out_of_range(name, values[name]) or _no_choice(name, values[name])
        if said is not None:
            found.append(Fault(name, said))
    return values, found


def _refused(name: str, value: Any) -> str | None:
    if name == "report_to" and value in ("none", None, [], ["none"]):
        return None
    if name == "accelerator_config" and isinstance(value, str):
        return "must be a mapping: files are read by the worker, not by a document"
    by_prefix = next((why for prefix, why in _REFUSED_PREFIXES.items() if name.startswith(prefix)), None)
    why = _REFUSED.get(name) or by_prefix
    return f"can't be said here: {why}" if why else None


def _unknown(name: str) -> str | None:
    if name in _FIELDS or name == PATIENCE:
        return None
    near = nearest(name, [*(each for each in _FIELDS if each not in _REFUSED), PATIENCE])
    hint = f"did you mean `{near}`?" if near else "its documentation lists them"
    return f"TrainingArguments has no keyword `{name}`; {hint}"


def _adapter(name: str) -> TypeAdapter[Any]:
    kind: Any = int if name == PATIENCE else _FIELDS[name]
    return TypeAdapter(kind)


def _first(error: ValidationError) -> str:
    text = error.errors(include_url=False)[0]["msg"].removeprefix("Input ")
    return f"{text[0].lower()}{text[1:]}"


def _out_of_range(name: str, value: Any) -> str | None:
    least = _AT_LEAST.get(name)
    if least is not None and value is not None and not value >= least:
        return f"must be at least {least}; given: {value!r}"
    return None


def _no_choice(name: str, value: Any) -> str | None:
    """What to say of a value that is none of those that the keyword may have."""
    if name == PATIENCE or not isinstance(value, str):
        return None
    kinds = [kind for kind in get_args(_FIELDS[name]) if isinstance(kind, type) and issubclass(kind, Enum)]
    known = [str(each.value) for kind in kinds for each in kind] or _DECLARED[name].metadata.get("choices")
    if not known or value in known:
        return None
    near = nearest(value, known)
    return f"can't be {value!r}; {f'did you mean `{near}`?' if near else 'it may be ' + ', '.join(known)}"


def _with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    filled = dict(values)
    if filled.get(PATIENCE) is not None:
        if filled.get("eval_strategy", "no") == "no" and "eval_strategy" not in values:
            filled["eval_strategy"] = "epoch"
        filled.setdefault("load_best_model_at_end", True)
        filled.setdefault("restore_callback_states_from_checkpoint", True)
        filled.setdefault("metric_for_best_model", "loss")
    filled.setdefault("save_strategy", "best" if filled.get("load_best_model_at_end") else "no")
    filled.setdefault("logging_strategy", "steps" if "logging_steps" in values else "epoch")
    filled.setdefault("save_total_limit", 1)
    filled.setdefault("remove_unused_columns", False)
    filled.setdefault("seed", 0)
    if filled.get("dataloader_num_workers") and sys.platform == "linux":
        filled.setdefault("dataloader_multiprocessing_context", "fork")
    return filled


def _combined(filled: Mapping[str, Any], given: Mapping[str, Any], held_out: bool) -> Iterator[Fault]:
    evaluates = _value(filled.get("eval_strategy", "no")) != "no"
    if not held_out:
        needs = "evaluates on rows that are held out, and the document holds none out: say `validation: {split: 0.2}`"
        if evaluates or filled.get("eval_on_start"):
            name = next(each for each in ("eval_strategy", PATIENCE, "eval_on_start") if each in given)
            yield Fault(name, needs)
            return
    if not evaluates:
        for name in (PATIENCE, "load_best_model_at_end"):
            if filled.get(name):
                yield Fault(name, "compares evaluations: say how often with `eval_strategy: epoch`, or `steps`")
    epochs, steps = filled.get("num_train_epochs", 3), filled.get("max_steps", -1)
    if epochs <= 0 and steps <= 0:
        yield Fault("num_train_epochs", f"must be above 0; given: {epochs!r}")
    if steps == 0:
        yield Fault("max_steps", "must be above 0; leave it out to train `num_train_epochs`")


def _value(choice: Any) -> Any:
    return choice.value if isinstance(choice, Enum) else choice


def _constructed(values: dict[str, Any]) -> Iterator[Fault]:
    """What transformers itself says of the values together."""
    try:
        _Unplaced(output_dir="nowhere", report_to="none", **(values | {"use_cpu": True}))
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        text = str(error)
        yield Fault(next((name for name in sorted(values, key=len, reverse=True) if name in text), ""), text)
