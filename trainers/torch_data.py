"""Rows → batches, through PyTorch's own DataLoader.

Without functions of the user's, a batch is made by indexing tensors: those of all rows where they are in memory, those
of the blocks at hand where they lie in a file. With them, each row is made on its own, as PyTorch's tutorials do it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, default_collate

from registry.errors import TrainingFailed
from trainers.shuffle import batches_in, epoch_batches
from trainers.sklearn_detail import last_lines, told
from trainers.spool import Rows
from trainers.torch_config import TorchConfig
from trainers.torch_inputs import Inputs
from trainers.torch_targets import Target

#: A batch for the loop: what the module takes, and y or None.
Batch = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """Functions of the user's that make batches; each may be missing."""

    preprocess: Callable[[Any], Any] | None = None
    targets: Any = None
    collate: Callable[[list[Any]], Any] | None = None
    worker_init: Callable[[int], None] | None = None

    @property
    def by_row(self) -> bool:
        """Whether rows are made one by one."""
        return not (self.preprocess is None and self.targets is None and self.collate is None)


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes batches of rows."""

    inputs: Inputs
    target: Target
    steps: Steps

    @property
    def has_y(self) -> bool:
        """Whether y comes from the rows."""
        return bool(self.target.fields)

    def samples(self, batch: pa.RecordBatch | pa.Table) -> list[Any]:
        """Each row as `collate_fn` takes it: (x, y), or x alone.

        Raises:
            TrainingFailed: a function of the user's raised.
        """
        steps = self.steps
        if steps.preprocess is None:
            made = list(self.inputs.tensor(batch))
        else:
            made = [called(steps.preprocess, "preprocess", value) for value in self.inputs.values(batch)]
        if not self.has_y:
            return made
        return list(zip(made, self._targets(batch), strict=True))

    def _targets(self, batch: pa.RecordBatch | pa.Table) -> list[Any]:
        change = self.steps.targets
        if change is None:
            return list(self.target.tensor(batch))
        names = self.target.fields
        columns = [batch.column(name).to_pylist() for name in names]
        if isinstance(change, Mapping):
            columns = [
                [called(change[name], "target_preprocessors", each) for each in column] if name in change else column
                for name, column in zip(names, columns, strict=True)
            ]
        rows = (
            columns[0]
            if len(names) == 1
            else [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        )
        return rows if isinstance(change, Mapping) else [called(change, "target_preprocessors", each) for each in rows]

    def collate(self, samples: list[Any]) -> Batch:
        """One batch of rows.

        Raises:
            TrainingFailed: they don't fit together, or `collate_fn` gives no pair.
        """
        what = "preprocess" if self.steps.collate is None else "collate_fn"
        made = called(self.steps.collate or default_collate, what, samples)
        if not self.has_y:
            return made, None
        if not isinstance(made, list | tuple) or len(made) != 2:
            raise TrainingFailed(f"`{what}` gives a {type(made).__name__}, where a batch is a pair: inputs and y")
        return made[0], made[1]

    def whole(self, batch: pa.RecordBatch | pa.Table) -> Batch:
        """All these rows as one batch."""
        if self.steps.by_row:
            return self.collate(self.samples(batch))
        return self.inputs.tensor(batch), self.target.tensor(batch) if self.has_y else None


def called(function: Callable[[Any], Any], name: str, value: Any) -> Any:
    """What a function of the user's gives for a value.

    Raises:
        TrainingFailed: it raised; in its own words.
    """
    try:
        return function(value)
    except Exception as error:
        shown = repr(value)
        raise TrainingFailed(
            f"`{name}` raised {told(error)}, given {shown[:120]}{'…' * (len(shown) > 120)}\n{last_lines(error)}"
        ) from error


class RowSet(Dataset[Any]):
    """Rows by their numbers, a batch at a time."""

    def __init__(self, rows: Rows, maker: Maker) -> None:
        self._rows, self._maker = rows, maker
        self._columns = list(dict.fromkeys((*maker.inputs.fields, *maker.target.fields)))
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._all = self._converted(rows.table()) if rows.in_memory else None

    def __getitems__(self, places: NDArray[np.int64]) -> Any:
        """Samples for `collate`, or a finished batch where no function of the user's has to see each row."""
        if self._maker.steps.by_row:
            return self._maker.samples(self._taken(places))
        if self._all is not None:
            index = torch.from_numpy(places)
            return tuple(None if each is None else each.index_select(0, index) for each in self._all)
        return self._gathered(places)

    def _converted(self, batch: pa.RecordBatch | pa.Table) -> Any:
        batch = batch.select(self._columns)
        if not self._maker.steps.by_row:
            return self._maker.whole(batch)
        return batch.combine_chunks() if isinstance(batch, pa.Table) else batch

    def _block(self, at: int) -> Any:
        """A block, converted; those used last stay at hand, as many as two windows have rows."""
        if at not in self._held:
            self._held[at] = self._converted(self._rows.block(at))
            held = sum(self._rows.block_rows[each] for each in self._held)
            while held > 2 * self._rows.window + self._rows.block_rows[at]:
                gone, _ = self._held.popitem(last=False)
                held -= self._rows.block_rows[gone]
        self._held.move_to_end(at)
        return self._held[at]

    def _parts(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any, NDArray[np.int64]]]:
        """For each block: where its rows belong in the batch, the block, and which rows."""
        starts = self._rows.starts
        owner = np.searchsorted(starts, places, side="right") - 1
        for at in np.unique(owner):
            here = np.flatnonzero(owner == at)
            yield here, self._block(int(at)), places[here] - starts[at]

    def _taken(self, places: NDArray[np.int64]) -> pa.Table:
        if self._all is not None:
            return self._all.take(pa.array(places))
        order, taken = [], []
        for here, block, inner in self._parts(places):
            order.append(here)
            taken.append(block.take(pa.array(inner)))
        back = np.argsort(np.concatenate(order))
        return pa.Table.from_batches(taken).combine_chunks().take(pa.array(back))

    def _gathered(self, places: NDArray[np.int64]) -> Batch:
        order: list[NDArray[np.int64]] = []
        xs: list[torch.Tensor] = []
        ys: list[torch.Tensor] = []
        for here, (x, y), inner in self._parts(places):
            order.append(here)
            index = torch.from_numpy(inner)
            xs.append(x[index])
            if y is not None:
                ys.append(y[index])
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return torch.cat(xs)[back], torch.cat(ys)[back] if ys else None


