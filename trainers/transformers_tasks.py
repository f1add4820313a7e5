"""The tasks that the transformers trainer fits, in transformers' own words. Pure.

| task | X | y |
|---|---|---|
| `text-classification`, `sentiment-analysis` | a text field, or two (sentence pairs) | one label; a list of texts: any number of labels; numbers that aren't whole: regression |
| `text-regression` (ours) | the same | a number |
| `token-classification`, `ner` | a list of words | as many tags |
| `text-generation` | a text field | none |
"""  # noqa: E501 - a table's rows are one line each

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry.nearest import nearest


class Kind(StrEnum):
    """What is learned, as the rows decide it within a task."""

    LABEL = "label"
    LABELS = "labels"
    NUMBER = "number"
    TAGS = "tags"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Task:
    """One task: the class of transformers that loads its models, and what it needs of a document."""

    name: str
    #: Name of an `Auto…` class of transformers.
    auto: str
    #: What y may turn out to be.
    kinds: tuple[Kind, ...]
    #: How many fields X may have.
    most_fields: int
    needs_y: bool


TASKS = {
    task.name: task
    for task in (
        Task(
            "text-classification",
            "AutoModelForSequenceClassification",
            (Kind.LABEL, Kind.LABELS, Kind.NUMBER),
            2,
            True,
        ),
        Task("text-regression", "AutoModelForSequenceClassification", (Kind.NUMBER,), 2, True),
        Task("token-classification", "AutoModelForTokenClassification", (Kind.TAGS,), 1, True),
        Task("text-generation", "AutoModelForCausalLM", (Kind.TEXT,), 1, False),
    )
}
ALIASES = {"sentiment-analysis": "text-classification", "ner": "token-classification"}


def task_named(name: str) -> Task | None:
    """The task of that name or alias; None: there is none."""
    return TASKS.get(ALIASES.get(name, name))


def unknown_task(name: str) -> str:
    """What to say of a task that isn't one of these."""
    known = [*TASKS, *ALIASES]
    near = nearest(name, known)
    hint = f"did you mean `{near}`?" if near else f"known here: {', '.join(sorted(known))}"
    return f"`{name}` is no task that this trainer fits; {hint}"


def default_model(task: Task) -> tuple[str, str] | None:
    """The model, and its revision, that transformers itself takes for a task; None where it names none."""
    from transformers.pipelines import PIPELINE_REGISTRY

    known = PIPELINE_REGISTRY.supported_tasks.get(task.name, {})
    found = known.get("default", {}).get("model")
    return (str(found[0]), str(found[1])) if isinstance(found, tuple) else None
