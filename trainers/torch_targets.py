"""y: what the rows say of it, how it is written in numbers for the loss, and read back for people.

| y | without `loss` | the module gives |
|---|---|---|
| text, booleans | classes, cross-entropy | a score for each class; or one for two classes (binary cross-entropy) |
| whole numbers | classes; numbers where the module gives one and there are more than two | likewise |
| numbers, lists of numbers, several fields | numbers, mean squared error | as many numbers |
| none, an output of the input's shape | the input itself, mean squared error | the input again |
| none otherwise | classes nobody named: see `information` | a score for each class |

A named loss says itself which of these it wants. The classes, in sorted order, are stored with the version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from registry.errors import RowsUnusable, TrainingFailed
from trainers.torch_columns import MOST_CLASSES, Survey, is_list, is_number, numbers, plain
from trainers.torch_parts import Part, Wants

#: `given`: y as the user's `target_preprocessors` makes it.
Kind = Literal["classes", "binary", "indices", "numbers", "given", "input", "information"]
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Target:
    """What the module learns to say. Stored with a version."""

    kind: Kind
    fields: tuple[str, ...] = ()
    #: Sorted; empty where there are none.
    classes: tuple[Any, ...] = ()
    #: Whether the one score of two classes is a logit, not a probability.
    logits: bool = True

    @property
    def labelled(self) -> bool:
        """Whether predictions are labels."""
        return self.kind in ("classes", "binary")

    def tensor(self, batch: pa.RecordBatch | pa.Table) -> torch.Tensor:
        """y of these rows: numbers of classes (int64; -1 for one that was not trained on; float32 for two with one
        score), or the numbers (float32).

        Raises:
            RowsUnusable: y holds no such values.
        """
        if self.labelled:
            codes = self._codes(_column(batch, self.fields[0]))
            return torch.from_numpy(codes.astype(np.float32 if self.kind == "binary" else np.int64))
        dtype = np.int64 if self.kind == "indices" else np.float32
        arrays = [np.array(numbers(_column(batch, name), name), dtype) for name in self.fields]
        return torch.from_numpy(arrays[0] if len(arrays) == 1 else np.column_stack(arrays))

    def _codes(self, column: pa.Array) -> np.ndarray[Any, Any]:
        column = plain(column)
        known = pa.array(self.classes)
        try:
            column = column.cast(known.type) if column.type != known.type else column
        except pa.ArrowInvalid:
            known = known.cast(column.type, safe=False)
        except pa.ArrowNotImplementedError:
            raise RowsUnusable(
                f"`{self.fields[0]}` holds {column.type}, but the classes that were trained on are {self.shown()}"
            ) from None
        found = pc.fill_null(pc.index_in(column, value_set=known), -1)
        return np.array(found.to_numpy(zero_copy_only=False))

    def probabilities(self, outputs: torch.Tensor) -> torch.Tensor:
        """n×k of scores: each row sums to 1."""
        if self.kind == "binary":
            flat = outputs.reshape(len(outputs)).float()
            one = flat.sigmoid() if self.logits else flat
            return torch.stack([1 - one, one], 1)
        return outputs.float().softmax(1)

    def places(self, outputs: torch.Tensor) -> torch.Tensor:
        """The number of the likeliest class of each row; for sequences and images of each element."""
        if self.kind == "binary":
            return (outputs.reshape(len(outputs)) > (0 if self.logits else 0.5)).long()
        return outputs.argmax(1)

    def labels(self, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The classes of these numbers, in their own type."""
        named = np.array(self.classes, dtype=object if isinstance(self.classes[0], str) else None)
        found: np.ndarray[Any, Any] = named[places]
        return found

    def shown(self) -> str:
        """The classes, for people; the first of many."""
        more = ", …" if len(self.classes) > _SHOWN else ""
        return ", ".join(map(str, self.classes[:_SHOWN])) + more

    def written(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"kind": self.kind, "fields": list(self.fields), "classes": list(self.classes), "logits": self.logits}

    @classmethod
    def read(cls, form: Mapping[str, Any]) -> Target:
        """What `written` gave."""
        return cls(form["kind"], tuple(form["fields"]), tuple(form["classes"]), bool(form["logits"]))