class Order:
    """The batches of one epoch, by the numbers of their rows; from `skip` on."""

    def __init__(self, rows: Rows, config: TorchConfig, share: tuple[int, int]) -> None:
        self._rows, self._config, self._share = rows, config, share
        self.epoch, self.skip = 0, 0
        self.batches = batches_in(rows.num_rows, config.batch_size, drop_last=config.drop_last, shares=share[1])

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        rows, config = self._rows, self._config
        batches = epoch_batches(
            *(rows.block_rows, config.batch_size, config.seed, self.epoch, rows.window),
            shuffle=config.shuffle,
            drop_last=config.drop_last,
            share=self._share,
        )
        return islice(batches, self.skip, None)

    def __len__(self) -> int:
        return self.batches - self.skip


class Feed:
    """The batches of each epoch. One DataLoader makes them all, so that its processes may stay."""

    def __init__(self, rows: Rows, maker: Maker, config: TorchConfig, share: tuple[int, int] = (0, 1)) -> None:
        self._order = Order(rows, config, share)
        self._seed, self._generator = config.seed, torch.Generator()
        self._set = RowSet(rows, maker)
        # Indexing tensors takes less time than what a DataLoader does around it.
        self._bare = not (maker.steps.by_row or config.num_workers or config.pin_memory)
        self._loader: DataLoader[Any] = DataLoader(
            self._set,
            batch_sampler=self._order,  # type: ignore[arg-type]
            collate_fn=maker.collate if maker.steps.by_row else _as_it_is,
            worker_init_fn=maker.steps.worker_init,
            generator=self._generator,
            **config.loader(),
        )
        self.batches = self._order.batches
        #: On average: an epoch's last batch may have fewer.
        self.batch_rows = min(config.batch_size, rows.num_rows / (self.batches * share[1])) if self.batches else 0.0

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, but for the first `skip`."""
        self._order.epoch, self._order.skip = epoch, skip
        if self._bare:
            return map(self._set.__getitems__, self._order)
        self._generator.manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        return iter(self._loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def in_order(rows: Rows, maker: Maker, size: int) -> Iterator[tuple[pa.RecordBatch, Batch]]:
    """All rows once, in the select's order, in batches of at most `size`; each beside the rows it is of."""
    for block in rows.batches():
        for begin in range(0, block.num_rows, size):
            part = block.slice(begin, size)
            yield part, maker.whole(part)


def moved(value: Any, device: torch.device) -> Any:
    """The tensors in a value on a device, however deep."""
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device, non_blocking=device.type != "cpu")
    if isinstance(value, Mapping):
        return {name: moved(each, device) for name, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(each, device) for each in value))
    if isinstance(value, list | tuple):
        return type(value)(moved(each, device) for each in value)
    return value
