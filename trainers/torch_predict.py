"""What users hand to predict → batches like those of the fit, and what the module says of them → what users read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from registry.document import ModelDocument
from registry.errors import RowsUnusable
from trainers.arrays import unknown_field
from trainers.predict_rows import lookup
from trainers.torch_config import parse
from trainers.torch_data import Maker, Steps, called, moved
from trainers.torch_fit import JUDGED
from trainers.torch_inputs import Inputs
from trainers.torch_judge import evaluating, tensor_of
from trainers.torch_module import FittedModule, device_of, told_failures
from trainers.torch_targets import Target
from trainers.values import to_arrow

_ABSENT = object()


def predict(document: ModelDocument, fitted: FittedModule, rows: Any) -> Any:
    """Predictions for rows, in batches on the device that the document names.

    Returns:
        With `postprocess`, a list of what it gives for each row; else an array of labels, or of numbers.

    Raises:
        RowsUnusable: a field that no row has, or of values that can't be made into X.
        TrainingFailed: the module or a function of the user's raised.
    """
    config = parse(document.fit_kwargs)
    device, whole = device_of(config, strict=False), fitted.whole
    table = table_of(rows, fitted.inputs)
    if not table.num_rows:
        return [] if whole.postprocess is not None else np.empty(0)
    maker = Maker(fitted.inputs, Target("given"), Steps(preprocess=whole.preprocess))
    module = whole.module.to(device)
    found: list[Any] = []
    with told_failures("predict", config), evaluating(module):
        for begin in range(0, table.num_rows, config.batch_size * JUDGED):
            part = table.slice(begin, config.batch_size * JUDGED).combine_chunks()
            inputs, _ = maker.whole(part)
            outputs = moved(module(moved(inputs, device)), torch.device("cpu"))
            if whole.postprocess is None:
                found.append(_plain(fitted.target, outputs))
            else:
                found += [called(whole.postprocess, "postprocess", each) for each in _each(outputs, part.num_rows)]
    return found if whole.postprocess is not None else np.concatenate(found)


def _plain(target: Target, outputs: Any) -> np.ndarray[Any, Any]:
    values = tensor_of(outputs)
    if target.labelled:
        return target.labels(target.places(values).numpy())
    if target.kind == "information":
        return values.argmax(1).numpy()
    if target.kind == "indices":
        return values.argmax(1).numpy()
    if target.kind == "numbers" and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    array: np.ndarray[Any, Any] = values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy()
    return array


def _each(outputs: Any, rows: int) -> Iterator[Any]:
    """One row's part of what the module gives."""
    if isinstance(outputs, torch.Tensor):
        yield from outputs
    elif isinstance(outputs, Mapping):
        for row in range(rows):
            yield {name: each[row] if isinstance(each, torch.Tensor) else each for name, each in outputs.items()}
    elif isinstance(outputs, list | tuple):
        for row in range(rows):
            yield tuple(each[row] if isinstance(each, torch.Tensor) else each for each in outputs)
    else:
        yield from tensor_of(outputs)


def table_of(rows: Any, inputs: Inputs) -> pa.Table:
    """The fields of X in rows as users write them, in the types that the fit saw.

    Args:
        rows: an Arrow table, a DataFrame, an array or tensor, a mapping or a list of them (dotted paths are looked
            up in nested mappings), a list of values of the one field, one such value, or a list of rows that each
            list the fields' values in order.

    Raises:
        RowsUnusable: a field that no row has, or values that are no such type.
    """
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pd.Series) and not set(inputs.fields).isdisjoint(map(str, rows.index)):
        rows = rows.to_dict()  # one row of a frame
    if isinstance(rows, pa.Table):
        columns = {name: rows.column(_known(name, rows.column_names)) for name in inputs.fields}
    elif isinstance(rows, pd.DataFrame):
        names = [str(each) for each in rows.columns]
        columns = {name: list(rows[_known(name, names)]) for name in inputs.fields}
    else:
        columns = _of_values(_plain_rows(rows), inputs)
    return pa.table({name: _typed(column, inputs.schema.field(name).type, name) for name, column in columns.items()})


def _of_values(rows: Any, inputs: Inputs) -> dict[str, list[Any]]:
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        rows = [rows]
    listed = list(rows)
    if not listed:
        raise RowsUnusable("there are no rows to predict")
    if all(isinstance(row, Mapping) for row in listed) and not _takes_mappings(inputs):
        return {name: _at_path(listed, name) for name in inputs.fields}
    if len(inputs.fields) == 1:
        kind = inputs.schema.field(0).type
        if _depth(listed) == _depth_of(kind) and _depth_of(kind):
            listed = [listed]  # one row's vector
        if _depth(listed) == 2 and not _depth_of(kind) and all(len(row) == 1 for row in listed):
            listed = [row[0] for row in listed]  # a column, as an n×1 array has it
        return {inputs.fields[0]: listed}
    names = inputs.fields
    for index, row in enumerate(listed):
        if isinstance(row, str | bytes) or not isinstance(row, Sequence) or len(row) != len(names):
            raise RowsUnusable(
                f"row {index} is {str(row)[:80]}; give a mapping with {', '.join(names)}, or their values in this order"
            )
    return {name: [row[place] for row in listed] for place, name in enumerate(names)}


def _takes_mappings(inputs: Inputs) -> bool:
    """Whether X is one field that holds mappings: then these are its values, if they haven't its name."""
    return len(inputs.fields) == 1 and pa.types.is_struct(inputs.schema.field(0).type)


def _plain_rows(rows: Any) -> Any:
    """Arrays and tensors as lists."""
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu().numpy()
    if hasattr(rows, "toarray"):  # scipy's sparse matrices
        rows = rows.toarray()
    if isinstance(rows, np.ndarray | pd.Series):
        return rows.tolist()
    if isinstance(rows, list | tuple):
        return [each.tolist() if isinstance(each, np.ndarray | torch.Tensor | np.generic) else each for each in rows]
    return rows


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    return depth


def _depth_of(kind: pa.DataType) -> int:
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return depth


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise unknown_field(name, names)
    return name


def _at_path(rows: Sequence[Mapping[str, Any]], path: str) -> list[Any]:
    values = []
    for row in rows:
        try:
            values.append(lookup(row, path))
        except KeyError:
            values.append(_ABSENT)
    if all(value is _ABSENT for value in values):
        raise unknown_field(path, {str(name) for row in rows for name in row})
    return [None if value is _ABSENT else value for value in values]


def _typed(column: Any, kind: pa.DataType, name: str) -> Any:
    """A column in the type that the fit saw, where that loses nothing; else as it is."""
    if not isinstance(column, pa.ChunkedArray):
        gaps = [None if each is pd.NaT or each is pd.NA else each for each in column]
        column = to_arrow(gaps, name, lambda row: f"row {row}")
    try:
        return column if column.type == kind else column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column