def target_of(
    found: Survey, fields: Sequence[str], loss: Part | None, given: bool, inputs: Any, outputs: Any
) -> Target:
    """What the module learns to say.

    Args:
        loss: the one that is named.
        given: whether the user's `target_preprocessors` makes y.
        inputs, outputs: of some rows; their shapes decide what is left open. Without outputs: as far as can be told.

    Raises:
        TrainingFailed: the module gives fewer scores than there are classes, or the loss doesn't suit y.
        RowsUnusable: y is nothing that can be learned.
    """
    names, wants = tuple(fields), loss.wants if loss else None
    if given or (not names and outputs is None):
        return Target("given", names)
    if not names:
        return _without_y(loss, inputs, outputs)
    shape = tuple(outputs.shape[1:]) if isinstance(outputs, torch.Tensor) else None
    one = shape in ((), (1,)) or (outputs is None and wants == "binary")
    labels = _labels(found, names)
    if wants == "numbers" or labels is None:
        return _numeric(found, names, wants, shape)
    text = not is_number(found.columns[names[0]].kind)
    counts = not found.columns[names[0]].whole or (one and (len(labels) > 2 or loss is not None))
    if wants is None and not text and counts:
        return Target("numbers", names)
    if one and len(labels) <= 2 and wants != "indices":
        return Target("binary", names, labels, logits=not (loss and loss.name == "BCELoss"))
    if wants == "binary":
        if text:
            raise TrainingFailed(
                f"{loss.name if loss else 'the loss'} tells two classes apart, but y has {len(labels)}"
            )
        return Target("numbers", names)
    target = Target("classes", names, labels)
    if outputs is not None and (loss is None or wants is not None):
        _refuse_narrow(target, shape)
    return target


def _without_y(loss: Part | None, inputs: Any, outputs: Any) -> Target:
    if loss is not None:
        return Target("given" if loss.wants is None else "input")
    if not isinstance(outputs, torch.Tensor):
        raise TrainingFailed(
            f"the module gives a {type(outputs).__name__}, not a tensor: without `train_y`, give `loss`, a function of "
            "yours that takes (outputs,)"
        )
    if isinstance(inputs, torch.Tensor) and inputs.shape == outputs.shape:
        return Target("input")
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise TrainingFailed(
            f"without `train_y` the module must give its input again, or the scores of two or more classes for each "
            f"row; it gives {'×'.join(map(str, outputs.shape))}. Name `train_y`, or give `loss`"
        )
    return Target("information")


def _labels(found: Survey, names: Sequence[str]) -> tuple[Any, ...] | None:
    """The different values of y, sorted; None where they are too many, or lists."""
    seen = found.columns[names[0]]
    text = pa.types.is_string(seen.kind) or pa.types.is_large_string(seen.kind)
    if len(names) > 1 or seen.distinct is None or is_list(seen.kind) or not (text or is_number(seen.kind)):
        return None
    return tuple(sorted(seen.distinct))


def _numeric(found: Survey, names: tuple[str, ...], wants: Wants | None, shape: tuple[int, ...] | None) -> Target:
    for name in names:
        seen = found.columns[name]
        if not is_number(seen.kind):
            many = f", more than {MOST_CLASSES} different ones" if seen.distinct is None else ""
            raise RowsUnusable(
                f"`{name}` holds values of type {seen.kind}{many}, of which the loss can make no target: name a loss "
                "for classes (CrossEntropyLoss), another field, or give `target_preprocessors`"
            )
    several = len(names) > 1 or is_list(found.columns[names[0]].kind)
    if wants == "indices" and several and shape is not None and len(shape) > 1 and _whole(found, names):
        return Target("indices", names)
    return Target("numbers", names)


def _whole(found: Survey, names: Sequence[str]) -> bool:
    return all(found.columns[name].whole for name in names)


def _refuse_narrow(target: Target, shape: tuple[int, ...] | None) -> None:
    width = 1 if not shape else shape[0]
    if width < len(target.classes):
        raise TrainingFailed(
            f"the module gives {width} output{'s' * (width != 1)}, but y has {len(target.classes)} classes: "
            f"{target.shown()}; let its last layer give {len(target.classes)}"
        )


def default_loss(target: Target) -> Callable[..., torch.Tensor]:
    """The loss of a target when none is named: it takes (outputs, y); without y, the input stands for it."""
    if target.kind == "classes":
        return nn.CrossEntropyLoss()
    if target.kind == "binary":
        return nn.BCEWithLogitsLoss()
    return information if target.kind == "information" else nn.MSELoss()


def information(outputs: torch.Tensor) -> torch.Tensor:
    """Minus the mutual information between rows and classes: few doubts about each row, all classes used.

    Source: Krause, Perona and Gomes, "Discriminative clustering by regularized information maximization", NIPS 2010.
    """
    logs = outputs.float().log_softmax(1)
    each = -(logs.exp() * logs).sum(1).mean()
    mean = logs.logsumexp(0) - np.log(len(logs))
    found: torch.Tensor = each + (mean.exp() * mean).sum()
    return found


def matched(y: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """y in the shape of the outputs where only ones differ: n and n×1 would be spread over each other."""
    return y.reshape(outputs.shape) if y.shape != outputs.shape and y.numel() == outputs.numel() else y


def _column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = batch.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
