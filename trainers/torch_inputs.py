"""X as the module takes it: which fields, and the tensor or the values that are made of them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from registry.document import ModelDocument
from registry.errors import RowsUnusable
from trainers.arrays import BASE, base_fields, unknown_field
from trainers.torch_columns import Survey, numbers

FILL = "leave these rows out in the select, or give the model a `preprocess` that fills them"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where X comes from. Stored with a version, so that predict makes the same of other rows."""

    #: The columns, in order; a document's `_base` stands for several.
    fields: tuple[str, ...]
    #: What type each had in the rows that were fitted on.
    schema: pa.Schema
    #: Whether a row's X is one value, not a mapping or a row of several fields.
    single: bool
    #: Numbers of classes or words, as embeddings take them, instead of float32.
    whole: bool = False

    def tensor(self, batch: pa.RecordBatch | pa.Table) -> torch.Tensor:
        """n×d float32 (n×1 for one scalar field); n×h×w of nested lists.

        Raises:
            RowsUnusable: a field holds no numbers, or lists of different lengths.
        """
        dtype = np.int64 if self.whole else np.float32
        arrays = [np.asarray(numbers(_column(batch, name), name), dtype) for name in self.fields]
        if len(arrays) == 1:
            only = arrays[0]
            return torch.from_numpy(_own(only.reshape(-1, 1) if only.ndim == 1 else only))
        for name, each in zip(self.fields, arrays, strict=True):
            if each.ndim > 2:
                raise RowsUnusable(
                    f"`{name}` holds nested lists, which can't stand in one row of numbers beside other fields: name "
                    "it alone, or give the model a `preprocess`"
                )
        return torch.from_numpy(np.column_stack(arrays))

    def values(self, batch: pa.RecordBatch | pa.Table) -> list[Any]:
        """For each row, what `preprocess` takes: the field's value, or a mapping of several."""
        columns = [_column(batch, name).to_pylist() for name in self.fields]
        if self.single:
            only: list[Any] = columns[0]
            return only
        return [dict(zip(self.fields, row, strict=True)) for row in zip(*columns, strict=True)]

    def written(self) -> dict[str, Any]:
        """In JSON's types."""
        schema = base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        return {"fields": list(self.fields), "schema": schema, "single": self.single, "whole": self.whole}

    @classmethod
    def read(cls, form: Mapping[str, Any]) -> Inputs:
        """What `written` gave."""
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(form["schema"])))
        return cls(tuple(form["fields"]), schema, bool(form["single"]), bool(form["whole"]))


def expanded(document: ModelDocument, schema: pa.Schema) -> tuple[str, ...]:
    """The columns of X: those that the document names, `_base` being all but the target.

    Raises:
        RowsUnusable: no row has one of them.
    """
    names: list[str] = []
    for field in document.fields_X:
        if field == BASE:
            names += base_fields(schema.names, document.fields_y)
        elif field not in schema.names:
            raise unknown_field(field, schema.names)
        else:
            names.append(field)
    if not names:
        raise RowsUnusable("the rows have no field to train on beside the key and the target")
    return tuple(dict.fromkeys(names))


def inputs_of(document: ModelDocument, schema: pa.Schema, *, whole: bool) -> Inputs:
    """X of the document, in rows of this schema."""
    names = expanded(document, schema)
    typed = pa.schema([(name, schema.field(name).type) for name in names])
    return Inputs(names, typed, len(document.fields_X) == 1 and BASE not in document.fields_X, whole)


def refuse_gaps(found: Survey, inputs: Inputs, fields_y: Sequence[str], *, preprocessed: bool) -> None:
    """Raise when X or y lack values. Of X, a `preprocess` may make something of them: it gets None.

    Raises:
        RowsUnusable: naming each field, and in how many rows.
    """
    found.refuse_missing(fields_y if preprocessed else (*inputs.fields, *fields_y), FILL)


def describe_shape(inputs: Any) -> str:
    """`128×64` for a tensor; of what holds tensors, each."""
    if isinstance(inputs, torch.Tensor):
        return "×".join(map(str, inputs.shape)) or "one number"
    return ", ".join(_shapes(inputs)) or type(inputs).__name__


def _shapes(inputs: Any) -> Iterator[str]:
    pairs = (
        inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs) if isinstance(inputs, list | tuple) else ()
    )
    for name, each in pairs:
        if isinstance(each, torch.Tensor):
            yield f"{name} {describe_shape(each)}"


def _column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = batch.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _own(array: Any) -> Any:
    """An array that may be written to: Arrow's memory may not, and torch warns of it."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()
