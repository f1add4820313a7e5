"""A trained model's answers to texts, in batches, on the device that is there: numbers first, then what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from registry.document import ModelDocument
from trainers.spool import Rows
from trainers.transformers_arguments import said
from trainers.transformers_encoding import IGNORED
from trainers.transformers_metrics import OUTSIDE, Answers
from trainers.transformers_model import FittedPipeline
from trainers.transformers_rows import label_field
from trainers.transformers_tasks import Kind

#: Rows at a time, where the document's `per_device_eval_batch_size` doesn't say.
_BATCH = 32
#: Tokens to go on with.
NEW_TOKENS = 20


def batch_size(document: ModelDocument) -> int:
    """Rows at a time."""
    return int(said(document.fit_kwargs, "per_device_eval_batch_size", _BATCH))


def placed(document: ModelDocument, fitted: FittedPipeline) -> torch.device:
    """An accelerator if there is one and the document doesn't want the CPU. The model is moved there."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = torch.device("cpu") if found is None or said(document.fit_kwargs, "use_cpu", False) else found
    fitted.model.to(device).eval()
    return device


def scores(fitted: FittedPipeline, texts: Sequence[list[Any]], device: torch.device) -> torch.Tensor:
    """The outputs for one batch: n×k, or n×tokens×k for tags."""
    batch = fitted.encoder.collate(fitted.encoder.encode(texts, None))
    with torch.inference_mode():
        found = fitted.model(**{name: tensor.to(device) for name, tensor in batch.items()})
    return found.logits.float().cpu()  # type: ignore[no-any-return, unused-ignore]


def meant(fitted: FittedPipeline, texts: Sequence[list[Any]], outputs: torch.Tensor) -> list[Any]:
    """What a batch's outputs say: labels, lists of labels, numbers, or lists of tags, one a row."""
    goal = fitted.goal
    if goal.kind == Kind.NUMBER:
        return [float(value) for value in outputs[:, 0]]
    if goal.kind == Kind.LABEL:
        return [goal.labels[at] for at in outputs.argmax(dim=1).tolist()]
    if goal.kind == Kind.LABELS:
        return [[goal.labels[at] for at in np.flatnonzero(row > 0)] for row in outputs.numpy()]
    best = outputs.argmax(dim=2).tolist()
    places = fitted.encoder.first_tokens(texts[0])
    outside = OUTSIDE if OUTSIDE in goal.labels else None
    # A text that was cut has no output for its last words.
    return [
        [outside if at is None else goal.labels[row[at]] for at in words]
        for row, words in zip(best, places, strict=True)
    ]


def generated(fitted: FittedPipeline, texts: list[str], device: torch.device) -> list[str]:
    """How the model goes on with each text: the likeliest tokens, without the text itself."""
    tokenizer, model = fitted.tokenizer, fitted.model
    new = min(NEW_TOKENS, fitted.max_length // 2)
    sides = tokenizer.padding_side, tokenizer.truncation_side
    tokenizer.padding_side = tokenizer.truncation_side = "left"  # a text goes on where it ends
    try:
        room = fitted.max_length - new
        batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=room).to(device)
    finally:
        tokenizer.padding_side, tokenizer.truncation_side = sides
    if not batch["input_ids"].shape[1]:
        return ["" for _ in texts]
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        ids = model.generate(
            **batch, max_new_tokens=new, do_sample=False, pad_token_id=tokenizer.pad_token_id, use_cache=True
        )
    return list(tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))


def answers(document: ModelDocument, fitted: FittedPipeline, rows: Rows) -> Answers:
    """The model's answers to held-out rows, beside what they say."""
    device, size = placed(document, fitted), batch_size(document)
    if fitted.goal.kind == Kind.TEXT:
        return Answers(None, _loss(document, fitted, rows, device, size))
    truth: list[Any] = []
    predicted: list[Any] = []
    outputs: list[NDArray[Any]] = []
    for columns in _columns(document, rows, size):
        texts, y = columns[:-1], columns[-1]
        found = scores(fitted, texts, device)
        truth += y
        predicted += meant(fitted, texts, found)
        if fitted.goal.kind == Kind.LABEL:
            outputs.append(torch.softmax(found.double(), dim=1).numpy())
    return _as_answers(fitted, truth, predicted, outputs)


def _as_answers(
    fitted: FittedPipeline, truth: list[Any], predicted: list[Any], outputs: Sequence[NDArray[Any]]
) -> Answers:
    goal = fitted.goal
    if goal.kind == Kind.LABEL:
        return Answers(truth, predicted, goal.labels, np.concatenate(outputs))
    if goal.kind == Kind.LABELS:
        true, guessed = _matrix(truth, goal.numbers), _matrix(predicted, goal.numbers)
        width = true.shape[1] if true[:, -1].any() else true.shape[1] - 1
        return Answers(true[:, :width], guessed[:, :width], goal.labels)
    if goal.kind == Kind.TAGS:
        return Answers([tag for row in truth for tag in row], [tag or OUTSIDE for row in predicted for tag in row])
    return Answers(np.asarray(truth, float), np.asarray(predicted, float))


def _matrix(rows: Sequence[Sequence[Any]], numbers: Mapping[Any, int]) -> NDArray[np.int64]:
    """Labels as 0/1. The last column: whether the row has a label that was not learned, which is always missed."""
    found = np.zeros((len(rows), len(numbers) + 1), np.int64)
    for at, row in enumerate(rows):
        found[at, [numbers.get(label, len(numbers)) for label in row]] = 1
    return found


def _loss(document: ModelDocument, fitted: FittedPipeline, rows: Rows, device: torch.device, size: int) -> float:
    """The mean loss a token, over all rows."""
    total, tokens = 0.0, 0
    for columns in _columns(document, rows, size):
        batch = fitted.encoder.collate(fitted.encoder.encode(columns, None, learn=True))
        with torch.inference_mode():
            found = fitted.model(**{name: tensor.to(device) for name, tensor in batch.items()})
        count = int((batch["labels"][:, 1:] != IGNORED).sum())
        if count:
            total, tokens = total + float(found.loss) * count, tokens + count
    return total / tokens if tokens else float("nan")


def _columns(document: ModelDocument, rows: Rows, size: int) -> Iterator[list[list[Any]]]:
    """The values of X and y, a batch at a time, in the rows' order."""
    names = [*document.fields_X, *document.fields_y]
    for block in rows.batches():
        for begin in range(0, block.num_rows, size):
            part = block.slice(begin, size)
            yield [label_field(part.column(name)).to_pylist() for name in names]
