"""What a document of the transformers trainer has in `object`, and how Python says it.

| key | meaning |
|---|---|
| `task` | one of `trainers.transformers_tasks`; from Python it may be left out where the model says it |
| `model` | name on the hub, or a local directory of `save_pretrained`; left out: transformers' default of the task |
| `revision` | branch, tag or commit on the hub |
| `tokenizer` | name or directory, where it is not the model's own |
| `max_length` | tokens that a text is cut to; left out: what the model takes |
| `lora` | `true`, or `{r, alpha, dropout, target_modules}`: train a low-rank adapter, merged when it is done |
| `labels` | the labels in an order of your own; left out: those of the rows, sorted |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from registry.errors import Fault, Untrusted
from registry.nearest import nearest
from trainers.transformers_tasks import Task, default_model, task_named, unknown_task


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter (Hu et al. 2021, https://arxiv.org/abs/2106.09685), in PEFT's terms."""

    r: int = 8
    alpha: float = 16
    dropout: float = 0.05
    #: Names of the layers; None: those that PEFT knows for the model's architecture.
    target_modules: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PipelineObject:
    """What `refitd.Pipeline` was given. Only names and numbers: weights stay where they are."""

    task: str | None = None
    model: str | None = None
    revision: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None
    lora: Lora | bool | Mapping[str, Any] | None = None
    labels: tuple[Any, ...] | None = None

    @property
    def adapter(self) -> Lora | None:
        """The adapter to train; None: all weights are trained."""
        if isinstance(self.lora, Mapping):
            given = dict(self.lora)
            modules = given.pop("target_modules", None)
            given |= {"r": int(given["r"])} if "r" in given else {}
            return Lora(**given, target_modules=None if modules is None else tuple(modules))
        return self.lora if isinstance(self.lora, Lora) else (Lora() if self.lora else None)

    @property
    def known_task(self) -> Task:
        """The task of an object without faults."""
        task = task_named(str(self.task))
        assert task is not None, "the document was checked"
        return task

    @property
    def source(self) -> tuple[str, str | None]:
        """The model to begin from, and its revision."""
        found = (self.model, self.revision) if self.model else default_model(self.known_task)
        assert found is not None, "the document was checked"
        return found


_NAMES = tuple(field.name for field in fields(PipelineObject))
_LORA_NAMES = tuple(field.name for field in fields(Lora))


def parse(form: Mapping[str, Any]) -> PipelineObject:
    """The object of a checked document."""
    given = {name: form[name] for name in _NAMES if form.get(name) is not None}
    if "labels" in given:
        given["labels"] = tuple(given["labels"])
    if "max_length" in given:
        given["max_length"] = int(given["max_length"])
    return PipelineObject(**given)


def describe(model: Any) -> dict[str, Any]:
    """The `object` of a document for what Python was given.

    Raises:
        Untrusted: it is a model or pipeline in memory, which a document can't hold; says what to do.
    """
    if not isinstance(model, PipelineObject):
        model = PipelineObject(model=model)
    for name in ("model", "tokenizer"):
        _refuse_live(getattr(model, name), name)
    adapter = None if model.lora is None or isinstance(model.lora, bool | Mapping) else model.adapter
    found = {name: getattr(model, name) for name in _NAMES} | {"labels": model.labels and list(model.labels)}
    found["lora"] = plain_lora(adapter) if adapter else model.lora
    return {name: value for name, value in found.items() if value is not None and value is not False}


def plain_lora(adapter: Lora) -> dict[str, Any]:
    """An adapter as a document says it."""
    found = {name: getattr(adapter, name) for name in _LORA_NAMES}
    found["target_modules"] = adapter.target_modules and list(adapter.target_modules)
    return {name: value for name, value in found.items() if value is not None}


def _refuse_live(value: Any, name: str) -> None:
    if value is None or isinstance(value, str):
        return
    if hasattr(value, "__fspath__"):
        raise Untrusted(f"give `{name}` as text: str({value!r})")
    raise Untrusted(
        f"`{name}` is a {type(value).__name__} in memory, and a model document holds no weights: save it with "
        f"save_pretrained(folder), and its tokenizer beside it, and give the folder: Pipeline(task=…, {name}=folder)"
    )


def faults(form: Mapping[str, Any]) -> Iterator[Fault]:
    """All that is wrong with `object`, each with its path in the document."""
    for name in form:
        if name not in _NAMES:
            yield Fault(f"object.{name}", _no_such(str(name), _NAMES))
    yield from _task_faults(form)
    for name in ("model", "revision", "tokenizer"):
        value = form.get(name)
        if value is not None and not (isinstance(value, str) and value.strip() and "\0" not in value):
            yield Fault(f"object.{name}", f"must be text: a name on the hub or a directory; given: {value!r:.80}")
    length = form.get("max_length")
    if length is not None and not (_whole(length) and length >= 2):
        yield Fault("object.max_length", f"must be a whole number of tokens, at least 2; given: {length!r:.80}")
    yield from _label_faults(form.get("labels"))
    yield from _lora_faults(form.get("lora"))


def _task_faults(form: Mapping[str, Any]) -> Iterator[Fault]:
    name = form.get("task")
    if not isinstance(name, str):
        yield Fault("object.task", "is missing: the task to fit, `text-classification` for example")
        return
    task = task_named(name)
    if task is None:
        yield Fault("object.task", unknown_task(name))
    elif form.get("model") is None:
        if default_model(task) is None:
            yield Fault("object.model", f"is missing: transformers has no model of its own for {task.name}")
        elif form.get("revision") is not None:
            yield Fault("object.revision", "is of a model: name the model too")


def _label_faults(labels: Any) -> Iterator[Fault]:
    if labels is None:
        return
    kinds = {type(label) for label in labels} if isinstance(labels, list | tuple) else set()
    if len(kinds) != 1 or not kinds <= {str, int, bool, float}:
        said = f"must be a list of labels of one kind: texts, numbers or true/false; given: {labels!r:.80}"
        yield Fault("object.labels", said)
    elif len(set(labels)) != len(labels) or len(labels) < 2:
        yield Fault("object.labels", "must name at least two labels, each once")


def _lora_faults(lora: Any) -> Iterator[Fault]:
    if lora is None or isinstance(lora, bool):
        return
    if not isinstance(lora, Mapping):
        yield Fault("object.lora", f"must be true or {{{', '.join(_LORA_NAMES)}}}; given: {lora!r:.80}")
        return
    for name, value in lora.items():
        path = f"object.lora.{name}"
        if name not in _LORA_NAMES:
            yield Fault(path, _no_such(str(name), _LORA_NAMES))
        elif name == "r" and not (_whole(value) and value >= 1):
            yield Fault(path, f"must be a whole number, at least 1; given: {value!r:.80}")
        elif name == "alpha" and not (_number(value) and value > 0):
            yield Fault(path, f"must be a number above 0; given: {value!r:.80}")
        elif name == "dropout" and not (_number(value) and 0 <= value < 1):
            yield Fault(path, f"must be from 0 to below 1; given: {value!r:.80}")
        elif name == "target_modules" and not _names(value):
            yield Fault(path, f"must be a list of layers' names; given: {value!r:.80}")


def _no_such(name: str, known: tuple[str, ...]) -> str:
    near = nearest(name, known)
    return f"no such field; {f'did you mean `{near}`?' if near else 'known here: ' + ', '.join(known)}"


def _whole(value: Any) -> bool:
    """3.0 is 3: some shells write every number as a double."""
    return _number(value) and float(value).is_integer()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) and each for each in value)
