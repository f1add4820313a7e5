"""The transformers trainer: fine-tunes models of text with transformers' own `Trainer`.

A version is a directory that any user of transformers loads with `from_pretrained`; see `transformers_artifacts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.code import CodeLoader
from registry.document import ModelDocument
from registry.errors import Fault, RowsUnusable
from registry.trust import Trust
from trainers import (
    transformers_arguments,
    transformers_artifacts,
    transformers_loop,
    transformers_metrics,
    transformers_object,
)
from trainers.alone import alone
from trainers.arrays import BASE
from trainers.sklearn_detail import MANY
from trainers.spool import Rows
from trainers.trainer import Fitted, Training
from trainers.transformers_asked import columns_of
from trainers.transformers_model import FittedPipeline, begin
from trainers.transformers_outputs import answers, batch_size, generated, meant, placed, scores
from trainers.transformers_quiet import quiet, seeded
from trainers.transformers_rows import survey
from trainers.transformers_tasks import Kind, Task, task_named


class TransformersTrainer:
    """Implements `trainers.trainer.Trainer`."""

    name = "transformers"
    format = "transformers"

    def check(self, document: ModelDocument, trust: Trust) -> list[Fault]:
        """See `Trainer.check`. Looks for no model: the machine that trains may have it."""
        found = list(transformers_object.faults(document.object))
        task = task_named(str(document.object.get("task")))
        if task is not None:
            found += [*_field_faults(document, task), *transformers_metrics.faults(document, task)]
        found += alone(document)
        return found + transformers_arguments.faults(document.fit_kwargs, held_out=document.validation is not None)

    def describe(self, model: Any) -> dict[str, Any]:
        """See `Trainer.describe`."""
        return transformers_object.describe(model)

    def describe_keywords(self, fit_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Trainer.describe_keywords`."""
        return transformers_arguments.plain(fit_kwargs)

    def fields(self, document: ModelDocument) -> tuple[str, ...] | None:
        """See `Trainer.fields`."""
        return tuple(dict.fromkeys((*document.fields_X, *document.fields_y)))

    def fit(self, training: Training) -> Fitted:
        """See `Trainer.fit`."""
        document, line = training.document, training.report.line
        asked = transformers_object.parse(document.object)
        training.report.progress(None, f"looking through {training.rows.num_rows} rows")
        goal = survey(document, asked.known_task, training.rows, asked.labels)
        with quiet(line), seeded(transformers_arguments.said(document.fit_kwargs, "seed", 0)):
            training.report.progress(None, f"loading {asked.source[0]}")
            untrained = begin(asked, goal, training.start, line)
            detail = {"task": untrained.task, "learned": untrained.goal.kind.value, **untrained.detail}
            if 0 < len(untrained.goal.labels) <= MANY:
                detail["labels"] = list(untrained.goal.labels)
            if asked.adapter is not None:
                detail["lora"] = transformers_object.plain_lora(asked.adapter)
            return transformers_loop.train(training, untrained.with_detail(detail))

    def evaluate(self, document: ModelDocument, fitted: Fitted, rows: Rows, metrics: Sequence[str]) -> dict[str, float]:
        """See `Trainer.evaluate`. Without metrics: the first that `transformers_metrics` names for what is learned."""
        ours = _ours(fitted)
        survey(document, transformers_object.parse(document.object).known_task, rows, None, judging=ours.goal)
        with quiet():
            return transformers_metrics.compute(ours.goal.kind, answers(document, ours, rows), metrics)

    def save(self, fitted: Fitted) -> bytes:
        """See `Trainer.save`."""
        with quiet():
            return transformers_artifacts.save(_ours(fitted))

    def load(self, data: bytes, document: ModelDocument, trust: Trust, code: CodeLoader) -> Fitted:
        """See `Trainer.load`."""
        with quiet():
            return transformers_artifacts.load(data)

    def unpack(self, data: bytes, folder: Path) -> None:
        """See `Trainer.unpack`: the directory for `from_pretrained`."""
        transformers_artifacts.unpack(data, folder)

    def predict(self, document: ModelDocument, fitted: Fitted, rows: Any) -> Any:
        """See `Trainer.predict`.

        Returns:
            Labels as they stood in the rows, lists of them, numbers, lists of tags, or texts: one a row. One text
            alone is one row.

        Raises:
            RowsUnusable: a text is missing, or the rows hold something else.
        """
        ours = _ours(fitted)
        texts = columns_of(rows, document.fields_X, words=ours.goal.kind == Kind.TAGS)
        found: list[Any] = []
        with quiet():
            device, size = placed(document, ours), batch_size(document)
            for begins in range(0, len(texts[0]), size):
                part = [column[begins : begins + size] for column in texts]
                if ours.goal.kind == Kind.TEXT:
                    found += generated(ours, part[0], device)
                else:
                    found += meant(ours, part, scores(ours, part, device))
        return found


def _ours(fitted: Fitted) -> FittedPipeline:
    if not isinstance(fitted, FittedPipeline):
        raise RowsUnusable(f"{type(fitted.model).__name__} was not fitted by the transformers trainer")
    return fitted


def _field_faults(document: ModelDocument, task: Task) -> list[Fault]:
    found = []
    X, y = document.fields_X, document.fields_y
    if BASE in X:
        found.append(Fault("train_X", f"name the field that holds the text: {task.name} doesn't read whole rows"))
    elif len(X) > task.most_fields:
        most = "one field" if task.most_fields == 1 else "one field, or two (a pair of texts)"
        found.append(Fault("train_X", f"{task.name} reads {most}; join more in the select"))
    if task.needs_y and len(y) != 1:
        found.append(Fault("train_y", f"{'is missing' if not y else 'names several'}: {task.name} learns one field"))
    if not task.needs_y and y:
        found.append(Fault("train_y", f"{task.name} learns from the text alone; leave it out"))
    return found
