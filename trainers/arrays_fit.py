"""A fit on arrays, in this process: for frameworks whose objects have no `fit` of their own. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from registry.code import CodeLoader, Vouching
from registry.document import ModelDocument
from registry.errors import DocumentInvalid, NotFound, RowsUnusable
from registry.trust import Trust
from trainers.catalog import trainer
from trainers.rows import KEY
from trainers.spool import spooled
from trainers.trainer import Fitted, Trainer, Training
from trainers.values import to_arrow


@dataclass(frozen=True, slots=True)
class FittedHere:
    """What was fitted, ready to predict."""

    document: ModelDocument
    fitted: Fitted
    trainer: Trainer

    @property
    def model(self) -> Any:
        """The fitted object itself."""
        return self.fitted.model

    def predict(self, X: Any) -> Any:
        """Predictions for rows as `fit` was given them."""
        return self.trainer.predict(self.document, self.fitted, X)


def fit_arrays(document: Mapping[str, Any], X: Any, y: Any, trust: Trust) -> FittedHere:
    """Fit the document's object on arrays instead of its select's rows.

    Args:
        document: its `object` and `fit_kwargs` may hold `Custom`: it is this process's own code.
        X: n values, n×d numbers, or a DataFrame.
        y: n values; None: unsupervised.

    Raises:
        DocumentInvalid: its object or keywords have faults.
        RowsUnusable, TrainingFailed: see `Trainer.fit`.
    """
    fields, columns = _columns(X)
    said = {**document, "training_select": "arrays", "train_X": fields if len(fields) > 1 else fields[0]}
    if y is not None:
        columns["y"] = _column(y, "y")
        said["train_y"] = "y"
    checked = ModelDocument.parse(said)
    judge = trainer(checked.trainer)
    here = replace(trust, vouching=Vouching())
    faults = judge.check(checked, here)
    if faults:
        raise DocumentInvalid(faults)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RowsUnusable(f"X and y differ in length: {lengths}")
    keys = pa.array(np.arange(next(iter(lengths.values())), dtype=np.uint64))
    rows = spooled(pa.table({**columns, KEY: keys}).to_batches())
    code = CodeLoader(here.vouching, _Nothing())
    fitted = judge.fit(Training(checked, rows, None, here, code, _Silent(), _Silent()))
    return FittedHere(checked, fitted, judge)


def _columns(X: Any) -> tuple[list[str], dict[str, pa.Array]]:
    if hasattr(X, "columns") and hasattr(X, "to_dict"):
        names = [str(name) for name in X.columns]
        return names, {str(name): _column(X[name].to_numpy(), str(name)) for name in X.columns}
    return ["X"], {"X": _column(X, "X")}


def _column(values: Any, name: str) -> pa.Array:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "fiu":
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "fiub":
        return pa.array(values)
    plain: Sequence[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return to_arrow(plain, name, lambda row: f"row {row}")


class _Silent:
    """A report that nobody reads, and checkpoints that nobody keeps."""

    def progress(self, fraction: float | None, message: str, **figures: float | None) -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""

    def last(self) -> bytes | None:
        """None."""
        return None

    def due(self) -> bool:
        """Never."""
        return False

    def keep(self, data: bytes) -> None:
        """Nothing."""


class _Nothing:
    """No artifacts: what is fitted here is here."""

    def get(self, digest: str) -> bytes:
        """Raises NotFound."""
        raise NotFound(f"the code {digest[:12]}… is stored in a datastore: fit with db=…, or give the code itself")
